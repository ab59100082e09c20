"""A batch of no matrices: what is found for each member is empty, and recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from torch_sla.errors import ArgumentError
from torch_sla.linalg import SparseTensor

if TYPE_CHECKING:
    from collections.abc import Callable

N = 4
CASES: dict[str, tuple[Callable[[SparseTensor], Any], list[tuple[int, ...]]]] = {
    "solve": (lambda A: A.solve(torch.ones(N, dtype=A.dtype)), [(N,)]),
    "matmul": (lambda A: A @ torch.ones(N, dtype=A.dtype), [(N,)]),
    "det": (SparseTensor.det, [()]),
    "logdet": (SparseTensor.logdet, [()]),
    "slogdet": (SparseTensor.slogdet, [(), ()]),
    "eigsh": (lambda A: A.eigsh(k=2), [(2,), (N, 2)]),
    "eigs": (lambda A: A.eigs(k=2), [(2,), (N, 2)]),
    "svd": (lambda A: A.svd(k=2), [(N, 2), (2,), (2, N)]),
    "condition_number": (SparseTensor.condition_number, [()]),
}


def _batch(*sizes: int, dtype: torch.dtype) -> SparseTensor:
    dense = 2.0 * torch.eye(N, dtype=dtype) + 0.1
    pattern = SparseTensor.from_dense(dense).pattern
    return SparseTensor.from_pattern(pattern, torch.zeros(*sizes, pattern.nnz, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex64])
@pytest.mark.parametrize("case", CASES)
def test_of_none_there_is_none(case: str, dtype: torch.dtype) -> None:
    of, shapes = CASES[case]
    A = _batch(2, 0, dtype=dtype).requires_grad_()
    one = SparseTensor.from_dense(2.0 * torch.eye(N, dtype=dtype) + 0.1).requires_grad_()
    found, true = (r if isinstance(r, tuple) else (r,) for r in (of(A), of(one)))
    assert [tuple(x.shape) for x in found] == [(2, 0, *shape) for shape in shapes]
    for empty, full in zip(found, true, strict=True):
        assert empty.dtype == full.dtype
        if full.requires_grad:
            (slope,) = torch.autograd.grad(empty.abs().sum(), A.values, retain_graph=True)
            assert slope.shape == A.values.shape


def test_a_factorisation_needs_a_matrix() -> None:
    with pytest.raises(ArgumentError, match=r"the batch is empty: shape \(0, 4, 4\); a factoris"):
        _batch(0, dtype=torch.float64).lu()


@pytest.mark.parametrize("shape", [(0, 0), (1, 0), (0, 3)])
@pytest.mark.parametrize("columns", [(), (2,), (0,)])
def test_gradients_of_empty_matrices_are_mapped(
    shape: tuple[int, int], columns: tuple[int, ...]
) -> None:
    rows, width = shape
    none = torch.zeros(0, dtype=torch.long)
    v, b, x = torch.zeros(0), torch.ones(3, rows, *columns), torch.ones(3, width, *columns)

    def loss(v: torch.Tensor, b: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        A = SparseTensor(v, none, none, shape)
        return A.solve(b).square().sum() + (A @ x).square().sum()

    mapped = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1, 2)), in_dims=(None, 0, 0))
    for found, size in zip(mapped(v, b, x), ((3, 0), b.shape, x.shape), strict=True):
        assert torch.equal(found, torch.zeros(size))


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (2, 0, 0), (0, 2, 2), (2, 1, 0, 4)])
def test_dense_tensors_without_entries_are_matrices(shape: tuple[int, ...]) -> None:
    dense = torch.zeros(shape, requires_grad=True)
    A = SparseTensor.from_dense(dense)
    assert (A.shape, A.nnz) == (shape, 0)
    (slope,) = torch.autograd.grad(A.to_dense().sum(), dense)
    assert torch.equal(slope, torch.zeros(shape))
