"""Unsymmetric matrices one at a time: LU with pivots inside fronts, proved by a solve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from torch_sla.linalg.backends.base import Numeric, Symbolic
from torch_sla.linalg.backends.native_lanes import UNSTABLE, PlacedAnalyses
from torch_sla.linalg.kernels import lu, sparse as kernels
from torch_sla.linalg.rcond import mixed_probe

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["factorize"]


def factorize(symbolic: Symbolic, values: Tensor) -> list[Numeric | None]:
    """Factorise ``[B, nnz_csr]``: None for members that need pivots from outside of a front."""
    shared: PlacedAnalyses = symbolic.payload
    pattern = symbolic.pattern
    made = lu.factorize(shared.analyses.get(), shared.places, values)
    probe = mixed_probe(pattern.shape[0], values)
    out: list[Numeric | None] = []
    for factor, member in zip(made, values, strict=True):
        growth = None if factor is None else _growth(symbolic, factor, member, probe)
        if factor is None or growth is None:
            out.append(None)
            continue
        moved = factor.interchanged
        notes = (f"{moved} row(s) interchanged inside fronts",) if moved else ()
        out.append(Numeric(symbolic, factor, factor.nbytes, notes, probed=growth))
    return out


def _growth(symbolic: Symbolic, factor: lu.LuFactor, values: Tensor, probe: Tensor) -> float | None:
    """Return the largest entry of a solution for `probe` ``[n, 1]``; None where it is not one."""
    p = symbolic.pattern
    x = factor.solve(probe)
    left = (probe - kernels.spmm(p.crow, p.ccol, values, x)).abs().amax()
    norm = p.sum_rows(values.abs()).amax()
    size = x.abs().amax()
    error = float(left / (norm * size + probe.abs().amax()))
    return float(size) if error <= UNSTABLE * torch.finfo(values.dtype).eps else None
