"""Symmetry of matrices whose rows are on scales of their own."""

from __future__ import annotations

from math import cos, log, sin

import pytest
import torch

from torch_sla.errors import SolveError
from torch_sla.linalg import SparseTensor
from torch_sla.linalg.sparse.mirrors import asymmetry

# Differences that are rounding beside the larger diagonal entry, and all that the smaller row has.
STEEP = [
    [[1e17, 10.0], [-10.0, 1e-14]],
    [[1e17, 10.0], [-10.0, 1e-16]],
    [[1e17, 1.0], [2.0, 1e-10]],
    [[1e17, 1e-5], [-1e-5, 1e-27]],
    [[1e17, 10.0], [-10.0, 0.0]],
]


def _inverse(a: list[list[float]]) -> tuple[float, torch.Tensor]:
    """Return determinant and inverse of two rows; nothing cancels in those above."""
    (p, q), (r, s) = a
    det = p * s - q * r
    return det, torch.tensor([[s, -q], [-r, p]], dtype=torch.float64) / det


@pytest.mark.parametrize("a", STEEP)
def test_what_is_meant_is_not_taken_for_rounding(a: list[list[float]]) -> None:
    det, inverse = _inverse(a)
    dense = torch.tensor(a, dtype=torch.float64)
    A = SparseTensor.from_dense(dense)
    for found in (A.is_symmetric(), A.is_hermitian(), A.is_positive_definite()):
        assert not found
    F = A.factorize()
    for value in (A.det(), F.det(), A.lu().det()):
        torch.testing.assert_close(value.item(), det, rtol=1e-12, atol=0)
    for sign, size in (A.slogdet(), F.slogdet()):
        assert sign == 1
        assert size.item() == pytest.approx(log(det), rel=1e-12)
    entries = F.selected_inverse().to_dense()
    kept = dense.T != 0
    torch.testing.assert_close(entries[kept], inverse[kept], rtol=1e-12, atol=0)
    for k, b in enumerate(torch.eye(2, dtype=torch.float64)):
        torch.testing.assert_close(A.solve(b), inverse[:, k], rtol=1e-12, atol=0)
        torch.testing.assert_close(F.solve_transposed(b), inverse[k], rtol=1e-12, atol=0)


def test_a_batch_is_as_symmetric_as_its_worst_member() -> None:
    even = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    steep = torch.tensor(STEEP[:1], dtype=torch.float64)
    A = SparseTensor.from_dense(torch.stack([even, steep[0]]))
    assert not A.is_symmetric()
    torch.testing.assert_close(A.det(), torch.tensor([3.0, 1100.0], dtype=torch.float64))


def test_complex_ones_too() -> None:
    a = torch.tensor([[1e17, 10j], [10j, 1e-14]], dtype=torch.complex128)
    A = SparseTensor.from_dense(a)
    assert A.is_symmetric()
    assert not A.is_hermitian()
    torch.testing.assert_close(A.det().real.item(), 1100.0, rtol=1e-12, atol=0)


def test_what_is_declared_is_held_to_it() -> None:
    A = SparseTensor.from_dense(torch.tensor(STEEP[0], dtype=torch.float64))
    with pytest.raises(SolveError, match="mirror images by"):
        A.declare(positive_definite=True).cholesky()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_of_rotated_anisotropy_stays_rounding(dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(0)
    weak = torch.finfo(dtype).eps ** 0.6
    i, j = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    for angle in torch.rand(50, generator=g, dtype=torch.float64).tolist():
        # R diag(1, weak) Rᵀ, turned back with products that round.
        R = torch.tensor([[cos(angle), -sin(angle)], [sin(angle), cos(angle)]], dtype=dtype)
        K = (R * torch.tensor([1.0, weak], dtype=dtype)) @ R.T
        K = R.T @ (K @ R)
        assert SparseTensor(K.flatten(), i, j, (2, 2)).is_symmetric()
    off = torch.tensor([[1.0, 1e-17, 1e-9], [-1e-17, 0.0, 1e-5], [1e-9, 1e-5, 0.0]])
    assert SparseTensor.from_dense(off.double()).is_symmetric()  # noise in a saddle point's rows


def test_the_measure_does_not_depend_on_scales() -> None:
    g = torch.Generator().manual_seed(1)
    dense = torch.rand(6, 6, generator=g, dtype=torch.float64) + 0.5
    dense = dense + dense.T
    dense[1, 4] += 1e-3
    size = 2.0 ** torch.randint(-40, 40, (6,), generator=g).double()
    A, B = (SparseTensor.from_dense(a) for a in (dense, size[:, None] * dense * size))
    here, there = (asymmetry(M.pattern.slots, M.csr_values, hermitian=True) for M in (A, B))
    assert 1e-4 < here < 1e-3
    assert there == pytest.approx(here, rel=2)
