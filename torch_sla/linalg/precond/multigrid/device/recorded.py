"""Kernels recorded as CUDA graphs and replayed: many short ones cost one launch."""

from __future__ import annotations

import gc
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from torch import Tensor

__all__ = ["Recorded", "on_device_of", "record"]


def on_device_of(x: Tensor) -> AbstractContextManager[Any]:
    """Make the device of `x` the current one, on whose streams graphs and events are."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def record(work: Callable[[], Any]) -> tuple[Any, Any] | None:
    """Record the kernels of `work` on the current device; they do not run.

    Kernels must have run before, since some are loaded when they are launched first.

    Parameters
    ----------
    work
        Launches kernels without waiting for the device.

    Returns
    -------
    tuple or None
        Graph, and what `work` returned; None where there is no memory for a graph, which has its own: in the
        meantime torch neither takes what it has kept of freed memory, nor gives it back.
    """
    for _ in range(2):
        with suppress(torch.OutOfMemoryError):
            return _record(work)
        torch.cuda.empty_cache()  # and what the attempt held, which its error kept alive
    return None


def _record(work: Callable[[], Any]) -> tuple[Any, Any]:
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    # What a collection frees may make the library wait, which would spoil the recording.
    collects = gc.isenabled()
    gc.disable()
    stream.wait_stream(torch.cuda.current_stream())
    try:
        with torch.cuda.stream(stream):
            graph.capture_begin(capture_error_mode="relaxed")
            try:
                result = work()
            finally:
                graph.capture_end()
    finally:
        if collects:
            gc.enable()
    torch.cuda.current_stream().wait_stream(stream)
    return graph, result


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
        with on_device_of(x):
            return self._replayed(x)

    def _replayed(self, x: Tensor) -> Tensor:
        key = (tuple(x.shape), x.dtype)
        if key not in self._graphs:  # the first call loads kernels
            if len(self._graphs) == self._shapes:
                self._graphs.pop(next(iter(self._graphs)))
            self._graphs[key] = None
            return self._function(x)
        held = self._graphs[key]
        if held is None:
            source = x.clone(memory_format=torch.contiguous_format)
            made = record(lambda: self._function(source))
            if made is None:
                self._largest = -1
                return self._function(x)
            held = self._graphs[key] = made[0], source, made[1]
        graph, source, result = held
        source.copy_(x)
        graph.replay()
        return result.clone()
