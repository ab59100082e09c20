"""General linear constraints by elimination."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from torch_sla.assembly.constraints.dirichlet import check_length, placed_scale, square_rows
from torch_sla.errors import ArgumentError
from torch_sla.linalg.sparse.pattern import Pattern
from torch_sla.linalg.sparse.segments import SegmentMap

if TYPE_CHECKING:
    import scipy.sparse as sp

    from torch_sla.assembly.constraints.equations import Equations

__all__ = ["LinearConstraint", "slack"]


class LinearConstraint:
    """Impose linear equations between dofs: Dirichlet in any frame, periodic, multipoint, all at once.

    The equations are solved for as many dofs, ``u = T u_hat + G c``; the others keep their numbers and their values,
    so ``u_hat`` has the length of u. With ``K u = f`` the constrained system is

    ``(T^H K T + s D) u_hat = T^H (f - K G c)``

    where D marks the dofs solved for, which are decoupled by a diagonal of the mean magnitude s of the others'.
    Symmetry and definiteness are kept. The equations are structure; c is a tensor that may require a gradient. For
    prescribed values alone `DirichletConstraint` does the same in place, faster.

    Parameters
    ----------
    pattern
        Square scalar pattern whose entries are its slots, with its whole diagonal.
    equations
        See `prescribe`, `along`, `periodic`, `combine`; join them with ``&``.

    Attributes
    ----------
    pattern
        Pattern of the constrained matrix.
    free
        Mask ``[n]`` of the dofs that remain unknown.

    Raises
    ------
    ArgumentError
        If the pattern is not of that kind, or a dof is out of range.

    Examples
    --------
    A ring of three springs, ``u_3 = u_0`` and ``u_1 = c``:

    >>> from torch_sla.assembly.constraints import combine, prescribe
    >>> from torch_sla.linalg import SparseTensor
    >>> i = torch.tensor([0, 0, 1, 1, 1, 2, 2, 2, 3, 3])
    >>> pattern = Pattern.from_coo(i, torch.tensor([0, 1, 0, 1, 2, 1, 2, 3, 2, 3]), (4, 4))
    >>> K = torch.tensor([1.0, -1, -1, 2, -1, -1, 2, -1, -1, 1], dtype=torch.float64)
    >>> ring = combine([(torch.tensor([3]), 1.0), (torch.tensor([0]), -1.0)])
    >>> fixed = LinearConstraint(pattern, ring & prescribe(torch.tensor([1])))
    >>> f, c = torch.tensor([1.0, 0, 1, 0]).double(), torch.tensor([0.0, 3.0]).double()
    >>> values, load = fixed.apply(K, f, c)
    >>> u_hat = SparseTensor.from_pattern(fixed.pattern, values).solve(load)
    >>> fixed.recover(u_hat, c).round(decimals=6)
    tensor([4., 3., 4., 4.], dtype=torch.float64)
    """

    def __init__(self, pattern: Pattern, equations: Equations) -> None:
        from torch_sla.assembly.constraints.eliminate import eliminate

        n = square_rows(pattern)
        dof = equations.dof
        if len(dof) and (int(dof.min()) < 0 or int(dof.max()) >= n):
            raise ArgumentError(
                f"equations: name dofs from {int(dof.min())} to {int(dof.max())}; there are {n} dofs"
            )
        self.n, self.equations = n, equations
        self._given = pattern
        device = pattern.device
        coefficient = equations.coefficient.detach().cpu()
        wide = torch.complex128 if coefficient.is_complex() else torch.float64
        solved = eliminate(
            equations.row.cpu().numpy(),
            dof.cpu().numpy(),
            coefficient.to(wide).numpy(),
            equations.count,
            n,
        )
        self.free = torch.from_numpy(~solved.slaves).to(device)
        self._slaves = torch.nonzero(~self.free)[:, 0]
        self._T = _Rows(solved.T, device)
        self._G = _Rows(solved.G, device)
        self._dependent = _Rows(solved.dependent, device)
        self._build(pattern)

    def _build(self, given: Pattern) -> None:
        """Find which products ``conj(t_p) k_e t_q`` make up each entry of ``T^H K T``."""
        T, device = self._T, given.device
        row, col = given.csr_row.long(), given.ccol.long()
        # Most entries belong to two dofs that no equation names: they stay what they are.
        plain = self.free & (T.uses == 1)
        stays = plain[row] & plain[col]
        kept, made = torch.nonzero(stays)[:, 0], torch.nonzero(~stays)[:, 0]
        left, right = T.length[row[made]], T.length[col[made]]
        pairs = left * right
        which = torch.arange(len(made), device=device).repeat_interleave(pairs)
        within = torch.arange(len(which), device=device) - (pairs.cumsum(0) - pairs)[which]
        entry = made[which]
        p = T.start[row[entry]] + torch.div(within, right[which], rounding_mode="floor")
        q = T.start[col[entry]] + within % right[which]
        slaves = self._slaves
        full = Pattern.from_coo(
            torch.cat([row[kept], T.col[p], slaves]),
            torch.cat([col[kept], T.col[q], slaves]),
            (self.n, self.n),
        )
        slots = (
            torch.arange(full.nnz, device=device) if full.entries is None else full.entries.target
        )
        self.pattern = full.slots
        kept_slots, targets, self._decoupled = (
            part.long() for part in slots.split([len(kept), len(entry), len(slaves)])
        )
        small = torch.int32 if max(len(row), self.pattern.nnz_csr) < 2**31 else torch.int64
        self._kept, self._kept_slots = kept.to(small), kept_slots.to(small)
        self._entry = SegmentMap(entry.to(small), len(row))
        self._target = SegmentMap(targets.to(small), self.pattern.nnz_csr)
        self._weight = T.value[p].conj() * T.value[q]
        diagonal = given.diagonal_slots.long()[self.free]
        self._scaled = diagonal[diagonal >= 0]
        # K G c: only columns that a right-hand side reaches.
        reached = self._G.length > 0
        lifted = torch.nonzero(reached[col])[:, 0]
        self._lifted = lifted
        self._lift = SegmentMap(given.csr_row[lifted].to(given.ccol.dtype), self.n)
        self._column = SegmentMap(given.ccol[lifted], self.n)

    def apply(self, values: Tensor, load: Tensor, g: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Constrain a matrix and a load.

        Parameters
        ----------
        values
            Matrix values ``[*batch, nnz]`` on the pattern given.
        load
            ``[*batch, n]``; batch dimensions broadcast.
        g
            Right-hand sides ``[*batch, count]`` of the equations; None means zero.

        Returns
        -------
        values, load
            Of the constrained system, the values on `pattern`.

        Raises
        ------
        ArgumentError
            If a length is wrong, or redundant equations contradict each other.
        """
        check_length("values", values, self._given.nnz)
        weight = self._weight.to(_wider(values, self._weight))
        constrained = self._target.sum(self._entry.gather(values) * weight)
        unchanged = values.index_select(-1, self._kept).to(constrained.dtype)
        constrained = constrained.index_add(-1, self._kept_slots, unchanged)
        scale = placed_scale(values, self._scaled)
        constrained = constrained.index_add(
            -1,
            self._decoupled,
            scale.to(constrained.dtype).expand(*values.shape[:-1], len(self._slaves)),
        )
        return constrained, self.load(values, load, g)

    def load(self, values: Tensor, load: Tensor, g: Tensor | None = None) -> Tensor:
        """Constrain a load alone; parameters as in `apply`."""
        check_length("values", values, self._given.nnz)
        check_length("load", load, self.n)
        if g is not None:
            coupling = values.index_select(-1, self._lifted)
            load = load - self._lift.sum(coupling * self._column.gather(self.shift(g)))
        return self._T.adjoint(load)

    def shift(self, g: Tensor) -> Tensor:
        """Return what the right-hand sides add, ``G c``: ``[*batch, n]``."""
        gap = self.gap(g)
        if gap:
            raise ArgumentError(
                f"g: redundant equations contradict each other by {gap:.3g}; give right-hand sides that agree"
            )
        return self._G.times(g)

    def gap(self, g: Tensor) -> float:
        """Return by how much redundant equations contradict each other; 0 where only rounding tells them apart."""
        check_length("g", g, self.equations.count)
        if not len(self._dependent.col):
            return 0.0
        given = g.detach()
        gap = self._dependent.times(given).abs().amax()
        return float(gap) if bool(gap > slack(g.dtype) * given.abs().amax()) else 0.0

    def recover(self, u_hat: Tensor, g: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        """Compute ``u = T u_hat + G c``, ``[*batch, n]``; into `out`, without derivatives, where it is given."""
        check_length("u_hat", u_hat, self.n)
        u = self._T.times(u_hat)
        u = u if g is None else u + self.shift(g)
        return u if out is None else out.copy_(u)

    def restrict(self, u: Tensor) -> Tensor:
        """Return ``u_hat`` of a field that satisfies the equations: its free dofs, zero elsewhere."""
        check_length("u", u, self.n)
        return torch.where(self.free, u, torch.zeros((), dtype=u.dtype, device=u.device))

    def reduce(self, residual: Tensor, out: Tensor | None = None) -> Tensor:
        """Reduce a residual or a load ``[*batch, n]`` to the unknowns: ``T^H r``, zero at dofs solved for."""
        check_length("residual", residual, self.n)
        reduced = self._T.adjoint(residual)
        return reduced if out is None else out.copy_(reduced)

    def __repr__(self) -> str:
        return f"LinearConstraint({self.equations.count} equations, {len(self._slaves)} of {self.n} dofs)"


class _Rows:
    """A small constant sparse matrix, applied to vectors and, adjoint, to loads."""

    def __init__(self, matrix: sp.csr_array, device: torch.device) -> None:
        matrix.sort_indices()
        row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        self.start = torch.from_numpy(matrix.indptr[:-1].astype(np.int64)).to(device)
        self.length = torch.from_numpy(np.diff(matrix.indptr).astype(np.int64)).to(device)
        self.col = torch.from_numpy(matrix.indices.astype(np.int64)).to(device)
        self.value = torch.from_numpy(np.ascontiguousarray(matrix.data)).to(device)
        uses = np.bincount(matrix.indices, minlength=matrix.shape[1])
        self.uses = torch.from_numpy(uses).to(device)
        self._row = SegmentMap(torch.from_numpy(row.astype(np.int64)).to(device), matrix.shape[0])
        self._col = SegmentMap(self.col, matrix.shape[1])

    def times(self, x: Tensor) -> Tensor:
        return self._row.sum(self._col.gather(x) * self.value.to(_wider(x, self.value)))

    def adjoint(self, y: Tensor) -> Tensor:
        value = self.value.to(_wider(y, self.value))
        return self._col.sum(self._row.gather(y) * value.conj())


def slack(dtype: torch.dtype) -> float:
    """Return the share of the largest right-hand side by which those of redundant equations may differ."""
    return max(1e-9, 100.0 * torch.finfo(dtype).eps)


def _wider(x: Tensor, weight: Tensor) -> torch.dtype:
    """Precision of x, complex when either is."""
    if weight.is_complex() and not x.is_complex():
        return x.dtype.to_complex()
    return x.dtype
