"""Faces of Eigen's sparse solvers: direct factorisations and Krylov methods.

A direct factorisation has two parts. An `Analysis` is made from the pattern alone; each `Factor` made
from it holds its own numbers, never changes, and outlives any later factor on the same analysis.
Numerical failure is a `Result` on the object, not an exception: the caller decides what follows.

There is no fallback: without the compiled extension the constructors raise
`BackendUnavailableError`, and `kernels.unavailable` says why.

Sources: Eigen's SimplicialLLT and SimplicialLDLT with approximate minimum degree ordering (Amestoy,
Davis, Duff, SIAM J. Matrix Anal. Appl. 17, 1996, 886-905; Davis, Direct Methods for Sparse Linear
Systems, 2006, chapter 4) and SparseLU with COLAMD (Demmel, Eisenstat, Gilbert, Li, Liu, SIAM J.
Matrix Anal. Appl. 20, 1999, 720-755).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from torch_sla import _core
from torch_sla.errors import ArgumentError, BackendUnavailableError, DTypeError, Result
from torch_sla.linalg.kernels.arguments import VALUES, empty, expect_shape, indices, plain
from torch_sla.linalg.kernels.threads import resolve_threads

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Analysis", "Factor", "Krylov", "KrylovSolution", "analyze", "krylov"]

DirectMethod = Literal["llt", "ldlt", "lu"]
Mode = Literal["n", "t", "h"]

_FACTOR_RESULTS = {
    "ok": Result.CONVERGED,
    "not_positive_definite": Result.NOT_POSITIVE_DEFINITE,
    "singular": Result.SINGULAR,
    "nonfinite": Result.NONFINITE,
}
_KRYLOV_RESULTS = {
    "converged": Result.CONVERGED,
    "limit": Result.MAXITER,
    "breakdown": Result.BREAKDOWN,
    "nonfinite": Result.NONFINITE,
}
# Worst first.
_SEVERITY = (Result.NONFINITE, Result.BREAKDOWN, Result.MAXITER, Result.CONVERGED)

_PRECONDITIONERS = {"cg": ("none", "jacobi", "ichol"), "bicgstab": ("none", "jacobi", "ilu")}


def _extension() -> Any:
    if _core.extension is None:
        raise BackendUnavailableError(f"the 'eigen' backend cannot be used: {_core.reason}")
    return _core.extension.eigen


# --- direct ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Analysis:
    """The part of a factorisation that values do not change; make one with `analyze`.

    Attributes
    ----------
    method
        ``"llt"``, ``"ldlt"`` or ``"lu"``.
    n, nnz
        Rows and stored entries of the matrix.
    factor_nnz
        Entries of the factor, known beforehand for llt and ldlt only.
    nbytes
        Bytes held.
    """

    method: DirectMethod
    n: int
    nnz: int
    factor_nnz: int | None
    nbytes: int
    payload: Any

    def factorize(self, values: Tensor) -> Factor:
        """Factorise slot values ``[nnz]`` (float32, float64, complex64, complex128; CPU).

        llt and ldlt take the matrix to be Hermitian and read one of each pair of entries. The
        values are not kept. Look at `Factor.result` before solving.

        Raises
        ------
        MemoryError
            When the factor does not fit.
        """
        _check_values(values)
        expect_shape(values, "values", (self.nnz,))
        payload = getattr(self.payload, self.method)(plain(values).numpy())
        return Factor(self, values.dtype, payload)


class Factor:
    """A factorisation of one set of values; immutable, and safe to use from several threads.

    Attributes
    ----------
    result
        `Result.CONVERGED`, or why there is no factor: `NOT_POSITIVE_DEFINITE` (llt), `SINGULAR`
        (an exactly zero pivot; ldlt, lu), `NONFINITE`.
    pivot
        Row of the matrix where the factorisation stopped, or None.
    nnz, nbytes
        Entries of the factor (of both, for lu) and bytes held.
    """

    def __init__(self, analysis: Analysis, dtype: torch.dtype, payload: Any) -> None:
        self.analysis, self.dtype, self._payload = analysis, dtype, payload
        self.result = _FACTOR_RESULTS[payload.status]
        self.pivot = None if payload.pivot < 0 else int(payload.pivot)
        self.nnz, self.nbytes = int(payload.nonzeros), int(payload.bytes)

    def solve(self, b: Tensor, mode: Mode = "n", *, threads: int | None = None) -> Tensor:
        """Solve ``op(A) x = b`` for ``b`` ``[n, k]`` of the dtype of the values.

        Parameters
        ----------
        b
            Right-hand sides ``[n, k]``.
        mode
            ``"n"``: ``A``; ``"t"``: its transpose; ``"h"``: its conjugate transpose.
        threads
            Number of threads, which share out the columns; None chooses.

        Examples
        --------
        >>> import torch
        >>> analysis = analyze("llt", torch.tensor([0, 2, 4]), torch.tensor([0, 1, 0, 1]))
        >>> factor = analysis.factorize(torch.tensor([4.0, 2.0, 2.0, 5.0]))
        >>> factor.solve(torch.tensor([[6.0], [7.0]]))
        tensor([[1.],
                [1.]])
        """
        if not self.result.ok:
            raise ArgumentError(
                f"this factorisation failed ({self.result.name.lower()}), so it cannot solve; "
                "look at `result` first"
            )
        if b.dtype != self.dtype:
            raise DTypeError(f"`b` must have dtype {self.dtype}, that of the values; got {b.dtype}")
        expect_shape(b, "b", (self.analysis.n, b.shape[-1]))
        x = empty(tuple(b.shape), b.dtype)
        # A column costs a pass over the factor in each direction; fewer than eight go together.
        work = 2 * self.nnz * b.shape[1] if b.shape[1] > 8 or self.analysis.method == "lu" else 0
        count = resolve_threads(threads, work)
        self._payload.solve(plain(b).numpy(), x.numpy(), mode, count)
        return x

    def pivots(self) -> Tensor:
        """Pivots in the order of elimination ``[n]``: squares of diag L, D, or diag U."""
        out = empty((self.analysis.n,), self.dtype)
        if self.result.ok:
            self._payload.pivots(out.numpy())
            return out
        raise ArgumentError(f"this factorisation failed ({self.result.name.lower()})")

    def slogdet(self) -> tuple[Tensor, Tensor]:
        """Sign (or phase) and logarithm of the absolute value of the determinant.

        Examples
        --------
        >>> import torch
        >>> analysis = analyze("lu", torch.tensor([0, 1, 2]), torch.tensor([1, 0]))
        >>> sign, logabs = analysis.factorize(torch.tensor([2.0, 4.0])).slogdet()
        >>> (sign * logabs.exp()).item()
        -8.0
        """
        pivots = self.pivots()
        size = pivots.abs()
        return (pivots / size).prod() * self._payload.parity, size.log().sum()


def analyze(method: DirectMethod, crow: Tensor, ccol: Tensor) -> Analysis:
    """Order the unknowns and find what the pattern determines.

    Parameters
    ----------
    method
        ``"llt"`` (Hermitian positive definite), ``"ldlt"`` (Hermitian, nonzero pivots in any order:
        quasi-definite; no pivoting) or ``"lu"`` (general, partial pivoting).
    crow, ccol
        CSR row pointers ``[n + 1]`` and sorted unique columns ``[nnz]`` of a square matrix, on the
        CPU. llt and ldlt take the pattern to be symmetric.

    Raises
    ------
    BackendUnavailableError
        Without the compiled extension.
    MemoryError
        When a factor would have more entries than 32-bit indices can count (llt, ldlt).
    """
    eigen = _extension()
    if method not in ("llt", "ldlt", "lu"):
        raise ArgumentError(f"`method` must be 'llt', 'ldlt' or 'lu', got {method!r}")
    crow, ccol = indices(crow, ccol)
    make = eigen.LUAnalysis if method == "lu" else eigen.SimplicialAnalysis
    try:
        payload = make(crow.numpy(), ccol.numpy())
    except ValueError as error:  # std::length_error
        raise MemoryError(str(error)) from error
    nnz = None if method == "lu" else int(payload.nonzeros)
    return Analysis(method, crow.numel() - 1, ccol.numel(), nnz, int(payload.bytes), payload)


def _check_values(values: Tensor) -> None:
    if values.dtype not in VALUES or not values.is_cpu:
        raise DTypeError(
            "`values` must be float32, float64, complex64 or complex128 on the CPU, got "
            f"{values.dtype} on {values.device}"
        )


# --- iterative ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class KrylovSolution:
    """What `Krylov.solve` returns.

    Attributes
    ----------
    x
        ``[n, k]``.
    iterations
        Of each column.
    residuals
        True relative residual of each column.
    histories
        Relative residuals of the recurrence of each column, one per iteration; BiCGSTAB's are those of the half
        steps, and the last.
    result
        The worst over the columns.
    """

    x: Tensor
    iterations: list[int]
    residuals: list[float]
    histories: list[list[float]]
    result: Result


class Krylov:
    """A Krylov method with its preconditioner; make one with `krylov`.

    It keeps the preconditioner, not the matrix.

    Attributes
    ----------
    ready
        Whether the preconditioner could be built (finite values, no missing diagonal for ichol).
    nbytes
        Bytes held by the preconditioner, estimated.
    """

    def __init__(self, dtype: torch.dtype, payload: Any) -> None:
        self.dtype, self._payload = dtype, payload
        self.ready, self.nbytes = bool(payload.ready), int(payload.bytes)

    def solve(
        self,
        crow: Tensor,
        ccol: Tensor,
        values: Tensor,
        b: Tensor,
        *,
        rtol: float,
        maxiter: int,
        x0: Tensor | None = None,
    ) -> KrylovSolution:
        """Iterate on each column of ``b`` ``[n, k]`` until the recurrence meets `rtol`.

        Parameters
        ----------
        crow, ccol, values
            The matrix, in compressed rows.
        b
            Right-hand sides ``[n, k]`` of the dtype of the values.
        rtol
            Tolerance on the residual relative to the norm of each column.
        maxiter
            Limit on iterations for each column.
        x0
            Start ``[n, k]``; zero when None.
        """
        if not self.ready:
            raise ArgumentError("the preconditioner could not be built; look at `ready` first")
        for name, x in (("values", values), ("b", b), ("x0", b if x0 is None else x0)):
            if x.dtype != self.dtype:
                raise DTypeError(f"`{name}` must have dtype {self.dtype}, got {x.dtype}")
        n = crow.numel() - 1
        expect_shape(b, "b", (n, b.shape[-1]))
        if x0 is not None:
            expect_shape(x0, "x0", tuple(b.shape))
        columns = torch.zeros_like(b.mT) if x0 is None else plain(x0.mT).clone()
        columns = columns.contiguous()
        reports = self._payload.solve(
            *_narrow(crow, ccol),
            plain(values).numpy(),
            plain(b.mT).numpy(),
            columns.numpy(),
            rtol,
            maxiter,
        )
        results = {_KRYLOV_RESULTS[status] for status, *_ in reports}
        return KrylovSolution(
            columns.mT.contiguous(),
            [iterations for _, iterations, *_ in reports],
            [residual for _, _, residual, _ in reports],
            [history for *_, history in reports],
            next((r for r in _SEVERITY if r in results), Result.CONVERGED),
        )


def krylov(
    method: Literal["cg", "bicgstab"],
    preconditioner: str,
    crow: Tensor,
    ccol: Tensor,
    values: Tensor,
) -> Krylov:
    """Build a preconditioner for conjugate gradients or BiCGSTAB.

    Parameters
    ----------
    method
        ``"cg"`` (Hermitian positive definite) or ``"bicgstab"``.
    preconditioner
        ``"none"``, ``"jacobi"``; ``"ichol"`` for cg (Lin and Moré, SIAM J. Sci. Comput. 21, 1999,
        24-45); ``"ilu"`` for bicgstab (dual threshold; Saad, Numer. Linear Algebra Appl. 1, 1994,
        387-402).
    crow, ccol, values
        The matrix, in compressed rows ``[n + 1]``, ``[nnz]``, ``[nnz]``, on the CPU.

    Examples
    --------
    >>> import torch
    >>> crow, ccol = torch.tensor([0, 2, 4]), torch.tensor([0, 1, 0, 1])
    >>> values = torch.tensor([2.0, 1.0, 1.0, 2.0], dtype=torch.float64)
    >>> b = torch.tensor([[3.0], [3.0]], dtype=torch.float64)
    >>> cg = krylov("cg", "jacobi", crow, ccol, values)
    >>> solution = cg.solve(crow, ccol, values, b, rtol=1e-12, maxiter=10)
    >>> print(solution.result.name, solution.x.flatten())
    CONVERGED tensor([1., 1.], dtype=torch.float64)
    """
    eigen = _extension()
    if preconditioner not in _PRECONDITIONERS.get(method, ()):
        known = "; ".join(f"{m}: {', '.join(p)}" for m, p in _PRECONDITIONERS.items())
        raise ArgumentError(
            f"no `method` {method!r} with `preconditioner` {preconditioner!r}; there are {known}"
        )
    _check_values(values)
    expect_shape(values, "values", (ccol.numel(),))
    payload = eigen.krylov(method, preconditioner, *_narrow(crow, ccol), plain(values).numpy())
    return Krylov(values.dtype, payload)


def _narrow(crow: Tensor, ccol: Tensor) -> tuple[Any, Any]:
    """32-bit index arrays, the only ones these methods take."""
    if ccol.numel() > torch.iinfo(torch.int32).max:
        raise MemoryError(f"{ccol.numel()} entries are too many for 32-bit indices")
    return plain(crow, torch.int32).numpy(), plain(ccol, torch.int32).numpy()
