"""Lists of matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.helpers.grids import grid
from torch_sla.errors import ArgumentError
from torch_sla.linalg import (
    SparseTensorList,
)


def test_lists() -> None:
    A = SparseTensorList([grid(3), 2 * grid(2)])
    b = [torch.ones(3).double(), torch.ones(2).double()]
    for x, B, rhs in zip(A.solve(b), A, b, strict=True):
        torch.testing.assert_close(B @ x, rhs)
    whole = A.to_block_diagonal()
    assert whole.shape == A.total_shape == (5, 5)
    back = SparseTensorList.from_block_diagonal(whole, [3, 2])
    assert all(torch.equal(x.to_dense(), y.to_dense()) for x, y in zip(A, back, strict=True))
    assert [float(s) for s in (A + A).sum()] == [2 * float(s) for s in A.sum()]
    assert isinstance(A.abs(), SparseTensorList)
    assert [y.shape[0] for y in A @ b] == [3, 2]
    assert A[0].shape == (3, 3)
    assert len(A[:1]) == 1
    with pytest.raises(ArgumentError, match="outside"):
        SparseTensorList.from_block_diagonal(grid(5), [3, 2])
    with pytest.raises(ArgumentError, match="operands"):
        A.solve(b[:1])
    with pytest.raises(AttributeError):
        _ = A.nothing


@pytest.mark.parametrize(
    "sizes", [np.array([3, 2]), torch.tensor([3, 2]), [(np.int32(3), 3), (2, np.int64(2))]]
)
def test_sizes_of_blocks_are_whole_numbers_of_any_type(sizes: object) -> None:
    whole = SparseTensorList([grid(3), grid(2)]).to_block_diagonal()
    assert SparseTensorList.from_block_diagonal(whole, sizes).block_sizes == [(3, 3), (2, 2)]


@pytest.mark.parametrize("sizes", [5, None, [2.5, 2.5], ["3", 2], [(3, 3, 3), 2], [-1, 6]])
def test_what_is_no_size_of_a_block_is_refused(sizes: object) -> None:
    with pytest.raises(ArgumentError, match="`block_sizes` must be"):
        SparseTensorList.from_block_diagonal(grid(5), sizes)


@pytest.mark.parametrize("name", ["device", "dtype"])
def test_an_empty_list_has_no(name: str) -> None:
    with pytest.raises(ArgumentError, match=f"an empty list has no {name}"):
        getattr(SparseTensorList([]), name)
