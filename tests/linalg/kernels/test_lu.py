"""The unsymmetric factor against dense algebra: every type, every mode, with and without interchanges."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.helpers.grids import poisson
from torch_sla import _core
from torch_sla.errors import ArgumentError, DTypeError
from torch_sla.linalg.kernels import lanes, lu, symbolic, unavailable

pytestmark = pytest.mark.skipif(
    unavailable() is not None, reason=f"no compiled extension: {_core.reason}"
)
DTYPES = [torch.float64, torch.float32, torch.complex128, torch.complex64]


def grid(
    members: int, dtype: torch.dtype, diagonal: float, shape: tuple[int, int] = (13, 11)
) -> tuple[symbolic.Analysis, lanes.LanePattern, Tensor, Tensor]:
    """Analysis of the symmetric pattern, places, values ``[B, nnz]`` of A, which lacks some mirrors, and A."""
    A = poisson(*shape)
    A.sort_indices()
    n = A.shape[0]
    crow, ccol = torch.from_numpy(A.indptr).int(), torch.from_numpy(A.indices).int()
    row = torch.repeat_interleave(torch.arange(n), crow.long().diff())
    mirror = torch.searchsorted(row * n + ccol, ccol.long() * n + row).int()
    there = (ccol >= row) | ((row + ccol) % 3 != 0)
    slot = torch.where(there, there.cumsum(0) - 1, -1).int()
    g = torch.Generator().manual_seed(members)
    values = torch.randn(members, int(there.sum()), generator=g, dtype=torch.float64).to(dtype)
    if dtype.is_complex:
        values = values + 1j * torch.randn(values.shape, generator=g, dtype=torch.float64).to(dtype)
    values[:, (row == ccol)[there]] += diagonal
    dense = torch.zeros(members, n, n, dtype=dtype)
    dense[:, row[there], ccol.long()[there]] = values
    own = torch.zeros(n + 1, dtype=torch.int32)
    own[1:] = torch.bincount(row[there], minlength=n).cumsum(0)
    places = lanes.LanePattern(own, ccol[there], slot, mirror)
    return symbolic.analyze(crow, ccol), places, values, dense


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("columns", [1, 3, 9])
def test_solutions_in_every_mode(dtype: torch.dtype, members: int, columns: int) -> None:
    analysis, places, values, dense = grid(members, dtype, 8.0)
    found = lu.factorize(analysis, places, values)
    factors = [f for f in found if f is not None]
    assert len(factors) == members
    b = torch.randn(members, analysis.n, columns, dtype=dtype)
    for mode, A in (("n", dense), ("t", dense.mT), ("h", dense.mH)):
        x = lu.solve_batch(factors, b, mode)
        torch.testing.assert_close(x, torch.linalg.solve(A, b))
        torch.testing.assert_close(factors[0].solve(b[0], mode), x[0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_rows_are_interchanged_where_the_diagonal_is_no_pivot(dtype: torch.dtype) -> None:
    analysis, places, values, dense = grid(1, dtype, 0.0, (23, 17))
    (f,) = lu.factorize(analysis, places, values)
    assert f is not None
    assert 0 < f.interchanged < analysis.n
    b = torch.randn(analysis.n, 2, dtype=dtype)
    for mode, A in (("n", dense[0]), ("t", dense[0].mT), ("h", dense[0].mH)):
        left = b - A @ f.solve(b, mode)
        assert float(left.abs().amax()) < 1e-9


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("diagonal", [0.0, 8.0])
def test_determinants(dtype: torch.dtype, diagonal: float) -> None:
    analysis, places, values, dense = grid(1, dtype, diagonal)
    (f,) = lu.factorize(analysis, places, values)
    assert f is not None
    phase, log = f.slogdet
    wanted = torch.linalg.slogdet(dense[0])
    assert log == pytest.approx(float(wanted.logabsdet), rel=1e-10)
    assert abs(phase - complex(wanted.sign)) < 1e-9


def test_threads_change_no_bit() -> None:
    analysis, places, values, _ = grid(1, torch.float64, 0.0, (60, 50))
    b = torch.randn(analysis.n, 5, dtype=torch.float64)
    one, two = (lu.factorize(analysis, places, values, threads=t)[0] for t in (1, 2))
    assert one is not None
    assert two is not None
    for mode in ("n", "t"):
        assert torch.equal(one.solve(b, mode, threads=1), two.solve(b, mode, threads=2))


def test_a_member_without_pivots_leaves_the_others() -> None:
    analysis, places, values, _ = grid(4, torch.float64, 8.0)
    values[2] = 0
    found = lu.factorize(analysis, places, values)
    assert [f is None for f in found] == [False, False, True, False]
    values[1, 3] = float("nan")
    assert lu.factorize(analysis, places, values[1:2])[0] is None


def test_what_it_does_not_take() -> None:
    analysis, places, values, _ = grid(1, torch.float64, 8.0)
    with pytest.raises(DTypeError, match="int64"):
        lu.factorize(analysis, places, values.long())
    with pytest.raises(ArgumentError, match=r"\[B, nnz\]"):
        lu.factorize(analysis, places, values[0])
