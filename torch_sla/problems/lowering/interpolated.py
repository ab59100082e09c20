"""Laws by points: tables and regular grids, linear in between, differentiable in where they are asked."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import DTypeError, SpecError

if TYPE_CHECKING:
    from torch_sla.problems.specs.value import Grid, Table

__all__ = ["on_grid", "tabulated"]


def tabulated(table: Table, x: Tensor, path: str) -> Tensor:
    """Evaluate a table at ``x`` of any shape.

    Raises
    ------
    DTypeError
        If ``x`` is complex; it names the path.

    Examples
    --------
    >>> from torch_sla import Table
    >>> law = Table(of="u", at=[0.0, 1.0, 3.0], values=[1.0, 2.0, 0.0])
    >>> tabulated(law, torch.tensor([-1.0, 0.5, 2.0, 9.0]), "source").tolist()
    [1.0, 1.5, 1.0, 0.0]
    """
    if x.is_complex():
        raise DTypeError(
            f"{path}: the table is of {table.of}, which is complex; its points are real: take real() or abs() of it"
        )
    # In double precision: points of a jump, which are close to each other, may be one in another.
    at, values = (
        torch.tensor(row, dtype=torch.float64, device=x.device) for row in (table.at, table.values)
    )
    inside = x.to(torch.promote_types(x.dtype, at.dtype)).clamp(table.at[0], table.at[-1])
    left = (
        torch.searchsorted(at, inside.detach().contiguous(), right=True).clamp(1, len(at) - 1) - 1
    )
    share = (inside - at[left]) / at.diff()[left]
    # Exact at both points of an interval, of whatever size the values there are.
    return torch.lerp(values[left], values[left + 1], share).to(x.dtype)


def on_grid(grid: Grid, values: Tensor, x: Tensor, path: str) -> Tensor:
    """Evaluate numbers on a grid at points ``[..., dim]``.

    Raises
    ------
    SpecError
        If grid, array and points have different dimensions, or a direction has one point only.
    """
    dim = x.shape[-1]
    if values.ndim != dim or len(grid.lower) != dim or min(values.shape) < 2:
        raise SpecError(
            f"a grid in {dim}D needs an array of {dim} dimensions of at least 2 points and corners of {dim} "
            f"coordinates; received {list(values.shape)} and {len(grid.lower)}",
            path=path,
        )
    first, share = [], []
    for d, (low, high) in enumerate(zip(grid.lower, grid.upper, strict=True)):
        n = values.shape[d]
        t = ((x[..., d] - low) / (high - low)).clamp(0.0, 1.0) * (n - 1)
        i = t.detach().floor().long().clamp(max=n - 2)
        first.append(i)
        share.append(t - i)
    total = torch.zeros_like(x[..., 0])
    for corner in product((0, 1), repeat=dim):
        weight = torch.ones_like(total)
        for d, c in enumerate(corner):
            weight = weight * (share[d] if c else 1.0 - share[d])
        total = total + weight * values[tuple(first[d] + c for d, c in enumerate(corner))]
    return total
