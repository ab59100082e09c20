"""Counting, on the CPU, what torch code would cost a device: kernels, bytes they move, numbers sorted.

A kernel reads its tensors once and writes its result once; of a tensor that is only picked from, as
much is read as is picked. Sorting moves its data several times, hence what is sorted counts apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Passes", "tensors"]

_aten = torch.ops.aten
_PICKING = {_aten.index_select, _aten.index, _aten.gather}
_SORTING = {_aten.sort, _aten._unique2, _aten.unique_dim, _aten.unique_consecutive}


class Passes(TorchDispatchMode):
    """Counts `launches`, `bytes` and `sorted` of the torch operations inside."""

    def __init__(self) -> None:
        super().__init__()
        self.launches = self.bytes = self.sorted = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        returned = func._schema.returns
        if any(r.alias_info is not None and not r.alias_info.is_write for r in returned):
            return out  # a view
        made = list(tensors(out))
        packet = func.overloadpacket
        if packet in {_aten.empty, _aten.empty_like, _aten.new_empty, _aten.empty_strided}:
            return out
        self.launches += 1
        read = [*tensors(args), *tensors(tuple((kwargs or {}).values()))]
        if packet in _SORTING:
            self.sorted += read[0].numel()
        sizes = [t.numel() * t.element_size() for t in made]
        if packet in _PICKING:
            read = [t for t in read[1:] if t.dtype is not torch.bool]
            self.bytes += sum(sizes)
        self.bytes += sum(sizes) + sum(t.numel() * t.element_size() for t in read)
        return out

    def kernel(self, function: Callable[..., torch.Tensor], *args: Any) -> torch.Tensor:
        """Call what is one kernel on a device, however many operations it takes here."""
        with _disable_current_modes():
            out = function(*args)
        self.launches += 1
        self.bytes += sum(t.numel() * t.element_size() for t in (*tensors(args), out))
        return out


def tensors(thing: Any) -> Iterator[torch.Tensor]:
    """All tensors in nested tuples and lists."""
    if isinstance(thing, torch.Tensor):
        yield thing
    elif isinstance(thing, (tuple, list)):
        for part in thing:
            yield from tensors(part)
