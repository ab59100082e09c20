"""Saddle points in parts: a preconditioner by fields, each block of it a matrix in parts of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, Result, SolveError
from torch_sla.linalg.distributed.layout import Layout
from torch_sla.linalg.distributed.precond.base import make, name_of
from torch_sla.linalg.distributed.precond.galerkin import galerkin
from torch_sla.linalg.distributed.sharding import Sharding
from torch_sla.linalg.kernels.sparse import expand_rows
from torch_sla.linalg.sparse.transforms import outside_transforms

if TYPE_CHECKING:
    from torch_sla.linalg.distributed.precond.base import PartPreconditioner

__all__ = ["PartSchur", "SaddlePoint"]


@dataclass(frozen=True, eq=False)
class PartSchur:
    """Precondition a saddle point ``[[A, Bᵀ], [B, -C]]`` by ``A`` and its Schur complement, as `Schur` does.

    It is positive definite where its two parts are, as `minres` demands.

    Parameters
    ----------
    multipliers
        Mask of the multipliers among the unknowns held here ``[n_held]``; None: those without a positive diagonal
        entry.
    primal, dual
        Names or options of the preconditioners for ``A`` and for the complement.
    complement
        Slot values ``[nnz_csr]``, of which the block of the multipliers stands for the complement: for a flow, the mass
        of pressures over the viscosity, with which iterations do not depend on the mesh. None: ``C + B diag(A)⁻¹ Bᵀ``.
    inertia
        Slot values of a summand ``D`` of ``A`` that is local, for a flow in time the mass over the length of a step;
        `complement` is that of the rest. The inverses of it and of ``B diag(D)⁻¹ Bᵀ``, each by a preconditioner, are
        added, so that iterations do not depend on the step either.
    renewable
        Whether what other values can use is kept.

    Notes
    -----
    Elman, Silvester and Wathen, Finite Elements and Fast Iterative Solvers, 2nd ed., chapters 3 and 4. With inertia:
    Cahouet and Chabard, Int. J. Numer. Methods Fluids 8 (1988), 869-895.
    """

    name: ClassVar[str] = "schur"

    multipliers: Tensor | None = None
    primal: Any = "multigrid"
    dual: Any = "multigrid"
    complement: Tensor | None = None
    inertia: Tensor | None = None
    renewable: bool = False

    def __post_init__(self) -> None:
        for what in ("primal", "dual"):
            if name_of(getattr(self, what)) in ("none", "auto"):
                raise ArgumentError(
                    f"`{what}` must be a preconditioner, got {getattr(self, what)!r}"
                )
        if self.inertia is not None and self.complement is None:
            raise ArgumentError(
                "`inertia` is one summand, and `complement` must be given: that of the others"
            )

    @outside_transforms
    def build_parts(
        self, sharding: Sharding, values: Tensor, near_nullspace: Tensor | None
    ) -> SaddlePoint:
        """Make it for slot values ``[nnz_csr]``; of the near-nullspace the primal unknowns are taken."""
        mask = self.multipliers
        if mask is None:
            mask = sharding.diagonal(values).real <= 0
        elif mask.shape != (sharding.rows.n_held,) or mask.dtype is not torch.bool:
            raise ArgumentError(
                f"`multipliers` must be bool [{sharding.rows.n_held}], got {mask.dtype} {list(mask.shape)}"
            )
        blocks = _Blocks(sharding, mask)
        if not blocks.layouts[0].n or not blocks.layouts[1].n:
            raise ArgumentError(
                "a saddle point has primal unknowns and multipliers, and here are only some of one kind; give "
                "`multipliers`, or take another preconditioner"
            )
        near = near_nullspace
        near = None if near is None else near.index_select(0, blocks.fields[0])
        return SaddlePoint(blocks, values.detach(), self, near)


class SaddlePoint:
    """The block diagonal preconditioner of `PartSchur`.

    Parameters
    ----------
    blocks, values
        The matrix cut along its fields, slot values of the whole.
    options
        What is wanted.
    near
        Near-nullspace of the primal unknowns.
    like
        One of other values.

    Attributes
    ----------
    primal, dual
        What precondition the two fields.
    moved
        What is added to `dual` because of inertia; None without.
    """

    def __init__(
        self,
        blocks: _Blocks,
        values: Tensor,
        options: PartSchur,
        near: Tensor | None,
        like: SaddlePoint | None = None,
    ) -> None:
        self.blocks, self.near, self._fields = blocks, near, blocks.fields
        self._options = options
        if options.complement is None:
            complement = _complement(blocks, values)
        else:
            complement = blocks.matrix(options.complement.detach().to(values), 1, 1)
        renewable = options.renewable

        def made(wanted: Any, matrix: tuple[Sharding, Tensor], *rest: Any) -> PartPreconditioner:
            found = make(wanted, *matrix, rest[0], renewable=renewable, like=rest[1])
            if found is None:
                raise ArgumentError(f"a field needs a preconditioner, got {wanted!r}")
            return found

        first = blocks.matrix(values, 0, 0)
        self.primal: PartPreconditioner = made(
            options.primal, first, near, None if like is None else like.primal
        )
        # The positions of a complement that is made are new every time.
        kept = None if like is None or options.complement is None else like.dual
        self.dual: PartPreconditioner = made(options.dual, complement, None, kept)
        self.moved: PartPreconditioner | None = None
        if options.inertia is not None:
            local = _complement(blocks, values, options.inertia.detach().to(values))
            # Its positions are those of the other one, since the fields are.
            self.moved = made("multigrid", local, None, None if like is None else like.moved)

    @outside_transforms
    def renewed(self, values: Tensor, wanted: PartSchur | None = None) -> SaddlePoint:
        """Return another for other slot values; the cut into fields stays, and so does what its parts can keep."""
        options = self._options if wanted is None else wanted
        return SaddlePoint(self.blocks, values.detach(), options, self.near, self)

    def apply(self, r: Tensor) -> Tensor:
        """Return ``B r`` for ``[n_held, K]``."""
        first, second = (r.index_select(0, field) for field in self._fields)
        dual = self.dual.apply(second)
        if self.moved is not None:
            dual = dual + self.moved.apply(second)
        return self._joined(r, self.primal.apply(first), dual)

    def apply_adjoint(self, r: Tensor) -> Tensor:
        """Return ``Bᴴ r``."""
        first, second = (r.index_select(0, field) for field in self._fields)
        dual = self.dual.apply_adjoint(second)
        if self.moved is not None:
            dual = dual + self.moved.apply_adjoint(second)
        return self._joined(r, self.primal.apply_adjoint(first), dual)

    def _joined(self, like: Tensor, *parts: Tensor) -> Tensor:
        z = torch.empty_like(like)
        for field, part in zip(self._fields, parts, strict=True):
            z[field] = part
        return z


class _Blocks:
    """A matrix in parts cut along two fields; each has a layout of its own, in the same parts.

    Parameters
    ----------
    sharding
        Square.
    second
        Which unknowns held here are of the second field ``[n_held]``.

    Attributes
    ----------
    fields
        The unknowns held here of each.
    layouts
        Of each.
    """

    def __init__(self, sharding: Sharding, second: Tensor) -> None:
        rows, pattern = sharding.rows, sharding.pattern
        comm, device = rows.comm, rows.device
        self.fields = [torch.nonzero(m)[:, 0] for m in (~second, second)]
        sizes = torch.zeros(2, comm.parts, dtype=torch.int64, device=device)
        for part, here in zip(comm.held, rows.slices, strict=True):
            sizes[1, part] = second[here].sum()
            sizes[0, part] = here.stop - here.start - sizes[1, part]
        self.layouts = [Layout(comm, size, device=device) for size in comm.reduce(sizes)]
        place = torch.empty(rows.n_held, dtype=torch.int64, device=device)
        for field, layout in zip(self.fields, self.layouts, strict=True):
            place[field] = layout.start + torch.arange(len(field), device=device)
        told = torch.stack([place, second.long()], 1)
        self._place, self._second = torch.cat([told, sharding.halo.fetch(told)]).unbind(1)
        self._pattern = pattern
        self._positions: dict[tuple[int, int], tuple[Tensor, Sharding]] = {}

    def matrix(self, values: Tensor, i: int, j: int) -> tuple[Sharding, Tensor]:
        """Return the block of fields i and j, positions and slot values, of slot values of the whole."""
        if (i, j) not in self._positions:
            row, col = expand_rows(self._pattern.crow).long(), self._pattern.ccol.long()
            inside = torch.nonzero((self._second[row] == i) & (self._second[col] == j))[:, 0]
            places = self._place[row[inside]], self._place[col[inside]]
            block = Sharding(self.layouts[i], self.layouts[j], *places)
            self._positions[i, j] = inside, block
        inside, block = self._positions[i, j]
        return block.slots, block.pattern.coalesce(values.index_select(0, inside))


def _complement(
    blocks: _Blocks, values: Tensor, local: Tensor | None = None
) -> tuple[Sharding, Tensor]:
    """Return ``C + B diag(A)⁻¹ Bᵀ``, with the diagonal of `local` instead of that of A where that is positive."""
    A, a = blocks.matrix(values, 0, 0)
    d = A.diagonal(a)
    if local is not None:
        own = A.diagonal(blocks.matrix(local, 0, 0)[1])
        d = torch.where(own > 0, own, d)  # where nothing has a mass, what is not local holds it
    hole = (d == 0).any().to(d.dtype)
    if float(A.rows.comm.reduce(hole, "max")) > 0:
        raise SolveError(
            Result.BREAKDOWN, "schur: a primal unknown has the diagonal zero; give `complement`"
        )
    place = A.rows.start + torch.arange(A.rows.n_held, device=A.rows.device)
    product, entries = galerkin(
        Sharding(A.rows, A.rows, place, place).slots, 1 / d, *blocks.matrix(values, 0, 1)
    )
    corner, c = blocks.matrix(values, 1, 1)
    rows = product.rows
    row = torch.cat([expand_rows(s.pattern.crow).long() for s in (product, corner)])
    col = [s.column_places[s.pattern.ccol.long()] for s in (product, corner)]
    both = Sharding(rows, rows, rows.start + row, torch.cat(col))
    return both.slots, both.pattern.coalesce(torch.cat([entries, -c]))
