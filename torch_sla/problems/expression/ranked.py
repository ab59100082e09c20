"""Values of expressions: tensors that know which of their dimensions are components."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["Masked", "Ranked", "raised"]


class Ranked(NamedTuple):
    """A tensor ``[*batch, *sites, *shape]`` whose last ``rank`` dimensions are ``shape``."""

    tensor: Tensor
    rank: int = 0


def raised(value: Ranked, rank: int) -> Tensor:
    """Give a scalar the trailing dimensions it needs beside a vector or matrix."""
    missing = rank - value.rank
    return value.tensor.reshape((*value.tensor.shape, *[1] * missing))


class Masked(Mapping[str, Ranked]):
    """Names as they are where a mask holds, and as they are at one such place elsewhere."""

    def __init__(self, values: Mapping[str, Ranked], mask: Tensor) -> None:
        self.values_below, self.mask = values, mask
        flat = mask.detach().flatten().to(torch.uint8)
        self.place = int(flat.argmax()) if bool(flat.any()) else None
        self.everywhere = bool(flat.all())

    def __getitem__(self, name: str) -> Ranked:
        value = self.values_below[name]
        if self.everywhere:
            return value
        if self.place is None:
            return Ranked(value.tensor.detach(), value.rank)
        mask = raised(Ranked(self.mask), value.rank)
        tensor, mask = torch.broadcast_tensors(value.tensor, mask)
        sites = tensor.ndim - value.rank
        at = np.unravel_index(self.place, self.mask.shape) if self.mask.ndim else ()
        # The place in the mask, taken as the trailing site dimensions of the value.
        index = (0,) * (sites - len(at)) + tuple(int(i) for i in at)
        there = tensor.detach()[index] if sites else tensor.detach()
        return Ranked(torch.where(mask, tensor, there), value.rank)

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_below)

    def __len__(self) -> int:
        return len(self.values_below)
