"""Batches of matrices meet batches of right-hand sides: leading dimensions broadcast, whatever the sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from torch_sla import Entries, LinearProblem, Parameter, SparseTensor, SweepProblem
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


def test_cases_of_matrices_take_batches_of_right_hand_sides() -> None:
    spring = Entries(rows=[0], cols=[0], values=Parameter("k", shape=(1,)), shape=(1, 1))
    problem = LinearProblem(matrix=spring, rhs=Parameter("b", shape=(1,)))
    sweep = SweepProblem(of=problem, cases={"k": [[1.0], [2.0], [4.0]]})
    b = torch.tensor([[1.0], [3.0]], dtype=torch.float64, requires_grad=True)
    x = sweep.solve(b=b).u
    assert torch.allclose(x[..., 0], b / torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64))
    assert torch.allclose(torch.autograd.grad(x.sum(), b)[0], torch.full_like(b, 1.75))
