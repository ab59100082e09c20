"""What indices hold, as a key of what is kept for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.utils.weak import WeakTensorKeyDictionary

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["contents"]

_KNOWN = WeakTensorKeyDictionary()


def contents(index: Tensor) -> bytes:
    """Return the numbers of a tensor as bytes; those of one on a device are fetched once.

    Examples
    --------
    >>> import torch
    >>> list(contents(torch.tensor([1, 2], dtype=torch.int8)))
    [1, 2]
    """
    if index.is_cpu or index.is_inference():
        return index.detach().cpu().numpy().tobytes()
    known: tuple[int, bytes] | None = _KNOWN.get(index)
    if known is None or known[0] != index._version:
        known = _KNOWN[index] = (index._version, index.detach().cpu().numpy().tobytes())
    return known[1]
