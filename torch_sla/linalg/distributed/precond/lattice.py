"""Structured multigrid for a lattice in parts: the levels of `DeviceLattice`, each part's in its own arrays.

Every part keeps its box of a level with one or two layers around it, and runs the kernels of one process on that
array. What they make of the outermost layer is wrong, because entries there point beyond the array; it is brought from
its owners before anything reads it. A cycle exchanges twice on a level, the residual around the box and the coarse
correction next to it; coarsening exchanges the stencils after each axis. So every level is that of one process to
rounding, and so are the iterations. From a few thousand unknowns on, all processes have the whole and go on alone.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from math import isfinite, log2
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import Result, SolveError
from torch_sla.linalg.distributed.lattice.boxes import Box, neighbours
from torch_sla.linalg.distributed.lattice.grid import Grid, move
from torch_sla.linalg.distributed.precond.whole_lattice import WholeLattice
from torch_sla.linalg.kernels import lattice as kernels
from torch_sla.linalg.kernels.lattice_fallback import axis_couplings, contrary_rows
from torch_sla.linalg.kernels.stencils import AxisWeights, Lattice, Stencil
from torch_sla.linalg.precond.multigrid.device.choice import CONTRARY
from torch_sla.linalg.precond.multigrid.device.coarsening import SEMICOARSENING
from torch_sla.linalg.precond.multigrid.suits import SPREAD

if TYPE_CHECKING:
    from torch_sla.linalg.distributed.communicator import Communicator
    from torch_sla.linalg.distributed.lattice.finding import LatticeOfParts
    from torch_sla.linalg.distributed.sharding import Sharding

__all__ = ["LatticeHierarchy", "power_scale"]

_EQUAL = 32.0  # multiples of eps up to which mirrored entries count as equal


@dataclass(eq=False)
class _Level:
    """Stencils, smoother and transfers over the arrays of a padded grid; vectors of a cycle."""

    grid: Grid
    stencils: list[Stencil]
    smoother: Tensor
    weights: list[list[AxisWeights]]  # of each part, axis after axis
    coarse: Grid  # what the arrays become when axes are halved
    vectors: tuple[Tensor, Tensor, Tensor]  # right-hand side and two more
    below: Tensor  # over `coarse`
    turned: list[Stencil] | None = None


class LatticeHierarchy:
    """Levels in parts and what is gathered below them, applied as a V cycle.

    Parameters
    ----------
    sharding, found
        The matrix and its lattice.
    gathered
        Unknowns from which on a level is on every process.
    max_levels
        Limit on the number of levels.
    asked
        Whether it is wanted whatever the matrix is like.
    dtype
        Of the levels; None: float32 unless the diagonal spreads widely or the last level is nearly singular.

    Attributes
    ----------
    sizes
        Unknowns of each level in parts, over all parts, the last being gathered.
    contrary
        Share of rows whose anisotropy contradicts the axes along which the lattice is halved.
    symmetric
        Whether the matrix is its transpose to rounding.
    """

    contrary = 0.0

    def __init__(
        self,
        sharding: Sharding,
        found: LatticeOfParts,
        *,
        gathered: int,
        max_levels: int,
        asked: bool,
        dtype: torch.dtype | None,
    ) -> None:
        self._sharding, self._found = sharding, found
        self._gathered, self._max_levels = gathered, max_levels
        self._asked, self._wanted = asked, dtype
        self._idle = torch.zeros(1, dtype=torch.int32, device=found.names.device)
        self._comm = found.grid.comm

    # --- set-up --------------------------------------------------------------------------------

    def set_up(self, values: Tensor) -> bool:
        """Make all levels of slot values ``[nnz_csr]``; False where the lattice does not suit them."""
        self._scale = power_scale(self._comm, values)
        values = values.detach()
        made = self._made(values, self._wanted or torch.float32)
        if made is None:
            made = self._made(values, torch.float64)
        return bool(made)

    def renewed(self, values: Tensor, wanted: object = None) -> LatticeHierarchy:
        """Return a hierarchy for other slot values, with the boxes and plans of exchange of this one, which stays."""
        del wanted
        out = copy(self)
        out._asked = True
        out.set_up(values)
        return out

    def _made(self, values: Tensor, dtype: torch.dtype) -> bool | None:
        """Do as `set_up` in one precision; None where that is not enough."""
        self.dtype = dtype
        self._levels: list[_Level] = []
        self.sizes: list[int] = []
        open_ = self._wanted is None and dtype is torch.float32
        lattice = self._found.lattice
        grid, planes = self._found.stencils(self._sharding, values, dtype, self._scale)
        self.symmetric = self._mirrored(grid, lattice, planes)
        if not (self.symmetric or self._asked):
            return False
        while grid.n > self._gathered and len(self._levels) < self._max_levels:
            stencils = _stencils(grid, lattice, planes)
            smoother = planes.new_empty(grid.size)
            axes, narrow = self._survey(grid, stencils, smoother)
            if not self._asked and self.contrary > CONTRARY:
                return False
            if open_ and not narrow:
                return None
            if not axes:
                break
            self.sizes.append(grid.n)
            level, lattice, planes = self._coarsened(grid, lattice, stencils, smoother, axes)
            self._levels.append(level)
            grid = level.coarse.padded
        self.sizes.append(grid.n)
        self._last = WholeLattice(grid, lattice, planes, self._wanted)
        return None if open_ and self._last.dtype is not dtype else True

    def _survey(
        self, grid: Grid, stencils: list[Stencil], smoother: Tensor
    ) -> tuple[tuple[int, ...], bool]:
        """Make the smoother; return the axes to halve, and whether the diagonal is of one size."""
        facts = torch.zeros(6, dtype=torch.float64, device=smoother.device)
        facts[4:] = -torch.inf
        for A, piece, rim in zip(stencils, grid.pieces(smoother), grid.rims, strict=True):
            if not A.n:
                continue
            seen = facts.new_empty(6)
            piece.copy_(kernels.survey(A, seen))
            # Every row counts where it is owned.
            facts[:3] += seen[:3] - axis_couplings(A.lattice.codes, A.planes[:, rim]).double().sum(
                1
            )
            seen[4].neg_()
            facts[3:] = torch.maximum(facts[3:], seen[3:])
        c0, c1, c2 = (self._comm.reduce(facts[:3]) / grid.n).tolist()
        wrong, smallest, largest = self._comm.reduce(facts[3:], "max").tolist()
        if wrong > 0:
            raise SolveError(Result.BREAKDOWN, "multigrid: the diagonal of a row is zero")
        coupling = [c if n > 1 else 0.0 for c, n in zip((c0, c1, c2), grid.shape, strict=True)]
        most = max(coupling)
        if most != most:
            raise SolveError(Result.NONFINITE, "multigrid: a coarse matrix is not finite")
        halved = [
            n > 1 and c >= SEMICOARSENING * most for c, n in zip(coupling, grid.shape, strict=True)
        ]
        if not self._levels:
            self.contrary = self._contrary(grid, stencils, (halved[0], halved[1], halved[2]))
        axes = tuple(axis for axis in range(3) if halved[axis])
        return axes, bool(self._levels) or largest <= -SPREAD * smallest

    def _contrary(
        self, grid: Grid, stencils: list[Stencil], halved: tuple[bool, bool, bool]
    ) -> float:
        count = torch.zeros((), dtype=torch.float64, device=grid.device)
        exist = (grid.shape[0] > 1, grid.shape[1] > 1, grid.shape[2] > 1)
        for A, rim in zip(stencils, grid.rims, strict=True):
            if A.n:
                seen = torch.empty_like(count)
                kernels.contrary(A, halved, seen)
                outside = axis_couplings(A.lattice.codes, A.planes[:, rim])
                count += seen - contrary_rows(outside, exist, halved).sum()
        return float(self._comm.reduce(count)) / grid.n

    def _coarsened(
        self,
        grid: Grid,
        lattice: Lattice,
        stencils: list[Stencil],
        smoother: Tensor,
        axes: tuple[int, ...],
    ) -> tuple[_Level, Lattice, Tensor]:
        """Halve axes one after the other; return the level, and the next one's lattice and coefficients."""
        weights: list[list[AxisWeights]] = [[] for _ in stencils]
        here, current, planes = grid, stencils, smoother
        for axis in axes:
            here, lattice = here.halved(axis), lattice.coarsened(axis)
            planes = smoother.new_zeros(len(lattice.codes), here.size)
            made = _stencils(here, lattice, planes)
            for A, C, kept in zip(current, made, weights, strict=True):
                if A.n:
                    kept.append(kernels.axis_weights(A, axis))
                    kernels.galerkin(A, kept[-1], out=C)
            if axis != axes[-1]:
                here.around(planes)
            current = made
        target = here.padded
        out = smoother.new_zeros(len(lattice.codes), target.size)
        move(here, planes, target, out)
        target.around(out)
        f, x, y = (smoother.new_zeros(grid.size) for _ in range(3))
        below = smoother.new_zeros(here.size)
        return _Level(grid, stencils, smoother, weights, here, (f, x, y), below), lattice, out

    def _mirrored(self, grid: Grid, lattice: Lattice, planes: Tensor) -> bool:
        """Whether every entry of an owned row equals the one on the other side of the diagonal."""
        different = 0.0
        limit = _EQUAL * torch.finfo(planes.dtype).eps
        for own, kept, piece in zip(grid.own, grid.kept, grid.pieces(planes), strict=True):
            if not own.n:
                continue
            arrays = kept.view(piece)
            for slot, code in enumerate(lattice.codes):
                other = lattice.slots[26 - code]
                if code >= 13:
                    break
                here, there = neighbours(own, grid.shape, kept, code)
                a, b = arrays[slot][here], arrays[other][there]
                if a.numel():
                    gap = (a - b).abs_() - limit * torch.maximum(a.abs(), b.abs())
                    different = max(different, float(gap.amax()))
        flag = torch.tensor([float(different > 0)], device=planes.device)
        return float(self._comm.reduce(flag, "max")) == 0.0

    # --- the cycle -----------------------------------------------------------------------------

    def apply(self, r: Tensor) -> Tensor:
        """Return ``B r`` for ``[n_held, K]``."""
        return self._applied(r, False)

    def apply_adjoint(self, r: Tensor) -> Tensor:
        """Return ``Bᴴ r``."""
        return self._applied(r, not self.symmetric)

    def _applied(self, r: Tensor, adjoint: bool) -> Tensor:
        inside = self._found.enter(r.to(self.dtype))
        columns = [self._column(column.contiguous(), adjoint) for column in inside.unbind(1)]
        done = torch.stack(columns, 1) if columns else inside
        return self._found.leave(done).to(r.dtype) * self._scale

    def _column(self, r: Tensor, adjoint: bool) -> Tensor:
        if not self._levels:
            return self._last.apply(r, adjoint=adjoint)
        bare, grid = self._found.grid, self._levels[0].grid
        move(bare, r, grid, self._levels[0].vectors[0])
        x = self._run(0, adjoint)
        out = r.new_empty(bare.size)
        move(grid, x, bare, out)
        return out

    def _run(self, i: int, adjoint: bool) -> Tensor:
        """One cycle of level `i` from zero for the owned part of its right-hand side; a work vector."""
        level, flag = self._levels[i], self._idle
        grid, (f, x, y) = level.grid, level.vectors
        grid.around(f)
        F, X, Y, M = (grid.pieces(t) for t in (f, x, y, level.smoother))
        Q = level.coarse.pieces(level.below)
        stencils = self._turned(level) if adjoint else level.stencils
        parts = [p for p, A in enumerate(stencils) if A.n]
        for p in parts:
            kernels.residual_after_first(stencils[p], M[p], F[p], Y[p], flag)
            kernels.restrict(stencils[p].lattice, level.weights[p], Y[p], Q[p], flag)
        if i + 1 < len(self._levels):
            below = self._levels[i + 1]
            move(level.coarse, level.below, below.grid, below.vectors[0])
            move(below.grid, self._run(i + 1, adjoint), level.coarse, level.below)
        else:
            bare = level.coarse.bare
            r = x.new_empty(bare.size)
            move(level.coarse, level.below, bare, r)
            move(bare, self._last.apply(r, adjoint=adjoint), level.coarse, level.below)
        level.coarse.near(level.below)
        for p in parts:
            A = stencils[p]
            kernels.correct(A.lattice, level.weights[p], Q[p], M[p], F[p], X[p], flag)
            kernels.relax(A, M[p], F[p], X[p], Y[p], None, flag)
        return y

    def _turned(self, level: _Level) -> list[Stencil]:
        if level.turned is None:
            level.turned = [
                _transposed(A, kept)
                for A, kept in zip(level.stencils, level.grid.kept, strict=True)
            ]
        return level.turned

    @property
    def nbytes(self) -> int:
        """Bytes of the levels that are in parts."""
        size = 0
        for level in self._levels:
            tensors = [level.smoother, *level.vectors, level.below]
            size += sum(t.numel() * t.element_size() for t in tensors)
            size += sum(A.nbytes for A in [*level.stencils, *(level.turned or [])])
            size += sum(w.nbytes for some in level.weights for w in some)
        return size


def _stencils(grid: Grid, lattice: Lattice, planes: Tensor) -> list[Stencil]:
    return [
        Stencil(Lattice(kept.shape, lattice.codes), piece)
        for kept, piece in zip(grid.kept, grid.pieces(planes), strict=True)
    ]


def _transposed(A: Stencil, kept: Box) -> Stencil:
    """Return the stencil of the transpose; entries that leave the array are dropped, unlike those that enter it."""
    out = Stencil(A.lattice, torch.zeros_like(A.planes))
    for slot, code in enumerate(A.lattice.codes):
        inside = Box((0, 0, 0), kept.shape)
        here, there = neighbours(inside, kept.shape, inside, code)
        inside.view(out.planes[A.lattice.slots[26 - code]])[there] = inside.view(A.planes[slot])[
            here
        ]
    return out


def power_scale(comm: Communicator, values: Tensor) -> float:
    """Return a power of two that brings the largest entry to about one, so that squares and inverses exist."""
    largest = values.new_zeros(1, dtype=torch.float64)
    if values.numel():
        largest += torch.linalg.vector_norm(values.detach(), torch.inf)
    most = float(comm.reduce(largest, "max"))
    if not isfinite(most):
        raise SolveError(Result.NONFINITE, "multigrid: NaN or infinity in the matrix")
    return 2.0 ** -round(log2(most)) if most > 0 else 1.0
