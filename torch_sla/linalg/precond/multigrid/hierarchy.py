"""A multigrid hierarchy: levels that print themselves, applied as a preconditioner."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch

from torch_sla.errors import ArgumentError, Result
from torch_sla.linalg.kernels.multigrid import (
    CompiledHierarchy,
    CompiledLattice,
    Transfer,
)
from torch_sla.linalg.methods.outcome import KrylovOptions, Outcome
from torch_sla.linalg.precond.multigrid.device.choice import CONTRARY, suits_lattice
from torch_sla.linalg.precond.multigrid.levels import (
    Level,
    describe,
    grid_complexity,
    operator_complexity,
)
from torch_sla.linalg.precond.multigrid.nullspace import chosen_near_nullspace
from torch_sla.linalg.precond.multigrid.options import AMG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure

__all__ = ["Hierarchy", "Level"]

_DTYPES = {"float32": torch.float32, "float64": torch.float64}
_SPREAD = 1e4  # of the diagonal, above which float32 rounds small couplings away
_ROUNDED_PIVOT = 1e-3  # of the coarsest matrix, below which float32 does not tell it from zero


class Hierarchy:
    """Levels of an algebraic multigrid method for one matrix.

    Parameters
    ----------
    pattern
        Square scalar pattern.
    values
        ``[nnz_csr]`` slot values: float32 or float64, on the CPU.
    options
        See `AMG`.
    structure
        May bring a near-nullspace or coordinates.
    transfers
        Prolongations given by hand, first to last, instead of aggregation.

    Examples
    --------
    >>> import torch
    >>> from torch_sla.linalg.sparse.pattern import Pattern
    >>> i = torch.arange(1000)
    >>> row, col = torch.cat([i, i[1:], i[:-1]]), torch.cat([i, i[:-1], i[1:]])
    >>> one = torch.ones(999, dtype=torch.float64)
    >>> values = torch.cat([2 * torch.ones(1000, dtype=torch.float64), -one, -one])
    >>> pattern = Pattern.from_coo(row, col, (1000, 1000))
    >>> hierarchy = Hierarchy(pattern, pattern.coalesce(values))
    >>> print(hierarchy)
    smoothed aggregation, W cycle, spai0, float32
    level  unknowns  nonzeros  block
        0      1000      2998      1
        1       334      1000      1
        2       112       334      1
    operator complexity 1.445, grid complexity 1.446
    """

    def __init__(
        self,
        pattern: Pattern,
        values: Tensor,
        options: AMG | None = None,
        *,
        structure: Structure | None = None,
        transfers: Sequence[Transfer] | None = None,
    ) -> None:
        options = options or AMG()
        n, columns = pattern.shape
        if n != columns or pattern.block:
            raise ArgumentError(
                f"multigrid needs a square scalar pattern, got shape {pattern.shape} with block "
                f"{pattern.block}; `flatten_blocks` makes one"
            )
        self.options = options
        self._unsymmetric = structure is not None and structure.symmetric is False
        vectors = chosen_near_nullspace(options.near_nullspace, structure, n)
        dtype = options.dtype or _suited_dtype(pattern, values)
        self._set_up(pattern, values, vectors, transfers, _DTYPES[dtype])
        rounded = options.dtype is None and dtype == "float32"
        if rounded and self._native.coarse_pivot < _ROUNDED_PIVOT:
            self._set_up(pattern, values, vectors, transfers, torch.float64)

    def _set_up(
        self,
        pattern: Pattern,
        values: Tensor,
        vectors: Tensor | None,
        transfers: Sequence[Transfer] | None,
        dtype: torch.dtype,
    ) -> None:
        options = self.options
        self._native: CompiledHierarchy | CompiledLattice
        lattice = None
        suits = suits_lattice(options, vectors, unsymmetric=self._unsymmetric)
        if transfers is None and suits:
            lattice = _lattice(pattern, values, options, dtype)
        self.method = "smoothed aggregation" if lattice is None else "lattice"
        if lattice is not None:
            self._native, self._cycle, self._smoother = lattice, options.cycle or "V", "spai0"
            return
        block = options.block
        if block is None:
            wanted = {3: 2, 6: 3}.get(0 if vectors is None else vectors.shape[1], 1)
            block = wanted if pattern.shape[0] % wanted == 0 else 1
        default_strength = 0.25 if block == 1 else 0.08
        self._cycle = options.cycle or "W"
        default_smoother = "spai0" if block == 1 else "chebyshev"
        default_damping = 4.0 / 3.0
        if self._unsymmetric:
            # A smoothed transfer can lose stability under convection; sweeps along the flow do not.
            default_smoother, default_damping = "gauss_seidel", 0.0
        self._smoother = options.smoother or default_smoother
        native = CompiledHierarchy(
            pattern.crow,
            pattern.ccol,
            dtype=dtype,
            block=block,
            strength=default_strength if options.strength is None else options.strength,
            damping=default_damping if options.damping is None else options.damping,
            smoother=self._smoother,
            sweeps=options.sweeps,
            cycle=self._cycle,
            coarse_size=options.coarse_size,
            max_levels=options.max_levels,
            threads=options.threads,
        )
        if transfers is None:
            native.build(values, vectors)
        else:
            native.build_from(values, list(transfers))
        self._native = native

    @property
    def levels(self) -> list[Level]:
        """Sizes of the levels, finest first."""
        if isinstance(self._native, CompiledLattice):
            stencils = self._native.levels()
            return [Level(prod(shape), prod(shape) * entries) for shape, entries in stencils]
        out = []
        sizes = self._native.levels()
        for i, (rows, block, nnz, transfer_nnz) in enumerate(sizes):
            coarse = sizes[i + 1][1] if i + 1 < len(sizes) else 0
            out.append(Level(rows * block, nnz * block**2, block, transfer_nnz * block * coarse))
        return out

    @property
    def operator_complexity(self) -> float:
        """Nonzeros of all levels over those of the first."""
        return operator_complexity(self.levels)

    @property
    def grid_complexity(self) -> float:
        """Unknowns of all levels over those of the first."""
        return grid_complexity(self.levels)

    @property
    def nbytes(self) -> int:
        """Bytes held, work vectors included; the matrix it was built from is not counted."""
        return self._native.nbytes

    @property
    def coarse_nullity(self) -> int:
        """Dimension of the null space found in the coarsest matrix; -1 where it is only smoothed."""
        return self._native.coarse_nullity

    def matrix(self, level: int) -> Transfer:
        """Return the matrix of one level as CSR blocks; aggregation only."""
        return self._general().matrix(level)

    def prolongation(self, level: int) -> Transfer:
        """Return the transfer from level ``level + 1`` to ``level`` as CSR blocks; aggregation only."""
        return self._general().transfer(level)

    def _general(self) -> CompiledHierarchy:
        if isinstance(self._native, CompiledLattice):
            raise ArgumentError(
                "a lattice keeps stencils, not matrices; build with method='smoothed_aggregation'"
            )
        return self._native

    def apply(self, r: Tensor) -> Tensor:
        """Return ``B r``, one cycle from zero, for ``r`` ``[n]`` or ``[n, K]``."""
        return self._native.apply(r)

    def apply_adjoint(self, r: Tensor) -> Tensor:
        """Return ``Bᵀ r``: the same cycle on the transposed matrices."""
        return self._native.apply(r, transposed=True)

    apply_transposed = apply_adjoint

    def update(self, values: Tensor) -> None:
        """Take new slot values ``[nnz_csr]``; aggregates and patterns stay, numbers are recomputed.

        It changes this object: whoever shares it sees the new matrix.
        """
        self._native.update(values)

    def cg(
        self,
        values: Tensor,
        b: Tensor,
        *,
        x0: Tensor | None = None,
        options: KrylovOptions = KrylovOptions(),  # noqa: B008
        nullspace: Tensor | None = None,
    ) -> Outcome:
        """Solve ``A x = b`` by conjugate gradients around this hierarchy, in compiled code.

        Parameters
        ----------
        values
            ``[nnz_csr]`` slot values of a symmetric positive (semi)definite matrix on the pattern of
            this hierarchy; they may differ from the ones it was built from.
        b
            ``[n, K]``; each column stops on its own.
        x0
            Starting value ``[n, K]``.
        options
            Tolerances and limits.
        nullspace
            ``[n, k]``: a basis of the null space of ``A``. ``b`` is projected off it and ``x`` is the
            solution of minimum norm.

        Returns
        -------
        Outcome
            ``CONVERGED`` only where ``‖b - A x‖``, recomputed, meets the tolerance. ``BREAKDOWN`` when
            a direction has no positive curvature: the matrix is not positive definite.

        Notes
        -----
        Vectors have the dtype of `b`; residuals are rounded to the dtype of the levels for the
        preconditioner only.
        """
        limit = options.maxiter or max(10 * self._native.n, 50)
        x, reports = self._native.cg(
            values,
            b,
            x0,
            rtol=options.rtol,
            atol=options.atol,
            maxiter=limit,
            nullspace=nullspace,
        )
        out = Outcome(x)
        out.iterations = max((r.iterations for r in reports), default=0)
        scales = [float(s) or 1.0 for s in b.norm(dim=0)]
        for step in range(1, out.iterations + 1):
            out.history.append(
                max(
                    r.history[min(step, r.iterations)] / s
                    for r, s in zip(reports, scales, strict=True)
                )
            )
        failed = [r.result for r in reports if r.result is not Result.CONVERGED]
        out.result = failed[0] if failed else Result.CONVERGED
        return out

    def __str__(self) -> str:
        head = (
            f"{self.method}, {self._cycle} cycle, {self._smoother}, {str(self._native.dtype)[6:]}"
        )
        return describe(head, self.levels)

    def __repr__(self) -> str:
        return f"<Hierarchy of {len(self.levels)} levels, {self.levels[0].unknowns} unknowns>"


def _suited_dtype(pattern: Pattern, values: Tensor) -> str:
    """Precision in which row sums beside a jump of the coefficient survive."""
    slots = pattern.diagonal_slots.long()
    size = values.detach()[slots[slots >= 0]].abs()
    size = size[size > 0]
    if not size.numel():
        return "float32"
    return "float64" if float(size.max() / size.min()) > _SPREAD else "float32"


def _lattice(
    pattern: Pattern, values: Tensor, options: AMG, dtype: torch.dtype
) -> CompiledLattice | None:
    """Structured multigrid where the pattern is a lattice on which it works, else None."""
    asked = options.method == "lattice"
    shape = pattern.lattice_shape
    if shape is None:
        if asked:
            raise ArgumentError(
                "method='lattice' needs entries that join neighbours of a lattice, and this pattern "
                "has others; method='smoothed_aggregation' takes any"
            )
        return None
    made = CompiledLattice(
        pattern.crow,
        pattern.ccol,
        values,
        shape=shape,
        dtype=dtype,
        sweeps=options.sweeps,
        cycle=options.cycle or "V",
        coarse_size=options.coarse_size,
        max_levels=options.max_levels,
        threads=options.threads,
    )
    return made if asked or made.contrary <= CONTRARY else None
