"""Multifrontal LU of unsymmetric matrices on the pattern of ``A + Aᵀ``, compiled.

The scheme of `kernels.cholesky` with both triangles. Each front interchanges its own rows, which bounds the
growth as far as they allow; rows that still wait for contributions are never pivots, so that what the analysis
counted is what there is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch_sla._core import extension
from torch_sla.errors import ArgumentError, DTypeError
from torch_sla.linalg.kernels.arguments import VALUES, empty, expect_shape, plain
from torch_sla.linalg.kernels.borrowed_blas import lend_blas
from torch_sla.linalg.kernels.cholesky import NumericFactor
from torch_sla.linalg.kernels.memory import room_for
from torch_sla.linalg.kernels.threads import resolve_threads

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.kernels.lanes import LanePattern
    from torch_sla.linalg.kernels.symbolic import Analysis

__all__ = ["LuFactor", "factorize", "solve_batch"]

_compiled: Any = None if extension is None else extension.lu


class LuFactor(NumericFactor):
    """Factors of one matrix."""

    @property
    def interchanged(self) -> int:
        """Rows that left their place on the diagonal."""
        return int(self.payload.interchanged)

    @property
    def slogdet(self) -> tuple[complex, float]:
        """Phase and logarithm of the absolute value of the determinant."""
        log, phase = self.payload.log_determinant
        return phase, log

    def solve(self, b: Tensor, mode: str = "n", *, threads: int | None = None) -> Tensor:
        """Solve ``op(A) x = b`` for ``b`` ``[n, K]``; `mode` is ``n``, ``t`` or ``h``."""
        return solve_batch([self], b.unsqueeze(0), mode, threads=threads)[0]


def factorize(
    analysis: Analysis, pattern: LanePattern, values: Tensor, *, threads: int | None = None
) -> list[LuFactor | None]:
    """Factorise values ``[B, nnz]`` on an analysed pattern of ``A + Aᵀ``.

    Returns
    -------
    list of LuFactor or None
        None for members with a front none of whose own rows has a pivot for one of its columns.

    Raises
    ------
    SolveError
        ``OUT_OF_MEMORY`` before anything is allocated.
    """
    if values.dtype not in VALUES:
        raise DTypeError(f"`values` must be floating point or complex, got {values.dtype}")
    if values.ndim != 2:
        raise ArgumentError(f"`values` must be [B, nnz], got {tuple(values.shape)}")
    values, members = plain(values), values.shape[0]
    team = resolve_threads(threads, int(min(2 * analysis.flops * members, 2**62)))
    needed = 2 * members * analysis.factor_bytes(values.dtype)
    needed += analysis.working_bytes(values.dtype, team)
    lend_blas()
    with room_for(needed):
        made = _compiled.factorize(
            analysis.payload, pattern.slot.numpy(), pattern.mirror.numpy(), values.numpy(), team
        )
    return [None if f is None else LuFactor(f, analysis, values.dtype) for f in made]


def solve_batch(
    factors: list[LuFactor], b: Tensor, mode: str = "n", *, threads: int | None = None
) -> Tensor:
    """Solve one system per factor: ``b`` ``[B, n, K]``, factors of one dtype and analysis."""
    first = factors[0]
    b = plain(b, first.dtype)
    expect_shape(b, "b", (len(factors), first.analysis.n, b.shape[-1]))
    x = empty(tuple(b.shape), first.dtype)
    team = resolve_threads(threads, 4 * first.analysis.factor_nnz * len(factors) * b.shape[2])
    payloads = [factor.payload for factor in factors]
    _compiled.solve(payloads, b.numpy(), x.numpy(), mode != "n", mode == "h", team)
    return x
