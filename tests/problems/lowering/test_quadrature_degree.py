"""Quadratures of a higher degree: exact integrals of coefficients that are polynomials, the same else."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from torch_sla import (
    BoxMesh,
    Dirichlet,
    ElasticityProblem,
    Field,
    HyperelasticityProblem,
    Integral,
    IntervalMesh,
    Neumann,
    Parameter,
    PoissonProblem,
    Problem,
    RectangleMesh,
    Robin,
    StokesProblem,
    TransientProblem,
)
from torch_sla.errors import SpecError


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("cell", ["line", "triangle", "quad", "tetra", "hexahedron"])
def test_integrals_of_polynomials_are_exact(cell: str, order: int) -> None:
    dim = {"line": 1, "triangle": 2, "quad": 2}.get(cell, 3)
    mesh = (
        IntervalMesh(cells=2)
        if dim == 1
        else RectangleMesh(cells=(2, 1), cell=cell)
        if dim == 2
        else BoxMesh(cells=(1, 1, 1), cell=cell)
    )
    body = PoissonProblem(
        mesh=mesh,
        order=order,
        quadrature_degree=8,
        source="x**7",
        capacity="1 + x**6",
        boundary=[
            Robin("right", coefficient=1.0, ambient="y**8" if dim > 1 else 1.0),
            Neumann("left", flux=1.0),
        ],
        outputs=[Integral("i", "x**8"), Integral("j", "x**6" if dim < 2 else "y**8", on="right")],
    )
    found = body.solve()
    assert float(found["i"]) == pytest.approx(1 / 9, rel=1e-13)
    assert float(found["j"]) == pytest.approx(1.0 if dim < 2 else 1 / 9, rel=1e-13)
    made = body.assemble()
    through = 1.0 if dim < 2 else 1 / 9
    assert float(made.load.sum()) == pytest.approx(1 / 8 + through + 1.0, rel=1e-13)
    assert float(made.mass.values.sum()) == pytest.approx(1 + 1 / 7, rel=1e-13)


def test_a_coefficient_that_varies_within_cells() -> None:
    """The stiffness of a cell from a to b is the integral of the diffusivity over (b - a)²."""

    def stiffness(degree: int | None) -> torch.Tensor:
        rod = PoissonProblem(
            mesh=IntervalMesh(cells=2),
            quadrature_degree=degree,
            diffusivity="1 + k*x**6",
            parameters=[Parameter("k", default=1.0)],
            boundary=[Dirichlet("left", 0.0)],
        )
        return rod.assemble(k=k).matrix.to_dense()

    k = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    each = [4 * (b - a + k * (b**7 - a**7) / 7) for a, b in pairwise([0.0, 0.5, 1.0])]
    zero = torch.zeros_like(each[0])
    exact = torch.stack(
        [
            torch.stack([each[0], -each[0], zero]),
            torch.stack([-each[0], each[0] + each[1], -each[1]]),
            torch.stack([zero, -each[1], each[1]]),
        ]
    )
    found = stiffness(6)
    assert torch.allclose(found, exact, rtol=1e-13)
    weight = torch.rand(3, 3, dtype=torch.float64)
    slopes = [torch.autograd.grad((weight * m).sum(), k)[0] for m in (found, exact)]
    assert torch.allclose(*slopes, rtol=1e-13)
    assert float((stiffness(None) - exact).detach().abs().max()) > 1e-2


PLATE = RectangleMesh(cells=(2, 2))
HELD = [Dirichlet("left", 0.0)]
PROBLEMS: dict[str, tuple[type[Problem], dict[str, object]]] = {
    "diffusion": (PoissonProblem, {"source": "1 + x", "reaction": 2.0}),
    "quadratic": (PoissonProblem, {"source": "1 + x", "reaction": 2.0, "order": 2}),
    "advection": (PoissonProblem, {"source": 1.0, "advection": [3.0, 1.0]}),
    "elasticity": (
        ElasticityProblem,
        {"model": "plane_strain", "dilatation": "averaged", "order": 2, "body_force": [1.0, "x"]},
    ),
    "large strain": (
        HyperelasticityProblem,
        {"constants": {"mu": 1.0, "lam": 1.0}, "body_force": [0.1, 0.0]},
    ),
    "flow": (StokesProblem, {"body_force": ["y", 1.0]}),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_what_was_exact_stays_as_it_was(name: str) -> None:
    kind, fields = PROBLEMS[name]
    plain = kind(mesh=PLATE, boundary=HELD, **fields)
    fine = plain.updated(quadrature_degree=7)
    assert torch.allclose(fine.solve().u, plain.solve().u, rtol=1e-10, atol=1e-12)
    assert fine.spec_hash != plain.spec_hash
    assert "quadrature of degree 7" in fine.explain()
    assert fine.structural_hash == plain.structural_hash


def test_parameters_and_fields_at_its_points() -> None:
    rod = PoissonProblem(
        mesh=IntervalMesh(cells=3),
        quadrature_degree=6,
        diffusivity=Parameter("k", on="quadrature"),
        source=1.0,
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Field("there", "k", on="quadrature"), Integral("whole", "k")],
    )
    x = rod.sites("k")
    assert x.shape == (12, 1)
    k = (1.0 + x[:, 0] ** 6).requires_grad_()
    found = rod.solve(k=k)
    assert torch.equal(found["there"], k)
    assert float(found["whole"].detach()) == pytest.approx(1 + 1 / 7, rel=1e-13)
    assert torch.autograd.gradcheck(lambda k: rod.solve(k=k).u, k, fast_mode=True)
    moved = rod.mesh_data().points * 2.0
    assert float(rod.solve(k=k.detach(), points=moved)["whole"]) == pytest.approx(2 * (1 + 1 / 7))


def test_the_degree_counts_in_analyses() -> None:
    # With no flux the mean temperature rises by ∫ source / ∫ capacity in a unit of time.
    body = PoissonProblem(
        mesh=IntervalMesh(cells=1),
        quadrature_degree=6,
        capacity=2.0,
        source="x**6",
        outputs=[Integral("mean", "u")],
    )
    march = TransientProblem(of=body, end=1.0, steps=3)
    assert float(march.solve()["mean"][-1]) == pytest.approx(1 / 14, rel=1e-12)


@pytest.mark.parametrize(("order", "degree"), [(1, 1), (2, 2), (2, 3)])
def test_what_is_not_exact_for_two_functions_is_refused(order: int, degree: int) -> None:
    rod = PoissonProblem(
        mesh=IntervalMesh(cells=2), order=order, quadrature_degree=degree, boundary=HELD
    )
    with pytest.raises(SpecError, match=f"quadrature_degree: .* give at least {2 * order}"):
        rod.check()
    with pytest.raises(SpecError, match="quadrature_degree"):
        rod.updated(quadrature_degree=61)
