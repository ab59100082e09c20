"""Where iterations begin: `start=` is checked alike by all that takes one, and chooses between solutions."""

from __future__ import annotations

import pytest
import torch

from torch_sla import (
    Dirichlet,
    EigenProblem,
    HyperelasticityProblem,
    IntervalMesh,
    LinearProblem,
    NonlinearProblem,
    Parameter,
    PoissonProblem,
    RectangleMesh,
    Root,
    SparseTensor,
    SweepProblem,
    distribute,
)
from torch_sla.errors import ArgumentError, DTypeError


def line(**more: object) -> PoissonProblem:
    sides = [Dirichlet("left", 0.0), Dirichlet("right", 0.0)]
    mesh = IntervalMesh(cells=8)
    return PoissonProblem(mesh=mesh, source=Parameter("f", default=1.0), boundary=sides, **more)


def system() -> LinearProblem:
    return LinearProblem(matrix=SparseTensor.eye(9).to_dense().tolist(), rhs=Parameter("f"))


def roots() -> NonlinearProblem:
    return NonlinearProblem(
        unknowns=[Root("x", size=9, start=1.0)],
        residual=["x**2 - f"],
        parameters=[Parameter("f", default=4.0)],
    )


PROBLEMS = [line(), line(diffusivity="1 + u**2"), system(), roots()]
KINDS = ["linear", "nonlinear", "system", "roots"]


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("problem", PROBLEMS, ids=KINDS)
def test_every_start_is_checked(problem: PoissonProblem, parts: int) -> None:
    ready = problem if parts == 1 else distribute(problem, parts)
    values = {"f": torch.ones(9, dtype=torch.float64)} if problem.type == "linear" else {}
    for start, error, message in (
        (torch.full((9,), 1j), DTypeError, "start is complex, and this problem is real"),
        (torch.ones(3), ArgumentError, r"start has shape \(3,\); expected \[\*batch, 9\]"),
        (torch.full((9,), torch.nan), ArgumentError, "start holds NaN"),
    ):
        with pytest.raises(error, match=message):
            ready.solve(values, start=start)
    if parts == 2 or problem in (PROBLEMS[0], PROBLEMS[2]):
        with pytest.raises(ArgumentError, match=r"start has the batch dimensions \[2\], .* \[\]"):
            ready.solve(values, start=torch.ones(2, 9))


@pytest.mark.parametrize("problem", [PROBLEMS[1], PROBLEMS[3]], ids=["nonlinear", "roots"])
def test_starts_and_values_of_different_batches_are_refused(problem: PoissonProblem) -> None:
    f = torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64)
    with pytest.raises(ArgumentError, match=r"start has the batch dimensions \[2\], .* \[3\]"):
        problem.solve(f=f, start=torch.ones(2, 9))
    assert problem.solve(f=f, start=torch.ones(2, 1, 9)).info.converged


def test_each_of_a_batch_of_starts_has_its_root() -> None:
    f = torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64)
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64)[:, None, None]
    found = roots().solve(f=f, start=signs * torch.ones(9)).x
    torch.testing.assert_close(found, signs * f.sqrt()[:, None].expand(3, 9))


def test_starts_of_a_batch_of_meshes_are_as_many() -> None:
    problem = line(diffusivity="1 + u**2")
    points = problem.mesh_data().points
    meshes = torch.stack([points, 2 * points])
    found = problem.solve(points=meshes, start=torch.ones(2, 9)).u
    torch.testing.assert_close(found[1], problem.solve(points=2 * points).u)
    with pytest.raises(ArgumentError, match=r"start has the batch dimensions \[3\], .* \[2\]"):
        problem.solve(points=meshes, start=torch.ones(3, 9))


def test_modes_about_a_loaded_state_begin_at_fields_as_solutions_have_them() -> None:
    body = HyperelasticityProblem(
        mesh=RectangleMesh(cells=(2, 2)),
        law="neo_hookean",
        constants={"mu": 1.0, "lam": 1.0},
        density=1.0,
        boundary=[Dirichlet("left", 0.0), Dirichlet("right", [0.1, 0.0])],
    )
    modes = EigenProblem(of=body, k=2)
    u = body.solve().u
    assert u.shape == (9, 2)
    torch.testing.assert_close(modes.solve(start=u).eigenvalues, modes.solve().eigenvalues)
    with pytest.raises(
        ArgumentError, match=r"start has shape \(5,\); expected .* \[\*batch, 9, 2\]"
    ):
        modes.solve(start=u.flatten()[:5])


def test_pairs_that_are_about_no_solution_take_no_start() -> None:
    """A start changed nothing, of any shape."""
    matrices = EigenProblem(matrix=[[2.0, -1.0], [-1.0, 2.0]], k=1)
    cases = SweepProblem(of=EigenProblem(of=line(), k=1), cases={"f": [1.0, 2.0]})
    for problem in (matrices, cases, EigenProblem(of=line(), k=1), distribute(matrices, 1)):
        with pytest.raises(ArgumentError, match=r"start: these pairs .* drop start="):
            problem.solve(start=torch.zeros(9))
    with pytest.raises(ArgumentError, match="drop start="):
        distribute(EigenProblem(of=line(), k=1), 2).solve(start=torch.zeros(9))
