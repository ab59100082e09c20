"""Multigrid in the compiled extension: algebraic, and on lattices.

Face of ``csrc/bindings/multigrid.cpp``. There is no fallback: without the extension a hierarchy
cannot be built, and asking for one says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from torch_sla._core import extension, reason
from torch_sla.errors import ArgumentError, BackendUnavailableError, DTypeError, Result, SolveError
from torch_sla.linalg.kernels.arguments import expect_shape, plain
from torch_sla.linalg.kernels.threads import resolve_threads

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "MAX_BLOCK",
    "ColumnReport",
    "CompiledHierarchy",
    "CompiledLattice",
    "Transfer",
    "detect_lattice",
    "unavailable",
]

MAX_BLOCK = 12
"""Largest edge of a block, and largest number of near-nullspace vectors."""

_INT32_MAX = 2**31 - 1
_compiled: Any = None if extension is None else extension.multigrid
_NUMPY = {torch.float32: np.float32, torch.float64: np.float64}


def unavailable() -> str | None:
    """Why multigrid cannot be used, or None when it can."""
    return reason if extension is None else None


@dataclass(frozen=True)
class Transfer:
    """A prolongation ``[rows, columns]`` of blocks in CSR.

    Parameters
    ----------
    crow, ccol
        int32 ``[rows + 1]`` and ``[nnz]``.
    values
        ``[nnz, b, k]``.
    columns
        Number of coarse block rows.
    """

    crow: Tensor
    ccol: Tensor
    values: Tensor
    columns: int


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
    """

    result: Result
    iterations: int
    residual: float
    history: list[float]


def _int32(index: Tensor, name: str) -> Tensor:
    if index.dtype is torch.int64 and index.numel() and int(index.max()) > _INT32_MAX:
        raise ArgumentError(f"`{name}` exceeds 32-bit indices, which multigrid works with")
    return plain(index, torch.int32)


def _real(x: Tensor, name: str) -> Tensor:
    if x.dtype not in _NUMPY:
        raise DTypeError(
            f"`{name}` must be float32 or float64, got {x.dtype}; multigrid is for real matrices"
        )
    if not x.is_cpu:
        raise ArgumentError(f"`{name}` must be on the CPU, got {x.device}")
    return plain(x)


class _Compiled:
    """What a hierarchy and a lattice share: refresh, application, conjugate gradients."""

    _native: Any

    def __init__(self, crow: Tensor, ccol: Tensor, dtype: torch.dtype, threads: int | None) -> None:
        if extension is None:
            raise BackendUnavailableError(f"multigrid needs the compiled extension: {reason}")
        self.n, self.nnz = crow.numel() - 1, ccol.numel()
        self.dtype = dtype
        self._threads = resolve_threads(threads, self.nnz)
        self._index = (_int32(crow, "crow").numpy(), _int32(ccol, "ccol").numpy())

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
        self._guarded(self._native.update, self._values(values), self._threads)

    def apply(self, r: Tensor, *, transposed: bool = False) -> Tensor:
        """Return ``B r`` or ``Bᵀ r`` for ``r`` ``[n]`` or ``[n, K]``."""
        if r.ndim not in (1, 2) or r.shape[0] != self.n:
            raise ArgumentError(f"`r` must be [{self.n}] or [{self.n}, K], got {list(r.shape)}")
        r = _real(r, "r")
        z = torch.empty_like(r)
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
        x = torch.empty_like(b) if x0 is None else plain(x0, b.dtype).clone()
        expect_shape(x, "x0", tuple(b.shape))
        basis = None
        if nullspace is not None:
            expect_shape(nullspace, "nullspace", (self.n, nullspace.shape[-1]))
            basis = plain(torch.linalg.qr(plain(nullspace, b.dtype))[0].T).numpy()
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
        return x, [ColumnReport(Result[name], its, res, hist) for name, its, res, hist in reports]

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


class CompiledHierarchy(_Compiled):
    """An algebraic multigrid hierarchy of one square matrix.

    Parameters
    ----------
    crow, ccol
        CSR ``[n + 1]`` and ``[nnz]``, columns sorted and unique in each row; kept alive.
    dtype
        Of the levels: float32 or float64.
    block
        Edge of the blocks into which unknowns are grouped; divides ``n``.
    strength, damping, smoother, sweeps, cycle, coarse_size, max_levels
        As `torch_sla.linalg.precond.multigrid.AMG` says.
    threads
        Number of threads; None chooses.

    Raises
    ------
    BackendUnavailableError
        When the extension is absent.
    """

    def __init__(
        self,
        crow: Tensor,
        ccol: Tensor,
        *,
        dtype: torch.dtype,
        block: int,
        strength: float,
        damping: float,
        smoother: str,
        sweeps: int,
        cycle: str,
        coarse_size: int,
        max_levels: int,
        threads: int | None = None,
    ) -> None:
        super().__init__(crow, ccol, dtype, threads)
        if self.n % block:
            raise ArgumentError(f"`block` is {block}, which does not divide {self.n} unknowns")
        kind = _compiled.Hierarchy32 if dtype is torch.float32 else _compiled.Hierarchy64
        self._native = kind(
            *self._index, block, strength, damping, smoother, sweeps, cycle, coarse_size, max_levels
        )

    def build(self, values: Tensor, near_nullspace: Tensor | None) -> None:
        """Set all levels up from slot values ``[nnz]`` and vectors ``[n, k]`` (None: constants)."""
        vectors = None
        if near_nullspace is not None:
            if near_nullspace.ndim != 2 or near_nullspace.shape[0] != self.n:
                raise ArgumentError(
                    f"`near_nullspace` must be [{self.n}, k], got {list(near_nullspace.shape)}"
                )
            if not 1 <= near_nullspace.shape[1] <= MAX_BLOCK:
                raise ArgumentError(
                    f"`near_nullspace` must have 1 to {MAX_BLOCK} columns, "
                    f"got {near_nullspace.shape[1]}"
                )
            vectors = plain(near_nullspace, self.dtype).numpy()
        self._guarded(self._native.build, self._values(values), vectors, self._threads)

    def build_from(self, values: Tensor, transfers: list[Transfer]) -> None:
        """Set the levels up from transfers given by hand, first to last."""
        rows = self.n // int(self._native.levels()[0][1])
        for t in transfers:
            _check_transfer(t, rows)
            rows = t.columns
        arrays = [
            (
                _int32(t.crow, "crow").numpy(),
                _int32(t.ccol, "ccol").numpy(),
                plain(t.values, self.dtype).numpy(),
                t.columns,
            )
            for t in transfers
        ]
        self._guarded(self._native.build_from, self._values(values), arrays, self._threads)

    def levels(self) -> list[tuple[int, int, int, int]]:
        """Block rows, edge of the blocks, blocks of the matrix and of the transfer, by level."""
        return list(self._native.levels())

    def matrix(self, level: int) -> Transfer:
        """Matrix of one level, in the units of the caller."""
        crow, ccol, values, columns = self._native.matrix(level, False)
        values = torch.from_numpy(values) / self._native.scale
        return Transfer(torch.from_numpy(crow), torch.from_numpy(ccol), values, columns)

    def transfer(self, level: int) -> Transfer:
        """Prolongation from level ``level + 1`` to ``level``."""
        crow, ccol, values, columns = self._native.matrix(level, True)
        return Transfer(
            torch.from_numpy(crow), torch.from_numpy(ccol), torch.from_numpy(values), columns
        )


def _check_transfer(t: Transfer, rows: int) -> None:
    nnz = t.ccol.numel()
    fits = (
        t.crow.numel() == rows + 1
        and t.values.ndim == 3
        and t.values.shape[0] == nnz
        and int(t.crow[0]) == 0
        and int(t.crow[-1]) == nnz
        and bool((t.crow.diff() >= 0).all())
        and (nnz == 0 or (int(t.ccol.min()) >= 0 and int(t.ccol.max()) < t.columns))
    )
    if not fits:
        raise ArgumentError(
            f"a transfer must be CSR with {rows} rows, columns below {t.columns} and values "
            f"[nnz, b, k]; got crow {list(t.crow.shape)}, values {list(t.values.shape)}"
        )


class CompiledLattice(_Compiled):
    """Structured multigrid for a matrix whose pattern is a lattice.

    Parameters
    ----------
    crow, ccol
        CSR ``[n + 1]`` and ``[nnz]``, columns sorted and unique in each row; kept alive.
    values
        ``[nnz]``.
    shape
        Points along each axis, fastest first, as `detect_lattice` returns them.
    dtype, sweeps, cycle, coarse_size, max_levels, threads
        As for `CompiledHierarchy`; the cycle is V or W.
    """

    def __init__(
        self,
        crow: Tensor,
        ccol: Tensor,
        values: Tensor,
        *,
        shape: tuple[int, int, int],
        dtype: torch.dtype,
        sweeps: int,
        cycle: str,
        coarse_size: int,
        max_levels: int,
        threads: int | None = None,
    ) -> None:
        super().__init__(crow, ccol, dtype, threads)
        kind = _compiled.Lattice32 if dtype is torch.float32 else _compiled.Lattice64
        self._native = kind(*self._index, shape, sweeps, cycle, coarse_size, max_levels)
        self.update(values)

    def levels(self) -> list[tuple[tuple[int, int, int], int]]:
        """Shape and entries of the stencil, by level."""
        return [(tuple(shape), entries) for shape, entries in self._native.levels()]

    @property
    def contrary(self) -> float:
        """Share of rows whose anisotropy contradicts the axes along which the lattice is halved."""
        return float(self._native.contrary)


def detect_lattice(crow: Tensor, ccol: Tensor) -> tuple[int, int, int] | None:
    """Find the lattice on which every entry of a pattern joins a point to a neighbour.

    Parameters
    ----------
    crow, ccol
        Square CSR ``[n + 1]`` and ``[nnz]``, sorted.

    Returns
    -------
    tuple or None
        Points along each axis, fastest first; ``(n0, 1, n1)`` in two dimensions. None where there is
        no such lattice, or no extension.

    Examples
    --------
    >>> import torch
    >>> detect_lattice(torch.tensor([0, 1, 2]), torch.tensor([0, 1])) is None
    True
    """
    if extension is None or crow.numel() < 2 or not crow.is_cpu or ccol.numel() > _INT32_MAX:
        return None
    index = (_int32(crow, "crow").numpy(), _int32(ccol, "ccol").numpy())
    shape = tuple(_compiled.detect_lattice(*index))
    return shape if shape[0] else None
