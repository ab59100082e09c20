"""A multigrid hierarchy: levels that print themselves, applied as a preconditioner."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Literal

import torch

from torch_sla.errors import ArgumentError, Result
from torch_sla.linalg.kernels import memory
from torch_sla.linalg.kernels.multigrid import (
    CompiledHierarchy,
    CompiledLattice,
    Transfer,
)
from torch_sla.linalg.methods.outcome import KrylovOptions, Outcome
from torch_sla.linalg.precond.multigrid.device.choice import suits_lattice
from torch_sla.linalg.precond.multigrid.levels import (
    Level,
    Leveled,
    default_strength,
    node_size,
    scalar_rows,
)
from torch_sla.linalg.precond.multigrid.nullspace import chosen_near_nullspace
from torch_sla.linalg.precond.multigrid.options import AMG
from torch_sla.linalg.precond.multigrid.suits import (
    POSITIVE,
    SPREAD,
    jumps,
    lattice_of,
    positive_share,
    spread,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from torch_sla.linalg.kernels.cycles import ColumnReport
    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure

__all__ = ["Hierarchy", "Level", "Skeleton"]

_ROUNDED_PIVOT = 1e-3  # of the coarsest matrix, below which float32 does not tell it from zero


@dataclass(frozen=True, eq=False)
class Skeleton:
    """What new values on a pattern leave as it is: aggregates and the patterns of all levels.

    Parameters
    ----------
    compiled
        A hierarchy without numbers; it shares memory with the one it was taken from.
    marks
        Method, smoother and precision that the values asked for, and whether the matrix was known to be unsymmetric.
    check
        Whether aggregates are found again and replaced where they differ.
    """

    compiled: CompiledHierarchy | CompiledLattice
    marks: tuple[str, str, torch.dtype, bool]
    check: bool = True

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.compiled.nbytes


class Hierarchy(Leveled):
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
    like
        See `AMG.build`.

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
        like: Skeleton | None = None,
    ) -> None:
        options = options or AMG()
        n = scalar_rows(pattern)
        self.options = options
        self._unsymmetric = structure is not None and structure.symmetric is False
        vectors = chosen_near_nullspace(options.near_nullspace, structure, n)
        wide = spread(pattern, values) > SPREAD
        self._jumps = wide and jumps(pattern, values)
        dtype = options.dtype or ("float64" if wide else "float32")
        self._set_up(pattern, values, vectors, transfers, getattr(torch, dtype), like)
        rounded = options.dtype is None and dtype == "float32"
        if rounded and self._native.coarse_pivot < _ROUNDED_PIVOT:
            self._set_up(pattern, values, vectors, transfers, torch.float64, like)
        if like is None:
            memory.release()  # what a first set-up leaves behind has no size that iterations ask for

    def _set_up(
        self,
        pattern: Pattern,
        values: Tensor,
        vectors: Tensor | None,
        transfers: Sequence[Transfer] | None,
        dtype: torch.dtype,
        like: Skeleton | None,
    ) -> None:
        options = self.options
        self._native: CompiledHierarchy | CompiledLattice
        like = None if like is None or like.compiled.dtype is not dtype else like
        lattice = None
        suits = suits_lattice(options, vectors, unsymmetric=self._unsymmetric)
        self._classical = options.method == "classical" or (suits and self._wants_points())
        if transfers is None and suits and not self._classical:
            lattice = lattice_of(pattern, values, options, dtype, like)
        if lattice is not None:
            self.method = "lattice"
            self._native = lattice
            self._cycle = options.cycle or "V"
            self._smoother: str = options.smoother or "spai0"
            return
        empty = self._chosen(pattern, values, vectors, dtype)
        if like is not None and transfers is None and like.marks == self._marks(dtype):
            renewed = like.compiled.renewed(values, check=like.check)
            if renewed is not None:
                self._native = renewed
                return
        native = empty()
        if transfers is None:
            native.build(values, vectors)
        else:
            native.build_from(values, list(transfers))
        self._native = native

    def _wants_points(self) -> bool:
        """Whether an automatic choice keeps points: jumps, and no setting that means aggregates."""
        o = self.options
        return o.method == "auto" and self._jumps and o.damping is None

    def _marks(self, dtype: torch.dtype) -> tuple[str, str, torch.dtype, bool]:
        return self.method, self._smoother, dtype, self._unsymmetric

    def _chosen(
        self, pattern: Pattern, values: Tensor, vectors: Tensor | None, dtype: torch.dtype
    ) -> Callable[[], CompiledHierarchy]:
        """Take the settings asked for, or those that suit; what is returned makes an empty hierarchy of them."""
        options, classical = self.options, self._classical
        self.method = "classical" if classical else "smoothed aggregation"
        block = 1 if classical else options.block
        if block is None:
            wanted = node_size(vectors)
            block = wanted if pattern.shape[0] % wanted == 0 else 1
        self._cycle = options.cycle or ("V" if classical else "W")
        weak = block > 1 or (not classical and positive_share(pattern, values) > POSITIVE)
        default_smoother = "chebyshev" if weak else "spai0"
        default_damping = 4.0 / 3.0
        if self._unsymmetric:
            # A smoothed transfer can lose stability under convection; sweeps along the flow do not.
            default_smoother, default_damping = "gauss_seidel", 0.0
        self._smoother = options.smoother or default_smoother
        return partial(
            CompiledHierarchy,
            pattern.crow,
            pattern.ccol,
            dtype=dtype,
            classical=classical,
            block=block,
            strength=default_strength(block) if options.strength is None else options.strength,
            damping=default_damping if options.damping is None else options.damping,
            smoother=self._smoother,
            symmetric=not self._unsymmetric,
            sweeps=options.sweeps,
            cycle=self._cycle,
            coarse_size=options.coarse_size,
            max_levels=options.max_levels,
            threads=options.threads,
        )

    def skeleton(self, *, check: bool = True) -> Skeleton:
        """Return what other values on this pattern can use again.

        With `check`, what is made from it equals a new set-up to the last bit; without, the aggregates of
        this hierarchy, or the axes that it halves, stay whatever the values.
        """
        marks = self._marks(self._native.dtype)
        return Skeleton(self._native.skeleton(), marks, check)

    @property
    def levels(self) -> list[Level]:
        """Sizes of the levels, finest first."""
        if isinstance(self._native, CompiledLattice):
            stencils = self._native.levels()
            return [Level(prod(shape), prod(shape) * entries) for shape, entries in stencils]
        sizes = self._native.levels()
        return [Level(rows * block, nnz * block**2, block) for rows, block, nnz, _ in sizes]

    @property
    def dtype(self) -> torch.dtype:
        """Of the levels."""
        return self._native.dtype

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

    def update(self, values: Tensor) -> None:
        """Take new slot values ``[nnz_csr]``; aggregates and patterns stay, numbers are recomputed.

        It changes this object: whoever shares it sees the new matrix. Where the values are refused it stays as it is.
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
        return _outcome(x, reports, b)

    def krylov(
        self,
        method: Literal["gmres", "bicgstab"],
        matrix: tuple[Pattern, Tensor],
        b: Tensor,
        *,
        adjoint: bool = False,
        x0: Tensor | None = None,
        options: KrylovOptions = KrylovOptions(),  # noqa: B008
    ) -> Outcome:
        """Solve by GMRES or BiCGStab around this hierarchy, preconditioned from the right, compiled.

        Parameters
        ----------
        method
            ``"gmres"`` or ``"bicgstab"``.
        matrix
            Scalar pattern and slot values of the matrix of the system: with `adjoint`, those of the
            transpose.
        b
            ``[n, K]``; each column stops on its own.
        adjoint
            Precondition with the adjoint cycle.
        x0, options
            As for `cg`.

        Returns
        -------
        Outcome
            ``CONVERGED`` only where the recomputed residual meets the tolerance; ``STAGNATION`` where
            fresh starts do not lower it, ``BREAKDOWN`` where no direction is left.
        """
        pattern, values = matrix
        x, reports = self._native.krylov(
            method,
            (pattern.crow, pattern.ccol, values),
            b,
            x0,
            rtol=options.rtol,
            atol=options.atol,
            maxiter=options.maxiter or max(10 * self._native.n, 50),
            restart=options.restart,
            transposed=adjoint,
        )
        return _outcome(x, reports, b)

    @property
    def _head(self) -> str:
        return f"{self.method}, {self._cycle} cycle, {self._smoother}, {str(self.dtype)[6:]}"


def _outcome(x: Tensor, reports: list[ColumnReport], b: Tensor) -> Outcome:
    """Let the worst column speak for all."""
    out = Outcome(x)
    out.iterations = max((r.iterations for r in reports), default=0)
    scales = [float(s) or 1.0 for s in b.norm(dim=0)]
    # Nothing is tried where b is not finite.
    histories = [r.history or [r.residual] for r in reports]
    for step in range(1, out.iterations + 1):
        out.history.append(
            max(
                history[min(step, r.iterations, len(history) - 1)] / s
                for r, history, s in zip(reports, histories, scales, strict=True)
            )
        )
    failed = [r.result for r in reports if r.result is not Result.CONVERGED]
    out.result = failed[0] if failed else Result.CONVERGED
    seen = [(r.residual, *r.sizes) for r in reports if r.sizes is not None]
    if seen and len(seen) == len(reports):
        out.sizes = torch.tensor(seen, dtype=b.dtype).T
    return out
