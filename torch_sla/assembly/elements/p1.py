"""P1: linear functions on simplices, one node per vertex."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch_sla.assembly.elements.element import Element, barycentric

if TYPE_CHECKING:
    import torch

__all__ = ["P1"]


@dataclass(frozen=True)
class P1(Element):
    """Barycentric coordinates of a line, a triangle or a tetrahedron.

    Examples
    --------
    >>> import torch
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
        return barycentric(X)[0]

    def gradients(self, X: torch.Tensor) -> torch.Tensor:
        """Return the constant reference gradients ``[..., dim + 1, dim]``."""
        slopes = barycentric(X)[1]
        return slopes.expand(*X.shape[:-1], *slopes.shape)
