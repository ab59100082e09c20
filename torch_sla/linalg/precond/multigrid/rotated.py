"""Hierarchies for complex matrices, made of real ones."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from torch_sla.linalg.precond.base import Renewable

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.precond.multigrid.hierarchy import Skeleton
    from torch_sla.linalg.precond.multigrid.levels import Level
    from torch_sla.linalg.precond.multigrid.options import AMG
    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure

__all__ = ["RotatedHierarchy"]


class RotatedHierarchy:
    """``B = e^{-iθ} R⁻¹`` with a real hierarchy for ``R = Re(e^{-iθ} A)``.

    Where the numerical range of ``A`` lies in a sector of half-angle φ about θ, ``R`` is definite and
    the eigenvalues of ``R⁻¹ e^{-iθ} A`` lie on ``1 + i [-tan φ, tan φ]``: a Hermitian definite matrix
    has φ = 0, ``K + iω M`` with semidefinite ``K`` and ``M`` at most a right angle in all, so that the
    iterations do not depend on ω. An indefinite matrix (waves) has no such sector. The sector is taken
    from the diagonal, which is what rough vectors see, and from the row sums, which smooth ones see.

    Parameters
    ----------
    pattern
        Square scalar pattern.
    values
        Complex slot values ``[nnz_csr]``.
    options, structure, like
        As for `Hierarchy`.

    Examples
    --------
    >>> import torch
    >>> from torch_sla.linalg.precond.multigrid.options import AMG
    >>> from torch_sla.linalg.sparse.pattern import Pattern
    >>> i = torch.arange(3)
    >>> pattern = Pattern.from_coo(i, i, (3, 3))
    >>> B = RotatedHierarchy(pattern, torch.full((3,), 2j, dtype=torch.complex128), AMG())
    >>> B.apply(torch.ones(3, 1, dtype=torch.complex128)).imag.round(decimals=6).flatten().tolist()
    [-0.5, -0.5, -0.5]
    """

    def __init__(
        self,
        pattern: Pattern,
        values: Tensor,
        options: AMG,
        *,
        structure: Structure | None = None,
        like: Skeleton | None = None,
    ) -> None:
        hermitian = structure is not None and bool(structure.hermitian)
        self._turn = _middle(pattern, values, hermitian=hermitian)
        part = (values * self._turn).real.contiguous()
        if structure is not None and hermitian:
            structure = replace(structure, symmetric=True)
        self.real: Any = options.build(pattern, part, structure, like=like)

    @property
    def levels(self) -> list[Level]:
        """Sizes of the levels, finest first."""
        return list(self.real.levels)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return int(self.real.nbytes)

    def skeleton(self) -> Skeleton | None:
        """Return what other values on this pattern can use again."""
        return self.real.skeleton() if isinstance(self.real, Renewable) else None

    def apply(self, r: Tensor) -> Tensor:
        """Return ``B r`` for ``r`` ``[n]`` or ``[n, K]``."""
        return self._parts(r, adjoint=False) * self._turn

    def apply_adjoint(self, r: Tensor) -> Tensor:
        """Return ``Bᴴ r``."""
        return self._parts(r, adjoint=True) * self._turn.conj()

    def _parts(self, r: Tensor, *, adjoint: bool) -> Tensor:
        """Real and imaginary parts are twice as many real columns."""
        flat = torch.view_as_real(r.resolve_conj().contiguous()).reshape(r.shape[0], -1)
        z: Tensor = self.real.apply_adjoint(flat) if adjoint else self.real.apply(flat)
        return torch.view_as_complex(z.reshape(*r.shape, 2))

    def __str__(self) -> str:
        return f"real part at phase {-float(self._turn.angle()):.3f}: {self.real}"


def _middle(pattern: Pattern, values: Tensor, *, hermitian: bool) -> Tensor:
    """``e^{-iθ}`` with θ in the middle of the sector; 1 for a Hermitian matrix."""
    one = torch.ones((), dtype=values.dtype, device=values.device)
    if hermitian:
        return one
    slots = pattern.diagonal_slots.long()
    diagonal = values[slots.clamp(min=0)] * (slots >= 0)
    total = diagonal.sum()
    if float(total.abs()) == 0.0:
        return one
    mean = total.conj() / total.abs()
    sums = pattern.sum_rows(values)
    seen = torch.cat([diagonal, sums[sums.abs() > 1e-9 * diagonal.abs()]]) * mean
    angles = seen[seen != 0].angle()
    middle = 0.5 * (angles.amin() + angles.amax())
    return mean * torch.polar(torch.ones_like(middle), -middle)
