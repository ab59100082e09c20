"""A matrix small enough to be gathered and inverted on every process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch_sla.linalg.distributed.sharding import Sharding

__all__ = ["GatheredInverse"]

# Of the largest singular value, below which a coarse matrix is singular; levels in single precision round more.
_NULL, _ROUNDING = 1e-12, 50.0


class GatheredInverse:
    """Generalised inverse of a small matrix in parts: every process has it, and one gather brings it a vector.

    It is the pseudoinverse of the matrix scaled by its diagonal, scaled back, so that small coefficients beside large
    ones do not pass for a null space.

    Parameters
    ----------
    sharding, values
        The matrix, slot values.

    Attributes
    ----------
    pivot
        Smallest singular value of the scaled matrix over the largest.
    """

    def __init__(self, sharding: Sharding, values: Tensor) -> None:
        self._layout = layout = sharding.rows
        comm, pattern = layout.comm, sharding.pattern
        key = (layout.start + pattern.csr_row.long()) * layout.n
        key += sharding.column_places[pattern.ccol.long()]
        flat = values.new_zeros(layout.n * layout.n)
        for place, entry in zip(comm.gather(key), comm.gather(values), strict=True):
            flat.index_add_(0, place, entry)
        # Inverted in double precision, whatever comes in and goes out.
        A = flat.reshape(layout.n, layout.n).to(torch.promote_types(values.dtype, torch.float64))
        size = A.diagonal().abs()
        scale = torch.where(size > 0, size, 1.0).rsqrt()
        A = A * scale * scale.unsqueeze(1)
        rounding = 1e3 * torch.finfo(values.dtype).eps
        null = max(_NULL, _ROUNDING * torch.finfo(values.dtype).eps)
        hermitian = bool((A - A.mH).abs().max() <= rounding * A.abs().max()) if A.numel() else True
        if hermitian:
            w, V = torch.linalg.eigh((A + A.mH) / 2)
            top = w.abs().max() if w.numel() else w.new_zeros(())
            kept = w.abs() > null * top
            self.pivot = float((w.abs().amin() / top).clamp(max=1.0)) if float(top) > 0 else 1.0
            inverse = (V[:, kept] / w[kept]) @ V[:, kept].mH
        else:
            inverse = torch.linalg.pinv(A, rtol=null)
            condition = torch.linalg.matrix_norm(A, 2) * torch.linalg.matrix_norm(inverse, 2)
            self.pivot = float(1 / condition) if float(condition) > 0 else 1.0
        inverse = inverse * scale * scale.unsqueeze(1)
        # Rows held here are all that is needed of it, and of its adjoint.
        here = slice(layout.start, layout.start + layout.n_held)
        self._rows, self._adjoint_rows = (
            t[here].to(values.dtype, copy=True) for t in (inverse, inverse.mH)
        )

    def turned(self, r: Tensor, adjoint: bool) -> Tensor:
        """`apply`, or that of the adjoint."""
        return self.apply(r, adjoint=adjoint)

    def apply(self, r: Tensor, *, adjoint: bool = False) -> Tensor:
        """Return ``A⁺ r`` for ``[n_held, K]``."""
        whole = torch.cat(self._layout.comm.gather(r))
        mine = self._adjoint_rows if adjoint else self._rows
        return mine @ whole
