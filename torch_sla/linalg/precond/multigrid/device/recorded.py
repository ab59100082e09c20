"""Functions of one tensor, replayed as CUDA graphs: many short kernels cost one launch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

__all__ = ["Recorded"]


class Recorded:
    """Calls `function`; from the second call with one shape on, replays its kernels on CUDA.

    Parameters
    ----------
    function
        Tensor to new tensor, without waiting for the device. What else it reads must stay where it
        is for as long as this object is used.
    largest
        Elements above which nothing is recorded: launches hide behind the kernels, and memory that a
        graph keeps does not pay.
    shapes
        Number of shapes that graphs are kept for.

    Examples
    --------
    >>> import torch
    >>> twice = Recorded(lambda x: 2 * x, largest=100)
    >>> [twice(torch.ones(1)).item() for _ in range(3)]
    [2.0, 2.0, 2.0]
    """

    def __init__(
        self, function: Callable[[Tensor], Tensor], *, largest: int, shapes: int = 4
    ) -> None:
        self._function, self._largest, self._shapes = function, largest, shapes
        self._graphs: dict[Any, tuple[Any, Tensor, Tensor] | None] = {}

    def __call__(self, x: Tensor) -> Tensor:
        """Return ``function(x)``."""
        if not x.is_cuda or x.numel() > self._largest or torch.cuda.is_current_stream_capturing():
            return self._function(x)
        key = (tuple(x.shape), x.dtype)
        if key not in self._graphs:  # the first call compiles kernels, which a graph cannot
            if len(self._graphs) == self._shapes:
                self._graphs.pop(next(iter(self._graphs)))
            self._graphs[key] = None
            return self._function(x)
        held = self._graphs[key]
        if held is None:
            source = x.clone(memory_format=torch.contiguous_format)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                result = self._function(source)
            held = self._graphs[key] = graph, source, result
        graph, source, result = held
        source.copy_(x)
        graph.replay()
        return result.clone()
