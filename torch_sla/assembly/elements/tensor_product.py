"""Tensor products of one-dimensional Lagrange polynomials on [0, 1]."""

from __future__ import annotations

import torch

from torch_sla.assembly.elements.element import Element
from torch_sla.linalg.kernels.ordered import taken

__all__ = ["TensorProduct"]


def _lagrange(x: torch.Tensor, order: int) -> torch.Tensor:
    """Lagrange polynomials on the nodes 0, 1 or 0, 1/2, 1: ``[..., order + 1]``."""
    if order == 1:
        return torch.stack([1.0 - x, x], -1)
    return torch.stack([(1.0 - x) * (1.0 - 2.0 * x), 4.0 * x * (1.0 - x), x * (2.0 * x - 1.0)], -1)


def _slopes(x: torch.Tensor, order: int) -> torch.Tensor:
    """Their derivatives ``[..., order + 1]``."""
    if order == 1:
        return torch.stack([-torch.ones_like(x), torch.ones_like(x)], -1)
    return torch.stack([4.0 * x - 3.0, 4.0 - 8.0 * x, 4.0 * x - 1.0], -1)


def _factors(
    X: torch.Tensor, nodes: torch.Tensor, order: int
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Per direction, the one-dimensional factor (and slope) of every node: ``[..., n_nodes]``."""
    index = (nodes * order).round().long().to(X.device)
    values = [taken(_lagrange(X[..., d], order), index[:, d], -1) for d in range(X.shape[-1])]
    slopes = [taken(_slopes(X[..., d], order), index[:, d], -1) for d in range(X.shape[-1])]
    return values, slopes


class TensorProduct(Element):
    """A Lagrange element on equally spaced nodes of a quadrilateral or a hexahedron."""

    def values(self, X: torch.Tensor) -> torch.Tensor:
        """Evaluate the basis functions at ``X [..., dim]``: ``[..., n_nodes]``."""
        values, _ = _factors(X, self.nodes, self.order)
        result = values[0]
        for factor in values[1:]:
            result = result * factor
        return result

    def gradients(self, X: torch.Tensor) -> torch.Tensor:
        """Evaluate their reference gradients ``[..., n_nodes, dim]``."""
        values, slopes = _factors(X, self.nodes, self.order)
        columns = []
        for d in range(len(values)):
            column = slopes[d]
            for other, factor in enumerate(values):
                if other != d:
                    column = column * factor
            columns.append(column)
        return torch.stack(columns, -1)
