"""Preconditioners by fields: block diagonal, block triangular, and Schur complements of saddle points.

Elman, Silvester and Wathen, Finite Elements and Fast Iterative Solvers, 2nd ed., chapters 3 and 4;
Benzi, Golub and Liesen, Acta Numerica 14, 2005, section 10.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.linalg.kernels import sparse as kernels
from torch_sla.linalg.precond.base import Preconditioner, make_preconditioner
from torch_sla.linalg.sparse.pattern import Pattern
from torch_sla.linalg.sparse.structure import Structure, detect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch_sla.linalg.sparse.tensor import SparseTensor

__all__ = ["FieldSplit", "FieldSplitPreconditioner", "Schur"]

_INDICES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


@dataclass(frozen=True, eq=False)
class FieldSplit:
    """Precondition each field on its own, and couple them by one sweep or not at all.

    Parameters
    ----------
    fields
        Index tensors ``[n_i]`` that together hold every unknown once. None takes two: unknowns whose
        diagonal entry is positive, then the others (the multipliers of a saddle point).
    by
        Name or options for each field, or one for all.
    coupling
        ``"diagonal"``, or ``"lower"``: each field sees what the ones before it did, which is not
        symmetric and so for `gmres` and `bicgstab`.

    Examples
    --------
    >>> import torch
    >>> from torch_sla.linalg import SparseTensor
    >>> A = SparseTensor.from_dense(torch.tensor([[2.0, 1.0], [0.0, 4.0]], dtype=torch.float64))
    >>> fields = (torch.tensor([0]), torch.tensor([1]))
    >>> b = torch.tensor([3.0, 4.0], dtype=torch.float64)
    >>> x = A.solve(b, method="gmres", preconditioner=FieldSplit(fields, by="jacobi"))
    >>> x.round(decimals=6).tolist()
    [1.0, 1.0]
    """

    fields: tuple[Tensor, ...] | None = None
    by: Any = "multigrid"
    coupling: Literal["diagonal", "lower"] = "diagonal"

    def __post_init__(self) -> None:
        if self.coupling not in ("diagonal", "lower"):
            raise ArgumentError(
                f"`coupling` must be 'diagonal' or 'lower', got {self.coupling!r}; `Schur` couples a "
                "saddle point"
            )

    def build(
        self,
        pattern: Pattern,
        values: Tensor,
        structure: Structure,  # noqa: ARG002
    ) -> FieldSplitPreconditioner:
        """Make it for a square scalar matrix."""
        fields = _fields(self.fields, pattern, values)
        blocks = _Blocks(pattern, values, fields)
        wanted = self.by if isinstance(self.by, (tuple, list)) else (self.by,) * len(fields)
        if len(wanted) != len(fields):
            raise ArgumentError(f"`by` has {len(wanted)} entries for {len(fields)} fields")
        inverses = [_inverse(w, *blocks.matrix(i, i), f"field {i}") for i, w in enumerate(wanted)]
        return FieldSplitPreconditioner(blocks, inverses, lower=self.coupling == "lower")


@dataclass(frozen=True, eq=False)
class Schur:
    """Precondition a saddle point ``[[A, Bᵀ], [B, -C]]`` by ``A`` and its Schur complement.

    The complement is approximated by ``S = C + B diag(A)⁻¹ Bᵀ``, which suits constraints on
    displacements and fluxes; for Stokes give the pressure mass matrix over the viscosity, with which
    iterations do not depend on the mesh.

    Parameters
    ----------
    fields
        Primal unknowns and multipliers; None as for `FieldSplit`.
    primal, dual
        Names or options of the preconditioners for ``A`` and for ``S``.
    complement
        ``S`` as a positive definite `SparseTensor`; None makes the one above.
    coupling
        ``"diagonal"`` is positive definite and so for `minres` as well; ``"lower"`` takes about half
        the iterations of `gmres`.
    """

    fields: tuple[Tensor, ...] | None = None
    primal: Any = "multigrid"
    dual: Any = "multigrid"
    complement: SparseTensor | None = None
    coupling: Literal["diagonal", "lower"] = "diagonal"

    def __post_init__(self) -> None:
        if self.coupling not in ("diagonal", "lower"):
            raise ArgumentError(f"`coupling` must be 'diagonal' or 'lower', got {self.coupling!r}")

    def build(
        self,
        pattern: Pattern,
        values: Tensor,
        structure: Structure,  # noqa: ARG002
    ) -> FieldSplitPreconditioner:
        """Make it for a square scalar matrix."""
        fields = _fields(self.fields, pattern, values)
        if len(fields) != 2:
            raise ArgumentError(f"a saddle point has 2 fields, got {len(fields)}")
        blocks = _Blocks(pattern, values, fields)
        first = _inverse(self.primal, *blocks.matrix(0, 0), "the primal field")
        if self.complement is None:
            dual, entries = _complement(blocks)
        else:
            dual, entries = self._given_complement(len(fields[1]), values)
        second = _inverse(self.dual, dual, entries, "the Schur complement")
        lower = self.coupling == "lower"
        # The complement in the matrix is -S; with a positive block the diagonal one is definite.
        return FieldSplitPreconditioner(
            blocks, [first, second], lower=lower, signs=(1.0, -1.0 if lower else 1.0)
        )

    def _given_complement(self, n: int, values: Tensor) -> tuple[Pattern, Tensor]:
        S = self.complement
        shape = getattr(S, "flat_shape", None)
        if S is None or shape is None or S.is_batched or tuple(shape) != (n, n):
            got = type(S).__name__ if S is None or shape is None else list(S.shape)
            raise ArgumentError(
                f"`complement` must have {n} rows and columns and no batch, as a SparseTensor, got {got}"
            )
        pattern, entries = S.flat_slots()
        if entries.is_complex() and not values.is_complex():
            raise ArgumentError("`complement` is complex, and the system is real")
        return pattern, entries.detach().to(values.dtype)


class FieldSplitPreconditioner:
    """``B`` of `FieldSplit` and `Schur`: a block solve for each field, forward or side by side."""

    def __init__(
        self,
        blocks: _Blocks,
        inverses: Sequence[Preconditioner],
        *,
        lower: bool,
        signs: Sequence[float] = (),
    ) -> None:
        self._fields, self._inverses, self._lower = blocks.fields, list(inverses), lower
        self._signs = list(signs) or [1.0] * len(self._inverses)
        count = len(self._inverses)
        self._below = {(i, j): blocks.matrix(i, j) for i in range(count) for j in range(i) if lower}

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        coupling = sum(v.numel() * (v.element_size() + 4) for _, v in self._below.values())
        return sum(m.nbytes for m in self._inverses) + coupling

    def apply(self, r: Tensor) -> Tensor:
        """Return ``B r`` for ``r`` ``[n, K]``."""
        z = torch.empty_like(r)
        done: list[Tensor] = []
        for i, (rows, inverse) in enumerate(zip(self._fields, self._inverses, strict=True)):
            part = r[rows]
            for j in range(i if self._lower else 0):
                p, v = self._below[i, j]
                part = part - kernels.spmm(p.crow, p.ccol, v, done[j])
            done.append(self._signs[i] * inverse.apply(part))
            z[rows] = done[-1]
        return z

    def apply_adjoint(self, r: Tensor) -> Tensor:
        """Return ``Bᴴ r``."""
        z = torch.empty_like(r)
        done: dict[int, Tensor] = {}
        count = len(self._inverses)
        for i in reversed(range(count)):
            part = r[self._fields[i]]
            for k in range(i + 1, count if self._lower else 0):
                p, v = self._below[k, i]
                turned = p.transpose_values(v).conj().resolve_conj()
                other = p.transposed
                part = part - kernels.spmm(other.crow, other.ccol, turned, done[k])
            done[i] = self._signs[i] * self._inverses[i].apply_adjoint(part)
            z[self._fields[i]] = done[i]
        return z


class _Blocks:
    """A matrix cut along its fields."""

    def __init__(self, pattern: Pattern, values: Tensor, fields: tuple[Tensor, ...]) -> None:
        n = pattern.shape[0]
        self.fields = fields
        self._owner = torch.full((n,), -1, dtype=torch.long, device=values.device)
        self._place = torch.empty(n, dtype=torch.long, device=values.device)
        for i, rows in enumerate(fields):
            self._owner[rows] = i
            self._place[rows] = torch.arange(len(rows), device=values.device)
        self._row, self._col = pattern.csr_row.long(), pattern.ccol.long()
        self._values = values

    def matrix(self, i: int, j: int) -> tuple[Pattern, Tensor]:
        """Pattern and slot values of the block of fields i and j."""
        inside = (self._owner[self._row] == i) & (self._owner[self._col] == j)
        row, col = self._place[self._row[inside]], self._place[self._col[inside]]
        shape = (len(self.fields[i]), len(self.fields[j]))
        pattern = Pattern.from_coo(row, col, shape)
        return pattern.slots, pattern.coalesce(self._values[inside])


def _fields(
    given: tuple[Tensor, ...] | None, pattern: Pattern, values: Tensor
) -> tuple[Tensor, ...]:
    n = pattern.shape[0]
    if given is None:
        slots = pattern.diagonal_slots.long()
        diagonal = values[slots.clamp(min=0)].real * (slots >= 0)
        positive = diagonal > 0
        if bool(positive.all()) or not bool(positive.any()):
            raise ArgumentError(
                "the diagonal does not tell the fields apart; give `fields` as index tensors"
            )
        return positive.nonzero().squeeze(1), (~positive).nonzero().squeeze(1)
    for f in given:
        if not isinstance(f, Tensor) or f.ndim != 1 or f.dtype not in _INDICES:
            got = f"{list(f.shape)} of {f.dtype}" if isinstance(f, Tensor) else type(f).__name__
            raise ArgumentError(f"`fields` must be tensors of indices, [n_i] each, got {got}")
    fields = tuple(f.to(values.device, torch.long) for f in given)
    together = torch.cat(fields) if fields else torch.empty(0, dtype=torch.long)
    expected = torch.arange(n, device=values.device)
    if not torch.equal(together.sort().values, expected):
        raise ArgumentError(
            f"`fields` must hold each of the {n} unknowns once; they hold {together.numel()} indices, "
            f"{together.unique().numel()} of them different"
        )
    return fields


def _inverse(wanted: Any, pattern: Pattern, values: Tensor, what: str) -> Preconditioner:
    made = make_preconditioner(wanted, pattern, values, detect(pattern, values))
    if made is None:
        raise ArgumentError(f"{what} needs a preconditioner, got {wanted!r}")
    return made


def _complement(blocks: _Blocks) -> tuple[Pattern, Tensor]:
    """``C + B diag(A)⁻¹ Bᵀ`` with the signs of the matrix turned."""
    from torch_sla.linalg.sparse.tensor import SparseTensor as Sparse

    p, a = blocks.matrix(0, 0)
    slots = p.diagonal_slots.long()
    diagonal = a[slots.clamp(min=0)] * (slots >= 0)
    if bool((diagonal == 0).any()):
        raise ArgumentError(
            "the Schur complement divides by the diagonal of the primal field, which has zeros; give "
            "`complement`"
        )
    down, b = blocks.matrix(1, 0)
    across, bt = blocks.matrix(0, 1)
    left = Sparse.from_pattern(down, b / diagonal[down.ccol.long()])
    product = left @ Sparse.from_pattern(across, bt)
    corner, c = blocks.matrix(1, 1)
    if corner.nnz_csr:
        product = product - Sparse.from_pattern(corner, c)
    pattern, values = product.flat_slots()
    return pattern, values.detach()
