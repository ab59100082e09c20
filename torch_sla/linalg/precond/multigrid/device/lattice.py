"""Structured multigrid over tensors: stencils coarsened without sparse products.

The method is that of the compiled lattice hierarchy: SPAI-0 smoothing, weights of the transfers taken
from the matrix, and only strongly coupled axes halved. A level costs four passes per cycle: smoothing
from zero and its residual in one, restriction along all axes in one, correction of the smoothed
vector (made again rather than kept) in one, and the second smoothing, which also yields the dot
product that conjugate gradients need, in one.

Where the coefficient jumps, levels whose steps are as wide as its regions approximate the ones above
them badly, and a V cycle adds that up. Two small levels are visited twice then, unless a cycle is asked
for: that takes a few percent of the memory passes, and up to half of the iterations away.
"""

from __future__ import annotations

from functools import partial
from math import isfinite, log2
from typing import TYPE_CHECKING
from weakref import proxy

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, Result, SolveError
from torch_sla.linalg.kernels import krylov, lattice as kernels
from torch_sla.linalg.kernels.stencils import Stencil
from torch_sla.linalg.precond.multigrid.device.base import DeviceHierarchy
from torch_sla.linalg.precond.multigrid.device.cg import KEPT, ConjugateGradients, powers_near
from torch_sla.linalg.precond.multigrid.device.coarsening import Coarsening
from torch_sla.linalg.precond.multigrid.device.cycle import visited_twice
from torch_sla.linalg.precond.multigrid.levels import Level

if TYPE_CHECKING:
    from torch_sla.linalg.kernels.lattice import Survey
    from torch_sla.linalg.methods.outcome import KrylovOptions, Outcome
    from torch_sla.linalg.precond.multigrid.options import AMG
    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["DeviceLattice"]

_SPREAD = 1e4  # of the diagonal, above which float32 rounds small couplings away
_ROUNDED_PIVOT = 1e-3  # of the coarsest matrix, below which float32 does not tell it from zero
_COMFORTABLE = 2.0**40  # entries up to this, and down to its inverse, need no scaling


class DeviceLattice(DeviceHierarchy):
    """Structured multigrid for one matrix whose pattern is a lattice.

    Parameters
    ----------
    pattern
        Square scalar pattern with a `Pattern.lattice`.
    values
        ``[nnz_csr]`` slot values, float32 or float64; the hierarchy is on their device.
    options
        See `AMG`; those of aggregation have no meaning here.

    Attributes
    ----------
    contrary
        Share of rows whose anisotropy contradicts the axes along which the lattice is halved.

    Raises
    ------
    ArgumentError
        For a cycle or smoother that it has not.
    SolveError
        ``BREAKDOWN`` when a row has a zero diagonal, ``NONFINITE`` for NaN or infinity.
    """

    method = "lattice"

    def __init__(self, pattern: Pattern, values: Tensor, options: AMG) -> None:
        lattice = pattern.lattice
        if lattice is None:
            raise ValueError("the pattern is not a lattice")
        if options.smoother == "line":
            raise ArgumentError(
                "`smoother` must be spai0 on a lattice on a device, got 'line', which solves along a line step by step"
            )
        super().__init__(lattice.n, values.device, options)
        self._pattern, self._lattice = pattern, lattice
        self.contrary = 0.0
        self._idle = torch.zeros(1, dtype=torch.int32, device=values.device)
        self._space: ConjugateGradients | None = None
        self._axes: list[tuple[int, ...]] | None = None
        self._set_up(values, getattr(torch, options.dtype or "float32"))

    # --- set-up --------------------------------------------------------------------------------

    def _set_up(self, values: Tensor, dtype: torch.dtype, scale: float = 1.0) -> None:
        """Make all levels; halve the axes that were halved before, where they are known.

        Entries are taken for ordinary numbers until they have been seen, then for what they are.
        """
        self._space = None
        p, values = self._pattern, values.detach()
        A = kernels.load(self._lattice, p.crow, p.ccol, values, dtype, scale=scale)
        largest = torch.linalg.vector_norm(values, float("inf"))
        suits = partial(self._suits, dtype, scale)
        made = Coarsening(A, largest, self.options, self._axes, suits)
        wanted = _power_scale(made.largest)
        pivot = 1.0 if made.coarse is None else made.coarse.pivot
        rounds = self._may_widen(dtype) and (_spread_out(made.finest) or pivot < _ROUNDED_PIVOT)
        if wanted != scale or rounds:
            del A, made
            return self._set_up(values, torch.float64 if rounds else dtype, wanted)
        self.dtype, self.scale = dtype, scale  # not before: values that are refused change nothing
        if self._axes is None:
            self._axes, self.contrary = made.axes, made.contrary
        self._levels, self._coarse = made.levels, made.coarse
        sizes = [level.A.n for level in made.levels]
        self._twice = visited_twice(sizes, self.options.cycle, made.finest.spread)
        self._make_room()
        return None

    def _may_widen(self, dtype: torch.dtype) -> bool:
        return self.options.dtype is None and dtype is torch.float32

    def _suits(self, dtype: torch.dtype, scale: float, largest: float, finest: Survey) -> bool:
        """Whether levels of this precision and scale are the ones to keep."""
        if _power_scale(largest) != scale:
            return False
        return not (self._may_widen(dtype) and _spread_out(finest))

    def _make_room(self) -> None:
        """Make the vectors of all levels; the first reads the right-hand side of its caller."""
        for i, level in enumerate(self._levels):
            n = level.A.n
            direct = self._coarse is not None and i + 1 == len(self._levels)
            sizes = (n if i else 0, n, 0 if direct else n)
            f, x, y = (level.M.new_empty(size) for size in sizes)
            level.vectors = (f, x, y)
        self._dots = kernels.partials(self.n, self._levels[0].A.device)

    def _update(self, values: Tensor) -> None:
        self._set_up(values, self.dtype)

    # --- what it is ----------------------------------------------------------------------------

    @property
    def levels(self) -> list[Level]:
        """Sizes of the levels, finest first."""
        return [Level(l.A.n, l.A.n * len(l.A.lattice.codes)) for l in self._levels]

    @property
    def nbytes(self) -> int:
        """Bytes held, work vectors included; the matrix it was built from is not counted."""
        size = sum(level.nbytes for level in self._levels) + 8 * self._dots.numel()
        if self._coarse is not None:
            size += self._coarse.inverse.numel() * self._coarse.inverse.element_size()
        return size + (0 if self._space is None else self._space.nbytes)

    @property
    def coarse_nullity(self) -> int:
        """Dimension of the null space found in the coarsest matrix; -1 where it is only smoothed."""
        return -1 if self._coarse is None else self._coarse.nullity

    # --- the cycle -----------------------------------------------------------------------------

    def _apply(self, r: Tensor, *, adjoint: bool) -> Tensor:
        z, unit = torch.empty_like(r), powers_near(torch.linalg.vector_norm(r, float("inf"), 0))
        factor = (unit.double() * self.scale).to(r.dtype)
        for k in range(r.shape[1]):
            column = self._run(0, r[:, k] / unit[k], None, self._idle, adjoint)
            torch.mul(column.to(r.dtype), factor[k], out=z[:, k])
        return z

    def _matrix(self, i: int, adjoint: bool) -> Stencil:
        level = self._levels[i]
        if not adjoint:
            return level.A
        if level.transposed is None:
            level.transposed = kernels.transposed(level.A)
        return level.transposed

    def _run(self, i: int, f: Tensor, dots: Tensor | None, flag: Tensor, adjoint: bool) -> Tensor:
        """One cycle of level `i` from zero; the result stays in a work vector of the level."""
        level, sweeps = self._levels[i], self.options.sweeps
        _, x, y = level.vectors
        last = i + 1 == len(self._levels)
        if last and self._coarse is not None:
            kernels.dense_apply(self._coarse.inverse, f, x, flag, transpose=adjoint)
            if dots is not None:
                krylov.store_dots(dots, f, x)
            return x
        A, M = self._matrix(i, adjoint), level.M
        kept = sweeps > 1 or last  # else x = M f is made again where it is needed
        if kept:
            torch.mul(M, f, out=x) if f.dtype == M.dtype else x.copy_(M * f)
            for _ in range(sweeps - 1):
                kernels.relax(A, M, f, x, y, None, flag)
                x, y = y, x
        if not last:
            if kept:
                kernels.residual(A, f, x, y, flag)
            else:
                kernels.residual_after_first(A, M, f, y, flag)
            below = self._levels[i + 1].vectors[0]
            kernels.restrict(A.lattice, level.weights, y, below, flag)
            e = self._run(i + 1, below, None, flag, adjoint)
            if i + 1 in self._twice:
                e = self._again(i + 1, below, e, flag, adjoint)
            if kept:
                kernels.correct(A.lattice, level.weights, e, None, x, x, flag)
            else:
                kernels.correct(A.lattice, level.weights, e, M, f, x, flag)
        for sweep in range(sweeps):
            kernels.relax(A, M, f, x, y, dots if sweep + 1 == sweeps else None, flag)
            x, y = y, x
        return x

    def _again(self, i: int, f: Tensor, x: Tensor, flag: Tensor, adjoint: bool) -> Tensor:
        """Cycle once more on the residual that the first cycle left, which replaces `f`."""
        first = x.clone()
        left = torch.empty_like(f)
        kernels.residual(self._matrix(i, adjoint), f, first, left, flag)
        f.copy_(left)
        return self._run(i, f, None, flag, adjoint).add_(first)

    # --- conjugate gradients -------------------------------------------------------------------

    def _cg(self, values: Tensor, b: Tensor, x0: Tensor | None, options: KrylovOptions) -> Outcome:
        values = values.detach().to(b.dtype)
        space, p = self._space, self._pattern
        if space is None or space.dtype != b.dtype:
            A = Stencil.empty(self._lattice, b.dtype, b.device)
            codes = tuple(
                (l.A.lattice.codes, tuple(w.axis for w in l.weights)) for l in self._levels
            )
            kind = (
                b.dtype,
                self.dtype,
                codes,
                self._coarse is None,
                self.options.sweeps,
                self._twice,
            )
            # A proxy, since this object keeps the space: what is dropped must not wait for the garbage collector.
            precondition = partial(DeviceLattice._precondition, proxy(self))
            space = ConjugateGradients(
                b[:, 0], partial(kernels.matvec_dot, A), precondition, held=A, kind=kind
            )
        kernels.load(self._lattice, p.crow, p.ccol, values, b.dtype, out=space.held)
        self._space = space if self.n <= KEPT else None
        return space.solve(b, x0=x0, options=options)

    def _precondition(self, r: Tensor, dots: Tensor, flag: Tensor) -> Tensor:
        return self._run(0, r, dots, flag, adjoint=False)


def _spread_out(finest: Survey) -> bool:
    """Whether float32 cannot tell small couplings from rounding."""
    return finest.spread > _SPREAD


def _power_scale(largest: float) -> float:
    """Power of two that brings extreme entries to about one, 1 for ordinary ones."""
    if not isfinite(largest):
        raise SolveError(Result.NONFINITE, "multigrid: NaN or infinity in the matrix")
    if largest == 0.0 or 1 / _COMFORTABLE < largest < _COMFORTABLE:
        return 1.0
    return 2.0 ** max(-1022, min(1022, -round(log2(largest))))
