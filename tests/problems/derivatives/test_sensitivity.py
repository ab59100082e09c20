"""Tables of derivatives by output and parameter."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.devices import ON_CUDA
from torch_sla import (
    Dirichlet,
    HelmholtzProblem,
    Integral,
    IntervalMesh,
    Parameter,
    PoissonProblem,
    Probe,
    Solver,
)
from torch_sla.errors import ArgumentError


def rod(cells=6):
    return PoissonProblem(
        mesh=IntervalMesh(cells=cells),
        diffusivity=Parameter("k", on="cells"),
        source=Parameter("f"),
        boundary=[Dirichlet("left", 0.0), Dirichlet("right", 0.0)],
        outputs=[Integral("total", "u"), Probe("s", at=[(0.3,), (0.6,), (0.8,)])],
    )


@pytest.mark.parametrize("device", ["cpu", ON_CUDA])
@pytest.mark.parametrize("cells", [2, 6])  # by columns, and by rows
def test_against_gradients(cells, device):
    problem = rod(cells).updated(solver=Solver(device=device))
    k = torch.linspace(1, 2, cells, dtype=torch.float64).to(device)
    found = problem.sensitivities(k=k, f=3.0)
    assert found.derivatives["s"]["k"].shape == (3, cells)
    for i in range(3):
        _, gradient = problem.value_and_grad(lambda s, i=i: s["s"][i], k=k, f=3.0)
        torch.testing.assert_close(found.derivatives["s"]["k"][i], gradient["k"])
        torch.testing.assert_close(found.derivatives["s"]["f"][i].cpu(), gradient["f"])


@pytest.mark.parametrize("device", ["cpu", ON_CUDA])
@pytest.mark.parametrize("cells", [2, 6])
def test_what_an_output_does_not_depend_on(cells, device):
    """It is zero, where the output is."""
    problem = rod(cells).updated(
        outputs=[*rod().outputs, Integral("plain", "f")], solver=Solver(device=device)
    )
    k = torch.linspace(1, 2, cells, dtype=torch.float64).to(device)
    found = problem.sensitivities(k=k, f=3.0)
    assert found.derivatives["plain"]["k"].device.type == device
    assert not found.normalised["plain"]["k"].any()
    assert float(found.derivatives["plain"]["f"]) == pytest.approx(1.0)
    assert "plain" in str(found)


def test_normalised_and_the_table():
    """u scales with f/k: one per cent more of all k is one per cent less of every output."""
    found = rod().sensitivities(k=torch.linspace(1, 2, 6, dtype=torch.float64), f=3.0)
    for rows in found.normalised.values():
        torch.testing.assert_close(rows["k"].sum(-1), -torch.ones_like(rows["f"]))
        torch.testing.assert_close(rows["f"], torch.ones_like(rows["f"]))
    table = str(found).splitlines()
    assert len(table) == 1 + 4 * 2
    assert table[0].split() == ["output", "value", "parameter", "derivative", "%", "per", "%"]
    assert table[3].split()[0] == "s[0]"
    assert table[3].split()[-3:] == ["k", "scaled", "-1.000"]


def test_complex_outputs():
    waves = HelmholtzProblem(
        mesh=IntervalMesh(cells=8),
        wavenumber=2.0,
        source=Parameter("f"),
        boundary=[Dirichlet("left", "1j*f")],
        outputs=[Probe("s", at=[(0.4,)])],
    )
    found = waves.sensitivities(f=2.0).derivatives["s"]["f"]
    up, down = (waves.solve(f=f)["s"] for f in (2.5, 1.5))
    torch.testing.assert_close(found, up - down)
    assert "s[0]" in str(waves.sensitivities(f=2.0))


def test_names_are_checked():
    with pytest.raises(ArgumentError, match="no output 'sum'"):
        rod().sensitivities(outputs=["sum"], k=torch.ones(6).double(), f=1.0)


def test_of_nothing_there_is_no_table():
    problem = rod().updated(
        diffusivity=Parameter("k", default=1.0), source=Parameter("f", default=1.0)
    )
    with pytest.raises(ArgumentError, match=r"give values of parameters \(there are: k f\)"):
        problem.sensitivities()
