"""`eigsh` against dense LAPACK, its derivatives, and what it refuses; small and iterative paths."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from torch_sla.errors import ArgumentError, GradientError, Result, SolveError
from torch_sla.linalg import SparseTensor, lobpcg
from torch_sla.linalg.eigen import hermitian

N = 13
I = torch.arange(N)
ROW = torch.cat([I, I[1:], I[:-1], I[3:], I[:-3]])
COL = torch.cat([I, I[:-1], I[1:], I[:-3], I[3:]])


def hermitian_values(dtype: torch.dtype, seed: int, *, shift: float = 0.0, size: float = 1.0):
    g = torch.Generator().manual_seed(seed)
    d = torch.randn(N, dtype=torch.float64, generator=g) * 2 + shift
    one = size * torch.randn(N - 1, dtype=dtype, generator=g)
    three = size * torch.randn(N - 3, dtype=dtype, generator=g)
    parts = [d.to(dtype), one.conj(), one, three.conj(), three]
    return torch.cat([p.resolve_conj() for p in parts])


def make(values: torch.Tensor) -> SparseTensor:
    return SparseTensor(values, ROW, COL, (*values.shape[:-1], N, N))


def expected(w: torch.Tensor, k: int, which: str) -> torch.Tensor:
    key = {"LM": -w.abs(), "SM": w.abs(), "LA": -w, "SA": w}[which]
    return w[key.argsort()[:k]].sort().values


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("which", ["LM", "SM", "LA", "SA"])
def test_which(path: str, which: str, dtype: torch.dtype) -> None:
    A = make(hermitian_values(dtype, 5))
    D = A.to_dense()
    w, V = A.eigsh(3, which)
    torch.testing.assert_close(w, expected(torch.linalg.eigvalsh(D), 3, which))
    torch.testing.assert_close(D @ V, V * w)
    torch.testing.assert_close(V.mH @ V, torch.eye(3, dtype=dtype))
    largest = V.gather(0, V.abs().argmax(0, keepdim=True))
    assert (largest.real > 0).all()
    assert torch.equal(A.eigsh(3, which, return_eigenvectors=False), w)


def test_the_smallest_of_a_matrix_without_a_diagonal(path: str) -> None:
    one = torch.ones(N - 1, dtype=torch.float64)
    i = torch.arange(N - 1)
    A = SparseTensor(one.repeat(2), torch.cat([i, i + 1]), torch.cat([i + 1, i]), (N, N))
    angle = torch.arange(N, N - 3, -1, dtype=torch.float64) * torch.pi / (N + 1)
    w = A.eigsh(3, "SA", return_eigenvectors=False)
    torch.testing.assert_close(w, 2 * torch.cos(angle))


def test_nearest_to_a_shift_and_generalised(path: str) -> None:
    A = make(hermitian_values(torch.float64, 5))
    M = make(hermitian_values(torch.float64, 6, shift=9.0, size=0.3))
    L = torch.linalg.cholesky(M.to_dense())
    S = torch.linalg.solve(L, torch.linalg.solve(L, A.to_dense()).T)
    for mass, exact in ((None, torch.linalg.eigvalsh(A.to_dense())), (M, torch.linalg.eigvalsh(S))):
        for sigma in (0.05, -0.1):
            w, V = A.eigsh(3, sigma=sigma, M=mass)
            torch.testing.assert_close(w, exact[(exact - sigma).abs().argsort()[:3]].sort().values)
            B = torch.eye(N).double() if mass is None else mass.to_dense()
            torch.testing.assert_close(V.T @ B @ V, torch.eye(3).double())
        for which in ("LM", "SM", "LA", "SA"):
            w = A.eigsh(3, which, M=mass, return_eigenvectors=False)
            torch.testing.assert_close(w, expected(exact, 3, which))


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("generalised", [False, True])
def test_derivatives(path: str, generalised: bool, dtype: torch.dtype) -> None:
    a, da = hermitian_values(dtype, 5), hermitian_values(dtype, 7)
    m, dm = hermitian_values(dtype, 6, shift=9.0, size=0.3), hermitian_values(dtype, 8, size=0.1)
    t = torch.tensor([0.1, 0.2], dtype=torch.float64, requires_grad=True)

    def pairs(s: torch.Tensor) -> tuple[torch.Tensor, ...]:
        M = make(m + s[1] * dm) if generalised else None
        w, V = make(a + (s[0] + s[1] ** 2) * da).eigsh(3, "SA", M=M)
        return w, V[:2, :1] @ V[:2, :1].mH, V[:2].abs()

    assert gradcheck(pairs, (t,))
    assert gradgradcheck(lambda s: pairs(s)[0], (t,))


def test_batches() -> None:
    values = torch.stack([hermitian_values(torch.float64, s) for s in (1, 2)])
    w, V = make(values).eigsh(2, "SA")
    assert V.shape == (2, N, 2)
    torch.testing.assert_close(w, torch.linalg.eigvalsh(make(values).to_dense())[:, :2])


def grid(n: int) -> SparseTensor:
    """Five-point Laplacian of a square: its second and third eigenvalues are equal."""
    off = torch.tensor(-1.0, dtype=torch.float64)
    T = SparseTensor.tridiagonal(off, torch.full((n,), 2.0, dtype=torch.float64), off).to_dense()
    eye = torch.eye(n, dtype=torch.float64)
    return SparseTensor.from_dense(torch.kron(T, eye) + torch.kron(eye, T))


@pytest.mark.parametrize("n", [6, 17])
def test_a_double_eigenvalue(n: int) -> None:
    A = grid(n)
    values = A.values.clone().requires_grad_()
    A = SparseTensor.from_pattern(A.pattern, values)
    w, V = A.eigsh(3, "SM")
    assert float((w[2] - w[1]).detach()) == pytest.approx(0, abs=1e-12)
    # The whole eigenspace, weighted: does not see the basis.
    weight = torch.linspace(1, 2, n * n).double()
    (g,) = torch.autograd.grad((weight * (V[:, 1:] ** 2).sum(1)).sum(), values, retain_graph=True)
    h = 1e-4
    change = SparseTensor.diag(torch.cos(torch.arange(n * n).double()))
    spread = [(A.detach() + s * h * change).eigsh(3, "SM")[1] for s in (1, -1)]
    difference = sum(
        s * float((weight * (U[:, 1:] ** 2).sum(1)).sum())
        for s, U in zip((1, -1), spread, strict=True)
    ) / (2 * h)
    onto = A.pattern.diagonal_slots.long()
    found = float((g[onto] * torch.cos(torch.arange(n * n).double())).sum())
    assert found == pytest.approx(difference, rel=1e-4)
    torch.autograd.grad(w[1:].sum(), values, retain_graph=True)
    with pytest.raises(GradientError, match="coincide"):
        torch.autograd.grad(w[1], values, retain_graph=True)
    with pytest.raises(GradientError, match="basis"):
        torch.autograd.grad(V[3, 1], values)


def test_half_a_cluster_has_no_gradient() -> None:
    for n in (6, 17):
        A = grid(n)
        values = A.values.clone().requires_grad_()
        _, V = SparseTensor.from_pattern(A.pattern, values).eigsh(2, "SM")
        with pytest.raises(GradientError, match="not computed"):
            torch.autograd.grad(V[3, 1], values)


def test_phase_of_complex_vectors() -> None:
    values = hermitian_values(torch.complex128, 5).requires_grad_()
    _, V = make(values).eigsh(2, "SA")
    with pytest.raises(GradientError, match="phase"):
        V[2, 0].imag.backward()


def test_singular_matrices_and_repeatability() -> None:
    n = 300
    off = torch.tensor(-1.0, dtype=torch.float64)
    d = torch.full((n,), 2.0, dtype=torch.float64)
    d[0] = d[-1] = 1
    A = SparseTensor.tridiagonal(off, d, off)  # Neumann: constants in the null space
    w, V = A.eigsh(3, "SM")
    exact = 2 - 2 * torch.cos(torch.arange(3).double() * torch.pi / n)
    torch.testing.assert_close(w, exact, atol=1e-12, rtol=1e-8)
    assert torch.equal(A.eigsh(3, "SM")[1], V)


@pytest.mark.parametrize("which", ["SA", "LA"])
@pytest.mark.parametrize("generalised", [False, True])
def test_lobpcg_with_a_preconditioner(which: str, generalised: bool) -> None:
    n = 400
    off = torch.tensor(-1.0, dtype=torch.float64)
    d = 2 + torch.linspace(0, 8, n, dtype=torch.float64)
    A = SparseTensor.tridiagonal(off, d, off)
    M = SparseTensor.diag(torch.linspace(1, 2, n).double()) if generalised else None
    F = A.cholesky()
    w, _ = A.eigsh(
        3, which, M=M, method="lobpcg", preconditioner=F.solve if which == "SA" else None
    )
    torch.testing.assert_close(w, A.eigsh(3, which, M=M)[0], rtol=1e-9, atol=0)
    with pytest.raises(ArgumentError, match="LOBPCG"):
        A.eigsh(3, "SM", method="lobpcg")


def test_refusals() -> None:
    A = make(hermitian_values(torch.float64, 5))
    values = A.values.clone()
    values[-1] += 1
    with pytest.raises(ArgumentError, match="Hermitian"):
        make(values).eigsh()
    for options in ({"which": "BE"}, {"k": 0}, {"k": N + 1}, {"sigma": 1.0, "which": "SA"}):
        with pytest.raises(ArgumentError):
            A.eigsh(**options)
    with pytest.raises(SolveError, match="NaN"):
        make(values * float("nan")).eigsh()
    with pytest.raises(SolveError, match="pivot"):
        A.eigsh(2, M=-1 * SparseTensor.eye(N, dtype=torch.float64))


@pytest.mark.parametrize("method", ["arpack", "lobpcg", "dense"])
def test_a_start_must_fit(method: str) -> None:
    n = 240
    A = SparseTensor.diag(torch.arange(1.0, n + 1, dtype=torch.float64))
    one = torch.ones(n, dtype=torch.float64)
    for v0 in (one[:7], one.unsqueeze(1), 1j * one, 0 * one, one / 0):
        with pytest.raises(ArgumentError, match="v0"):
            A.eigsh(2, "SA", method=method, v0=v0)
    w, _ = A.eigsh(2, "SA", method=method, v0=one)
    torch.testing.assert_close(w, torch.tensor([1.0, 2.0], dtype=torch.float64))


def test_refused_masses_and_shifts() -> None:
    A = SparseTensor.diag(torch.arange(1.0, 6.0, dtype=torch.float64))
    with pytest.raises(ArgumentError, match="batch"):
        A.eigsh(2, M=SparseTensor.diag(torch.ones(3, 5, dtype=torch.float64)))
    with pytest.raises(ArgumentError, match="real"):
        A.eigsh(2, sigma=1.0 + 2.0j)


def test_lobpcg_of_what_is_not_finite() -> None:
    d = torch.arange(1.0, 51.0, dtype=torch.float64).unsqueeze(1)
    X = torch.cos(torch.arange(150.0, dtype=torch.float64)).reshape(50, 3)
    for wrong in (torch.nan, torch.inf):
        start = X.clone()
        start[3, 1] = wrong
        with pytest.raises(ArgumentError, match="`X` has NaN or infinite"):
            lobpcg(lambda x: d * x, start, 1)
        for broken in (
            lambda: lobpcg(lambda x: wrong * x, X, 1),  # noqa: B023
            lambda: lobpcg(lambda x: d * x, X, 1, preconditioner=lambda r: wrong * r),  # noqa: B023
        ):
            with pytest.raises(SolveError) as caught:
                broken()
            assert caught.value.result is Result.NONFINITE


def test_pairs_of_an_iteration_that_do_not_hold_are_decomposed(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if path != "iterative":
        return

    def wrong(*given: object) -> tuple[torch.Tensor, torch.Tensor]:
        w, V = iterate(*given)  # type: ignore[arg-type]
        return w * (1 + 1e-3), V

    iterate = hermitian.lanczos
    monkeypatch.setattr(hermitian, "lanczos", wrong)
    monkeypatch.setattr(hermitian, "_DENSE_LIMIT", 9)
    d = torch.linspace(1, 3, 9, dtype=torch.float64)
    A = SparseTensor.diag(d)
    torch.testing.assert_close(A.eigsh(2)[0], d[-2:])
    for options in ({"maxiter": 100}, {"method": "arpack"}):  # which ask for the iteration
        with pytest.raises(SolveError, match="residual of the eigenpairs"):
            A.eigsh(2, **options)
