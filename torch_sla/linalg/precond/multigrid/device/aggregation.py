"""Smoothed aggregation over tensors, for any sparse matrix.

Vaněk, Mandel and Brezina, Computing 56, 1996. Strength, aggregation, transfer, Galerkin product,
smoothers and coarse solve are a file each beside this one. Set-up runs in the precision of the
matrix and leaves levels in that of the options.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from torch_sla.errors import ArgumentError, DTypeError, Result, SolveError
from torch_sla.linalg.kernels.arguments import expect_shape, plain
from torch_sla.linalg.kernels.rows import Rows, add_product, product, residual
from torch_sla.linalg.kernels.sparse import diagonal_slots, expand_rows, transpose_csr
from torch_sla.linalg.methods.outcome import KrylovOptions, Outcome
from torch_sla.linalg.precond.multigrid.device.aggregate import aggregate
from torch_sla.linalg.precond.multigrid.device.base import DeviceHierarchy
from torch_sla.linalg.precond.multigrid.device.blocks import (
    BlockRows,
    flatten,
    grouped,
    multiply,
    transpose,
)
from torch_sla.linalg.precond.multigrid.device.cg import ConjugateGradients
from torch_sla.linalg.precond.multigrid.device.coarse import CoarseInverse, coarse_inverse
from torch_sla.linalg.precond.multigrid.device.smoothers import Smoother, make_smoother
from torch_sla.linalg.precond.multigrid.device.strength import strong_graph
from torch_sla.linalg.precond.multigrid.device.transfer import smoothed, tentative
from torch_sla.linalg.precond.multigrid.levels import Level

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.precond.multigrid.options import AMG
    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["DeviceAggregation"]

_DTYPES = {"float32": torch.float32, "float64": torch.float64}
_SPREAD = 1e4  # of the diagonal, above which float32 rounds small couplings away
_STALLED = 0.8  # of the rows of a level, which a coarser one must stay below
_DENSE = 4096  # unknowns above which the last level is smoothed, not inverted
_COARSE_STEPS = 8
_REVISITED = 0.4  # share of the unknowns below which a W cycle visits a level twice
_SYMMETRIC = 1e-12  # relative difference of mirrored entries


@dataclass(frozen=True)
class _Stage:
    """One level as the cycle needs it.

    Parameters
    ----------
    A, P, R
        Its matrix; prolongation from the next level and its transpose, None on the last.
    smoother
        Used before and after the coarse correction.
    edge
        Of the blocks of its unknowns.
    """

    A: Rows
    smoother: Smoother
    edge: int
    P: Rows | None = None
    R: Rows | None = None


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
        which convection does not destabilise.

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
        self.n, columns = pattern.shape
        if self.n != columns or pattern.block:
            raise ArgumentError(
                f"multigrid needs a square scalar pattern, got shape {pattern.shape} with block "
                f"{pattern.block}; `flatten_blocks` makes one"
            )
        if options.cycle == "K":
            raise ArgumentError(
                "`cycle` must be V or W on a device, got 'K', whose inner products would wait for it"
            )
        if near_nullspace is not None and (
            near_nullspace.ndim != 2 or near_nullspace.shape[0] != self.n
        ):
            raise ArgumentError(
                f"`near_nullspace` must be [{self.n}, k], got {list(near_nullspace.shape)}"
            )
        self.options = options
        self._pattern = pattern
        self._vectors = near_nullspace
        self._unsymmetric = unsymmetric
        self._edge = _edge(options.block, near_nullspace, self.n)
        self._smoother = options.smoother or "chebyshev"
        # Piecewise constant transfers need the second visit.
        self._w_cycle = (options.cycle or ("W" if unsymmetric else "V")) == "W"
        self._groups: list[tuple[Tensor, int]] = []
        values = self._checked(values)
        spread = options.dtype or _suited_dtype(pattern, values)
        self.dtype = _DTYPES[spread]
        self._set_up(values)

    # --- set-up ----------------------------------------------------------------------------------

    def _checked(self, values: Tensor) -> Tensor:
        expect_shape(values, "values", (self._pattern.nnz_csr,))
        if values.dtype not in (torch.float32, torch.float64):
            raise DTypeError(
                f"`values` must be float32 or float64, got {values.dtype}; multigrid is for real matrices"
            )
        values = plain(values)
        if not bool(torch.isfinite(values).all()):
            raise SolveError(Result.NONFINITE, "multigrid: an entry of the matrix is not finite")
        return values

    def _set_up(self, values: Tensor) -> None:
        """Build all levels; aggregates found before are used again."""
        options = self.options
        largest = float(values.abs().amax()) if values.numel() else 1.0
        self._scale = 2.0 ** -math.frexp(largest)[1] if largest > 0 else 1.0
        A = grouped(self._pattern.crow, self._pattern.ccol, values * self._scale, self._edge)
        vectors = self._vectors
        if vectors is not None:
            vectors = plain(vectors, values.dtype).reshape(A.n_rows, self._edge, -1)
        self._stages: list[_Stage] = []
        self._adjoint: list[_Stage] | None = None
        self._coarse: CoarseInverse | None = None
        known = list(self._groups)
        theta = options.strength
        damping = options.damping
        if damping is None:
            damping = 0.0 if self._unsymmetric else 4.0 / 3.0
        while True:
            edge = A.values.shape[1]
            flat = flatten(A, self.dtype)
            if not self._stages:
                flat = replace(flat, crow=self._pattern.crow, ccol=self._pattern.ccol)
            level = len(self._stages)
            last = flat.n_rows <= options.coarse_size or level + 1 == options.max_levels
            if last:
                break
            smoother, radius = make_smoother(self._smoother, options.sweeps, flat)
            strength = theta if theta is not None else (0.25 if edge == 1 else 0.08)
            S = strong_graph(A, strength)
            if level < len(known):
                group, count = known[level]
            else:
                group, count = aggregate(S)
                if not count or count > _STALLED * A.n_rows:
                    break
                self._groups.append((group, count))
            T, vectors = tentative(vectors, group, count, edge, A.values)
            P = smoothed(S, T, damping / radius)
            del S, T
            R = transpose(P)
            coarse = _without_empty(multiply(R, multiply(A, P)))
            self._stages.append(
                _Stage(flat, smoother, edge, flatten(P, self.dtype), flatten(R, self.dtype))
            )
            A = coarse
        self._finish(A, flat)

    def _finish(self, A: BlockRows, flat: Rows) -> None:
        """Invert the last level, or smooth it where it is too large for that."""
        edge = A.values.shape[1]
        if flat.n_rows <= max(self.options.coarse_size, _DENSE if self._stages else 0):
            exact = flatten(A, torch.float64)
            self._coarse = coarse_inverse(_dense(exact), torch.float64, exact.values.device)
            smoother = Smoother(flat.values.new_empty(0), ())
        else:
            name = "chebyshev" if self._smoother == "chebyshev" else self._smoother
            smoother, _ = make_smoother(name, _COARSE_STEPS, flat)
        self._stages.append(_Stage(flat, smoother, edge))

    def update(self, values: Tensor) -> None:
        """Take new slot values ``[nnz_csr]``; the aggregates stay, the numbers are recomputed."""
        self._set_up(self._checked(values))

    # --- sizes -----------------------------------------------------------------------------------

    @property
    def levels(self) -> list[Level]:
        """Sizes of the levels, finest first."""
        return [
            Level(s.A.n_rows, s.A.nnz, s.edge, 0 if s.P is None else s.P.nnz) for s in self._stages
        ]

    @property
    def nbytes(self) -> int:
        """Bytes of the levels; the pattern it was built from is not counted."""
        held: list[Tensor] = [group for group, _ in self._groups]
        for i, s in enumerate(self._stages):
            held.append(s.smoother.weight)
            for rows in (s.A, s.P, s.R):
                if rows is not None:
                    held.append(rows.values)
                    held += [rows.crow, rows.ccol] if i or rows is not s.A else []
        if self._coarse is not None:
            held.append(self._coarse.inverse)
        return sum(t.numel() * t.element_size() for t in held)

    @property
    def coarse_nullity(self) -> int:
        """Dimension of the null space found in the coarsest matrix; -1 where it is only smoothed."""
        return -1 if self._coarse is None else self._coarse.nullity

    # --- application -----------------------------------------------------------------------------

    def _columns(self, r: Tensor, *, adjoint: bool) -> Tensor:
        if r.ndim not in (1, 2) or r.shape[0] != self.n:
            raise ArgumentError(f"`r` must be [{self.n}] or [{self.n}, K], got {list(r.shape)}")
        z = self._apply(r.reshape(self.n, -1), adjoint)
        return z.reshape(r.shape)

    def _cycle(self, r: Tensor, *, adjoint: bool) -> Tensor:
        return self._apply(r.unsqueeze(1), adjoint).squeeze(1)

    def _apply(self, r: Tensor, adjoint: bool) -> Tensor:
        """Return ``B r`` for ``r`` ``[n, K]``: scaled to fit the levels, and back."""
        if not r.numel():
            return r.clone()
        stages = self._transposed_stages() if adjoint else self._stages
        if self.dtype is torch.float64 and r.dtype is torch.float64:
            return self._visit(stages, 0, plain(r), adjoint) * self._scale
        # A power of two brings each column to the size of one, for float32's small range.
        size = torch.linalg.vector_norm(r, float("inf"), 0, dtype=torch.float64)
        factor = torch.exp2(-torch.frexp(size).exponent.double())
        down = torch.mul(r, factor, out=torch.empty_like(r, dtype=self.dtype))
        z = self._visit(stages, 0, down, adjoint)
        return torch.mul(z, self._scale / factor, out=torch.empty_like(r))

    def _visit(self, stages: list[_Stage], level: int, r: Tensor, adjoint: bool) -> Tensor:
        """One cycle from a zero guess on one level, ``r`` ``[n, K]``."""
        s = stages[level]
        if s.P is None or s.R is None:
            if self._coarse is None:
                return s.smoother.from_zero(s.A, r)
            inverse = self._coarse.inverse
            return ((inverse.T if adjoint else inverse) @ r.double()).to(r.dtype)
        x = s.smoother.from_zero(s.A, r)
        rc = product(s.R, residual(s.A, x, r))
        xc = self._visit(stages, level + 1, rc, adjoint)
        coarse = stages[level + 1]
        again = self._w_cycle and coarse.A.n_rows < _REVISITED * s.A.n_rows
        if again and coarse.P is not None:
            xc = xc + self._visit(stages, level + 1, residual(coarse.A, xc, rc), adjoint)
        return s.smoother(s.A, add_product(s.P, xc, x), r)

    def cg(
        self,
        values: Tensor,
        b: Tensor,
        *,
        x0: Tensor | None = None,
        options: KrylovOptions = KrylovOptions(),  # noqa: B008
    ) -> Outcome:
        """Solve ``A x = b`` by conjugate gradients around this hierarchy, scalars on the device.

        Parameters
        ----------
        values
            ``[nnz_csr]`` slot values of a symmetric positive (semi)definite matrix on the pattern of
            this hierarchy; they may differ from the ones it was built from.
        b
            ``[n, K]``, one column after the other.
        x0
            Starting value ``[n, K]``.
        options
            Tolerances and limits.
        """
        A = replace(self._stages[0].A, values=plain(values.detach(), b.dtype))
        z = torch.empty_like(b[:, 0])

        def matvec(p: Tensor, q: Tensor, dots: Tensor, flag: Tensor) -> None:
            del flag
            q.copy_(product(A, p.unsqueeze(1)).squeeze(1))
            _store_dot(dots, p, q)

        def precondition(r: Tensor, dots: Tensor, flag: Tensor) -> Tensor:
            del flag
            z.copy_(self._cycle(r, adjoint=False))
            _store_dot(dots, r, z)
            return z

        return ConjugateGradients(z, matvec, precondition).solve(b, x0=x0, options=options)

    def _transposed_stages(self) -> list[_Stage]:
        """Return the stages of ``Bᵀ``: the same ones for a symmetric matrix."""
        if self._adjoint is None:
            first = self._stages[0].A
            mirrored = _transposed(first)
            same = torch.equal(mirrored.crow, first.crow) and torch.equal(mirrored.ccol, first.ccol)
            if same:
                gap = (mirrored.values - first.values).abs().amax()
                same = bool(gap <= _SYMMETRIC * first.values.abs().amax())
            if same:
                self._adjoint = self._stages
            else:
                self._adjoint = [replace(s, A=_transposed(s.A)) for s in self._stages]
        return self._adjoint


def _store_dot(dots: Tensor, x: Tensor, y: Tensor) -> None:
    dots.zero_()
    dots[0] = (x * y).sum(dtype=torch.float64)


def _edge(wanted: int | None, vectors: Tensor | None, n: int) -> int:
    """Edge of the blocks of unknowns: asked for, or that of rigid-body modes."""
    if wanted is not None:
        if n % wanted:
            raise ArgumentError(f"`block` is {wanted}, which does not divide {n} unknowns")
        return wanted
    edge = {3: 2, 6: 3}.get(0 if vectors is None else vectors.shape[1], 1)
    return edge if n % edge == 0 else 1


def _suited_dtype(pattern: Pattern, values: Tensor) -> str:
    """Precision in which row sums beside a jump of the coefficient survive."""
    slots = pattern.diagonal_slots.long()
    size = values[slots[slots >= 0]].abs()
    size = size[size > 0]
    if not size.numel():
        return "float32"
    low, high = size.aminmax()
    return "float64" if bool(high > _SPREAD * low) else "float32"


def _transposed(A: Rows) -> Rows:
    crow, ccol, perm = transpose_csr(A.crow, A.ccol, A.n_cols)
    return Rows.of(crow, ccol, A.values[perm.long()], A.n_rows)


def _without_empty(A: BlockRows) -> BlockRows:
    """Put ones on the diagonal where a vector was dependent, so that no row is zero."""
    edge = A.values.shape[1]
    if edge == 1:
        return A
    slots = diagonal_slots(A.crow, A.ccol, A.n_cols).long()
    slots = slots[slots >= 0]
    values = A.values.clone()
    d = values[slots].diagonal(dim1=1, dim2=2)
    add = torch.diag_embed((d == 0).to(values.dtype))
    values[slots] += add
    return replace(A, values=values)


def _dense(A: Rows) -> Tensor:
    out = A.values.new_zeros(A.n_rows, A.n_cols)
    out[expand_rows(A.crow).long(), A.ccol.long()] = A.values
    return out
