"""Determinants against dense torch: tiny, huge, singular; first and second derivatives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch.autograd import forward_ad, gradcheck, gradgradcheck

from torch_sla.errors import ArgumentError, GradientError
from torch_sla.linalg import SparseTensor
from torch_sla.linalg.sparse.pattern import Pattern

if TYPE_CHECKING:
    from collections.abc import Callable

N = 6
I = torch.arange(N)
ROW = torch.cat([I, I[1:], I[:-2], torch.tensor([0])])
COL = torch.cat([I, I[:-1], I[2:], torch.tensor([0])])


def sample(dtype: torch.dtype, *batch: int, seed: int = 9) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    v = torch.randn(*batch, len(ROW), dtype=dtype, generator=g)
    v[..., :N] += 3
    return v


def make(v: torch.Tensor) -> SparseTensor:
    return SparseTensor(v, ROW, COL, (*v.shape[:-1], N, N))


@pytest.mark.parametrize("batch", [(), (2, 3)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_values(dtype: torch.dtype, batch: tuple[int, ...]) -> None:
    A = make(sample(dtype, *batch))
    D = A.to_dense()
    torch.testing.assert_close(A.det(), torch.linalg.det(D))
    sign, log = A.slogdet()
    torch.testing.assert_close(log, torch.linalg.slogdet(D).logabsdet)
    torch.testing.assert_close(sign, torch.linalg.slogdet(D).sign)
    torch.testing.assert_close(A.logdet(), torch.logdet(D))


@pytest.mark.parametrize("name", ["det", "slogdet", "logdet"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_derivatives(name: str, dtype: torch.dtype) -> None:
    v = sample(dtype).requires_grad_()

    def function(x: torch.Tensor) -> torch.Tensor:
        return getattr(make(x), name)()

    assert gradcheck(function, (v,))
    assert gradgradcheck(function, (v,))


@pytest.mark.parametrize("scale", [1e-40, 1e-3, 1e40])
def test_gradient_of_a_determinant_of_any_size(scale: float) -> None:
    v = (sample(torch.float64) * scale).requires_grad_()
    (g,) = torch.autograd.grad(make(v).det(), v)
    w = sample(torch.float64).requires_grad_()
    (h,) = torch.autograd.grad(make(w).det(), w)
    torch.testing.assert_close(g, h * scale ** (N - 1), rtol=1e-10, atol=0)
    assert (g != 0).any()


def test_gradient_beyond_the_size_of_dense_matrices() -> None:
    d = torch.linspace(0.9, 1.1, 1200, dtype=torch.float64, requires_grad=True)
    det = SparseTensor.diag(d).det()
    (g,) = torch.autograd.grad(det, d)
    torch.testing.assert_close(g, (det / d).detach())


def test_cofactors_survive_where_the_determinant_underflows() -> None:
    d = torch.tensor([1e-200, 1e-200, 1.0], dtype=torch.float64, requires_grad=True)
    det = SparseTensor.diag(d).det()
    det.backward()
    assert det == 0
    assert d.grad[0] == pytest.approx(1e-200, rel=1e-12)


@pytest.mark.parametrize("scale", [1.0, 1e8])
@pytest.mark.parametrize("rank_lost", [1, 2])
def test_gradient_at_a_singular_matrix(rank_lost: int, scale: float) -> None:
    D = torch.diag(torch.tensor([2.0, 3.0, 0.0 if rank_lost == 2 else 5.0, 0.0]).double())
    Q = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q
    x = (scale * Q @ D @ Q.T).requires_grad_()
    det = SparseTensor.from_dense(x).det() / scale**3
    (g,) = torch.autograd.grad(det, x)
    expected = 30 * torch.outer(Q[:, 3], Q[:, 3]) if rank_lost == 1 else torch.zeros(4, 4).double()
    torch.testing.assert_close(g, expected, atol=1e-12, rtol=1e-9)
    assert abs(float(det.detach())) < 1e-13 * scale


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
def test_cofactors_at_a_singular_matrix_of_many_scales(dtype: torch.dtype) -> None:
    high, low = (2.0 ** torch.full((300,), p) for p in (10, -10))
    d = torch.cat([high, low, torch.zeros(1)]).to(dtype).requires_grad_()
    det = SparseTensor.diag(d).det()
    (g,) = torch.autograd.grad(det, d, torch.ones_like(det))
    assert abs(complex(g[-1]) - 1.0) < 1e-4
    small = torch.finfo(dtype).eps * 2.0**20 * len(d)
    assert float(g[:-1].abs().max()) <= small


def test_cofactors_of_a_nearly_singular_matrix_of_many_scales() -> None:
    d = torch.tensor([1e200, 1e-200, 1e-200, 1e190], dtype=torch.float64, requires_grad=True)
    (g,) = torch.autograd.grad(SparseTensor.diag(d).det(), d)
    expected = torch.tensor([0.0, 1e190, 1e190, 0.0], dtype=torch.float64)
    torch.testing.assert_close(g, expected, rtol=1e-10, atol=1e170)


def test_exactly_singular() -> None:
    v = torch.tensor([1.0, 2.0, 2.0, 4.0], dtype=torch.float64, requires_grad=True)
    A = SparseTensor(v, torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1]), (2, 2))
    (g,) = torch.autograd.grad(A.det(), v)
    torch.testing.assert_close(g, torch.tensor([4.0, -2.0, -2.0, 1.0]).double())
    sign, log = A.detach().slogdet()
    assert (float(sign), float(log)) == (0.0, float("-inf"))
    assert float(A.detach().logdet()) == float("-inf")
    with pytest.raises(GradientError, match="singular"):
        A.slogdet()
    with pytest.raises(GradientError):
        torch.autograd.grad(A.det(), v, create_graph=True)


def test_logdet_neither_overflows_nor_estimates() -> None:
    n = 3000
    off = torch.tensor(-1e8, dtype=torch.float64)
    A = SparseTensor.tridiagonal(off, torch.full((n,), 2e8, dtype=torch.float64), off)
    exact = torch.log(torch.tensor(n + 1.0).double()) + n * torch.log(torch.tensor(1e8).double())
    assert float(A.logdet()) == pytest.approx(float(exact), rel=1e-13)
    assert torch.equal(A.logdet(), A.logdet())


def test_odd_cases() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    assert SparseTensor(torch.zeros(0), none, none, (0, 0)).det() == 1
    assert SparseTensor(torch.zeros(0), none, none, (2, 2)).det() == 0
    assert torch.isnan(SparseTensor.diag(torch.tensor([-1.0, 2.0])).logdet())
    with pytest.raises(ArgumentError, match="square"):
        SparseTensor.eye(2, 3).det()


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("name", ["det", "logdet"])
def test_forward_mode_and_transforms(name: str, dtype: torch.dtype, batch: tuple[int, ...]) -> None:
    """Tangents, tangents of gradients, and a matrix that `vmap` does not map over, against dense ones."""
    v, t = sample(dtype, *batch), sample(dtype, *batch, seed=3)

    def function(x: torch.Tensor) -> torch.Tensor:
        return getattr(make(x), name)()

    def dense(x: torch.Tensor) -> torch.Tensor:
        D = x.new_zeros(*batch, N * N).index_add(-1, ROW * N + COL, x).unflatten(-1, (N, N))
        det = torch.linalg.det(D)
        return det if name == "det" else det.log()

    def slope(f: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        return torch.func.grad(lambda x: (f(x).abs() ** 2).sum())

    for one, other in ((function, dense), (slope(function), slope(dense))):
        for found, expected in zip(
            torch.func.jvp(one, (v,), (t,)), torch.func.jvp(other, (v,), (t,)), strict=True
        ):
            torch.testing.assert_close(found, expected)
    scales = torch.arange(1.0, 4.0, dtype=torch.float64)
    inside = torch.func.vmap(lambda s: s * function(v))(scales)
    torch.testing.assert_close(inside[2], 3 * function(v))
    with pytest.raises(ArgumentError, match="does not go through determinants"):
        torch.func.vmap(lambda s: function(s * v))(scales)


@pytest.mark.parametrize("d", [0.3 + 1.1j, 0.3 + 1.2j])
def test_gradient_at_a_singular_complex_matrix(d: complex) -> None:
    """One row a multiple of the other (0.3 + 1.1j), and one beside it."""
    a, b, c = 1 + 1j, 2 - 1j, (0.3 + 1.1j) * (1 + 1j) / (2 - 1j)
    v = torch.tensor([a, b, c, d], dtype=torch.complex128, requires_grad=True)
    A = SparseTensor(v, torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1]), (2, 2))
    (g,) = torch.autograd.grad(A.det(), v, torch.ones((), dtype=v.dtype))
    torch.testing.assert_close(g, torch.tensor([d, -c, -b, a]).to(g).conj())


def test_one_singular_matrix_of_a_batch() -> None:
    A = SparseTensor.diag(torch.tensor([[1.0, 2.0], [0.0, 3.0]], dtype=torch.float64))
    assert A.det().tolist() == [2.0, 0.0]
    sign, log = A.slogdet()
    assert sign.tolist() == [1.0, 0.0]
    assert log.exp().tolist() == pytest.approx([2.0, 0.0])


def test_forward_mode_at_a_singular_matrix() -> None:
    v = torch.tensor([1.0, 2.0, 2.0, 4.0], dtype=torch.float64)
    row, col = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])

    def det(x: torch.Tensor) -> torch.Tensor:
        return SparseTensor(x, row, col, (2, 2)).det()

    t = torch.tensor([1.0, 2.0, 3.0, 5.0], dtype=torch.float64)
    value, tangent = torch.func.jvp(det, (v,), (t,))
    assert float(value) == 0.0
    assert float(tangent) == pytest.approx(4 - 2 * 2 - 2 * 3 + 5)
    with pytest.raises(GradientError, match="has no derivative"):
        torch.func.jvp(lambda x: SparseTensor(x, row, col, (2, 2)).slogdet(), (v,), (v,))
    with forward_ad.dual_level(), pytest.raises(GradientError, match="has no derivative"):
        SparseTensor(forward_ad.make_dual(v, v), row, col, (2, 2)).slogdet()
    with pytest.raises(GradientError, match="regular matrix"):
        torch.func.grad(lambda x: torch.func.jvp(det, (x,), (torch.ones_like(x),))[1])(v)


@pytest.mark.parametrize("n", [4, 6, 7])
def test_the_gradient_at_a_nearly_singular_matrix_may_be_asked_for_again(n: int) -> None:
    w = torch.linspace(0.6, 1.4, n, dtype=torch.float64, requires_grad=True)
    i = torch.arange(n)
    j = (i + 1) % n
    row, col = torch.cat([i, j, i, j]), torch.cat([i, j, j, i])
    det = SparseTensor(torch.cat([w, w, -w, -w]), row, col, (n, n)).det()
    first, second = (torch.autograd.grad(det, w, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("batch", [(), (3,)])
def test_blocks_of_no_rows_have_the_determinant_one(batch: tuple[int, ...]) -> None:
    none = torch.zeros(0, dtype=torch.long)
    pattern = Pattern.from_coo(none, none, (0, 0), (2, 2))
    A = SparseTensor.from_pattern(pattern, torch.zeros(*batch, 0, 2, 2))
    one, zero = torch.ones(batch), torch.zeros(batch)
    for found, right in zip(
        (A.det(), *A.slogdet(), A.logdet()), (one, one, zero, zero), strict=True
    ):
        assert torch.equal(found, right)
