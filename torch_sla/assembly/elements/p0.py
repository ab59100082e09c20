"""P0: one constant per cell, for coefficients and pressures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from torch_sla.assembly.elements.element import Element

__all__ = ["P0"]


@dataclass(frozen=True)
class P0(Element):
    """The constant on any cell.

    Examples
    --------
    >>> P0("quad").n_nodes
    1
    """

    order: ClassVar[int] = 0
    cells: ClassVar[tuple[str, ...]] = ("line", "triangle", "quad", "tetra", "hexahedron")

    @property
    def entity_nodes(self) -> tuple[int, int, int, int]:
        """One node inside the cell."""
        return (0, 0, 0, 1)

    def values(self, X: torch.Tensor) -> torch.Tensor:
        """Return ones ``[..., 1]``."""
        return torch.ones_like(X[..., :1])

    def gradients(self, X: torch.Tensor) -> torch.Tensor:
        """Return zeros ``[..., 1, dim]``."""
        return torch.zeros_like(X[..., None, :])
