"""The supernodal backend through the contract: modes, reuse, failures, and matrices that are hard."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from torch_sla import _core
from torch_sla.errors import ArgumentError, Result, SolveError
from torch_sla.linalg import SparseTensor, clear_factor_cache
from torch_sla.linalg.backends.base import Mode, Numeric, SolveOptions
from torch_sla.linalg.backends.native import Native
from torch_sla.linalg.factor_cache import cache_counters
from torch_sla.linalg.sparse.pattern import Pattern
from torch_sla.linalg.sparse.structure import Structure

native = Native()
pytestmark = pytest.mark.skipif(
    native.unavailable() is not None, reason=f"no compiled extension: {_core.reason}"
)
OPTIONS = SolveOptions()
DEFINITE = Structure(symmetric=True, hermitian=True, positive_definite=True)
HERMITIAN = Structure(hermitian=True)


def pattern_of(mask: Tensor) -> tuple[Pattern, Tensor, Tensor]:
    row, col = mask.nonzero().T
    crow = torch.zeros(len(mask) + 1, dtype=torch.int64)
    crow[1:] = torch.bincount(row, minlength=len(mask)).cumsum(0)
    return Pattern.from_csr(crow, col, tuple(mask.shape)), row, col


def factorized(A: Tensor, method: str, structure: Structure) -> tuple[Numeric, Tensor]:
    pattern, row, col = pattern_of(A != 0)
    values = A[row, col]
    return native.factorize(native.analyze(pattern, method, structure), values, OPTIONS), values


def solved(A: Tensor, method: str, structure: Structure, b: Tensor, mode: Mode = "n") -> Tensor:
    """One refinement step, as the caller makes."""
    numeric, values = factorized(A, method, structure)
    op = {"n": A, "t": A.mT, "h": A.mH}[mode]
    x = native.solve(numeric, values, b, mode, options=OPTIONS).x
    return x + native.solve(numeric, values, b - op @ x, mode, options=OPTIONS).x


def laplacian(n: int) -> Tensor:
    T = 2 * torch.eye(n) - torch.diag(torch.ones(n - 1), 1) - torch.diag(torch.ones(n - 1), -1)
    T = T.double()
    return torch.kron(T, torch.eye(n)) + torch.kron(torch.eye(n), T)


def error(A: Tensor, x: Tensor, b: Tensor) -> float:
    r = (A @ x - b).abs().max()
    return float(r / (A.abs().sum(1).max() * x.abs().max() + b.abs().max()))


@pytest.mark.parametrize("mode", ["n", "t", "h"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("method", ["cholesky", "ldlt"])
def test_modes(method: str, dtype: torch.dtype, mode: Mode) -> None:
    A = torch.randn(70, 70, dtype=dtype) * (torch.rand(70, 70) < 0.1)
    A = A + A.mH
    diagonal = A.abs().sum(1) + 1 if method == "cholesky" else torch.randn(70)
    A = A + torch.diag(diagonal).to(dtype)
    b = torch.randn(70, 3, dtype=dtype)
    op = {"n": A, "t": A.mT, "h": A.mH}[mode]
    assert error(op, solved(A, method, HERMITIAN, b, mode), b) < 1e-14


def test_new_values_repeat_no_analysis() -> None:
    A = laplacian(13)
    pattern, row, col = pattern_of(A != 0)
    symbolic = native.analyze(pattern, "cholesky", DEFINITE)
    before = cache_counters()["analyze"]
    first = native.factorize(symbolic, A[row, col], OPTIONS)
    second = native.refactorize(first, 2 * A[row, col], OPTIONS)
    assert cache_counters()["analyze"] == before
    b = torch.randn(169, 1, dtype=A.dtype)
    for numeric, scale in ((second, 2), (first, 1)):
        x = native.solve(numeric, A[row, col], b, options=OPTIONS).x
        assert torch.allclose(scale * (A @ x), b)


def test_not_positive_definite_names_the_row() -> None:
    A = laplacian(6)
    A[20, 20] = -3.0
    with pytest.raises(SolveError, match="row") as caught:
        factorized(A, "cholesky", DEFINITE)
    assert caught.value.result is Result.NOT_POSITIVE_DEFINITE


def test_unsymmetric_pattern_is_refused() -> None:
    pattern, _, _ = pattern_of(torch.tensor([[1.0, 1.0], [0.0, 1.0]]) != 0)
    with pytest.raises(SolveError, match="mirror"):
        native.analyze(pattern, "cholesky", DEFINITE)


def stokes_like(n: int, stored_diagonal: bool) -> tuple[Tensor, Tensor]:
    """Two velocity blocks, a divergence with full row rank, and its transpose."""
    K = laplacian(n)
    size, m = len(K), n * n // 2
    D = torch.zeros(m, 2 * size, dtype=K.dtype)
    for i in range(m):
        D[i, [2 * i, 2 * i + 1, size + i, size + (i + n) % size]] = torch.tensor(
            [1.0, -1.0, 1.0, -1.0], dtype=K.dtype
        )
    A = torch.zeros(2 * size + m, 2 * size + m, dtype=K.dtype)
    A[:size, :size] = A[size : 2 * size, size : 2 * size] = K
    A[2 * size :, : 2 * size], A[: 2 * size, 2 * size :] = D, D.mT
    mask = A != 0
    if stored_diagonal:
        mask = mask | torch.eye(len(A), dtype=torch.bool)
    return A, mask


@pytest.mark.parametrize("stored_diagonal", [False, True])
def test_saddle_points(stored_diagonal: bool) -> None:
    A, mask = stokes_like(9, stored_diagonal)
    pattern, row, col = pattern_of(mask)
    values = A[row, col]
    symbolic = native.analyze(pattern, "ldlt", HERMITIAN)
    numeric = native.factorize(symbolic, values, OPTIONS)
    before = cache_counters()["analyze"]
    native.refactorize(numeric, 1.5 * values, OPTIONS)
    assert cache_counters()["analyze"] == before
    b = torch.randn(len(A), 2, dtype=A.dtype)
    x = native.solve(numeric, values, b, options=OPTIONS).x
    x = x + native.solve(numeric, values, b - A @ x, options=OPTIONS).x
    assert error(A, x, b) < 1e-15
    assert numeric.payload.inertia == (162, 40, 0)


def test_nearly_singular_shift_is_not_perturbed() -> None:
    A = laplacian(10)
    spectrum = torch.linalg.eigvalsh(A)
    shifted = A - (float(spectrum[7]) + 1e-11) * torch.eye(100)
    numeric, _ = factorized(shifted, "ldlt", HERMITIAN)
    assert not numeric.notes
    below = int((spectrum < float(spectrum[7]) + 1e-11).sum())
    assert numeric.payload.inertia[1] == below


def test_complex_symmetric() -> None:
    A = laplacian(11).to(torch.complex128) - (0.8 + 0.1j) * torch.eye(121)
    b = torch.randn(121, 1, dtype=A.dtype)
    structure = Structure(symmetric=True, hermitian=False)
    for mode, op in (("n", A), ("t", A.mT), ("h", A.mH)):
        assert error(op, solved(A, "ldlt", structure, b, mode), b) < 1e-15  # type: ignore[arg-type]


def test_batches() -> None:
    A = laplacian(7)
    pattern, row, col = pattern_of(A != 0)
    values = A[row, col] * torch.tensor([[1.0], [2.0], [5.0]], dtype=A.dtype)
    for method in ("cholesky", "ldlt"):
        symbolic = native.analyze(pattern, method, DEFINITE)
        numerics = native.factorize_batch(symbolic, values, OPTIONS)
        b = torch.randn(3, 49, 2, dtype=A.dtype)
        x = native.solve_batch(numerics, values, b, options=OPTIONS)
        assert torch.allclose(A @ x * torch.tensor([1.0, 2.0, 5.0])[:, None, None], b)


def stubborn(n: int, seed: int) -> Tensor:
    """Symmetric, sparse, half of the diagonal zero: pivots run out inside fronts."""
    generator = torch.Generator().manual_seed(seed)
    A = torch.randn(n, n, dtype=torch.float64, generator=generator)
    A = A * (torch.rand(n, n, generator=generator) < 2 / n)
    A = (A + A.T).tril(-1)
    ends = torch.ones(n - 1, dtype=A.dtype)
    d = torch.randn(n, dtype=A.dtype, generator=generator)
    d = d * (torch.rand(n, generator=generator) < 0.4)
    return A + A.T + torch.diag(d) + 0.3 * (torch.diag(ends, 1) + torch.diag(ends, -1))


def test_fronts_without_a_pivot_join_their_parents() -> None:
    tried = 0
    for seed in range(12):
        A = stubborn(150, seed)
        numeric, values = factorized(A, "ldlt", HERMITIAN)
        if not numeric.perturbed or not numeric.payload.stuck.numel():
            continue
        tried += 1
        better = native.safer(numeric, values, OPTIONS)
        assert better is not None
        assert better.payload.perturbed < numeric.payload.perturbed
        assert numeric.perturbed  # the first one is left as it was
        spectrum = torch.linalg.eigvalsh(A)
        if not better.perturbed:
            assert better.payload.inertia[1] == int((spectrum < 0).sum())
        # Through the public face: exact pivots where they can be had.
        S = SparseTensor.from_dense(A)
        if not better.perturbed:
            sign, log = S.ldlt(backend="native").slogdet()
            expected = torch.linalg.slogdet(A)
            torch.testing.assert_close(log, expected.logabsdet)
            assert sign == expected.sign
        b = torch.randn(150, dtype=A.dtype)
        _, info = S.solve(b, backend="native", method="ldlt", info=True)
        assert info.backward_error < 1e-14
    assert tried >= 2


def test_a_given_ordering_is_followed_and_kept_apart() -> None:
    A = SparseTensor.from_dense(laplacian(9))
    b = torch.randn(81, dtype=A.dtype)
    expected = torch.linalg.solve(A.to_dense(), b)
    clear_factor_cache()
    fill = {}
    for ordering in ("natural", "amd", "dissection", torch.arange(80, -1, -1)):
        declared = A.declare(ordering=ordering)
        plan = declared.plan(backend="native", method="cholesky")
        x = declared.solve(b, plan=plan)
        torch.testing.assert_close(x, expected)
        counts = native.counts(declared.pattern, declared.structure)
        assert counts is not None
        fill[str(ordering)[:6]] = counts.factor_nnz
    assert fill["natura"] > fill["amd"]
    assert fill["natura"] == fill["tensor"]  # upside down is as long
    with pytest.raises(ArgumentError, match=r"`ordering` must be one of .* got 'random'"):
        A.declare(ordering="random")
    with pytest.raises(ArgumentError, match="no 'order'"):
        A.declare(order="amd")
    with pytest.raises(ArgumentError, match="appears twice"):
        A.declare(ordering=torch.zeros(81, dtype=torch.int64)).solve(b, backend="native")


def test_the_ordering_of_metis() -> None:
    pytest.importorskip("pymetis", reason="pymetis is not installed")
    A = SparseTensor.from_dense(laplacian(20)).declare(ordering="metis")
    b = torch.randn(400, dtype=A.dtype)
    x = A.solve(b, backend="native", method="cholesky")
    torch.testing.assert_close(A @ x, b)
    theirs = native.counts(A.pattern, A.structure)
    ours = native.counts(A.pattern, A.structure.updated(ordering="dissection"))
    assert theirs is not None
    assert ours is not None
    assert ours.flops <= 1.3 * theirs.flops
    assert theirs.flops <= 1.5 * ours.flops


def test_counts_beyond_32_bits_say_so() -> None:
    # A star eliminated from its centre fills in completely.
    n = 70_000
    i = torch.arange(1, n)
    zero = torch.zeros_like(i)
    row = torch.cat([torch.arange(n), i, zero])
    col = torch.cat([torch.arange(n), zero, i])
    values = torch.cat([torch.full((n,), float(n)), -torch.ones(2 * n - 2)]).double()
    A = SparseTensor(values, row, col, (n, n)).declare(ordering="natural")
    b = torch.ones(n, dtype=torch.float64)
    with pytest.raises(SolveError, match=r"32-bit.*use an iterative method") as caught:
        A.solve(b, backend="native", method="cholesky")
    assert caught.value.result is Result.OUT_OF_MEMORY
    _, info = A.solve(b, info=True)
    assert info.converged


def weak(n: int, dtype: torch.dtype) -> Tensor:
    """The pattern of a grid, random numbers, next to nothing on the diagonal."""
    g = torch.Generator().manual_seed(n)
    there = laplacian(n) != 0
    A = torch.randn(n * n, n * n, dtype=torch.float64, generator=g).to(dtype)
    if dtype.is_complex:
        A = A * torch.exp(1j * A.real)
    return torch.where(there, A, 0) * (1 - 0.999 * torch.eye(n * n))


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_static_lu_interchanges_rows_where_the_diagonal_is_weak(dtype: torch.dtype) -> None:
    A = weak(15, dtype)
    b = torch.randn(225, 2, dtype=dtype)
    numeric, _ = factorized(A, "static_lu", Structure())
    assert "interchanged inside fronts" in numeric.notes[0]
    for mode in ("n", "t", "h"):
        op = {"n": A, "t": A.mT, "h": A.mH}[mode]
        assert error(op, solved(A, "static_lu", Structure(), b, mode), b) < 1e-14
    S = SparseTensor.from_dense(A)
    x, info = S.solve(b, backend="native", method="static_lu", info=True)
    assert info.backward_error < 1e-14
    torch.testing.assert_close(x, torch.linalg.solve(A, b), rtol=1e-6, atol=1e-8)
    sign, log = S.slogdet()
    wanted = torch.linalg.slogdet(A)
    torch.testing.assert_close(log, wanted.logabsdet)
    torch.testing.assert_close(sign, wanted.sign)


def test_complex_matrices_without_symmetry_have_a_plan_and_go_together() -> None:
    A = torch.stack([weak(9, torch.complex128) + (4 + k) * torch.eye(81) for k in range(5)])
    pattern, row, col = pattern_of(A[0] != 0)
    values = A[:, row, col].clone().requires_grad_()
    b = torch.randn(5, 81, 1, dtype=torch.complex128)
    S = SparseTensor.from_pattern(pattern, values)
    x, info = S.solve(b, info=True)
    assert (info.backend, info.method) == ("native", "static_lu")
    assert "5 matrices at once" in info.notes
    dense = torch.linalg.solve(S.to_dense(), b)
    torch.testing.assert_close(x, dense)
    weight = torch.randn_like(x)
    for one, two in zip(
        torch.autograd.grad(x, values, weight),
        torch.autograd.grad(dense, values, weight),
        strict=True,
    ):
        torch.testing.assert_close(one, two)
