"""Batches of laws that are products of functions of one coordinate: the same as each law alone, and never evaluated at
all points."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import torch_sla.problems.lowering.blocks as blocks
import torch_sla.problems.lowering.members as members
import torch_sla.problems.lowering.shares as shares
from tests.helpers.batches import same_as_alone
from torch_sla import (
    BoxMesh,
    Dirichlet,
    ElasticityProblem,
    HelmholtzProblem,
    Integral,
    MeshArrays,
    Neumann,
    Parameter,
    PoissonProblem,
    Probe,
    RectangleMesh,
    Robin,
    clear_cache,
)
from torch_sla.errors import ArgumentError
from torch_sla.linalg.kernels.tables import multiplies
from torch_sla.problems.lowering.mesh import build_mesh

pytestmark = pytest.mark.skipif(not multiplies(torch.float64), reason="needs the extension")
A = torch.linspace(0.1, 0.9, 40, dtype=torch.float64)
CASES = {"a": A}
HUMP = "exp(-9*((x - a)**2 + y**2))"


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Make everything small; tell where laws were evaluated at points."""
    found: list[Any] = []
    columns = members.Members.columns

    def watched(self: Any, some: slice) -> Any:
        found.append(some)
        return columns(self, some)

    monkeypatch.setattr(members.Members, "columns", watched)
    monkeypatch.setattr(blocks, "_PIECE", 10_000)
    monkeypatch.setattr(blocks, "_BYTES", 100_000)
    monkeypatch.setattr(shares, "_WINDOW", 8_000)
    clear_cache()
    return found


def poisson(**more: Any) -> PoissonProblem:
    return PoissonProblem(
        **{
            "mesh": RectangleMesh(cells=(20, 16), cell="quad"),
            "boundary": [Dirichlet("left", "1 + y"), Robin("right", coefficient=2.0, ambient=0.5)],
            "parameters": [Parameter("a")],
            "outputs": [Probe("p", at=[(0.7, 0.4)]), Integral("i", "u")],
            "solver": {"method": "cholesky"},
            **more,
        }
    )


@pytest.mark.parametrize(
    "source",
    [
        HUMP,
        "exp(-9*((x - a)**2 + (y - a)**2))",
        "sin(9*a*x)*cos(9*a*y)",
        "cos(3*a*x - y*a + 1)",
        "x*y*a + tanh(9*(x - a)) - y/(1 + a*x)",
        "where(x < a, 1, 0)*where(y < a, 1, 0)",
        "exp(-a)*x*y + exp(a)*x",
    ],
)
def test_laws_of_the_body(source: str, evaluated: list[Any]) -> None:
    same_as_alone(poisson(source=source), CASES)
    assert not evaluated


BOX = {"mesh": BoxMesh(cells=(6, 7, 6)), "boundary": [Dirichlet("left", 0.0)]}
SIDES = [
    Dirichlet("left", 0.0),
    Neumann("top", flux="exp(-9*(x - a)**2)*(y + z)*normal[1]"),
    Robin("right", coefficient="1 + y", ambient="sin(4*a*y)*z"),
]


@pytest.mark.parametrize(
    "problem",
    [
        poisson(**BOX, outputs=[], source="exp(-9*((x - a)**2 + (y - a)**2 + z**2*a))"),
        poisson(source=HUMP, boundary=SIDES, mesh=BoxMesh(cells=(8, 8, 8)), outputs=[]),
        poisson(source=HUMP, order=2, mesh=RectangleMesh(cells=(20, 20))),
        poisson(source=HUMP, advection=[20.0, "y"], stabilization="supg", solver={}),
        ElasticityProblem(
            mesh=RectangleMesh(cells=(20, 16), cell="quad"),
            model="plane_stress",
            young_modulus=2.0,
            thickness="1 + x*y",
            body_force=["sin(9*a*x)*y", "a*cos(9*a*y)*x - x"],
            boundary=[Dirichlet("left", 0.0)],
            parameters=[Parameter("a")],
            outputs=[Integral("d", "div(u)")],
        ),
        HelmholtzProblem(
            mesh=RectangleMesh(cells=(20, 20)),
            wavenumber=5.0,
            source="exp(-9*((x - a)**2 + y**2))",
            boundary=[Robin("right", coefficient="-5j", ambient=0.0)],
            parameters=[Parameter("a")],
        ),
    ],
)
def test_kinds_of_problems(problem: Any, evaluated: list[Any]) -> None:
    same_as_alone(problem, CASES)
    assert not evaluated


def test_what_lives_on_cells_is_a_weight(evaluated: list[Any]) -> None:
    problem = poisson(
        source="w*k*sin(9*a*x)*cos(a*y)",
        parameters=[Parameter("a"), Parameter("k"), Parameter("w", on="cells")],
    )
    w = torch.rand(320, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    same_as_alone(problem, CASES, w=w, k=3.0)
    assert not evaluated


def test_rows_that_are_apart(evaluated: list[Any]) -> None:
    whole = build_mesh(RectangleMesh(cells=(20, 16), cell="quad"))
    order = torch.randperm(len(whole.points), generator=torch.Generator().manual_seed(3))
    cells = order.argsort()[whole.cells].tolist()
    mesh = MeshArrays(points=whole.points[order].tolist(), cells=cells, cell="quad")
    left, source = [Dirichlet("x < 0.9", "1 + y")], f"5*{HUMP}"
    same_as_alone(poisson(mesh=mesh, source=source, boundary=left), CASES)
    assert not evaluated


def test_single_precision(evaluated: list[Any]) -> None:
    problem = poisson(source=HUMP, solver={"method": "cholesky", "dtype": "float32"})
    every = problem.solve(a=A)
    torch.testing.assert_close(every.u[17], problem.solve(a=A[17]).u, rtol=1e-4, atol=1e-5)


def test_several_parameters_and_dimensions_of_a_batch(evaluated: list[Any]) -> None:
    problem = poisson(
        source="exp(-9*((x - a)**2 + (y - b)**2))", parameters=[Parameter("a"), Parameter("b")]
    )
    b = torch.tensor([[0.2], [0.5], [0.8]], dtype=torch.float64)
    every = problem.solve(a=A, b=b)
    assert every.u.shape[:2] == (3, 40)
    alone = problem.solve(a=A[17], b=b[1, 0])
    torch.testing.assert_close(every.u[1, 17], alone.u, rtol=1e-8, atol=1e-11)
    assert not evaluated


@pytest.mark.parametrize(
    "source",
    [
        "exp(400*a*x + 400*y - 800)",  # a part of it is zero, another large
        "exp(300*x*a)*exp(300*y*a)*exp(-300*x)*exp(-300*y)*x*y",
        "exp(-9*a*x*y)",
    ],
)
def test_others_are_evaluated_at_all_points(source: str, evaluated: list[Any]) -> None:
    same_as_alone(poisson(source=source), CASES)
    assert evaluated


def test_a_law_that_is_not_finite_is_named_with_the_place(evaluated: list[Any]) -> None:
    problem = poisson(source="log(x - a + 0.5)*y")
    with pytest.raises(ArgumentError, match=r"source: the law is NaN or infinite at \(0\."):
        problem.solve(a=A)


def test_coordinates_that_do_not_repeat(evaluated: list[Any]) -> None:
    whole = build_mesh(RectangleMesh(cells=(20, 16)))
    x, y = whole.points.T
    turned = torch.stack([x + 0.1 * x * y, y - 0.1 * x * y], 1)
    mesh = MeshArrays(points=turned.tolist(), cells=whole.cells.tolist(), cell="triangle")
    same_as_alone(poisson(mesh=mesh, source=HUMP, boundary=[Dirichlet("x < 1e-9", "1 + y")]), CASES)
    assert evaluated
