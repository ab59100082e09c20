"""Eigen's solvers against dense algebra, and what they say when they cannot."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from torch_sla import _core
from torch_sla.errors import ArgumentError, BackendUnavailableError, DTypeError, Result
from torch_sla.linalg import SparseTensor
from torch_sla.linalg.kernels import eigen

pytestmark = pytest.mark.skipif(
    _core.extension is None, reason=f"no compiled extension: {_core.reason}"
)

VALUES = (torch.float32, torch.float64, torch.complex64, torch.complex128)
INDICES = (torch.int32, torch.int64)


def csr(A: Tensor, index: torch.dtype = torch.int32) -> tuple[Tensor, Tensor, Tensor]:
    row, col = A.to(torch.complex128).abs().nonzero().T
    crow = torch.zeros(A.shape[0] + 1, dtype=torch.int64)
    crow[1:] = torch.bincount(row, minlength=A.shape[0]).cumsum(0)
    return crow.to(index), col.to(index), A[row, col]


def general(n: int, dtype: torch.dtype, density: float = 0.2) -> Tensor:
    A = torch.randn(n, n, dtype=dtype) * (torch.rand(n, n) < density)
    return A + 3 * torch.eye(n, dtype=dtype)[torch.randperm(n)]


def definite(n: int, dtype: torch.dtype) -> Tensor:
    A = general(n, dtype, 0.05)
    return A @ A.mH + torch.eye(n, dtype=dtype)


def indefinite(n: int, dtype: torch.dtype) -> Tensor:
    A = definite(n, dtype)
    signs = torch.where(torch.arange(n) % 3 == 0, -1.0, 1.0).to(dtype)
    return torch.diag(signs * 20) + (A + A.mH) / 2 * 0.1


MATRICES = {"llt": definite, "ldlt": indefinite, "lu": general}


def op(A: Tensor, mode: eigen.Mode) -> Tensor:
    return {"n": A, "t": A.mT, "h": A.mH}[mode]


def backward_error(A: Tensor, x: Tensor, b: Tensor) -> float:
    scale = torch.linalg.matrix_norm(A) * torch.linalg.vector_norm(x) + torch.linalg.vector_norm(b)
    return float(torch.linalg.vector_norm(A @ x - b) / scale.clamp(min=1e-300))


@pytest.mark.parametrize("dtype", VALUES)
@pytest.mark.parametrize("index", INDICES)
@pytest.mark.parametrize("method", ["llt", "ldlt", "lu"])
def test_factor_solves_in_every_mode(
    method: eigen.DirectMethod, index: torch.dtype, dtype: torch.dtype
) -> None:
    A = MATRICES[method](40, dtype)
    crow, ccol, values = csr(A, index)
    factor = eigen.analyze(method, crow, ccol).factorize(values)
    assert factor.result is Result.CONVERGED
    assert factor.pivot is None
    assert factor.nnz >= 40
    assert factor.nbytes >= factor.nnz * values.element_size()
    for mode, k, threads in itertools.product(("n", "t", "h"), (0, 1, 2, 7, 19), (1, 3)):
        b = torch.randn(40, k, dtype=dtype)
        kept = b.clone()
        x = factor.solve(b, mode, threads=threads)
        assert x.shape == b.shape
        assert torch.equal(b, kept)
        if k:
            assert backward_error(op(A, mode), x, b) < 50 * torch.finfo(dtype).eps
    one = factor.solve(torch.ones(40, 19, dtype=dtype), threads=1)
    assert torch.equal(one, factor.solve(torch.ones(40, 19, dtype=dtype), threads=4))


@pytest.mark.parametrize("dtype", VALUES)
@pytest.mark.parametrize("method", ["llt", "ldlt", "lu"])
def test_determinants_and_pivots(method: eigen.DirectMethod, dtype: torch.dtype) -> None:
    for _ in range(4):
        A = MATRICES[method](12, dtype)
        crow, ccol, values = csr(A)
        factor = eigen.analyze(method, crow, ccol).factorize(values)
        sign, logabs = factor.slogdet()
        expected_sign, expected = torch.linalg.slogdet(A)
        tolerance = 500 * torch.finfo(dtype).eps
        torch.testing.assert_close(logabs, expected, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(sign, expected_sign, rtol=tolerance, atol=tolerance)
        if method == "ldlt":  # Sylvester: D has the inertia of A
            negative = int((torch.linalg.eigvalsh(A) < 0).sum())
            assert int((factor.pivots().real < 0).sum()) == negative


@pytest.mark.parametrize("method", ["llt", "ldlt", "lu"])
def test_factors_share_an_analysis_and_nothing_else(method: eigen.DirectMethod) -> None:
    A = MATRICES[method](30, torch.float64)
    crow, ccol, values = csr(A)
    analysis = eigen.analyze(method, crow, ccol)
    first = analysis.factorize(values)
    b = torch.randn(30, 3, dtype=torch.float64)
    x = first.solve(b)
    second = analysis.factorize(2 * values)
    broken = analysis.factorize(torch.zeros_like(values))
    values.fill_(float("nan"))  # the factor holds no view of the caller's memory
    crow.zero_()
    ccol.zero_()
    assert broken.result is (Result.NOT_POSITIVE_DEFINITE if method == "llt" else Result.SINGULAR)
    assert torch.equal(first.solve(b), x)
    torch.testing.assert_close(second.solve(b), x / 2)
    del first, analysis
    torch.testing.assert_close(second.solve(b), x / 2)


def test_failures_say_where() -> None:
    A = torch.eye(6, dtype=torch.float64) * 4
    A[0, 3] = A[3, 0] = 1.0
    crow, ccol, values = csr(A)
    slot = int(((ccol == 4) & (torch.arange(8) >= crow[4])).nonzero()[0])
    values[slot] = -1.0
    llt = eigen.analyze("llt", crow, ccol).factorize(values)
    assert (llt.result, llt.pivot) == (Result.NOT_POSITIVE_DEFINITE, 4)
    ldlt = eigen.analyze("ldlt", crow, ccol).factorize(values)
    assert ldlt.result is Result.CONVERGED
    values[slot] = 0.0
    for method in ("ldlt", "lu"):
        factor = eigen.analyze(method, crow, ccol).factorize(values)
        assert (factor.result, factor.pivot) == (Result.SINGULAR, 4)
        with pytest.raises(ArgumentError, match="singular"):
            factor.solve(torch.ones(6, 1, dtype=torch.float64))
        with pytest.raises(ArgumentError, match="singular"):
            factor.slogdet()
    for bad in (float("nan"), float("inf")):
        values[slot] = bad
        for method in ("llt", "ldlt", "lu"):
            factor = eigen.analyze(method, crow, ccol).factorize(values)
            assert factor.result is Result.NONFINITE


@pytest.mark.parametrize("method", ["llt", "ldlt", "lu"])
def test_no_entry_hides_a_nan(method: eigen.DirectMethod) -> None:
    A = MATRICES[method](6, torch.float64)
    crow, ccol, values = csr(A)
    analysis = eigen.analyze(method, crow, ccol)
    for slot in range(values.numel()):
        broken = values.clone()
        broken[slot] = float("nan")
        assert analysis.factorize(broken).result is Result.NONFINITE


def test_structurally_singular_lu() -> None:
    A = torch.eye(5, dtype=torch.float64)
    A[2, 2] = 0.0  # row and column without entries
    factor = eigen.analyze("lu", *csr(A)[:2]).factorize(csr(A)[2])
    assert (factor.result, factor.pivot) == (Result.SINGULAR, 2)


@pytest.mark.parametrize("method", ["llt", "ldlt", "lu"])
@pytest.mark.parametrize("n", [0, 1])
def test_tiny(method: eigen.DirectMethod, n: int) -> None:
    A = 4 * torch.eye(n, dtype=torch.float64)
    crow, ccol, values = csr(A)
    factor = eigen.analyze(method, crow, ccol).factorize(values)
    assert factor.result is Result.CONVERGED
    x = factor.solve(torch.ones(n, 2, dtype=torch.float64))
    assert torch.equal(x, torch.full((n, 2), 0.25, dtype=torch.float64))


def test_views_are_written_out() -> None:
    A = definite(20, torch.complex128)
    crow, ccol, values = csr(A)
    factor = eigen.analyze("llt", crow, ccol).factorize(values.conj())
    b = torch.randn(3, 20, dtype=torch.complex128).T.conj()
    assert backward_error(A.conj(), factor.solve(b), b.resolve_conj()) < 1e-14


def test_amd_keeps_the_fill_of_a_grid_low() -> None:
    n = 40  # natural order would fill a band of about n**3 = 64000
    i = torch.arange(n * n).reshape(n, n)
    pairs = torch.cat(
        [
            torch.stack([i[1:].flatten(), i[:-1].flatten()]),
            torch.stack([i[:, 1:].flatten(), i[:, :-1].flatten()]),
        ],
        1,
    )
    A = torch.zeros(n * n, n * n)
    A[pairs[0], pairs[1]] = A[pairs[1], pairs[0]] = -1.0
    A += torch.diag(4.0 - A.sum(1) - 4.0 + 1.0)
    analysis = eigen.analyze("llt", *csr(A)[:2])
    assert analysis.factor_nnz is not None
    assert analysis.factor_nnz < 24_000
    assert analysis.factorize(csr(A)[2]).nnz == analysis.factor_nnz


@pytest.mark.parametrize("dtype", VALUES)
@pytest.mark.parametrize(
    ("method", "preconditioner"),
    [
        ("cg", "none"),
        ("cg", "jacobi"),
        ("cg", "ichol"),
        ("bicgstab", "none"),
        ("bicgstab", "jacobi"),
        ("bicgstab", "ilu"),
    ],
)
def test_krylov(method: str, preconditioner: str, dtype: torch.dtype) -> None:
    n, eps = 60, torch.finfo(dtype).eps
    A = definite(n, dtype)
    if method == "bicgstab":
        A = A + 0.3 * torch.triu(A)
    crow, ccol, values = csr(A, torch.int64)
    solver = eigen.krylov(method, preconditioner, crow, ccol, values)
    assert solver.ready
    b = torch.randn(n, 3, dtype=dtype)
    b[:, 1] = 0.0
    rtol = 200 * eps
    solution = solver.solve(crow, ccol, values, b, rtol=rtol, maxiter=1000)
    assert solution.result is Result.CONVERGED
    assert solution.iterations[1] == 0
    assert torch.equal(solution.x[:, 1], b[:, 1])
    residual = torch.linalg.vector_norm(b - A @ solution.x, dim=0)
    assert float((residual / torch.linalg.vector_norm(b, dim=0))[[0, 2]].max()) < 5 * rtol
    # Scale must not matter, and a good start must be used.
    for scale in (1e-20, 1e15):
        other = solver.solve(crow, ccol, values, b * scale, rtol=rtol, maxiter=1000)
        assert other.result is Result.CONVERGED
        assert max(other.residuals) < 5 * rtol
    again = solver.solve(crow, ccol, values, b, rtol=100 * rtol, maxiter=1000, x0=solution.x)
    assert max(again.iterations) <= 1
    assert max(again.iterations) < max(solution.iterations)
    limited = solver.solve(crow, ccol, values, b, rtol=rtol, maxiter=1)
    if preconditioner == "none":
        assert limited.result is Result.MAXITER
        assert max(limited.iterations) <= 1
        assert max(limited.residuals) > rtol


def test_krylov_meets_what_it_cannot_do() -> None:
    A = definite(10, torch.float64)
    crow, ccol, values = csr(A)
    with pytest.raises(ArgumentError, match="'ilu'; there are cg: none, jacobi, ichol"):
        eigen.krylov("cg", "ilu", crow, ccol, values)
    assert not eigen.krylov("cg", "jacobi", crow, ccol, values * float("nan")).ready
    hollow = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    solver = eigen.krylov("cg", "ichol", *csr(hollow))
    assert not solver.ready
    with pytest.raises(ArgumentError, match="could not be built"):
        solver.solve(*csr(hollow), torch.ones(2, 1, dtype=torch.float64), rtol=1e-9, maxiter=9)
    cg = eigen.krylov("cg", "none", crow, ccol, values)
    b = torch.full((10, 1), float("nan"), dtype=torch.float64)
    assert cg.solve(crow, ccol, values, b, rtol=1e-9, maxiter=9).result is Result.NONFINITE
    with pytest.raises(DTypeError, match="`b` must have dtype"):
        cg.solve(crow, ccol, values, b.float(), rtol=1e-9, maxiter=9)


def test_wrong_input_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    crow, ccol, values = csr(definite(5, torch.float64))
    with pytest.raises(ArgumentError, match="`method` must be"):
        eigen.analyze("qr", crow, ccol)  # type: ignore[arg-type]
    analysis = eigen.analyze("llt", crow, ccol)
    with pytest.raises(ArgumentError, match="`values` must have shape"):
        analysis.factorize(values[1:])
    with pytest.raises(DTypeError, match=r"got torch\.float16 on cpu"):
        analysis.factorize(values.half())
    factor = analysis.factorize(values)
    with pytest.raises(DTypeError, match="`b` must have dtype"):
        factor.solve(torch.ones(5, 1))
    with pytest.raises(ArgumentError, match="`b` must have shape"):
        factor.solve(torch.ones(4, 1, dtype=torch.float64))
    monkeypatch.setattr(_core, "extension", None)
    with pytest.raises(BackendUnavailableError, match="'eigen' backend"):
        eigen.analyze("llt", crow, ccol)


@pytest.mark.parametrize(
    ("method", "preconditioner"), [("cg", "jacobi"), ("cg", "ichol"), ("bicgstab", "ilu")]
)
def test_krylov_tells_its_history(method: str, preconditioner: str) -> None:
    n = 60
    i = torch.arange(n)
    row, col = torch.cat([i, i[1:], i[:-1]]), torch.cat([i, i[:-1], i[1:]])
    values = torch.cat([torch.full((n,), 2.1), torch.full((2 * n - 2,), -1.0)]).double()
    A = SparseTensor(values, row, col, (n, n))
    b = torch.linspace(0, 1, n, dtype=torch.float64)
    x, info = A.solve(
        b, backend="eigen", method=method, preconditioner=preconditioner, rtol=1e-10, info=True
    )
    assert len(info.history) in (info.iterations, info.iterations + 1)
    assert info.history[-1] <= 1e-10
    true = float((A @ x - b).norm() / b.norm())
    assert abs(info.history[-1] - true) <= 1e-12
