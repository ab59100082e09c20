"""Batches of matrices meet batches of right-hand sides: leading dimensions broadcast, whatever the sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from torch_sla import Entries, LinearProblem, Parameter, Solver, SparseTensor, SweepProblem
from torch_sla.errors import ArgumentError

BATCHES = [(), (1,), (2,), (3,), (2, 1), (2, 3), (0,), (2, 2, 3)]


def randn(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(len(shape) + sum(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def batched(dense: torch.Tensor) -> SparseTensor:
    n, numbers = dense.shape[-1], torch.arange(dense.shape[-1])
    row, column = numbers.repeat_interleave(n), numbers.repeat(n)
    return SparseTensor(dense.flatten(-2), row, column, tuple(dense.shape))


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("many", BATCHES[:6])
def test_they_broadcast(n: int, many: tuple[int, ...]) -> None:
    """Of as many rows as unknowns, a matrix of batch (1,) took the rows of a batch for columns."""
    problem = LinearProblem(matrix=Parameter("A"), rhs=Parameter("b"))
    dense = randn(*many, n, n) + 4.0 * torch.eye(n, dtype=torch.float64)
    for batch in BATCHES:
        b = randn(*batch, n)
        try:
            both = np.broadcast_shapes(many, batch)
        except ValueError:
            with pytest.raises(ArgumentError, match="broadcast"):
                problem.solve(A=batched(dense), b=b)
            continue
        x = problem.solve(A=batched(dense), b=b).x
        assert x.shape == (*both, n)
        wide = dense.expand(*both, n, n)
        assert torch.allclose(x, torch.linalg.solve(wide, b.expand(*both, n)[..., None])[..., 0])


@pytest.mark.parametrize("many", [(), (1,), (2,)])
@pytest.mark.parametrize("batch", [(), (2,), (3, 2), (3, 1, 2)])
def test_starts_are_where_iterations_begin(many: tuple[int, ...], batch: tuple[int, ...]) -> None:
    solver = Solver(method="cg", preconditioner="jacobi", backend="pytorch", rtol=1e-10)
    problem = LinearProblem(matrix=Parameter("A"), rhs=Parameter("b"), solver=solver)
    half = randn(*many, 6, 6)
    A = batched(half @ half.mT + 6.0 * torch.eye(6, dtype=torch.float64))
    first = problem.solve(A=A, b=randn(*batch, 6))
    again = problem.solve(A=A, b=randn(*batch, 6), start=first.x)
    assert (first.info.iterations > 0, again.info.iterations) == (True, 0)
    assert torch.allclose(again.x, first.x, rtol=1e-12, atol=1e-12)
    shared = problem.solve(A=A, b=randn(*batch, 6), start=first.x.flatten()[:6])
    assert torch.allclose(shared.x, first.x, rtol=1e-8, atol=1e-9)
    with pytest.raises(ArgumentError, match="start has the batch dimensions"):
        problem.solve(A=A, b=randn(*batch, 6), start=randn(5, *first.x.shape))


def test_cases_of_matrices_take_batches_of_right_hand_sides() -> None:
    spring = Entries(rows=[0], cols=[0], values=Parameter("k", shape=(1,)), shape=(1, 1))
    problem = LinearProblem(matrix=spring, rhs=Parameter("b", shape=(1,)))
    sweep = SweepProblem(of=problem, cases={"k": [[1.0], [2.0], [4.0]]})
    b = torch.tensor([[1.0], [3.0]], dtype=torch.float64, requires_grad=True)
    x = sweep.solve(b=b).u
    assert torch.allclose(x[..., 0], b / torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64))
    assert torch.allclose(torch.autograd.grad(x.sum(), b)[0], torch.full_like(b, 1.75))
