"""Sums of products of tables, of which nothing of the size of all points times members is ever written.

Face of ``csrc/bindings/tables.cpp``; records no gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from torch_sla._core import extension
from torch_sla.linalg.kernels.threads import resolve_threads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["MOST", "add_products", "multiplies"]

MOST = 3
"""Tables of one product."""


def multiplies(dtype: torch.dtype) -> bool:
    """Whether `add_products` takes values of a dtype: where the extension is, real ones."""
    return extension is not None and dtype in (torch.float32, torch.float64)


def add_products(
    y: Tensor,
    crow: Tensor,
    ccol: Tensor,
    slots: Tensor,
    values: Tensor,
    tables: Sequence[Tensor],
    levels: Sequence[Tensor],
    weight: Tensor | None = None,
    *,
    component: int = 0,
    components: int = 1,
    start: Tensor | None = None,
    threads: int | None = None,
) -> None:
    """Add to each row of `y` the sum of its matrix entries, each times a product of tables at the point of its column.

    Parameters
    ----------
    y
        ``[n_rows, members]``, contiguous, is written.
    crow, ccol
        Rows of the matrix, int32. A column is ``point * components + component``.
    slots
        Where the values of the entries are in `values`.
    tables
        One to three, each ``[levels, members]``.
    levels
        Which row of each table a point has, int32 ``[points]``.
    weight
        A factor for each point ``[points]``.
    component, components
        Of a law with several: the one that counts; the entries of others are passed over.
    start
        ``[n_rows]``: what the rows of `y` begin with; without it, what they hold.

    Examples
    --------
    >>> y = torch.zeros(1, 2, dtype=torch.float64)
    >>> some = torch.arange(2, dtype=torch.int32)
    >>> table = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
    >>> add_products(
    ...     y,
    ...     2 * some,
    ...     some,
    ...     some,
    ...     torch.ones(2, dtype=torch.float64),
    ...     [table, table],
    ...     [some, some],
    ... )
    >>> y.tolist()
    [[10.0, 20.0]]
    """
    extension.tables.add_products(  # type: ignore[union-attr]
        crow.numpy(),
        ccol.numpy(),
        slots.numpy(),
        values.numpy(),
        [table.numpy() for table in tables],
        [level.numpy() for level in levels],
        None if weight is None else weight.numpy(),
        component,
        components,
        None if start is None else start.numpy(),
        y.numpy(),
        resolve_threads(threads, ccol.numel() * y.shape[1]),
    )
