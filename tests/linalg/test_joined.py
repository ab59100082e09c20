"""Many matrices that are iterated on at once, as on a device: right for each, or left to go alone."""

from __future__ import annotations

from typing import Any

import pytest
import scipy.sparse as sp
import torch

from tests.helpers.devices import ON_CUDA, SIMULATION
from tests.helpers.grids import poisson
from tests.helpers.simulated import counted
from torch_sla.errors import Result, SolveError
from torch_sla.linalg import SparseTensor, cache_counters, clear_factor_cache
from torch_sla.linalg.backends import base, pytorch
from torch_sla.linalg.backends.base import SolveOptions, Symbolic
from torch_sla.linalg.backends.pytorch import PyTorch
from torch_sla.linalg.precond.multigrid import AMG
from torch_sla.linalg.sparse.pattern import Pattern
from torch_sla.linalg.sparse.structure import Structure

F64 = torch.float64
SIDE = 24
N = SIDE * SIDE
WAYS: dict[str, dict[str, Any]] = {
    "lattice": {"method": "cg", "preconditioner": "multigrid"},
    "aggregates": {"method": "cg", "preconditioner": AMG(method="smoothed_aggregation")},
    "gmres": {"method": "gmres", "preconditioner": "multigrid"},
    "bicgstab": {"method": "bicgstab", "preconditioner": "multigrid"},
}


@pytest.fixture(autouse=True)
def _joining(monkeypatch: pytest.MonkeyPatch) -> None:
    """Join on the CPU too, whose hierarchies know as little of blocks as those of a device."""
    joins = PyTorch.joins

    def anywhere(self: PyTorch, method: str, preconditioner: object, values: torch.Tensor) -> bool:
        return joins(self, method, preconditioner, values.to("meta"))

    monkeypatch.setattr(PyTorch, "joins", anywhere)


def plates(B: int, device: str = "cpu", dtype: torch.dtype = F64) -> SparseTensor:
    """Diffusion on a square, each member with conductivities of its own."""
    A = SparseTensor.from_scipy(poisson(SIDE, SIDE))
    g = torch.Generator().manual_seed(B)
    k = torch.rand(B, N, generator=g, dtype=F64) + 0.5
    row, col = A.row_indices.long(), A.col_indices.long()
    couple = torch.where(row == col, 0.0, -0.5 * (k[:, row] + k[:, col]))
    edge = 4.0 - torch.zeros(N, dtype=F64).index_add_(0, row, (row != col).double())
    diagonal = torch.zeros(B, N, dtype=F64).index_add_(1, row, -couple) + edge * k
    values = torch.where(row == col, diagonal[:, row], couple)
    return SparseTensor.from_pattern(A.pattern, values.to(dtype)).to(device)


def joined(info: Any) -> bool:
    return any("at once" in note for note in info.notes)


@pytest.mark.parametrize("device", ["cpu", ON_CUDA])
@pytest.mark.parametrize("way", WAYS)
def test_solutions_and_gradients_are_those_of_each(way: str, device: str) -> None:
    A = plates(5, device)
    v = A.values.clone().requires_grad_()
    b = torch.randn(5, N, 2, dtype=F64).to(device).requires_grad_()
    A = SparseTensor.from_pattern(A.pattern, v)
    x, info = A.solve(b, info=True, backend="pytorch", **WAYS[way])
    assert info.notes == ["5 matrices at once"]
    assert 0 < info.residual <= 1e-10
    assert 0 < info.iterations < 30
    assert len(info.history) == info.iterations
    direct = A.cpu().solve(b.cpu(), backend="native", method="cholesky")
    torch.testing.assert_close(x.cpu(), direct, rtol=1e-8, atol=1e-10)
    loss = [(y**3).sum() for y in (x, direct)]
    for one, two in zip(*(torch.autograd.grad(l, (v, b)) for l in loss), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-7, atol=1e-7 * float(two.abs().max()))


@pytest.mark.parametrize("device", ["cpu", ON_CUDA])
@pytest.mark.parametrize("method", ["cg", "bicgstab", "minres"])
@pytest.mark.parametrize("scaled", ["jacobi", "none"])
def test_columns_of_their_own(
    method: str, scaled: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What divides by the diagonal only iterates with all right-hand sides as columns."""
    if device == "cpu":
        beside: Any = pytorch._side_by_side
        monkeypatch.setattr(PyTorch, "iterate_batch", lambda _, *given: beside(*given))
    monkeypatch.setattr(base, "JOINED", 2 * N)
    monkeypatch.setattr(pytorch, "takes", lambda *_: False)
    A = plates(5, device)
    v = A.values.clone().requires_grad_()
    b = torch.randn(5, N, 2, dtype=F64).to(device).requires_grad_()
    A = SparseTensor.from_pattern(A.pattern, v)
    request = {"backend": "pytorch", "method": method, "preconditioner": scaled}
    x, info = A.solve(b, info=True, **request)
    assert info.notes == ["5 matrices at once"]
    direct = A.cpu().solve(b.cpu(), backend="native", method="cholesky")
    torch.testing.assert_close(x.cpu(), direct, rtol=1e-6, atol=1e-8)
    again, info = A.solve(b, x0=x.detach(), info=True, **request)
    assert info.iterations <= 2
    torch.testing.assert_close(again, x)
    loss = [(y**3).sum() for y in (x, direct)]
    for one, two in zip(*(torch.autograd.grad(l, (v, b)) for l in loss), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-7 * float(two.abs().max()))


@pytest.mark.parametrize("mode", ["n", "t", "h"])
def test_columns_of_unsymmetric_and_complex_matrices(mode: Any) -> None:
    p = Pattern.from_coo(*torch.tensor([[0, 0, 1, 2, 2], [0, 1, 1, 0, 2]]), (3, 3))
    values = torch.randn(4, 5, dtype=torch.complex128) + 4 * (p.row == p.col)
    b = torch.randn(4, 3, 1, dtype=torch.complex128)
    symbolic = Symbolic(p, "bicgstab", Structure())
    options = SolveOptions(rtol=1e-12, preconditioner="jacobi")
    found = pytorch._side_by_side(symbolic, values, b, mode, options, None)
    dense = SparseTensor.from_pattern(p, values).to_dense()
    dense = {"n": dense, "t": dense.mT, "h": dense.mH}[mode]
    torch.testing.assert_close(found.x, torch.linalg.solve(dense, b))
    values[1, 0] = 0.0
    assert pytorch._side_by_side(symbolic, values, b, mode, options, None) is None


@pytest.mark.parametrize("room", [N, 2 * N, 3 * N], ids=["alone", "pairs", "threes"])
def test_groups_have_the_room_there_is(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "JOINED", room)
    A, b = plates(5), torch.randn(5, N, dtype=F64)
    x, info = A.solve(b, info=True, backend="pytorch", **WAYS["lattice"])
    assert joined(info) is (room > N)
    torch.testing.assert_close(x, A.solve(b, backend="native"), rtol=1e-8, atol=1e-10)


def test_the_adjoint_finds_the_hierarchies_of_all_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "JOINED", 2 * N)
    clear_factor_cache()
    A = plates(6)
    A.values.requires_grad_()
    before = cache_counters()["factorize"]
    A.solve(torch.ones(6, N, dtype=F64), backend="pytorch", **WAYS["lattice"]).sum().backward()
    assert cache_counters()["factorize"] - before == 3


def test_sizes_of_members_do_not_matter() -> None:
    A = plates(4)
    scale = torch.tensor([1e-150, 1.0, 1e6, 1e140], dtype=F64)
    loads = torch.tensor([1e-140, 1e8, 0.0, 1.0], dtype=F64)
    A = SparseTensor.from_pattern(A.pattern, A.values * scale[:, None])
    b = torch.randn(4, N, dtype=F64) * loads[:, None]
    x, info = A.solve(b, info=True, backend="pytorch", **WAYS["lattice"])
    assert info.notes[0] == "4 matrices at once"
    for k in range(4):
        one = SparseTensor.from_pattern(A.pattern, A.values[k]).solve(b[k], backend="native")
        torch.testing.assert_close(
            x[k] / scale.reciprocal()[k], one * scale[k], rtol=1e-8, atol=0.0
        )
    assert torch.equal(x[2], torch.zeros_like(x[2]))


def test_each_meets_its_tolerance() -> None:
    A, b = plates(3), torch.randn(3, N, dtype=F64) * torch.tensor([[1.0], [1e-3], [1e3]])
    x, info = A.solve(b, info=True, backend="pytorch", rtol=1e-6, atol=1e-5, **WAYS["lattice"])
    assert info.notes == ["3 matrices at once"]
    left, wanted = (A @ x - b).norm(dim=1), torch.clamp(1e-6 * b.norm(dim=1), min=1e-5)
    assert bool((left <= wanted).all())
    assert bool((left > 1e-4 * wanted).all())  # and nobody iterates to the floor


def test_what_fails_in_company_goes_alone() -> None:
    A, b = plates(4), torch.randn(4, N, dtype=F64)
    v = A.values.clone()
    v[2] = torch.where(A.row_indices == A.col_indices, v[2] - 4.0, v[2])  # indefinite
    bad = SparseTensor.from_pattern(A.pattern, v)
    x, info = bad.solve(b, info=True, throw=False, backend="pytorch", maxiter=60, **WAYS["lattice"])
    assert info.result in (Result.BREAKDOWN, Result.MAXITER, Result.STAGNATION)
    good = [0, 1, 3]
    torch.testing.assert_close(x[good], A.solve(b)[good], rtol=1e-8, atol=1e-10)
    v[2, 0] = float("nan")
    with pytest.raises(SolveError, match=r"nonfinite|NaN"):
        SparseTensor.from_pattern(A.pattern, v).solve(b, backend="pytorch", **WAYS["gmres"])


@pytest.mark.parametrize("device", ["cpu", ON_CUDA])
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
@pytest.mark.parametrize("way", ["lattice", "gmres", "beside"])
@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_right_hand_sides_of_extreme_size(
    size: float, way: str, dtype: torch.dtype, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their norms over- or underflow, by which any x would do; forward, and where only a cotangent is extreme."""
    beside: Any = pytorch._side_by_side
    if way == "beside":
        monkeypatch.setattr(PyTorch, "iterate_batch", lambda _, *given: beside(*given))
    request = {"backend": "pytorch", **WAYS.get(way, {"method": "cg", "preconditioner": "jacobi"})}
    A, b = plates(3, dtype=dtype), torch.randn(3, N, dtype=dtype)
    exact = A.solve(b, backend="native", method="cholesky").to(device)
    scales = torch.tensor([[1.0], [size], [1.0]]).to(device)
    A, b = A.to(device), b.to(device).requires_grad_()
    x = A.solve(b * scales, **request)
    torch.testing.assert_close(x.detach() / scales, exact, rtol=1e-3, atol=1e-3)
    y = A.solve(b, **request)
    (found,) = torch.autograd.grad(y, b, b.detach() * scales)
    torch.testing.assert_close(found / scales, exact, rtol=1e-3, atol=1e-3)


def test_starts() -> None:
    A, b = plates(4), torch.randn(4, N, dtype=F64)
    exact = A.solve(b, backend="native")
    for start, most in ((exact + 1e-12, 2), (torch.zeros_like(b), 20)):
        x, info = A.solve(b, x0=start, info=True, backend="pytorch", **WAYS["lattice"])
        assert info.notes == ["4 matrices at once"]
        assert most // 4 <= info.iterations <= most
        torch.testing.assert_close(x, exact, rtol=1e-8, atol=1e-10)


def test_single_precision_and_complex() -> None:
    for dtype, close in ((torch.float32, 1e-3), (torch.complex128, 1e-8)):
        A, b = plates(3, dtype=dtype), torch.randn(3, N, dtype=dtype)
        x, info = A.solve(b, info=True, backend="pytorch", **WAYS["lattice"])
        assert joined(info)
        torch.testing.assert_close(x, A.solve(b, backend="native"), rtol=close, atol=close)


def test_bodies_bring_their_coordinates() -> None:
    nodes = torch.cartesian_prod(torch.arange(8.0), torch.arange(8.0)).double()
    one = SparseTensor.from_scipy(sp.kron(poisson(8, 8), sp.eye_array(2)))
    values = torch.stack([one.values, 3 * one.values])
    A = SparseTensor.from_pattern(one.pattern, values).declare(coordinates=nodes)
    b = torch.randn(2, 128, dtype=F64)
    x, info = A.solve(b, info=True, backend="pytorch", **WAYS["aggregates"])
    assert joined(info)
    torch.testing.assert_close(x, A.solve(b, backend="native"), rtol=1e-8, atol=1e-10)


def test_what_is_given_for_one_matrix_is_not_for_its_blocks() -> None:
    A, b = plates(3), torch.randn(3, N, dtype=F64)
    for given in (AMG(near_nullspace=torch.ones(N, 1, dtype=F64)), lambda r: r / 4, "jacobi"):
        x, info = A.solve(b, info=True, backend="pytorch", method="cg", preconditioner=given)
        assert not joined(info)
        torch.testing.assert_close(x, A.solve(b, backend="native"), rtol=1e-7, atol=1e-8)


@SIMULATION[0]
@SIMULATION[1]
def test_waits_do_not_grow_with_the_batch() -> None:
    found = []
    for B in (2, 9):
        A, b = plates(B, "cuda"), torch.ones(B, N, dtype=F64, device="cuda")
        A.solve(b, backend="pytorch", **WAYS["lattice"])
        other = SparseTensor.from_pattern(A.pattern, 1.5 * A.values)
        with counted("linalg/kernels/", "linalg/sparse/structure.py") as seen:
            _, info = other.solve(b, info=True, backend="pytorch", **WAYS["lattice"])
        assert info.notes == [f"{B} matrices at once"]
        found.append(seen.total())
    assert found[0] == found[1] <= 14
