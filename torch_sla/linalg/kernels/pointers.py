"""Row pointers: where the entries of each row begin, and where the last ones end."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["kept_pointers", "pointers"]


def pointers(lengths: Tensor, dtype: torch.dtype = torch.int64) -> Tensor:
    """Return the pointers ``[n + 1]`` of rows of these lengths ``[n]``.

    Examples
    --------
    >>> import torch
    >>> pointers(torch.tensor([2, 0, 3])).tolist()
    [0, 2, 2, 5]
    """
    found = torch.zeros(lengths.numel() + 1, dtype=dtype, device=lengths.device)
    torch.cumsum(lengths, 0, dtype=dtype, out=found[1:])
    return found


def kept_pointers(crow: Tensor, keep: Tensor) -> Tensor:
    """Return the row pointers that are left of `crow` where only some entries are kept ``[nnz]``.

    Examples
    --------
    >>> import torch
    >>> crow, keep = torch.tensor([0, 2, 3]), torch.tensor([True, False, True])
    >>> kept_pointers(crow, keep).tolist()
    [0, 1, 2]
    """
    return pointers(keep, crow.dtype).index_select(0, crow)
