"""P1: linear functions on simplices, one node per vertex."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from torch_sla.assembly.elements.element import Element

__all__ = ["P1"]


@dataclass(frozen=True)
class P1(Element):
    """Barycentric coordinates of a line, a triangle or a tetrahedron.

    Examples
    --------
    >>> P1("triangle").values(torch.tensor([0.25, 0.5]))
    tensor([0.2500, 0.2500, 0.5000])
    """

    order: ClassVar[int] = 1
    cells: ClassVar[tuple[str, ...]] = ("line", "triangle", "tetra")

    @property
    def entity_nodes(self) -> tuple[int, int, int, int]:
        """One node per vertex."""
        return (1, 0, 0, 0)

    def values(self, X: torch.Tensor) -> torch.Tensor:
        """Evaluate ``(1 - X1 - ... , X1, ...)``: ``[..., dim + 1]``."""
        return torch.cat([1.0 - X.sum(-1, keepdim=True), X], -1)

    def gradients(self, X: torch.Tensor) -> torch.Tensor:
        """Return the constant reference gradients ``[..., dim + 1, dim]``."""
        dim = X.shape[-1]
        eye = torch.eye(dim, dtype=X.dtype, device=X.device)
        table = torch.cat([-torch.ones_like(eye[:1]), eye])
        return table.expand(*X.shape[:-1], dim + 1, dim)
