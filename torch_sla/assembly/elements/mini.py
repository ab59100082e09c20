"""MINI: linear functions and a bubble, the velocity of the cheapest stable pair for Stokes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from torch_sla.assembly.elements.element import Element, barycentric

__all__ = ["Mini"]


@dataclass(frozen=True)
class Mini(Element):
    """P1 enriched by the bubble ``(d+1)^(d+1) L_0 ... L_d``, in a nodal basis: the vertices and the centroid.

    With a P1 pressure it satisfies the inf-sup condition (Arnold, Brezzi and Fortin, Calcolo 21 (1984), 337-344).

    Examples
    --------
    >>> Mini("triangle").values(torch.tensor([1 / 3, 1 / 3])).abs() > 1e-6
    tensor([False, False, False,  True])
    """

    order: ClassVar[int] = 1
    cells: ClassVar[tuple[str, ...]] = ("triangle", "tetra")

    @property
    def degree(self) -> int:
        """Degree of the bubble."""
        return self.cell.dim + 1

    @property
    def is_affine(self) -> bool:
        """Never: gradients of the bubble vary inside a cell."""
        return False

    @property
    def entity_nodes(self) -> tuple[int, int, int, int]:
        """One node per vertex and one inside."""
        return (1, 0, 0, 1)

    def values(self, X: torch.Tensor) -> torch.Tensor:
        """Evaluate ``L_i - b / (d+1)`` and the bubble b: ``[..., d + 2]``."""
        L, _ = barycentric(X)
        m = L.shape[-1]
        bubble = float(m**m) * L.prod(-1, keepdim=True)
        return torch.cat([L - bubble / m, bubble], -1)

    def gradients(self, X: torch.Tensor) -> torch.Tensor:
        """Evaluate the reference gradients ``[..., d + 2, d]``."""
        L, slopes = barycentric(X)
        m = L.shape[-1]
        others = [L[..., [k for k in range(m) if k != i]].prod(-1) for i in range(m)]
        bubble = float(m**m) * (torch.stack(others, -1) @ slopes)[..., None, :]
        return torch.cat([slopes - bubble / m, bubble], -2)
