"""Modes that are complex: damped bodies, convection, open cavities; given matrices without symmetry."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch

from torch_sla import (
    PML,
    Component,
    Dirichlet,
    EigenProblem,
    ElasticityProblem,
    HelmholtzProblem,
    IntervalMesh,
    Neumann,
    Parameter,
    PoissonProblem,
    RectangleMesh,
    Robin,
    TransientProblem,
    load_problem,
)
from torch_sla.errors import ArgumentError, SpecError

if TYPE_CHECKING:
    from torch_sla.problems.solution import Solution

SIDES = ["left", "right", "top", "bottom"]


def bar(**changes) -> ElasticityProblem:
    given = {
        "mesh": RectangleMesh(cells=(8, 1), size=(8.0, 1.0), cell="quad"),
        "model": "plane_stress",
        "young_modulus": Parameter("E", default=1000.0),
        "density": Parameter("rho", default=2.0),
        "boundary": [Dirichlet("left", 0.0)],
    }
    return ElasticityProblem(**(given | changes))


def value(x: float) -> torch.Tensor:
    return torch.tensor(x, dtype=torch.float64)


def test_proportional_damping_is_that_of_each_mode() -> None:
    free = EigenProblem(of=bar(), k=4).solve()
    a, b = 0.3, 2e-3
    s = EigenProblem(
        of=bar(), k=4, mass_damping=Parameter("a", default=a), stiffness_damping=b
    ).solve()
    half = 0.5 * (a + b * free.eigenvalues)
    rates = torch.complex(-half, (free.eigenvalues - half**2).sqrt())
    torch.testing.assert_close(s.eigenvalues, rates, rtol=1e-8, atol=0)
    torch.testing.assert_close(s["frequencies"], rates.imag / (2 * math.pi), rtol=1e-8, atol=0)
    torch.testing.assert_close(s["damping_ratios"], half / free.eigenvalues.sqrt())
    # The shapes are those without damping, up to a sign.
    overlap = (s.modes * free.modes).sum((-2, -1)) / (free.modes**2).sum((-2, -1))
    torch.testing.assert_close(overlap.abs(), torch.ones(4).double(), rtol=1e-7, atol=0)
    torch.testing.assert_close(
        s.participation.abs(), free.participation.abs(), rtol=1e-6, atol=1e-7
    )
    with pytest.raises(ArgumentError, match="real modes"):
        _ = s.effective_mass


def test_more_than_critical_damping_gives_real_rates() -> None:
    s = EigenProblem(of=bar(), k=2, mass_damping=50.0).solve()
    assert bool((s.eigenvalues.imag == 0).all())
    assert bool((s.eigenvalues.real < 0).all())
    assert s["frequencies"].tolist() == [0.0, 0.0]
    assert s["damping_ratios"].tolist() == [1.0, 1.0]


def test_a_march_decays_as_the_mode_says() -> None:
    """The slowest mode of Newmark's march, with the same α and β."""
    body, damping = bar(), {"mass_damping": 0.2, "stiffness_damping": 5e-3}
    s = EigenProblem(of=body, k=1, **damping).solve()
    rate = s.eigenvalues[0]
    end = 2 * math.pi / float(rate.imag)
    shape = EigenProblem(of=body, k=1).solve().modes[0]
    march = TransientProblem(
        of=body.updated(outputs=[]),
        initial=Parameter("u0", on="nodes", shape=(2,)),
        initial_velocity=Parameter("v0", on="nodes", shape=(2,)),
        end=end,
        steps=400,
        **damping,
    )
    moved = march.solve(u0=shape, v0=float(rate.real) * shape).u
    kept = float((moved * shape).sum() / (shape * shape).sum())
    assert kept == pytest.approx(math.exp(float(rate.real) * end), rel=1e-3)


def test_prestress_is_not_damped_as_stiffness_is() -> None:
    """K + K_σ against C = β K is no proportional damping; the closed form of one mode misses it."""
    pulled = bar(boundary=[Dirichlet("left", 0.0), Neumann("right", traction=[20.0, 0.0])])
    problem = EigenProblem(of=pulled, k=2, kind="prestressed", stiffness_damping=5e-3)
    s = problem.solve()
    free = EigenProblem(of=pulled, k=2, kind="prestressed").solve().eigenvalues
    half = 0.5 * 5e-3 * free
    assert float((s.eigenvalues.real / -half)[0]) < 0.9
    check = problem.check_gradients(
        {"E": value(1000.0)},
        output=lambda s: s["damping_ratios"].sum() + s["frequencies"].sum(),
    )
    assert check.passed, check


def test_gradients_of_damped_modes() -> None:
    problem = EigenProblem(
        of=bar(),
        k=2,
        mass_damping=Parameter("a", default=0.3),
        stiffness_damping=Parameter("b", default=2e-3),
    )
    given = {"a": value(0.3), "b": value(2e-3), "E": value(1000.0), "rho": value(2.0)}

    def output(s: Solution) -> torch.Tensor:
        return (s["damping_ratios"] ** 2).sum() + (s["frequencies"] ** 3).sum()

    check = problem.check_gradients(given, output=output)
    assert check.passed, check
    shapes = problem.check_gradients(
        given, output=lambda s: (s.modes[0, 3, 1].real) ** 3, second=False
    )
    assert shapes.passed, shapes


def test_convection_in_a_channel() -> None:
    """−u'' + b u' with u = 0 at both ends: λ = (m π)² + b² / 4."""
    problem = EigenProblem(
        of=PoissonProblem(
            mesh=IntervalMesh(cells=60),
            order=2,
            advection=[Parameter("b", default=6.0)],
            boundary=[Dirichlet("left", 0.0), Dirichlet("right", 0.0)],
        ),
        k=3,
    )
    b = value(6.0).requires_grad_()
    s = problem.solve(b=b)
    m = torch.arange(1, 4).double()
    torch.testing.assert_close(s.eigenvalues.real, (m * math.pi) ** 2 + 9.0, rtol=2e-4, atol=0)
    assert float(s.eigenvalues.detach().imag.abs().max()) < 1e-8
    (slope,) = torch.autograd.grad(s.eigenvalues[0].real, b)
    assert float(slope) == pytest.approx(3.0, rel=1e-3)
    with pytest.raises(ArgumentError, match="complex"):
        _ = s.frequencies
    check = problem.check_gradients(
        {"b": value(6.0)}, output=lambda s: (s.eigenvalues.real**2).sum()
    )
    assert check.passed, check
    with pytest.raises(SpecError, match="which: the matrices are not symmetric"):
        problem.updated(which="SA").solve()


def tube(**changes) -> HelmholtzProblem:
    given = {
        "mesh": IntervalMesh(cells=40),
        "order": 2,
        "wavenumber": Parameter("k", default=6.0),
        "refraction": Parameter("n", default=1.0),
        "boundary": [Dirichlet("left", 0.0), Robin("right", "-0.3j*k", 0.0)],
    }
    return HelmholtzProblem(**(given | changes))


def test_resonances_of_an_open_tube() -> None:
    """tan κ = κ / 1.8i with the impedance of k = 6; nearest to 36 first."""
    problem = EigenProblem(of=tube(), k=2)
    s = problem.solve()
    kappa = s["wavenumbers"]
    torch.testing.assert_close(torch.tan(kappa), kappa / 1.8j, rtol=1e-4, atol=0)
    distance = (s.eigenvalues - 36.0).abs()
    assert float(distance[0]) < float(distance[1])
    assert bool((kappa.imag < 0).all())
    check = problem.check_gradients(
        {"k": value(6.0), "n": value(1.0)},
        output=lambda s: (s["wavenumbers"].imag ** 3).sum() + s["wavenumbers"].real.sum(),
    )
    assert check.passed, check
    other = problem.updated(sigma=100.0, k=1).solve()
    assert abs(float(other["wavenumbers"].real[0]) - 10.9) < 0.2


def test_a_closed_tube_and_a_layer() -> None:
    ends = [Dirichlet("left", 0.0), Dirichlet("right", 0.0)]
    s = EigenProblem(of=tube(boundary=ends), k=1).solve(k=value(6.0))
    assert complex(s["wavenumbers"][0]) == pytest.approx(2 * math.pi, rel=1e-5)
    # A dense plug between two layers: the plug keeps waves, the layers take what leaves it.
    plug = tube(
        mesh=IntervalMesh(cells=200, size=4.0),
        refraction="where(abs(x - 2) < 0.5, 3.0, 1.0)",
        boundary=[],
        layer=PML(lower=[0.5], upper=[3.5], thickness=0.5),
    )
    s = EigenProblem(of=plug, k=1).solve()
    # The round trip in a slab, exp(2i n k L) ((n - 1) / (n + 1))² = 1, with n = 3, L = 1: k = (m π − i log 2) / 3.
    assert complex(s["wavenumbers"][0]) == pytest.approx(
        complex(6 * math.pi, -math.log(2)) / 3, 1e-4
    )


def test_given_matrices() -> None:
    turn = [[0.0, -2.0], [2.0, 0.0]]
    s = EigenProblem(matrix=turn, k=2).solve()
    torch.testing.assert_close(s.eigenvalues, torch.tensor([2j, -2j], dtype=torch.complex128))
    problem = EigenProblem(
        matrix=[[5.0]], damping=[[2.0]], mass=[[1.0]], k=2, outputs=[Component("s", index=[0])]
    )
    s = problem.solve()
    expected = torch.tensor([-1 + 2j, -1 - 2j], dtype=torch.complex128)
    torch.testing.assert_close(s.eigenvalues, expected)
    torch.testing.assert_close(s["s"], expected[:1])
    assert s.frequencies.tolist() == pytest.approx([1 / math.pi] * 2)
    with pytest.raises(
        SpecError, match="k: a matrix of size 1 has no 3 eigenvalues; with damping 2"
    ):
        problem.updated(k=3).solve()


def test_files_hold_complex_modes(tmp_path) -> None:
    problem = EigenProblem(of=bar(), k=1, mass_damping=0.1, name="bar")
    problem.to_yaml(tmp_path / "bar.yaml")
    s = load_problem(tmp_path / "bar.yaml").solve()
    s.save(tmp_path / "bar.vtu")
    s.save(tmp_path / "bar.json")
    import meshio

    found = meshio.read(tmp_path / "bar.vtu").point_data
    assert set(found) == {"mode_1.real", "mode_1.imag"}
    s.report(tmp_path / "bar.html")


def test_what_makes_no_sense_is_refused() -> None:
    held = PoissonProblem(mesh=IntervalMesh(cells=4), boundary=[Dirichlet("left", 0.0)])
    with pytest.raises(SpecError, match="two derivatives in time"):
        EigenProblem(of=tube(), mass_damping=1.0)
    with pytest.raises(SpecError, match="stands still"):
        EigenProblem(of=bar(), kind="buckling", stiffness_damping=1.0)
    with pytest.raises(SpecError, match="SM or LM"):
        EigenProblem(of=bar(), which="SA", stiffness_damping=1.0)
    with pytest.raises(SpecError, match="nearest to the given wavenumber"):
        EigenProblem(of=tube(), which="LM")
    with pytest.raises(SpecError, match="mass_damping and stiffness_damping"):
        EigenProblem(of=held, damping=[[1.0]])
    with pytest.raises(SpecError, match="matrices have a damping of their own"):
        EigenProblem(matrix=[[1.0]], mass_damping=1.0)
    with pytest.raises(SpecError, match="eigenvalue 0 twice"):
        EigenProblem(of=bar(boundary=[]), k=1, mass_damping=1.0).solve()
    with pytest.raises(SpecError, match=r"of\.wavenumber: resonances are those of one"):
        EigenProblem(of=tube(wavenumber="1 + x", boundary=[]), k=1).solve()
    with pytest.raises(ArgumentError, match="must not be negative"):
        EigenProblem(of=bar(), k=1, mass_damping=-1.0).solve()
