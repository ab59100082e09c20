"""Perfectly matched layers against exact waves: in other media than the reference, stratified ones, in space."""

from __future__ import annotations

import cmath
import math

import pytest
import torch

from torch_sla import (
    PML,
    Dirichlet,
    HelmholtzProblem,
    IntervalMesh,
    Line,
    MeshArrays,
    Parameter,
    RectangleMesh,
)
from torch_sla.errors import ArgumentError, SpecError


def tube(**changes):
    """A tube whose layer begins at 1 and ends at 1.5."""
    settings = {
        "mesh": IntervalMesh(cells=60, size=1.5),
        "order": 2,
        "wavenumber": 6.0,
        "layer": PML(lower=[-1.0], upper=[1.0], thickness=0.5, reflection=1e-2),
        "boundary": [Dirichlet("left", 1.0), Dirichlet("right", 0.0)],
    }
    return HelmholtzProblem(**{**settings, **changes})


@pytest.mark.parametrize(
    ("refraction", "stiffness"),
    [(1.0, 1.0), (0.5, 3.0), (1.5, 0.7), ("1.1 + 0.1j", "2 - 0.3j"), (0.005, 1e-4)],
)
def test_what_comes_back_is_what_was_declared(refraction, stiffness):
    # The layer stretches the tube to a complex length, where the wave ends: sin K(L - x) / sin K L.
    n, r = (complex(str(c).replace(" ", "")) for c in (refraction, stiffness))
    K = 6.0 * n / cmath.sqrt(r)
    problem = tube(refraction=refraction, stiffness=stiffness)
    u, x = problem.solve().u, problem.dof_points()[:, 0]
    L = 1.5 + 1j * math.log(100.0) / 2 / K
    exact = torch.sin(K * (L - x)) / cmath.sin(K * L)
    inside = x <= 1.0
    assert float((u - exact)[inside].abs().max()) < 1e-4


def test_slopes_of_a_layer_in_another_medium():
    problem = tube(
        mesh=IntervalMesh(cells=12, size=1.5),
        parameters=[Parameter("n", default=0.5), Parameter("r", default=3.0)],
        refraction="n",
        stiffness="r",
        outputs=[Line("row", at=[(0.2,), (0.9,)], n=3, quantity="abs(u)")],
    )

    def size(n, r):
        return problem.solve(n=n, r=r)["row"].sum()

    n, r = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.5, 3.0))
    slopes = torch.autograd.grad(size(n, r), (n, r))
    for slope, (dn, dr) in zip(slopes, ((1e-5, 0.0), (0.0, 1e-5)), strict=True):
        change = float(size(0.5 + dn, 3.0 + dr) - size(0.5 - dn, 3.0 - dr)) / 2e-5
        assert float(slope) == pytest.approx(change, rel=1e-7)


def duct(length, **changes):
    """A duct of two strata, of which the faster one lies below."""
    settings = {
        "mesh": RectangleMesh(cells=(round(16 * length), 16), size=(length, 1.0), cell="quad"),
        "order": 2,
        "wavenumber": 6.0,
        "refraction": "where(y < 0.5, 1, 1.5)",
        "layer": PML(lower=[-1.0, -1.0], upper=[length - 0.5, 2.0], thickness=0.5),
        "boundary": [Dirichlet("left", "sin(pi*y)")],
        "outputs": [Line("row", at=[(0.5, 0.0), (0.5, 1.0)], n=9)],
    }
    return HelmholtzProblem(**{**settings, **changes})


def test_strata_go_through_a_layer():
    near, far = duct(1.5).solve()["row"], duct(2.5).solve()["row"]
    assert float((near - far).abs().max() / far.abs().max()) < 3e-4


def test_wavenumbers_that_vary_along_a_layer_are_refused():
    strata = {"refraction": 1.0, "wavenumber": "where(y < 0.5, 6, 9)"}
    with pytest.raises(
        ArgumentError, match=r"layer: the wavenumber varies along it.*refraction vary"
    ):
        duct(1.5, **strata).solve()
    # Before the layer they may.
    duct(1.5, refraction=1.0, wavenumber="where(x < 0.5, 9, 6)").solve()


@pytest.mark.parametrize(
    "changes", [{"refraction": "where(y < 0.5, 1, 0.3)"}, {"stiffness": "1000 + y"}]
)
def test_layers_that_give_waves_back_are_refused(changes):
    with pytest.raises(
        ArgumentError, match=r"layer: .* would come back; let wavenumber be the least"
    ):
        duct(1.5, **changes).solve()


@pytest.mark.parametrize("length", [1.2, 1.5, 2.0])
def test_a_mesh_that_ends_within_the_layer_is_refused(length: float) -> None:
    short = tube(mesh=IntervalMesh(cells=int(40 * length), size=length))
    if length < 1.5:  # the mesh has 0.2 of 0.5: 1e-2 to the power of (0.2/0.5) cubed comes back
        for verb in (short.check, short.solve):
            with pytest.raises(SpecError, match=r"layer: .* ends 0\.2 outside .* amplitude 0\.74"):
                verb()
        short = short.updated(layer=short.layer.updated(thickness=0.2))
    u, x = short.solve().u.abs(), short.dof_points()[:, 0]
    swing = (u[x <= 1.0].max() - u[x <= 1.0].min()) / 2.0
    assert float(swing) < 2e-2


def test_rounded_coordinates_are_where_the_layer_ends() -> None:
    """The box ends at 1, and files of eight letters for a number say 1.33333 of 4/3."""
    at = torch.tensor([0.0, 0.5, 1.000004, 1.2, 1.33333])
    points, cells = at.reshape(-1, 1).tolist(), [[i, i + 1] for i in range(4)]
    mesh = MeshArrays(
        points=points, cells=cells, cell="line", facet_tags={"left": [[0]], "right": [[4]]}
    )
    for upper, thickness in ((1.0, 1 / 3), (1.333329, 1 / 3)):
        tube(mesh=mesh, layer=PML(lower=[0.0], upper=[upper], thickness=thickness)).check()
    with pytest.raises(SpecError, match=r"ends 0\.33333 outside the box"):
        tube(mesh=mesh, layer=PML(lower=[0.0], upper=[1.0], thickness=0.34)).check()
