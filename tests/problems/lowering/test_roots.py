"""Nonlinear systems with vectors and sparse matrices."""

from __future__ import annotations

import pytest
import torch

from torch_sla import (
    Component,
    Entries,
    NonlinearProblem,
    Parameter,
    Root,
    Solver,
    SparseTensor,
    load_problem,
)
from torch_sla.errors import ArgumentError, SolveError, SpecError

N = 80


def laplacian(n: int = N) -> SparseTensor:
    dense = 2 * torch.eye(n) - torch.ones(n - 1).diag(1) - torch.ones(n - 1).diag(-1)
    return SparseTensor.from_dense(dense.double())


def cubic(**more) -> NonlinearProblem:
    """``A x + c x³ = b``."""
    return NonlinearProblem(
        unknowns=[Root("x", size=N)],
        matrices={"A": Parameter("A")},
        residual=["dot(A, x) + c*x**3 - b"],
        parameters=[Parameter("b", shape=(N,)), Parameter("c", default=1.0)],
        outputs=[Component("middle", index=[N // 2])],
        **more,
    )


def test_a_sparse_matrix_and_its_gradients() -> None:
    A, b = laplacian(), torch.linspace(0.0, 1.0, N, dtype=torch.float64)
    solution = cubic().solve(A=A, b=b)
    x = solution.x
    assert torch.linalg.vector_norm(A @ x + x**3 - b) < 1e-9
    assert solution["middle"].item() == x[N // 2].item()
    assert not solution.info.notes  # the pattern of A covers the Jacobian

    values = A.values.clone().requires_grad_()
    b, c = b.clone().requires_grad_(), torch.tensor(1.0, dtype=torch.float64, requires_grad=True)

    def functional(values, b, c):
        given = SparseTensor.from_pattern(A.pattern, values)
        return (cubic().solve(A=given, b=b, c=c).x ** 3).sum()

    grads = torch.autograd.grad(functional(values, b, c), (values, b, c))
    generator = torch.Generator().manual_seed(0)
    moves = [torch.randn(t.shape, generator=generator, dtype=t.dtype) for t in (values, b, c)]
    slope = sum((g * m).sum() for g, m in zip(grads, moves, strict=True))
    with torch.no_grad():
        f0 = functional(values, b, c)
        rest = []
        for h in (1e-2, 5e-3):
            moved = (t + h * m for t, m in zip((values, b, c), moves, strict=True))
            rest.append(abs(float(functional(*moved) - f0 - h * slope)))
    assert rest[0] > 1e-9
    assert torch.log2(torch.tensor(rest[0] / rest[1])) > 1.9


def test_members_of_a_batch_are_solved_each() -> None:
    b = torch.stack([torch.full((N,), s, dtype=torch.float64) for s in (0.5, 2.0)])
    both = cubic().solve(A=laplacian(), b=b)
    assert both.x.shape == (2, N)
    assert both["middle"].shape == (2, 1)
    for i in range(2):
        assert torch.equal(both.x[i], cubic().solve(A=laplacian(), b=b[i]).x)


def test_vectors_and_numbers_together() -> None:
    """The lowest eigenpair of a matrix, as a root: ``A v = λ v`` and ``|v| = 1``."""
    n = 12
    problem = NonlinearProblem(
        unknowns=[Root("v", size=n, start=0.3), Root("lam", start=0.05)],
        matrices={"A": Parameter("A")},
        residual=["dot(A, v) - lam*v", "dot(v, v) - 1"],
    )
    A = laplacian(n)
    found = problem.solve(A=A)
    exact = torch.linalg.eigvalsh(A.to_dense())[0]
    assert found.x[-1].item() == pytest.approx(exact.item(), rel=1e-10)
    assert found.v.shape == (n,)


def test_matrices_by_file_and_by_entries(tmp_path) -> None:
    from torch_sla.linalg import save_mtx

    save_mtx(laplacian(3), tmp_path / "A.mtx")
    text = """
type: nonlinear
unknowns: [{name: x, size: 3, start: 1.0}]
matrices:
  A: {file: A.mtx}
  B: {type: entries, rows: [0, 1, 2], cols: [0, 1, 2], values: [1.0, 2.0, 3.0], shape: [3, 3]}
residual: ["dot(A, x) + dot(B, exp(x)) - 4"]
"""
    path = tmp_path / "p.yaml"
    path.write_text(text)
    problem = load_problem(path)
    x = problem.solve().x
    left = laplacian(3) @ x + torch.tensor([1.0, 2.0, 3.0]) * x.exp() - 4
    assert left.abs().max() < 1e-9
    again = load_problem_text(problem, tmp_path)
    assert again.spec_hash == problem.spec_hash


def load_problem_text(problem, folder):
    problem.to_yaml(folder / "copy.yaml")
    return load_problem(folder / "copy.yaml")


@pytest.mark.parametrize(
    ("residual", "message"),
    [
        ("A - x", r"acts on a vector: dot\(A, x\)"),
        ("dot(A, 2.0)", "a matrix acts on a vector"),
        ("dot(x, x)", "the equation of 'x' is a vector of 3"),
        ("x > 0", "only scalars can be compared"),
        ("dot(B, x)", "unknown name 'B'"),
    ],
)
def test_what_is_wrong_is_said(residual: str, message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        NonlinearProblem(
            unknowns=[Root("x", size=3)], matrices={"A": Parameter("A")}, residual=[residual]
        )
    assert caught.value.path == "residual.0"


def test_sizes_are_checked() -> None:
    problem = cubic()
    with pytest.raises(ArgumentError, match=r"residual\.0 cannot be evaluated: .*shape"):
        problem.solve(A=laplacian(7), b=torch.ones(N, dtype=torch.float64))
    with pytest.raises(ArgumentError, match="no default"):
        problem.solve(b=torch.ones(N, dtype=torch.float64))
    twice = Entries(rows=[0], cols=[0], values=[1.0], shape=[1, 1])
    with pytest.raises(SpecError, match="taken twice"):
        NonlinearProblem(unknowns=[Root("x", size=3)], matrices={"x": twice}, residual=["x"])


def test_a_linear_solve_that_fails_in_a_step_is_told() -> None:
    rough = torch.diag(torch.linspace(1, 1000, N).double())
    rough += 5 * torch.randn(N, N, generator=torch.Generator().manual_seed(1)).double()
    problem = cubic(solver=Solver(method="gmres", backend="pytorch", maxiter=2))
    with pytest.raises(
        SolveError, match=r"in the linear solve of a step: .*gmres, after 2 iterations"
    ):
        problem.solve(A=SparseTensor.from_dense(rough), c=0.1, b=torch.ones(N).double())
