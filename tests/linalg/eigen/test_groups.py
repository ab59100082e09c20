"""Groups of equal eigenvalues: found whole, and never differentiated in part."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from torch_sla.errors import GradientError
from torch_sla.linalg import LOBPCGOptions, SparseTensor, lobpcg
from torch_sla.linalg.eigen.lanczos import rayleigh_ritz

FREE = "ask for the whole group"


def line(m: int) -> Tensor:
    off = -torch.ones(m - 1, dtype=torch.float64)
    return torch.diag(torch.full((m,), 2.0, dtype=torch.float64)) + off.diag(1) + off.diag(-1)


def membrane(m: int) -> SparseTensor:
    """A square one: 1, 2 and 3 coincide as 1 | 2 3 | 4 | 5 6."""
    eye = torch.eye(m, dtype=torch.float64)
    return SparseTensor.from_dense(torch.kron(line(m), eye) + torch.kron(eye, line(m)))


def copies(of: Tensor, many: int) -> SparseTensor:
    """A block diagonal of equal blocks: every eigenvalue so many times."""
    eye = torch.eye(many, dtype=of.dtype)
    return SparseTensor.from_dense(torch.kron(eye, of))


@pytest.fixture(params=["dense", "arpack", "lobpcg"])
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def mass(n: int) -> SparseTensor:
    return SparseTensor.eye(n, dtype=torch.float64) * 2.0


@pytest.mark.parametrize("generalised", [False, True])
def test_what_cuts_a_group_has_no_derivative(method: str, generalised: bool) -> None:
    A = membrane(9)
    values = A.values.clone().requires_grad_()

    def lowest(k: int) -> Tensor:
        matrix = SparseTensor.from_pattern(A.pattern, values)
        M = mass(81) if generalised else None
        w: Tensor = matrix.eigsh(k, "SA", M=M, method=method, return_eigenvectors=False)
        return w

    (w,) = torch.autograd.grad(lowest(2)[0], values)
    assert w.abs().max() > 0  # the first is alone
    for loss in (lowest(2)[1], lowest(2).sum(), 1e-12 * lowest(2).sum()):
        with pytest.raises(GradientError, match=FREE):
            torch.autograd.grad(loss, values)
    with pytest.raises(GradientError, match=FREE):
        torch.func.jvp(
            lambda v: SparseTensor.from_pattern(A.pattern, v).eigsh(
                2, "SA", method=method, return_eigenvectors=False
            ),
            (A.values,),
            (torch.ones_like(A.values),),
        )
    (whole,) = torch.autograd.grad(lowest(3).sum(), values)
    t = torch.linspace(-1, 1, 81, dtype=torch.float64)
    step = 1e-6 * torch.where(A.pattern.row == A.pattern.col, t[A.pattern.row.long()], 0)
    there, back = (
        SparseTensor.from_pattern(A.pattern, A.values + s * step).eigsh(
            3, "SA", M=mass(81) if generalised else None, return_eigenvectors=False
        )
        for s in (1, -1)
    )
    assert float(whole @ step) == pytest.approx(float((there - back).sum() / 2), rel=1e-6)


@pytest.mark.parametrize(
    "request_", [{"k": 1, "which": "LA"}, {"k": 3, "which": "LM"}, {"k": 1, "sigma": 2.5}]
)
def test_any_end(request_: dict[str, Any]) -> None:
    d = torch.linspace(1, 2, 250, dtype=torch.float64)
    d[-4:] = 3.0
    d.requires_grad_()
    w = SparseTensor.diag(d).eigsh(return_eigenvectors=False, method="arpack", **request_)
    with pytest.raises(GradientError, match=FREE):
        w[-1].backward()
    SparseTensor.diag(d).eigsh(4, "LA", return_eigenvectors=False).sum().backward()
    torch.testing.assert_close(d.grad[-4:], torch.ones(4, dtype=torch.float64))


def test_zeros_of_a_singular_matrix_are_equal() -> None:
    """Rounding leaves them apart by more than their size, and by nothing beside that of the matrix."""
    path = line(8)
    path[0, 0] = path[-1, -1] = 1.0
    A = copies(path, 3)
    values = A.values.clone().requires_grad_()
    free = SparseTensor.from_pattern(A.pattern, values)
    for k in (1, 2):
        with pytest.raises(GradientError, match=FREE):
            free.eigsh(k, "SM", return_eigenvectors=False)[0].backward()
    _, V = free.eigsh(3, "SM")
    (V @ V.mT).diagonal().sum().backward()
    torch.testing.assert_close(values.grad, torch.zeros_like(values), atol=1e-8, rtol=0)


def test_members_of_a_batch() -> None:
    d = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 2.0]], dtype=torch.float64, requires_grad=True)
    w = SparseTensor.diag(d).eigsh(2, "SA", return_eigenvectors=False)
    w[0].sum().backward(retain_graph=True)
    assert d.grad[0].tolist() == [1.0, 1.0, 0.0]
    with pytest.raises(GradientError, match=FREE):
        w[1].sum().backward()


@pytest.mark.parametrize("n", [6, 210])
@pytest.mark.parametrize("which", ["LM", "SM"])
def test_singular_values(n: int, which: str) -> None:
    d = torch.linspace(2, 3, n, dtype=torch.float64)
    d[:2], d[-2:] = 1.0, -4.0
    d.requires_grad_()
    with pytest.raises(GradientError, match=FREE):
        SparseTensor.diag(d).svd(1, which)[1].sum().backward()
    SparseTensor.diag(d).svd(2, which)[1].sum().backward()
    assert d.grad.sum().item() == pytest.approx(-2.0 if which == "LM" else 2.0)


def test_the_singular_value_zero_has_no_derivative() -> None:
    d = torch.tensor([0.0, 2.0, 3.0], dtype=torch.float64, requires_grad=True)
    S = SparseTensor.diag(d).svd(3)[1]
    with pytest.raises(GradientError, match=FREE):
        S.sum().backward(retain_graph=True)
    S.square().sum().backward()
    torch.testing.assert_close(d.grad, 2 * d.detach())


def test_condition_number_of_the_identity() -> None:
    d = torch.ones(5, dtype=torch.float64, requires_grad=True)
    with pytest.raises(GradientError, match=FREE):
        SparseTensor.diag(d).condition_number().backward()


@pytest.mark.parametrize("k", [1, 6, 12])
def test_copies_are_not_missed(k: int) -> None:
    """The Krylov space of a start has one vector of each eigenspace, fifty in all."""
    A = copies(line(50), 10)
    exact = torch.linalg.eigvalsh(line(50)).repeat_interleave(10)
    for which, wanted in (("LA", exact[-k:]), ("LM", exact[-k:]), ("SM", exact[:k])):
        w = A.eigsh(k, which, return_eigenvectors=False)
        torch.testing.assert_close(w, wanted, rtol=1e-9, atol=0)
    torch.testing.assert_close(A.svd(k)[1], exact[-k:].flip(0), rtol=1e-9, atol=0)
    torch.testing.assert_close(A.svd(k, "SM")[1], exact[:k].flip(0), rtol=1e-9, atol=0)
    M = SparseTensor.eye(500, dtype=torch.float64) * 2.0
    w = A.eigsh(k, "LA", M=M, return_eigenvectors=False)
    torch.testing.assert_close(w, exact[-k:] / 2, rtol=1e-9, atol=0)


def test_all_negative_copies() -> None:
    """Deflated vectors must not count as eigenvalues 0, the largest of these."""
    A = copies(-line(30), 8)
    exact = -torch.linalg.eigvalsh(line(30)).flip(0).repeat_interleave(8)
    M = SparseTensor.eye(240, dtype=torch.float64)
    w = A.eigsh(10, "LA", M=M, return_eigenvectors=False)
    torch.testing.assert_close(w, exact[-10:], rtol=1e-9, atol=0)


def test_a_guard_of_lobpcg_is_told_from_the_wanted_ones() -> None:
    d = torch.arange(1.0, 51.0, dtype=torch.float64).unsqueeze(1)
    X = torch.cos(torch.arange(200.0, dtype=torch.float64) ** 2).reshape(50, 4)
    w, V = lobpcg(
        lambda x: d * x,
        X,
        2,
        preconditioner=lambda r: r / d,
        options=LOBPCGOptions(1e-6),
        guard=True,
    )
    assert V.shape == (50, 3)
    torch.testing.assert_close(
        w, torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64), atol=0.05, rtol=0
    )
    with pytest.raises(ValueError, match="4 independent columns"):
        lobpcg(lambda x: d * x, X, 4, guard=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex128])
@pytest.mark.parametrize("which", ["LM", "SM", "LA", "SA"])
@pytest.mark.parametrize("generalised", [False, True])
@pytest.mark.parametrize("entries", [[], [3.0], [2.0, -5.0], [7.0, 7.0, 7.0, -6.0]])
def test_fewer_different_eigenvalues_than_wanted(
    entries: list[float], generalised: bool, which: str, dtype: torch.dtype
) -> None:
    n, k = 240, 6
    d = torch.zeros(n, dtype=torch.float64)
    d[torch.arange(len(entries)) * 31] = torch.tensor(entries, dtype=torch.float64)
    m = torch.linspace(1, 2, n, dtype=torch.float64) if generalised else torch.ones(n).double()
    every = d / m
    key = {"LM": -every.abs(), "SM": every.abs(), "LA": -every, "SA": every}[which]
    M = SparseTensor.diag(m).to(dtype)
    A = SparseTensor.diag(d).to(dtype)
    w, V = A.eigsh(k, which, M=M if generalised else None)
    tol = 1e-4 if dtype is torch.float32 else 1e-10
    expected = every[key.argsort(stable=True)[:k]].sort().values.to(w.dtype)
    torch.testing.assert_close(w, expected, atol=tol, rtol=tol)
    torch.testing.assert_close(V.mH @ (M @ V), torch.eye(k, dtype=dtype), atol=tol, rtol=0)
    torch.testing.assert_close(A @ V, M @ V * w, atol=tol, rtol=0)


@pytest.mark.parametrize("seed", [35, 36, 37])
def test_subnormal_products_are_no_eigenvalues(seed: int) -> None:
    """LAPACK makes NaN of some: the first of these is one."""
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(8, generator=generator) * 10.0 ** (-16 - 4 * torch.rand(8, generator=generator))
    v[0], v[6] = 0.0, 1.0
    H = 2 * torch.outer(v, v)
    H[0, 0], H[0, 6], H[6, 0] = -5.0, 3e-8, 3e-8
    w, V = rayleigh_ritz(lambda X: H @ X, lambda X: X, torch.eye(8))
    expected = torch.tensor([-5.0, *[0.0] * 6, 2.0])
    assert torch.allclose(w, expected, rtol=1e-6, atol=1e-10)
    assert torch.allclose(V @ torch.diag(w) @ V.mT, H, atol=1e-6)
