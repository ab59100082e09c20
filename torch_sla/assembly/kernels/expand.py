"""Columns of the pattern of the dofs from the pattern of the nodes that carry them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torch_sla._core import extension
from torch_sla.linalg.kernels.arguments import empty, plain
from torch_sla.linalg.kernels.threads import resolve_threads
from torch_sla.linalg.sparse.transforms import outside_transforms, physical

__all__ = ["expand_columns"]

_compiled: Any = None if extension is None else extension.assembly


@outside_transforms
def expand_columns(
    starts: Tensor, columns: Tensor, first: Tensor, rows: Tensor, before: Tensor
) -> Tensor:
    """List, for every dof of every node, the dofs of the nodes in the node's row.

    Parameters
    ----------
    starts, columns
        Pattern of the nodes ``[n_nodes + 1]`` and ``[nnz]``, of one integer dtype.
    first
        First dof of each node, and their total ``[n_nodes + 1]`` int64.
    rows
        Row starts of the result ``[n + 1]`` int64.
    before
        Dofs in the columns before each entry of `columns`, and in all ``[nnz + 1]`` int64.

    Returns
    -------
    Tensor ``[rows[-1]]``, int32 where the number of entries fits.

    Examples
    --------
    >>> starts, columns = torch.tensor([0, 2, 3]), torch.tensor([0, 1, 1])
    >>> first, rows, before = (
    ...     torch.tensor([0, 1, 3]),
    ...     torch.tensor([0, 3, 5, 7]),
    ...     torch.tensor([0, 1, 3, 5]),
    ... )
    >>> expand_columns(starts, columns, first, rows, before).tolist()
    [0, 1, 2, 1, 2, 1, 2]
    """
    starts, columns, first, rows, before = map(physical, (starts, columns, first, rows, before))
    count = int(rows[-1])
    index = torch.int32 if count < 2**31 else torch.int64
    if _compiled is None or not starts.is_cpu:
        return _torch_expand(starts, columns, first, rows, before, index)
    out = empty((count,), index)
    arrays = (plain(t).numpy() for t in (starts, columns, first, rows))
    _compiled.expand_columns(*arrays, out.numpy(), resolve_threads(None, count))
    return out


def _torch_expand(
    starts: Tensor,
    columns: Tensor,
    first: Tensor,
    rows: Tensor,
    before: Tensor,
    index: torch.dtype,
) -> Tensor:
    sizes = first.diff()
    # Dofs of the columns of every node row, one after another.
    count = sizes[columns.long()]
    shift = first[:-1][columns.long()] - (count.cumsum(0) - count)
    dofs = shift.to(index).repeat_interleave(count)
    dofs += torch.arange(len(dofs), dtype=index, device=dofs.device)
    # Row (i, a) repeats those of node row i, once for every component a.
    shift = (before[starts[:-1].long()].repeat_interleave(sizes) - rows[:-1]).to(index)
    place = shift.repeat_interleave(rows.diff())
    place += torch.arange(len(place), dtype=index, device=place.device)
    return dofs.index_select(0, place)
