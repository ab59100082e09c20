"""Smoothed aggregation over tensors, for any sparse matrix.

Vaněk, Mandel and Brezina, Computing 56, 1996. Strength, aggregation, transfer, Galerkin product,
smoothers and coarse solve are a file each beside this one. Set-up runs in the precision of the
matrix and leaves levels in that of the options.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from torch_sla.errors import ArgumentError, DTypeError
from torch_sla.linalg.kernels import krylov
from torch_sla.linalg.kernels.arguments import expect_shape, plain
from torch_sla.linalg.kernels.rows import Rows, product
from torch_sla.linalg.precond.multigrid.device.aggregate import aggregate
from torch_sla.linalg.precond.multigrid.device.base import DeviceHierarchy
from torch_sla.linalg.precond.multigrid.device.blocks import (
    BlockRows,
    Positions,
    dense,
    flatten,
    full_rows,
    grouped,
    multiply,
    transpose,
)
from torch_sla.linalg.precond.multigrid.device.cg import KEPT, ConjugateGradients
from torch_sla.linalg.precond.multigrid.device.coarse import coarse_inverse
from torch_sla.linalg.precond.multigrid.device.cycle import Cycle, Stage, visited_twice
from torch_sla.linalg.precond.multigrid.device.facts import Facts, power_scale
from torch_sla.linalg.precond.multigrid.device.lost import without_lost
from torch_sla.linalg.precond.multigrid.device.recorded import Recorded
from torch_sla.linalg.precond.multigrid.device.smoothers import Smoother, make_smoother
from torch_sla.linalg.precond.multigrid.device.strength import (
    couplings,
    own_sizes,
    refuse_holes,
    strong_graph,
)
from torch_sla.linalg.precond.multigrid.device.tied import tied_groups
from torch_sla.linalg.precond.multigrid.device.transfer import tentative
from torch_sla.linalg.precond.multigrid.levels import (
    Level,
    default_strength,
    node_size,
    scalar_rows,
)

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.methods.outcome import KrylovOptions, Outcome
    from torch_sla.linalg.precond.multigrid.device.tied import Groups
    from torch_sla.linalg.precond.multigrid.options import AMG
    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["DeviceAggregation"]

_SPREAD = 1e4  # of the diagonal, above which float32 rounds small couplings away
# Stiffness of what holds a part, beside its own, below which float32 rounds too much of it away.
_HELD = 1e-5
_REVISITED = 0.4  # share of the unknowns above below which a W cycle visits a level twice
_SMALL = 1 / 20  # of all unknowns, up to which two levels are visited twice beside jumps
_STALLED = 0.8  # of the rows of a level, which a coarser one must stay below
_DENSE = 2048  # unknowns above which the last level is smoothed, not inverted
_COARSE_STEPS = 8
# Share of the largest eigenvalue of the last level that levels in a precision can tell from none.
_LEAST = {torch.float32: 1e-6, torch.float64: 0.0}
# Entries up to which an iteration is shorter than its launches, and is recorded.
_SHORT = 25_000_000


@dataclass(frozen=True)
class _Kept:
    """What a level keeps for new values.

    Parameters
    ----------
    strong
        uint8 ``[nnz]``: which entries smooth the transfer, see `Couplings`.
    group, count
        Its aggregates.
    P, coarse
        Positions of the prolongation and of the matrix of the next level, in blocks.
    """

    strong: Tensor
    group: Tensor
    count: int
    P: Positions | None = None
    coarse: Positions | None = None


class DeviceAggregation(DeviceHierarchy):
    """Smoothed aggregation for one matrix, on its device.

    Parameters
    ----------
    pattern
        Square scalar pattern.
    values
        ``[nnz_csr]`` slot values, float32 or float64.
    options
        See `AMG`. None of `cycle` means V, of `smoother` Chebyshev.
    near_nullspace
        ``[n, k]``; None stands for constants.
    unsymmetric
        Whether the matrix is known not to be symmetric: transfers then stay piecewise constant,
        which convection does not destabilise, the smoother is spai0 and the cycle W.

    Examples
    --------
    >>> import torch
    >>> from torch_sla.linalg.precond.multigrid.options import AMG
    >>> from torch_sla.linalg.sparse.pattern import Pattern
    >>> i = torch.arange(1000)
    >>> row, col = torch.cat([i, i[1:], i[:-1]]), torch.cat([i, i[:-1], i[1:]])
    >>> one = torch.ones(999, dtype=torch.float64)
    >>> values = torch.cat([2 * torch.ones(1000, dtype=torch.float64), -one, -one])
    >>> pattern = Pattern.from_coo(row, col, (1000, 1000))
    >>> hierarchy = DeviceAggregation(pattern, pattern.coalesce(values), AMG(), None)
    >>> len(hierarchy.levels)
    3
    """

    method = "smoothed aggregation"

    def __init__(
        self,
        pattern: Pattern,
        values: Tensor,
        options: AMG,
        near_nullspace: Tensor | None,
        *,
        unsymmetric: bool = False,
    ) -> None:
        super().__init__(scalar_rows(pattern), values.device, options)
        if near_nullspace is not None and (
            near_nullspace.ndim != 2 or near_nullspace.shape[0] != self.n
        ):
            raise ArgumentError(
                f"`near_nullspace` must be [{self.n}, k], got {list(near_nullspace.shape)}"
            )
        self._pattern = pattern
        self._vectors = near_nullspace
        self._unsymmetric = unsymmetric
        self._edge = _edge(options.block, near_nullspace, self.n)
        # A polynomial made for real spectra amplifies what convection turns, and piecewise constant
        # transfers need the second visit.
        self._smoother = options.smoother or ("spai0" if unsymmetric else "chebyshev")
        self._visits = options.cycle or ("W" if unsymmetric else None)
        self._kept: list[_Kept] = []
        values = self._checked(values)
        facts = Facts.of(pattern, values)
        wide = facts.spread > _SPREAD
        self.dtype = getattr(torch, options.dtype or ("float64" if wide else "float32"))
        self._make(values, facts)

    # --- set-up ----------------------------------------------------------------------------------

    def _checked(self, values: Tensor) -> Tensor:
        expect_shape(values, "values", (self._pattern.nnz_csr,))
        if values.dtype not in (torch.float32, torch.float64):
            raise DTypeError(
                f"`values` must be float32 or float64, got {values.dtype}; multigrid is for real matrices"
            )
        return plain(values)

    def _make(self, values: Tensor, facts: Facts) -> None:
        """Build all levels, once more in double precision where single rounds away what holds a part of the matrix."""
        held = self._set_up(values, facts)
        if self.options.dtype is None and self.dtype is torch.float32 and held < _HELD:
            self.dtype = torch.float64
            self._set_up(values, facts)

    def _set_up(self, values: Tensor, facts: Facts) -> float:
        """Build all levels, with aggregates found before; return by how little a part is held, see `without_lost`."""
        options, longest, held = self.options, facts.longest, 1.0
        scale = power_scale(facts.largest, values.dtype)
        if scale != 1.0 or values.dtype is self.dtype:  # levels never share the caller's memory
            values = values * scale
        where = (self._pattern.crow, self._pattern.ccol)
        A = grouped(*where, values, self._edge, longest)
        # The first matrix stays on the pattern of the caller, whose blocks may have gaps.
        first = Rows(*where, values.to(self.dtype), self.n, longest)
        del values
        vectors = self._vectors
        if vectors is not None:
            vectors = plain(vectors, A.values.dtype).reshape(A.n_rows, self._edge, -1)
        stages: list[Stage] = []
        refresh = bool(self._kept)
        if refresh and facts.holes:  # couplings that are known are not looked at again
            refuse_holes(A)
        damping = options.damping
        if damping is None:
            damping = 0.0 if self._unsymmetric else 4.0 / 3.0
        while True:
            edge, level = A.values.shape[1], len(stages)
            flat = flatten(A, self.dtype) if level else first
            if flat.n_rows <= options.coarse_size or level + 1 == options.max_levels:
                break
            kept = self._kept[level] if level < len(self._kept) else None
            found = couplings(A, self._theta(edge), None if kept is None else kept.strong)
            tied = tied_groups(A.crow, A.ccol, A.values, found.own) if found.tied else None
            smoother, radius = self._smoother_of(A, flat, tied, options.sweeps)
            if refresh and kept is None:
                break
            S, smoothing = strong_graph(A, found, damping / radius)
            if kept is None:
                group, count = aggregate(S)
                if not count or count > _STALLED * A.n_rows:
                    break
                kept = _Kept(found.keep, group.to(A.ccol.dtype), count)
            T, vectors = tentative(vectors, kept.group, kept.count, edge, A.values)
            P = multiply(smoothing, T, kept.P) if damping else T
            del S, smoothing, found
            R = transpose(P)
            coarse = multiply(R, multiply(A, P), kept.coarse)
            coarse, least = without_lost(coarse, R, A, T, level, self.dtype)
            held = min(held, least)
            del T
            if not refresh:
                self._kept.append(replace(kept, P=P.where, coarse=coarse.where))
            transfers = flatten(P, self.dtype), flatten(R, self.dtype)
            stages.append(Stage(flat, smoother, edge, *transfers))
            A = coarse
        return min(held, self._finish(A, flat, stages, scale, facts.spread))

    def _theta(self, edge: int) -> float:
        """Strength of a coupling above which it is strong."""
        theta = self.options.strength
        return default_strength(edge) if theta is None else theta

    def _smoother_of(
        self, A: BlockRows, flat: Rows, tied: Groups | None, steps: int
    ) -> tuple[Smoother, float]:
        return make_smoother(self._smoother, steps, flat, tied, A, unsymmetric=self._unsymmetric)

    def _finish(
        self, A: BlockRows, flat: Rows, stages: list[Stage], scale: float, spread: float
    ) -> float:
        """Invert the last level, or smooth it where it is too large for that; return how far it is from singular."""
        inverse, nullity, pivot = None, -1, 1.0
        smoother = Smoother(flat.values.new_empty(0), ())
        if flat.n_rows <= max(self.options.coarse_size, _DENSE if stages else 0):
            exact = dense(flatten(A, torch.float64))
            found = coarse_inverse(exact, torch.float64, exact.device, _LEAST[self.dtype])
            inverse, nullity = full_rows(found.inverse), found.nullity
            pivot = 1.0 if nullity else found.pivot
        else:
            tied = tied_groups(A.crow, A.ccol, A.values, own_sizes(A))
            smoother, _ = self._smoother_of(A, flat, tied, _COARSE_STEPS)
        stages.append(Stage(flat, smoother, A.values.shape[1]))
        unknowns = [stage.A.n_rows for stage in stages]
        twice = visited_twice(unknowns, self._visits, spread, small=_SMALL, share=_REVISITED)
        self._forward, self._nullity = Cycle(tuple(stages), inverse, scale, twice), nullity
        self._backward: Cycle | None = None
        # Graphs read the levels where they are, so new levels need new graphs.
        self._recorded: dict[bool, Recorded] = {}
        self._space: tuple[Tensor, ConjugateGradients] | None = None
        return pivot

    def _update(self, values: Tensor) -> None:
        values = self._checked(values)
        self._make(values, Facts.of(self._pattern, values))

    # --- sizes -----------------------------------------------------------------------------------

    @property
    def levels(self) -> list[Level]:
        """Sizes of the levels, finest first."""
        return [Level(s.A.n_rows, s.A.nnz, s.edge) for s in self._forward.stages]

    @property
    def nbytes(self) -> int:
        """Bytes of the levels; the pattern it was built from is not counted."""
        held: list[Tensor] = [t for kept in self._kept for t in (kept.strong, kept.group)]
        for i, s in enumerate(self._forward.stages):
            held += s.smoother.tensors
            for rows in (s.A, s.P, s.R):
                if rows is not None:
                    held.append(rows.values)
                    held += [rows.crow, rows.ccol] if i or rows is not s.A else []
        if self._forward.inverse is not None:
            held += [self._forward.inverse.values, self._forward.inverse.ccol]
        return sum(t.numel() * t.element_size() for t in held)

    @property
    def coarse_nullity(self) -> int:
        """Dimension of the null space found in the coarsest matrix; -1 where it is only smoothed."""
        return self._nullity

    # --- application -----------------------------------------------------------------------------

    def _apply(self, r: Tensor, *, adjoint: bool) -> Tensor:
        if adjoint not in self._recorded:
            self._recorded[adjoint] = Recorded(self._one(adjoint), largest=KEPT)
        return self._recorded[adjoint](r)

    def _one(self, adjoint: bool) -> Cycle:
        if not adjoint:
            return self._forward
        if self._backward is None:
            self._backward = self._forward.adjoint()
        return self._backward

    def _cg(self, values: Tensor, b: Tensor, x0: Tensor | None, options: KrylovOptions) -> Outcome:
        values = plain(values)
        if (
            self._space is None
            or not _same(self._space[0], values)
            or self._space[1].dtype != b.dtype
        ):
            A = replace(self._forward.stages[0].A, values=values)
            self._space = values, _around(A, self._forward, b)
        space = self._space[1]
        if self.n > KEPT:
            self._space = None
        return space.solve(b, x0=x0, options=options)


def _around(A: Rows, cycle: Cycle, b: Tensor) -> ConjugateGradients:
    """Make conjugate gradients for vectors like the columns of `b`."""
    z = torch.empty_like(b[:, 0])

    def matvec(p: Tensor, q: Tensor, dots: Tensor, flag: Tensor) -> None:
        del flag
        product(A, p.unsqueeze(1), q.unsqueeze(1))
        krylov.store_dots(dots, p, q)

    def precondition(r: Tensor, dots: Tensor, flag: Tensor) -> Tensor:
        del flag
        cycle(r.unsqueeze(1), z.unsqueeze(1))
        krylov.store_dots(dots, r, z)
        return z

    # A graph keeps what a cycle makes on its way, for good, and each solve of a large system makes its own.
    largest = KEPT if A.nnz <= _SHORT else 0
    return ConjugateGradients(z, matvec, precondition, held=A, largest=largest)


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are one place in memory."""
    return a.data_ptr() == b.data_ptr() and a.shape == b.shape and a.dtype == b.dtype


def _edge(wanted: int | None, vectors: Tensor | None, n: int) -> int:
    """Edge of the blocks of unknowns: asked for, or that of rigid-body modes."""
    if wanted is not None:
        if n % wanted:
            raise ArgumentError(f"`block` is {wanted}, which does not divide {n} unknowns")
        return wanted
    edge = node_size(vectors)
    return edge if n % edge == 0 else 1
