"""One multigrid cycle in the compiled extension, and Krylov methods around it.

Face of what ``csrc/bindings/multigrid`` offers for every kind of hierarchy.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from torch_sla._core import extension, reason
from torch_sla.errors import ArgumentError, BackendUnavailableError, DTypeError, Result, SolveError
from torch_sla.linalg.kernels.arguments import empty, expect_columns, expect_shape, plain
from torch_sla.linalg.kernels.threads import ForkLock, resolve_threads

if TYPE_CHECKING:
    from typing import Self

    from torch import Tensor

__all__ = ["ColumnReport", "CompiledCycle", "int32"]

_INT32_MAX = 2**31 - 1
_REAL = (torch.float32, torch.float64)


@dataclass(frozen=True)
class ColumnReport:
    """How conjugate gradients went for one right-hand side.

    Parameters
    ----------
    result, iterations
        How it ended, and after how many steps.
    residual
        ``‖b - A x‖``, recomputed at the end.
    history
        Residual norms of the recurrence, the first before any step.
    sizes
        Largest entries of ``b - A x``, of x and of b, and the norm of b, where the pass that recomputed the
        residual looked at them.
    """

    result: Result
    iterations: int
    residual: float
    history: list[float]
    sizes: tuple[float, float, float, float] | None


def int32(index: Tensor, name: str) -> Tensor:
    """Return an index array as the kernels take it.

    Raises
    ------
    ArgumentError
        When an index does not fit.
    """
    if index.dtype is torch.int64 and index.numel() and int(index.max()) > _INT32_MAX:
        raise ArgumentError(f"`{name}` exceeds 32-bit indices, which multigrid works with")
    return plain(index, torch.int32)


def _real(x: Tensor, name: str) -> Tensor:
    if x.dtype not in _REAL:
        raise DTypeError(
            f"`{name}` must be float32 or float64, got {x.dtype}; multigrid is for real matrices"
        )
    if not x.is_cpu:
        raise ArgumentError(f"`{name}` must be on the CPU, got {x.device}")
    return plain(x)


def _listed(reports: Any) -> list[ColumnReport]:
    return [ColumnReport(Result[name], *rest) for name, *rest in reports]


class CompiledCycle:
    """What a hierarchy and a lattice share: refresh, application, Krylov methods around the cycle."""

    _native: Any

    def __init__(self, crow: Tensor, ccol: Tensor, dtype: torch.dtype, threads: int | None) -> None:
        if extension is None:
            raise BackendUnavailableError(f"multigrid needs the compiled extension: {reason}")
        self.n, self.nnz = crow.numel() - 1, ccol.numel()
        self.dtype = dtype
        self._threads, self._lock = resolve_threads(threads, self.nnz), ForkLock()
        self._index = (int32(crow, "crow").numpy(), int32(ccol, "ccol").numpy())

    @staticmethod
    def _start(b: Tensor, x0: Tensor | None) -> Tensor:
        """Memory for the solution, with the start in it where there is one."""
        x = empty(tuple(b.shape), b.dtype, again=True)
        if x0 is not None:
            expect_shape(x0, "x0", tuple(b.shape))
            x.copy_(x0.detach())
        return x

    def _guarded(self, work: Any, *arguments: Any) -> Any:
        """Turn the two ways in which a set-up fails into results."""
        try:
            return work(*arguments)
        except OverflowError as error:
            raise SolveError(Result.NONFINITE, f"multigrid: {error}") from error
        except ValueError as error:
            raise SolveError(Result.BREAKDOWN, f"multigrid: {error}") from error

    def _values(self, values: Tensor) -> Any:
        expect_shape(values, "values", (self.nnz,))
        return _real(values, "values").numpy()

    def update(self, values: Tensor) -> None:
        """Recompute the numbers of all levels on the same aggregates and patterns."""
        with self._lock.held:
            self._guarded(self._native.update, self._values(values), self._threads)

    def skeleton(self) -> Self:
        """Return what new values do not change, shared with this one: patterns, and what was decided on them."""
        return self._around(self._native.skeleton())

    def renewed(self, values: Tensor, *, check: bool) -> Self | None:
        """Make one for other slot values ``[nnz]`` on the patterns of this one.

        With `check` it equals a new set-up to the last bit: levels that the values would make otherwise
        are built anew, with what was found about them. None where the values are not those of a lattice.
        """
        made = self._guarded(self._native.renewed, self._values(values), check, self._threads)
        return None if made is None else self._around(made)

    def _around(self, native: Any) -> Self:
        out = copy(self)
        out._native, out._lock = native, ForkLock()
        return out

    def apply(self, r: Tensor, *, transposed: bool = False) -> Tensor:
        """Return ``B r`` or ``Bᵀ r`` for ``r`` ``[n]`` or ``[n, K]``."""
        expect_columns(r, "r", self.n)
        r = _real(r, "r")
        z = torch.empty_like(r)
        with self._lock.held:
            self._native.apply(r.numpy(), z.numpy(), transposed, self._threads)
        return z

    def cg(
        self,
        values: Tensor,
        b: Tensor,
        x0: Tensor | None,
        *,
        rtol: float,
        atol: float,
        maxiter: int,
        nullspace: Tensor | None,
    ) -> tuple[Tensor, list[ColumnReport]]:
        """Solve ``A x = b`` by conjugate gradients, ``b`` ``[n, K]``, in the dtype of ``b``."""
        b = _real(b, "b")
        if b.ndim != 2 or b.shape[0] != self.n:
            raise ArgumentError(f"`b` must be [{self.n}, K], got {list(b.shape)}")
        values = self._values(plain(values, b.dtype))
        x = self._start(b, x0)
        basis = None
        if nullspace is not None:
            expect_shape(nullspace, "nullspace", (self.n, nullspace.shape[-1]))
            basis = plain(torch.linalg.qr(plain(nullspace, b.dtype))[0].T).numpy()
        with self._lock.held:
            reports = self._native.cg(
                values,
                b.numpy(),
                x.numpy(),
                x0 is None,
                rtol,
                atol,
                maxiter,
                basis,
                self._threads,
            )
        return x, _listed(reports)

    def krylov(
        self,
        method: Literal["gmres", "bicgstab"],
        matrix: tuple[Tensor, Tensor, Tensor],
        b: Tensor,
        x0: Tensor | None,
        *,
        rtol: float,
        atol: float,
        maxiter: int,
        restart: int,
        transposed: bool,
    ) -> tuple[Tensor, list[ColumnReport]]:
        """Solve ``M x = b`` for a matrix as ``crow, ccol, values``, ``b`` ``[n, K]``, in the dtype of ``b``.

        With `transposed` the matrix is the transpose of the one of the hierarchy.
        """
        b = _real(b, "b")
        if b.ndim != 2 or b.shape[0] != self.n:
            raise ArgumentError(f"`b` must be [{self.n}, K], got {list(b.shape)}")
        crow, ccol, values = matrix
        x = self._start(b, x0)
        with self._lock.held:
            reports = self._native.krylov(
                method,
                int32(crow, "crow").numpy(),
                int32(ccol, "ccol").numpy(),
                plain(values, b.dtype).numpy(),
                b.numpy(),
                x.numpy(),
                x0 is None,
                rtol,
                atol,
                maxiter,
                restart,
                transposed,
                self._threads,
            )
        return x, _listed(reports)

    @property
    def nbytes(self) -> int:
        """Bytes of the levels and their work vectors; the caller's arrays are not counted."""
        return int(self._native.nbytes)

    @property
    def coarse_nullity(self) -> int:
        """Dimension of the null space of the coarsest matrix; -1 where it is only smoothed."""
        return int(self._native.coarse_nullity)

    @property
    def coarse_pivot(self) -> float:
        """Smallest pivot of the coarsest matrix, scaled to a unit diagonal; 1 where not inverted."""
        return float(self._native.coarse_pivot)
