"""Supernodal Cholesky and LDL factorisations, ours, compiled.

A `Factor` is made of an `Analysis` (`symbolic`). The numeric phase is multifrontal
(J. W. H. Liu, SIAM Review 34, 1992, pages 82-109) on dense kernels of our own and on BLAS routines
borrowed from SciPy. Results do not depend on the number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor

from torch_sla._core import extension
from torch_sla.errors import ArgumentError, DTypeError, Result, SolveError
from torch_sla.linalg.kernels.arguments import VALUES, empty, expect_shape, indices, plain
from torch_sla.linalg.kernels.borrowed_blas import lend_blas
from torch_sla.linalg.kernels.memory import room_for
from torch_sla.linalg.kernels.threads import resolve_threads

if TYPE_CHECKING:
    from torch_sla.linalg.kernels.symbolic import Analysis

__all__ = [
    "Factor",
    "Kind",
    "NumericFactor",
    "factorize",
    "solve_batch",
    "symmetric_scale",
    "weak_pairs",
]

Kind = Literal["cholesky", "hermitian", "symmetric"]

_compiled: Any = None if extension is None else extension.cholesky

# A diagonal entry below this fraction of its row cannot be relied on as a pivot.
_WEAK = 1e-3


@dataclass(frozen=True, eq=False)
class NumericFactor:
    """Factors on an analysis, never changed once made.

    Parameters
    ----------
    payload
        The compiled object.
    analysis
        What it was made from.
    dtype
        Of the values.
    """

    payload: Any
    analysis: Analysis
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers."""
        return int(self.payload.bytes)


@dataclass(frozen=True, eq=False)
class Factor(NumericFactor):
    """A numeric factor: ``L Lᴴ``, ``L D Lᴴ`` or ``L D Lᵀ`` of a permuted matrix.

    Parameters
    ----------
    kind
        ``"cholesky"``, ``"hermitian"`` or ``"symmetric"``.
    """

    kind: Kind

    @property
    def perturbed(self) -> int:
        """Negligible pivots that were replaced: solutions then need refinement."""
        return int(self.payload.perturbed)

    @property
    def stuck(self) -> Tensor:
        """Rows, for `analyze`, that mark the fronts where pivots were replaced and a parent has more to offer."""
        return torch.from_numpy(self.payload.stuck)

    @property
    def inertia(self) -> tuple[int, int, int]:
        """Numbers of positive, negative and zero eigenvalues (perturbed pivots count by their sign)."""
        if self.kind == "symmetric" and self.dtype.is_complex:
            raise ArgumentError(
                "a complex symmetric matrix has no inertia; its eigenvalues are complex"
            )
        return cast("tuple[int, int, int]", self.payload.inertia)

    @property
    def slogdet(self) -> tuple[complex, float]:
        """Phase of the determinant (a sign for Hermitian matrices) and ``log |det A|``."""
        log, phase = self.payload.log_determinant
        return phase, log

    def solve(self, b: Tensor, mode: str = "n", *, threads: int | None = None) -> Tensor:
        """Solve ``op(A) x = b`` for ``b`` ``[n, K]``; `mode` is ``n``, ``t`` or ``h``."""
        b = plain(b, self.dtype)
        expect_shape(b, "b", (self.analysis.n, b.shape[-1]))
        x = empty(tuple(b.shape), self.dtype)
        team = resolve_threads(threads, 2 * self.analysis.factor_nnz * max(1, b.shape[1]))
        self.payload.solve(b.numpy(), x.numpy(), _conjugated(self.kind, mode), team)
        return x

    def selected_inverse(self) -> tuple[Tensor, Tensor]:
        """Entries of the inverse on the pattern of A.

        Returns
        -------
        values, filled
            ``[nnz]`` entries of ``A⁻¹`` at the positions of the pattern, and which of them are
            there: one of each mirrored pair (i, j), (j, i), and the diagonal. The other follows by
            symmetry.
        """
        values = empty((self.analysis.nnz,), self.dtype)
        filled = torch.empty(self.analysis.nnz, dtype=torch.uint8)
        self.payload.selected_inverse(values.numpy(), filled.numpy())
        return values, filled.bool()


def _conjugated(kind: Kind, mode: str) -> bool:
    """Whether op(A) is conj(A): Aᵀ of a Hermitian matrix, Aᴴ of a symmetric one."""
    return mode == ("h" if kind == "symmetric" else "t")


def weak_pairs(crow: Tensor, ccol: Tensor, values: Tensor) -> Tensor | None:
    """Pair rows whose diagonal is negligible with a neighbour, for `analyze`; None where there are none.

    Parameters
    ----------
    crow, ccol, values
        CSR matrix, symmetric or Hermitian, scaled so that rows are comparable.
    """
    crow, ccol = indices(crow, ccol)
    mates = torch.empty(crow.numel() - 1, dtype=torch.int32)
    found = _compiled.match_weak_rows(
        crow.numpy(), ccol.numpy(), plain(values).numpy(), _WEAK, mates.numpy()
    )
    return mates if found else None


def symmetric_scale(crow: Tensor, ccol: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Powers of two s, ``[n]``, that bring the largest entry of every row near one, and ``s_i a_ij s_j``.

    Examples
    --------
    >>> import torch
    >>> s, a = symmetric_scale(
    ...     torch.tensor([0, 1, 2]), torch.tensor([0, 1]), torch.tensor([4.0, 64.0])
    ... )
    >>> s, a
    (tensor([0.5000, 0.1250]), tensor([1., 1.]))
    """
    crow, ccol = indices(crow, ccol)
    values = plain(values)
    scale = torch.empty(crow.numel() - 1, dtype=values.real.dtype)
    scaled = empty(tuple(values.shape), values.dtype)
    _compiled.symmetric_scale(
        crow.numpy(), ccol.numpy(), values.numpy(), scale.numpy(), scaled.numpy()
    )
    return scale, scaled


def factorize(
    analysis: Analysis,
    values: Tensor,
    kind: Kind = "cholesky",
    *,
    scale: Tensor | None = None,
    threads: int | None = None,
) -> Factor | list[Factor]:
    """Factorise values on an analysed pattern; no analysis is repeated.

    Parameters
    ----------
    analysis
        From `analyze`.
    values
        ``[nnz]`` entries of the pattern, or ``[B, nnz]`` for a batch. Where A is Hermitian only one of
        each mirrored pair is read.
    kind
        ``"cholesky"`` for positive definite matrices, ``"hermitian"`` for ``L D Lᴴ``, ``"symmetric"``
        for ``L D Lᵀ``, both with 1x1 and 2x2 pivots inside supernodes.
    scale
        ``[n]`` or ``[B, n]``; `values` are those of ``S A S`` and the factor answers for A.

    Returns
    -------
    Factor or list of Factor
        One per member of the batch.

    Raises
    ------
    SolveError
        ``NOT_POSITIVE_DEFINITE`` or ``NONFINITE`` naming the row, ``OUT_OF_MEMORY`` before anything
        is allocated.
    """
    if values.dtype not in VALUES:
        raise DTypeError(f"`values` must be floating point or complex, got {values.dtype}")
    values = plain(values)
    batch = values.shape[0] if values.ndim == 2 else 1
    expect_shape(values, "values", (*values.shape[:-1], analysis.nnz))
    team = resolve_threads(threads, int(min(analysis.flops * batch, 2**62)))
    needed = batch * analysis.factor_bytes(values.dtype) + analysis.working_bytes(
        values.dtype, team
    )
    lend_blas()
    s = None if scale is None else plain(scale, values.real.dtype).numpy()
    with room_for(needed):
        made = _compiled.factorize(analysis.payload, values.numpy(), kind, s, team)
    for k, (_, row) in enumerate(made):
        if row >= 0:
            one = values if values.ndim == 1 else values[k]
            bad = kind != "cholesky" or not bool(torch.isfinite(one).all())
            where = f"row {row}" if values.ndim == 1 else f"row {row} of member {k}"
            result = Result.NONFINITE if bad else Result.NOT_POSITIVE_DEFINITE
            what = "NaN or infinity in" if bad else "the pivot is not positive in"
            raise SolveError(result, f"{what} {where}")
    factors = [Factor(f, analysis, values.dtype, kind) for f, _ in made]
    return factors[0] if values.ndim == 1 else factors


def solve_batch(
    factors: list[Factor], b: Tensor, mode: str = "n", *, threads: int | None = None
) -> Tensor:
    """Solve one system per factor: ``b`` ``[B, n, K]``, factors of one kind, dtype and analysis."""
    first = factors[0]
    b = plain(b, first.dtype)
    expect_shape(b, "b", (len(factors), first.analysis.n, b.shape[-1]))
    if any((f.dtype, f.kind) != (first.dtype, first.kind) for f in factors):
        raise ArgumentError("`factors` must share one kind and dtype")
    x = empty(tuple(b.shape), first.dtype)
    work = 2 * first.analysis.factor_nnz * b.shape[0] * b.shape[2]
    _compiled.solve_batch(
        [f.payload for f in factors],
        b.numpy(),
        x.numpy(),
        _conjugated(first.kind, mode),
        resolve_threads(threads, work),
    )
    return x
