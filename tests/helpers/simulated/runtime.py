"""Waits, late copies, graphs, events and streams of the simulated device."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "DEVICE",
    "Event",
    "Graph",
    "Stream",
    "counted",
    "fetched",
    "recorded",
    "rubbish",
    "state",
    "wait",
    "waits",
]

DEVICE = torch.device("cuda", 0)

waits: Counter[str] = Counter()  # by place
fetched: Counter[str] = Counter()  # bytes that the host read, by place


def wait(size: int = 0) -> None:
    """The host waits until the device has done everything, and reads `size` bytes."""
    if state.recording is not None:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
    here = place()
    waits[here] += 1
    fetched[here] += size
    state.arrive()


def place() -> str:
    """Line of the package that asked for what the simulation does."""
    frame: Any = sys._getframe(2)
    while frame is not None and "/torch_sla/" not in frame.f_code.co_filename:
        frame = frame.f_back
    if frame is None:
        return "elsewhere"
    return f"{frame.f_code.co_filename.rsplit('/torch_sla/', 1)[-1]}:{frame.f_lineno}"


@contextmanager
def counted(*besides: str) -> Iterator[Counter[str]]:
    """Count waits by place, ``seen["file.py:12"]``, at the end of the block, but those of some files or folders.

    Without triton, kernels in torch wait where those of Triton do not: ``counted("linalg/kernels/")``.
    """
    before, seen = waits.copy(), Counter[str]()
    yield seen
    seen.update({k: n for k, n in (waits - before).items() if not k.startswith(besides)})


def rubbish(dtype: torch.dtype) -> Any:
    if dtype.is_floating_point or dtype.is_complex:
        return float("nan")
    return True if dtype is torch.bool else 77


class _State:
    """What is under way: copies that have not arrived, and the graph that is being recorded."""

    def __init__(self) -> None:
        self.recording: Graph | None = None
        self._late: list[tuple[int, Tensor, Tensor]] = []
        self.serial = 0

    def later(self, target: Tensor, value: Tensor) -> None:
        self.serial += 1
        self._late.append((self.serial, target, value))

    def arrive(self, until: int | None = None) -> None:
        due = [one for one in self._late if until is None or one[0] <= until]
        self._late = [one for one in self._late if one not in due] if until is not None else []
        for _, target, value in due:
            target.copy_(value)

    def before(self, func: Any, args: Any, kwargs: Any) -> None:
        if self.recording is not None:
            self.recording.keep(_written(func, args, kwargs))

    def after(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        if self.recording is not None:
            self.recording.add(func, args, kwargs, out)


state = _State()


def _written(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    found: list[Any] = []
    for i, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            found += tree_leaves(args[i] if i < len(args) else kwargs.get(argument.name))
    return [t for t in found if isinstance(t, Tensor)]


class Graph:
    """Stands for `torch.cuda.CUDAGraph`."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self._steps: list[Any] = []
        self._kept: list[tuple[Tensor, Tensor]] = []
        self._made: list[Tensor] = []

    def capture_begin(self, *_: Any, **__: Any) -> None:
        if state.recording is not None:
            raise RuntimeError("a graph is being recorded already")
        state.recording = self

    def capture_end(self) -> None:
        state.recording = None
        for tensor, value in reversed(self._kept):
            tensor.copy_(value)
        self._kept.clear()
        for tensor in self._made:
            tensor.fill_(rubbish(tensor.dtype))

    def keep(self, tensors: list[Tensor]) -> None:
        """Remember what is written to while recording, for it must not be."""
        self._kept += [(t, t.clone()) for t in tensors]

    def add(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        inside = {_address(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        new = [t for t in tree_leaves(out) if isinstance(t, Tensor) and _address(t) not in inside]
        written = bool(_written(func, args, kwargs))
        self._made += new
        if new or written:
            self._steps.append(lambda: self._again(func, args, kwargs, out, new))

    @staticmethod
    def _again(func: Any, args: Any, kwargs: Any, out: Any, new: list[Tensor]) -> None:
        made = func(*args, **kwargs)
        if new:
            for old, fresh in zip(tree_leaves(out), tree_leaves(made), strict=True):
                if isinstance(old, Tensor) and any(old is t for t in new):
                    old.copy_(fresh)

    def launched(self, tensors: list[Tensor], kernel: Any) -> None:
        self.keep(tensors)
        self._steps.append(kernel)

    def replay(self) -> None:
        with _disable_current_modes():
            for step in self._steps:
                step()

    def reset(self) -> None:
        self._steps.clear()

    def pool(self) -> int:
        return 0


def _address(t: Tensor) -> int:
    return t.untyped_storage().data_ptr()


@contextmanager
def recorded(graph: Graph, *_: Any, **__: Any) -> Iterator[None]:
    graph.capture_begin()
    try:
        yield
    finally:
        graph.capture_end()


class Event:
    """Stands for `torch.cuda.Event`."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self._serial = 0

    def record(self, *_: Any) -> None:
        self._serial = state.serial

    def synchronize(self) -> None:
        if state.recording is not None:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        state.arrive(self._serial)

    def wait(self, *_: Any) -> None:
        """Work of a stream waits for this event: here all work is done at once."""

    def query(self) -> bool:
        self.synchronize()
        return True

    def elapsed_time(self, _: Event) -> float:
        return 1.0


class Stream:
    """Stands for `torch.cuda.Stream`."""

    cuda_stream: ClassVar[int] = 0
    device: ClassVar[torch.device] = DEVICE

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def wait_stream(self, _: Any) -> None:
        """All work is done at once."""

    def wait_event(self, _: Any) -> None:
        """All work is done at once."""

    def synchronize(self) -> None:
        wait()

    def record_event(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record()
        return event
