"""`eigs` of truly unsymmetric matrices: conjugate pairs, derivatives, defective ones refused."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from torch_sla.errors import ArgumentError, GradientError, SolveError
from torch_sla.linalg import SparseTensor
from torch_sla.linalg.eigen import general

N = 9


def sample(dtype: torch.dtype) -> SparseTensor:
    g = torch.Generator().manual_seed(12)
    D = torch.randn(N, N, dtype=dtype, generator=g)
    return SparseTensor.from_dense(D * (torch.rand(N, N, generator=g) < 0.4))


pytestmark = pytest.mark.usefixtures("path")


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("which", ["LM", "SM", "LR", "SR", "LI"])
def test_which(which: str, dtype: torch.dtype) -> None:
    A = sample(dtype)
    D = A.to_dense().to(torch.complex128)
    w, V = A.eigs(4, which)
    torch.testing.assert_close(D @ V, V * w)
    every = torch.linalg.eigvals(D)
    key = {
        "LM": -every.abs(),
        "SM": every.abs(),
        "LR": -every.real,
        "SR": every.real,
        "LI": -every.imag if dtype.is_complex else -every.imag.abs(),
    }[which]
    torch.testing.assert_close(key.sort().values[:4], {
        "LM": -w.abs(), "SM": w.abs(), "LR": -w.real, "SR": w.real,
        "LI": -w.imag if dtype.is_complex else -w.imag.abs(),
    }[which])  # fmt: skip
    assert torch.equal(A.eigs(4, which, return_eigenvectors=False), w)


def test_nearest_to_a_complex_shift() -> None:
    A = sample(torch.float64)
    every = torch.linalg.eigvals(A.to_dense())
    sigma = complex(every[3]) + 0.01
    w, _ = A.eigs(2, sigma=sigma)
    near = every[(every - sigma).abs().argsort()[:2]]
    torch.testing.assert_close(w, near)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_derivatives(dtype: torch.dtype) -> None:
    A = sample(dtype)

    def pairs(values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        w, V = SparseTensor.from_pattern(A.pattern, values).eigs(3)
        return w, V[:2].abs() ** 2

    assert gradcheck(pairs, (A.values.clone().requires_grad_(),))


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_second_derivatives_of_eigenvalues(dtype: torch.dtype) -> None:
    A = sample(dtype)

    def eigenvalues(values: torch.Tensor) -> torch.Tensor:
        return SparseTensor.from_pattern(A.pattern, values).eigs(2, return_eigenvectors=False)

    assert gradgradcheck(eigenvalues, (A.values.clone().requires_grad_(),))


def test_phase_and_second_derivatives_are_refused() -> None:
    A = sample(torch.float64)
    values = A.values.clone().requires_grad_()
    _, V = SparseTensor.from_pattern(A.pattern, values).eigs(2)
    with pytest.raises(GradientError, match="phase"):
        torch.autograd.grad(V[1, 0].imag, values, retain_graph=True)
    (first,) = torch.autograd.grad((V[0].abs() ** 2).sum(), values, create_graph=True)
    with pytest.raises(GradientError, match="second"):
        torch.autograd.grad(first.sum(), values)


def test_a_defective_eigenvalue_has_no_derivative() -> None:
    D = torch.tensor([[2.0, 1.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    if general._DENSE == 0:
        D = torch.block_diag(D, torch.diag(torch.linspace(0.1, 0.5, 6).double()))
    A = SparseTensor.from_dense(D)
    values = A.values.clone().requires_grad_()
    w = SparseTensor.from_pattern(A.pattern, values).eigs(1, return_eigenvectors=False)
    with pytest.raises(GradientError, match="defective"):
        w.real.sum().backward()


def test_refusals() -> None:
    with pytest.raises(ArgumentError, match="square"):
        SparseTensor.eye(3, 2).eigs(1)
    with pytest.raises(ArgumentError, match="which"):
        sample(torch.float64).eigs(2, "LA")


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
@pytest.mark.parametrize("which", ["LM", "LR"])
def test_single_precision_tells_neighbours_apart(which: str, dtype: torch.dtype) -> None:
    close = torch.tensor([1.0, 20.0, 100.0, 100.03, 2.0, 3.0, 100.06, 4.0]).to(dtype)
    off = torch.zeros((), dtype=dtype)
    A = SparseTensor.tridiagonal(off, close, off + 0.01)
    for matrix in (A, A.partition(2)):
        for k in (1, 3):
            w = matrix.eigs(k, which)[0].real
            torch.testing.assert_close(
                w, torch.tensor([100.06, 100.03, 100.0])[:k], rtol=1e-5, atol=0
            )


@pytest.mark.parametrize("name", ["eigs", "eigsh", "svd"])
@pytest.mark.parametrize(
    ("option", "value"), [("tol", -1.0), ("tol", float("nan")), ("maxiter", 0), ("maxiter", 2.5)]
)
def test_limits_that_are_none_are_refused(name: str, option: str, value: float) -> None:
    A = SparseTensor.eye(4, dtype=torch.float64)
    for matrix in (A, A.partition(2)):
        with pytest.raises(ArgumentError, match=f"`{option}`"):
            getattr(matrix, name)(2, **{option: value})


@pytest.mark.parametrize("sigma", [float("nan"), float("inf")])
def test_nothing_is_near_what_is_not_finite(sigma: float) -> None:
    A = SparseTensor.eye(4, dtype=torch.float64)
    for request in (A.eigs, A.eigsh, A.partition(2).eigsh):
        with pytest.raises(ArgumentError, match="`sigma` must be finite"):
            request(2, sigma=sigma)


@pytest.mark.parametrize("largest", [1e4, 1e8])
@pytest.mark.parametrize(
    "options", [{"which": "SM"}, {"which": "SR"}, {"sigma": 0.0}, {"sigma": -1e-7}]
)
def test_small_eigenvalues_beside_large_ones_are_told_apart(
    options: dict[str, object], largest: float
) -> None:
    wanted = torch.tensor([1e-6, 1e-5], dtype=torch.float64)
    rest = largest * torch.tensor([1.0, 1.5, 2.0, 2.5], dtype=torch.float64)
    d = torch.cat([rest[:2], wanted.flip(0), rest[2:]])
    for k in (1, 2):
        w = SparseTensor.diag(d).eigs(k, return_eigenvectors=False, **options)
        torch.testing.assert_close(w.real, wanted[:k], rtol=1e-3, atol=0)


def test_the_smallest_imaginary_parts_of_a_real_matrix(path: str) -> None:
    n = 240
    g = torch.Generator().manual_seed(1)
    turn = torch.randn(n - 1, dtype=torch.float64, generator=g)
    d = torch.linspace(1, 3, n, dtype=torch.float64)
    A = SparseTensor.tridiagonal(turn, d, torch.randn(n - 1, dtype=torch.float64, generator=g))
    if path == "iterative":
        with pytest.raises(ArgumentError, match="sigma"):
            A.eigs(4, "SI")
        return
    every = torch.linalg.eigvals(A.to_dense()).imag.abs()
    w = A.eigs(4, "SI", return_eigenvectors=False)
    torch.testing.assert_close(w.imag.abs(), every.sort().values[:4], atol=1e-10, rtol=0)


def test_pairs_of_an_iteration_that_do_not_hold_are_decomposed(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if path != "iterative":
        return
    iterate = general._Problem._arpack

    def wrong(*given: object) -> tuple[torch.Tensor, torch.Tensor]:
        w, V = iterate(*given)  # type: ignore[arg-type]
        return w * (1 + 1e-3), V

    monkeypatch.setattr(general._Problem, "_arpack", wrong)
    monkeypatch.setattr(general, "_DENSE_LIMIT", N)
    A = sample(torch.float64)
    every = torch.linalg.eigvals(A.to_dense()).abs().sort(descending=True).values
    torch.testing.assert_close(A.eigs(2)[0].abs(), every[:2])
    with pytest.raises(SolveError, match="residual of the eigenpairs"):
        A.eigs(2, maxiter=100)  # which asks for the iteration


@pytest.mark.parametrize("massive", [False, True])
def test_many_cotangents_of_eigenvalues_are_pulled_back_at_once(massive: bool) -> None:
    A, M = sample(torch.float64), torch.linspace(1, 2, N, dtype=torch.float64)
    v, m = A.values.clone().requires_grad_(), M.requires_grad_()
    given = {"M": SparseTensor.diag(m)} if massive else {}
    w = A.from_pattern(A.pattern, v).eigs(4, return_eigenvectors=False, **given)
    wanted = (v, m) if massive else (v,)
    G = torch.eye(4, dtype=w.dtype)[[0, 2, 1]]
    one = [torch.autograd.grad(w, wanted, g, retain_graph=True) for g in G]
    many = torch.func.vmap(lambda g: torch.autograd.grad(w, wanted, g, retain_graph=True))(G)
    for found, expected in zip(many, zip(*one, strict=True), strict=True):
        torch.testing.assert_close(found, torch.stack(expected))
    with pytest.raises(GradientError, match=r"is_grads_batched.*torch\.func\.vmap"):
        torch.autograd.grad(w, wanted, G, is_grads_batched=True, retain_graph=True)
