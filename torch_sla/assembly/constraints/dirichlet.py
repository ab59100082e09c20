"""Prescribed values, in place on the pattern."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from torch_sla.assembly.constraints.condense import Prescribed, condense
from torch_sla.errors import ArgumentError
from torch_sla.linalg.sparse.segments import SegmentMap

if TYPE_CHECKING:
    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["DirichletConstraint", "placed_scale"]


class DirichletConstraint:
    """Prescribe the values of some dofs without changing the pattern.

    With F the free and D the prescribed dofs, the system ``K u = f``, ``u_D = g`` becomes

    ``[K_FF 0; 0 s I] u_hat = [f_F - K_FD g; s g]``.

    Here T drops the prescribed dofs. The scale s is the mean magnitude of the free diagonal, so that the prescribed
    rows fit the spectrum of the rest. It is a constant to differentiation, which is exact because ``u_D`` does not
    depend on it. Symmetry and definiteness are kept. *Where* is structure; g is a tensor that may require a
    gradient.

    Parameters
    ----------
    pattern
        Square pattern whose entries are its slots and which holds the diagonal of every prescribed dof.
    dofs
        Prescribed dofs ``[m]``, unique; their order is the order of g.

    Attributes
    ----------
    free
        Mask ``[n]``, False on prescribed dofs.
    dofs
        As given, int64.

    Raises
    ------
    ArgumentError
        If the pattern is not of that kind, or a dof is repeated or out of range.

    Examples
    --------
    >>> import torch
    >>> from torch_sla.linalg.sparse.pattern import Pattern
    >>> i = torch.tensor([0, 0, 1, 1])
    >>> pattern = Pattern.from_coo(i, torch.tensor([0, 1, 0, 1]), (2, 2))
    >>> fixed = DirichletConstraint(pattern, torch.tensor([1]))
    >>> values, load = fixed.apply(
    ...     torch.tensor([2.0, -1.0, -1.0, 2.0]), torch.zeros(2), torch.tensor([3.0])
    ... )
    >>> values, load
    (tensor([2., 0., 0., 2.]), tensor([3., 6.]))
    >>> fixed.recover(load / 2, torch.tensor([3.0]))
    tensor([1.5000, 3.0000])
    """

    def __init__(self, pattern: Pattern, dofs: Tensor) -> None:
        n = square_rows(pattern)
        device = pattern.ccol.device
        self.pattern, self.n = pattern, n
        self.dofs = _checked_dofs(dofs, n).to(device)
        self.free = torch.ones(n, dtype=torch.bool, device=device)
        self.free[self.dofs] = False
        diagonal = pattern.diagonal_slots.long()
        missing = torch.nonzero(diagonal[self.dofs] < 0)[:, 0]
        if len(missing):
            raise ArgumentError(
                f"pattern: has no diagonal entry for dof {int(self.dofs[missing[0]])}; add it to the pattern"
            )
        # Entries in prescribed columns are looked for, those in prescribed rows are known.
        prescribed = (~self.free).index_select(0, pattern.ccol)
        in_columns = torch.nonzero(prescribed)[:, 0]
        in_rows = _slots_of_rows(pattern.crow.long(), self.dofs)
        row = torch.searchsorted(pattern.crow, in_columns.to(pattern.crow.dtype), right=True) - 1
        lifting = self.free[row]
        self._lifted, row = in_columns[lifting], row[lifting]
        self._diagonal = diagonal[self.dofs]
        free_diagonal = diagonal[self.free]
        self._scaled = free_diagonal[free_diagonal >= 0]
        # Entries K_FD: their slots, which g they multiply, and the row they lift.
        number = torch.full((n,), -1, dtype=torch.int64, device=device)
        number[self.dofs] = torch.arange(len(self.dofs), device=device)
        columns = number[pattern.ccol[self._lifted].long()]
        small = pattern.ccol.dtype
        self._lift = SegmentMap(row.to(small), n)
        self._g_of_entry = SegmentMap(columns.to(small), len(self.dofs))
        removed = torch.cat([in_rows, self._lifted])
        self._prescribed = Prescribed(
            self.dofs, removed, self._lifted, self._lift, self._g_of_entry, pattern
        )

    def apply(self, values: Tensor, load: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        """Constrain a matrix and a load.

        Parameters
        ----------
        values
            Matrix values ``[*batch, nnz]`` on the pattern.
        load
            ``[*batch, n]``; batch dimensions broadcast.
        g
            Prescribed values ``[*batch, m]`` in the order of `dofs`.

        Returns
        -------
        values, load
            Of the constrained system; the values keep the batch of `values`, so that a batch of loads shares one
            matrix.
        """
        check_length("values", values, self.pattern.nnz)
        check_length("load", load, self.n)
        check_length("g", g, len(self.dofs))
        if not len(self.dofs):
            return values, load
        scale = placed_scale(values, self._scaled)
        constrained, coupling = condense(values, self._prescribed, g)
        # The values are new and nothing else has them, so the diagonal is put in place.
        constrained = constrained.index_add_(
            -1, self._diagonal, scale.expand(*values.shape[:-1], len(self.dofs))
        )
        return constrained, self._loaded(scale, coupling, load, g)

    def load(self, values: Tensor, load: Tensor, g: Tensor) -> Tensor:
        """Constrain a load alone; parameters as in `apply`."""
        check_length("values", values, self.pattern.nnz)
        check_length("load", load, self.n)
        check_length("g", g, len(self.dofs))
        if not len(self.dofs):
            return load
        scale = placed_scale(values, self._scaled)
        return self._loaded(scale, values.index_select(-1, self._lifted), load, g)

    def _loaded(self, scale: Tensor, coupling: Tensor, load: Tensor, g: Tensor) -> Tensor:
        rest = load - self._lift.sum(coupling * self._g_of_entry.gather(g))
        placed = scale * g
        batch = np.broadcast_shapes(rest.shape[:-1], placed.shape[:-1])
        whole, values = rest.expand(*batch, -1), placed.expand(*batch, -1)
        return whole.index_copy(-1, self.dofs, values.to(rest.dtype))

    def restrict(self, u: Tensor) -> Tensor:
        """Return ``u_hat`` of a field that has the values: its free dofs, zero elsewhere."""
        check_length("u", u, self.n)
        return u.index_fill(-1, self.dofs, 0.0)

    def reduce(self, residual: Tensor, out: Tensor | None = None) -> Tensor:
        """Reduce a residual or a load ``[*batch, n]`` to the unknowns: zero at prescribed dofs.

        Parameters
        ----------
        out
            Where to write it, without derivatives; made when None.
        """
        if out is None:
            return self.restrict(residual)
        return out.copy_(residual).index_fill_(-1, self.dofs, 0.0)

    def recover(self, u_hat: Tensor, g: Tensor, out: Tensor | None = None) -> Tensor:
        """Compute ``u = T u_hat + g``: `u_hat` ``[*batch, n]`` with the prescribed values put in exactly.

        Parameters
        ----------
        out
            Where to write it, without derivatives, which may be `u_hat`; made when None.
        """
        check_length("u_hat", u_hat, self.n)
        check_length("g", g, len(self.dofs))
        if out is not None:
            out = out if out is u_hat else out.copy_(u_hat)
            return out.index_copy_(-1, self.dofs, g.expand(*out.shape[:-1], -1))
        if not len(self.dofs):
            return u_hat
        batch = np.broadcast_shapes(u_hat.shape[:-1], g.shape[:-1])
        whole, values = u_hat.expand(*batch, -1), g.expand(*batch, -1)
        return whole.index_copy(-1, self.dofs, values.to(whole.dtype))

    def __repr__(self) -> str:
        return f"DirichletConstraint({len(self.dofs)} of {self.n} dofs)"


def _slots_of_rows(crow: Tensor, rows: Tensor) -> Tensor:
    """All slots of some rows, row after row."""
    first = crow[rows]
    count = crow[rows + 1] - first
    slots = (first - (count.cumsum(0) - count)).repeat_interleave(count)
    slots += torch.arange(len(slots), device=slots.device)
    return slots


def square_rows(pattern: Pattern) -> int:
    """Return the rows of a square scalar pattern whose entries are its slots."""
    n = pattern.shape[0]
    if pattern.shape[1] != n or pattern.block or pattern.entries is not None:
        raise ArgumentError(
            "pattern: needs a square scalar pattern without duplicate entries; coalesce the matrix first "
            f"(got {pattern!r})"
        )
    return n


def check_length(name: str, value: Tensor, length: int) -> None:
    """Raise where vectors ``[*batch, length]`` are of another length."""
    if value.ndim < 1 or value.shape[-1] != length:
        raise ArgumentError(
            f"{name}: got shape {tuple(value.shape)}; the last dimension must be {length}"
        )


def placed_scale(values: Tensor, diagonal: Tensor) -> Tensor:
    """Mean magnitude of some diagonal slots ``[*batch, 1]``, a constant; 1 where that is zero."""
    if not len(diagonal):
        return torch.ones((*values.shape[:-1], 1), dtype=values.dtype, device=values.device)
    magnitude = values.detach().index_select(-1, diagonal).abs().mean(-1, keepdim=True)
    return torch.where(magnitude > 0, magnitude, torch.ones_like(magnitude)).to(values.dtype)


def _checked_dofs(dofs: Tensor, n: int) -> Tensor:
    if dofs.ndim != 1 or dofs.is_floating_point() or dofs.is_complex() or dofs.dtype == torch.bool:
        raise ArgumentError(
            f"dofs: got {dofs.dtype} of shape {tuple(dofs.shape)}; expected integer indices [m]"
        )
    dofs = dofs.long()
    if len(dofs):
        if int(dofs.min()) < 0 or int(dofs.max()) >= n:
            raise ArgumentError(
                f"dofs: got indices from {int(dofs.min())} to {int(dofs.max())}; there are {n} dofs"
            )
        distinct, count = dofs.unique(return_counts=True)
        if len(distinct) != len(dofs):
            raise ArgumentError(
                f"dofs: dof {int(distinct[count > 1][0])} is prescribed twice; merge the conditions"
            )
    return dofs
