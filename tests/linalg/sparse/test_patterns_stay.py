"""Patterns are shared: nothing that reads one may write to its indices."""

from __future__ import annotations

import pytest
import torch

from torch_sla.errors import SolveError
from torch_sla.linalg import SparseTensor


def with_an_empty_row() -> SparseTensor:
    one = torch.ones(7, dtype=torch.float64)
    A = SparseTensor.tridiagonal(-one[1:], 2 * one, -one[1:])
    return SparseTensor.from_pattern(A.pattern, A.values * (A.row_indices != 3))


def test_components_leave_stored_zeros() -> None:
    A = with_an_empty_row()
    crow, ccol = A.pattern.crow.clone(), A.pattern.ccol.clone()
    A.connected_components()
    assert torch.equal(A.pattern.crow, crow)
    assert torch.equal(A.pattern.ccol, ccol)


def test_the_reason_of_a_singular_matrix_leaves_stored_zeros() -> None:
    A = with_an_empty_row()
    crow, ccol = A.pattern.crow.clone(), A.pattern.ccol.clone()
    with pytest.raises(SolveError):
        A.solve(torch.ones(7, dtype=torch.float64), backend="scipy", method="superlu")
    assert torch.equal(A.pattern.crow, crow)
    assert torch.equal(A.pattern.ccol, ccol)
