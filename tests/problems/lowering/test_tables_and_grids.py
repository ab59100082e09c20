"""Laws by points: tables of the solution, grids of numbers, images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from torch_sla import (
    Dirichlet,
    Grid,
    HelmholtzProblem,
    Integral,
    IntervalMesh,
    Parameter,
    PoissonProblem,
    RectangleMesh,
    Solver,
    Table,
    load_problem,
)
from torch_sla.errors import DTypeError, SpecError


def test_a_table_of_the_solution(tmp_path) -> None:
    """k(u) = 1 + u by two points: -(k u')' = 0 with u(0) = 0, u(1) = 1 gives u + u²/2 = 3x/2."""
    problem = PoissonProblem(
        mesh=IntervalMesh(cells=64),
        diffusivity=Table(of="u", at=[-5.0, 5.0], values=[-4.0, 6.0]),
        boundary=[Dirichlet("left", 0.0), Dirichlet("right", 1.0)],
    )
    x = problem.dof_points()[:, 0]
    assert problem.compile().nonlinear
    torch.testing.assert_close(problem.solve().u, (1 + 3 * x).sqrt() - 1, rtol=0, atol=1e-4)
    problem.to_yaml(tmp_path / "p.yaml")
    assert load_problem(tmp_path / "p.yaml").spec_hash == problem.spec_hash


def test_a_table_of_place_in_a_map_and_its_parameter() -> None:
    problem = PoissonProblem(
        mesh=RectangleMesh(cells=(4, 4)),
        diffusivity={"*": Table(of="a*x", at=[0.0, 0.5, 1.0], values=[1.0, 2.0, 1.0])},
        parameters=[Parameter("a", default=0.9)],
        source=1.0,
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Integral("i", "u")],
    )
    assert not problem.compile().nonlinear
    assert problem.check_gradients(a=0.91, output="i").passed
    same = problem.updated(diffusivity="1 + 2*min(a*x, 1 - a*x)")
    torch.testing.assert_close(problem.solve().u, same.solve().u, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("at", "values"),
    [([1.0, 1.0 + 1e-9, 2.0], [1.0, 2.0, 3.0]), ([0.0, 1.0 - 1e-9, 1.0], [2.0, 1.0, 3.0])],
    ids=["first", "last"],
)
def test_a_jump_at_an_end_of_a_table_in_single_precision(at, values) -> None:
    problem = PoissonProblem(
        mesh=IntervalMesh(cells=2),
        diffusivity=Table(of="a", at=at, values=values),
        parameters=[Parameter("a")],
        source=1.0,
        boundary=[Dirichlet("left", 0.0)],
        solver=Solver(dtype="float32"),
    )
    a = torch.tensor([0.5, 0.9, 1.0, 1.5])
    u = problem.solve(a=a).u[:, -1]
    torch.testing.assert_close(0.5 / u, torch.tensor(np.interp(a, at, values)).float())


def test_values_of_a_table_that_are_far_apart_are_exact_at_its_points() -> None:
    """As of a switch: the last value also holds beyond the last point."""
    at, values = [0.0, 0.3, 0.7, 1.0], [3.0, 0.1, 1e10, 1e-7]
    problem = PoissonProblem(
        mesh=IntervalMesh(cells=2),
        diffusivity=1.0,
        source=Table(of="a", at=at, values=values),
        parameters=[Parameter("a")],
        boundary=[Dirichlet("left", 0.0)],
    )
    a = torch.tensor([*at, 2.0, -1.0], dtype=torch.float64, requires_grad=True)
    for each, wanted in zip(a, [*values, values[-1], values[0]], strict=True):
        # u(1) = f / 2
        assert 2 * float(problem.solve(a=each.detach()).u[-1]) == pytest.approx(wanted, rel=1e-12)
    inside = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64, requires_grad=True)
    (g,) = torch.autograd.grad(problem.solve(a=inside).u[:, -1].sum(), inside)
    slopes = torch.tensor(np.diff(values) / np.diff(at))
    torch.testing.assert_close(2 * g, slopes, rtol=1e-12, atol=0)


def test_a_table_of_a_complex_number_is_refused() -> None:
    problem = HelmholtzProblem(
        mesh=RectangleMesh(cells=(2, 2)),
        wavenumber=1.0,
        source=Table(of="a*x", at=[0.0, 1.0], values=[1.0, 2.0]),
        parameters=[Parameter("a")],
        boundary=[Dirichlet("left", 0.0)],
    )
    with pytest.raises(DTypeError, match=r"source: the table is of a\*x, which is complex"):
        problem.solve(a=0.5 + 0.1j)
    assert problem.updated(source=Table(of="real(a)*x", at=[0.0, 1.0], values=[1.0, 2.0])).solve(
        a=0.5 + 0.1j
    )


def test_grids_and_images(tmp_path) -> None:
    x, y = np.meshgrid(np.linspace(0, 2, 5), np.linspace(0, 1, 3), indexing="ij")
    np.save(tmp_path / "k.npy", 1 + x + 2 * y + x * y)
    grid = Grid(str(tmp_path / "k.npy"), lower=[0.0, 0.0], upper=[2.0, 1.0])
    problem = PoissonProblem(
        mesh=RectangleMesh(cells=(6, 5), size=(2.0, 1.0)),
        diffusivity=grid,
        source=1.0,
        boundary=[Dirichlet("left", 0.0)],
    )
    same = problem.updated(diffusivity="1 + x + 2*y + x*y")
    torch.testing.assert_close(problem.solve().u, same.solve().u, rtol=1e-12, atol=0)
    # Between the lines of the grid the law is smooth; on them it has no second derivative.
    tests = problem.check_gradients(points=problem.mesh_data().points).tests
    assert all(test.passed for test in tests if test.derivative == "gradient")
    problem.to_yaml(tmp_path / "p.yaml")
    assert "k.npy" in (tmp_path / "p.yaml").read_text()
    assert load_problem(tmp_path / "p.yaml").spec_hash == problem.spec_hash
    image = pytest.importorskip("matplotlib.image")
    pixels = np.zeros((2, 3, 3))
    pixels[0] = 1.0  # white above
    image.imsave(tmp_path / "k.png", pixels)
    drawn = problem.updated(
        diffusivity=1.0,
        source=Grid(str(tmp_path / "k.png"), lower=[0.0, 0.0], upper=[2.0, 1.0]),
    )
    graded = problem.updated(diffusivity=1.0, source="y")
    torch.testing.assert_close(drawn.solve().u, graded.solve().u, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("law", "message"),
    [
        ({"type": "table", "of": "x", "at": [0.0, 0.0], "values": [1.0, 2.0]}, "ascend"),
        ({"type": "table", "of": "x", "at": [0.0, 1.0], "values": [1.0]}, "at least 2|as many"),
        ({"type": "table", "of": "grad(u)", "at": [0.0, 1.0], "values": [1.0, 2.0]}, "scalar"),
        ({"type": "table", "of": "w", "at": [0.0, 1.0], "values": [1.0, 2.0]}, "unknown name 'w'"),
        ({"type": "grid", "file": "absent.npy", "lower": [0.0], "upper": [1.0]}, "no such file"),
    ],
)
def test_bad_ones_are_refused(law: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        PoissonProblem(mesh=IntervalMesh(cells=2), diffusivity=law)
