"""Multigrid in the compiled extension: algebraic, and on lattices.

Face of ``csrc/bindings/multigrid``. There is no fallback: without the extension a hierarchy
cannot be built, and asking for one says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from torch_sla._core import extension
from torch_sla.errors import ArgumentError
from torch_sla.linalg.kernels.arguments import plain
from torch_sla.linalg.kernels.cycles import CompiledCycle, int32

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "MAX_BLOCK",
    "STABLE_BOUND",
    "STABLE_RADIUS",
    "CompiledHierarchy",
    "CompiledLattice",
    "Transfer",
    "detect_lattice",
]

MAX_BLOCK = 12
"""Largest edge of a block, and largest number of near-nullspace vectors."""

# Sums of |M A| along rows up to which least-squares weights M smooth for sure, and the radius that others get; as in
# ``csrc/include/torch_sla/multigrid/smoothers.hpp``.
STABLE_BOUND, STABLE_RADIUS = 1.95, 1.6

_INT32_MAX = 2**31 - 1
_compiled: Any = None if extension is None else extension.multigrid


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


class CompiledHierarchy(CompiledCycle):
    """An algebraic multigrid hierarchy of one square matrix.

    Parameters
    ----------
    crow, ccol
        CSR ``[n + 1]`` and ``[nnz]``, columns sorted and unique in each row; kept alive.
    dtype
        Of the levels: float32 or float64.
    classical
        Whether points are kept (Ruge and Stüben) rather than aggregated; for scalars.
    block
        Edge of the blocks into which unknowns are grouped; divides ``n``.
    strength, damping, smoother, sweeps, cycle, coarse_size, max_levels
        As `torch_sla.linalg.precond.multigrid.AMG` says.
    symmetric
        Whether blocks of SPAI-0 are made symmetric, which keeps the cycle of a symmetric matrix symmetric.
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
        classical: bool,
        block: int,
        strength: float,
        damping: float,
        smoother: str,
        symmetric: bool,
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
            *self._index,
            classical,
            block,
            strength,
            damping,
            smoother,
            symmetric,
            sweeps,
            cycle,
            coarse_size,
            max_levels,
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
            if not torch.isfinite(near_nullspace).all():
                raise ArgumentError("`near_nullspace` has NaN or infinity")
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
                int32(t.crow, "crow").numpy(),
                int32(t.ccol, "ccol").numpy(),
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


class CompiledLattice(CompiledCycle):
    """Structured multigrid for a matrix whose pattern is a lattice.

    Parameters
    ----------
    crow, ccol
        CSR ``[n + 1]`` and ``[nnz]``, columns sorted and unique in each row; kept alive.
    values
        ``[nnz]``.
    shape
        Points along each axis, fastest first, as `detect_lattice` returns them.
    lines
        Whether lines along each axis in turn are smoothed, rather than points.
    most_contrary
        Levels are only built where `contrary` does not exceed this.
    dtype, sweeps, cycle, coarse_size, max_levels, threads
        As for `CompiledHierarchy`.
    """

    def __init__(
        self,
        crow: Tensor,
        ccol: Tensor,
        values: Tensor,
        *,
        shape: tuple[int, int, int],
        dtype: torch.dtype,
        lines: bool,
        most_contrary: float,
        sweeps: int,
        cycle: str,
        coarse_size: int,
        max_levels: int,
        threads: int | None = None,
    ) -> None:
        super().__init__(crow, ccol, dtype, threads)
        kind = _compiled.Lattice32 if dtype is torch.float32 else _compiled.Lattice64
        self._native = kind(
            *self._index, shape, lines, most_contrary, sweeps, cycle, coarse_size, max_levels
        )
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
    index = (int32(crow, "crow").numpy(), int32(ccol, "ccol").numpy())
    shape = tuple(_compiled.detect_lattice(*index))
    return shape if shape[0] else None
