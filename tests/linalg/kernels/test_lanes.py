"""Factors in lanes against dense algebra, and the measures that go with them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.helpers.grids import poisson
from torch_sla import _core
from torch_sla.errors import DTypeError
from torch_sla.linalg.kernels import lanes, symbolic, unavailable

pytestmark = pytest.mark.skipif(
    unavailable() is not None, reason=f"no compiled extension: {_core.reason}"
)


def batch(
    members: int, dtype: torch.dtype, symmetric: bool
) -> tuple[symbolic.Analysis, lanes.LanePattern, Tensor, Tensor]:
    """Analysis, places, values ``[B, nnz]`` and dense matrices of a 9 x 7 grid."""
    A = poisson(9, 7)
    A.sort_indices()
    n = A.shape[0]
    crow, ccol = torch.from_numpy(A.indptr).int(), torch.from_numpy(A.indices).int()
    row = torch.repeat_interleave(torch.arange(n), crow.long().diff())
    key, turned = row * n + ccol, ccol.long() * n + row
    mirror = torch.searchsorted(key, turned).int()
    g = torch.Generator().manual_seed(members)
    dense = torch.zeros(members, n, n, dtype=dtype)
    values = torch.from_numpy(A.data).to(dtype) + 0.3 * torch.rand(
        members, len(ccol), generator=g, dtype=dtype
    )
    if symmetric:
        values = (values + values[:, mirror.long()]) / 2
    values[:, row == ccol] += 1
    dense[:, row, ccol.long()] = values
    places = lanes.LanePattern(crow, ccol, torch.arange(len(ccol), dtype=torch.int32), mirror)
    return symbolic.analyze(crow, ccol, lanes=True), places, values, dense


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("members", [1, 3, 21])
def test_solutions_and_determinants(members: int, dtype: torch.dtype, symmetric: bool) -> None:
    analysis, places, values, dense = batch(members, dtype, symmetric)
    n, eps = analysis.n, torch.finfo(dtype).eps
    probe = torch.linspace(1, 2, n, dtype=dtype)
    f = lanes.factorize(analysis, places, values, probe, symmetric=symmetric)
    exact = torch.linalg.solve(dense, probe.expand(members, n))
    torch.testing.assert_close(f.growth, exact.abs().amax(1))
    assert bool((f.error < 20 * eps).all())
    assert bool((f.lowest > 0).all())
    some = torch.arange(0, members, 2)
    b = torch.randn(len(some), n, 5, dtype=dtype)
    for mode, A in (("n", dense), ("t", dense.mT), ("h", dense.mH)):
        torch.testing.assert_close(f.solve(some, b, mode), torch.linalg.solve(A[some], b))
    sign, log = f.slogdet(members - 1)
    wanted = torch.linalg.slogdet(dense[members - 1].double())
    assert sign == float(wanted.sign)
    assert log == pytest.approx(float(wanted.logabsdet), rel=1e-5 if eps > 1e-10 else 1e-12)
    if symmetric:
        for positive in (True, False):
            one = f.extract(members - 1, positive=positive)
            right = torch.ones(n, 1, dtype=dtype)
            torch.testing.assert_close(
                one.solve(right), torch.linalg.solve(dense[members - 1], right)
            )
            assert one.inertia == (n, 0, 0)


@pytest.mark.parametrize("symmetric", [True, False])
def test_threads_change_no_bit(symmetric: bool) -> None:
    analysis, places, values, _ = batch(37, torch.float64, symmetric)
    probe, b = torch.ones(analysis.n).double(), torch.randn(37, analysis.n, 3).double()
    found = [
        lanes.factorize(analysis, places, values, probe, symmetric=symmetric, threads=t)
        for t in (1, 2)
    ]
    assert torch.equal(found[0].error, found[1].error)
    everyone = torch.arange(37)
    assert torch.equal(
        found[0].solve(everyone, b, threads=1), found[1].solve(everyone, b, threads=2)
    )


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("columns", [1, 3])
def test_what_is_left_over_is_measured_beside_the_solve(symmetric: bool, columns: int) -> None:
    analysis, places, values, _ = batch(21, torch.float64, symmetric)
    f = lanes.factorize(analysis, places, values, torch.ones(63), symmetric=symmetric)
    listed = torch.tensor([0, 3, 8, 9, 20])
    chosen, b = values[listed], torch.randn(5, 63, columns).double()
    b[3, 7] = float("nan")
    for mode, truth in (("n", "n"), ("h", "h"), ("n", "h")):
        x, sizes = f.solve_measured(
            listed, b, places.crow, places.ccol, chosen, mode=mode, truth=truth
        )
        assert torch.equal(x[:3], f.solve(listed, b, mode)[:3])
        wanted = lanes.residual(places.crow, places.ccol, chosen, x, b, transposed=truth != "n")
        assert wanted is not None
        sound = [0, 1, 2, 4]
        torch.testing.assert_close(sizes[:, sound], wanted[1][:, sound], rtol=1e-9, atol=1e-14)
        assert not bool(sizes[:2, 3].isfinite().any())


def test_what_became_of_each_member_is_told() -> None:
    analysis, places, values, _ = batch(5, torch.float64, True)
    values[1] = 0
    values[3] *= -1
    f = lanes.factorize(analysis, places, values, torch.ones(analysis.n), symmetric=True)
    assert f.growth.isfinite().tolist() == [True, False, True, True, True]
    assert (f.lowest > 0).tolist()[2:] == [True, False, True]
    with pytest.raises(IndexError, match="no member 5"):
        f.slogdet(5)
    with pytest.raises(DTypeError):
        lanes.factorize(
            analysis, places, values.to(torch.complex128), torch.ones(63), symmetric=True
        )


def test_measures() -> None:
    _, places, values, dense = batch(11, torch.float64, False)
    values[4] = 0
    dense[4] = 0
    found = lanes.measure(places.crow, places.ccol, values)
    size = dense.abs()
    assert found is not None
    torch.testing.assert_close(found[0], size.sum(2).amax(1))
    torch.testing.assert_close(found[1], size.sum(1).amax(1))
    rows, columns = size.amax(2), size.amax(1)
    torch.testing.assert_close(found[2], (rows.amax(1) / rows.amin(1)).nan_to_num(0.0))
    torch.testing.assert_close(found[3], (columns.amax(1) / columns.amin(1)).nan_to_num(0.0))
    x, b = torch.randn(11, 63, 2).double(), torch.randn(11, 63, 2).double()
    b[7, 3, 1] = float("nan")
    left = lanes.residual(places.crow, places.ccol, values, x, b)
    assert left is not None
    r, sizes = left
    torch.testing.assert_close(r, b - dense @ x, equal_nan=True)
    torch.testing.assert_close(sizes[0], r.square().sum(1).sqrt(), equal_nan=True)
    torch.testing.assert_close(sizes[1], r.abs().amax(1), equal_nan=True)
    torch.testing.assert_close(sizes[2], x.abs().amax(1))
    b[7, 3, 1] = 1.0
    for threads in (1, 2):
        turned = lanes.residual(
            places.crow, places.ccol, values, x, b, transposed=True, threads=threads
        )
        assert turned is not None
        r, sizes = turned
        torch.testing.assert_close(r, b - dense.mT @ x)
        torch.testing.assert_close(sizes[0], torch.linalg.vector_norm(r, dim=1))
        torch.testing.assert_close(sizes[3], b.abs().amax(1))
        torch.testing.assert_close(sizes[4], torch.linalg.vector_norm(b, dim=1))
