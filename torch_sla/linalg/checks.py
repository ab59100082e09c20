"""Conditions that a device tells together: each time the host reads one alone, it waits until the device is idle.

What must hold is handed to `require` beside the error it is otherwise, a question to `told`. On the host both
are answered at once. On a device they are gathered inside `together`, and while a backward pass runs, and read in
one go when an answer is needed, by `settle`, or at the end. The order in which they were asked is kept: the
error is the one that looking at once would have raised, also where something else has failed since.
"""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from contextvars import ContextVar
from threading import RLock
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Judge = Callable[[list[float]], Callable[[], Exception] | None]

__all__ = [
    "Answer",
    "ask",
    "gathers",
    "read",
    "require",
    "settle",
    "together",
    "told",
    "was_asked",
]

_wrapped = torch._C._functorch.is_functorch_wrapped_tensor


class Answer:
    """Whether something holds on a device; as a truth value it is read, with all that was asked before and after."""

    def __init__(self, asked: _Asked) -> None:
        self._asked = asked
        self.known: bool | None = None

    def __bool__(self) -> bool:
        if self.known is None:
            self._asked.settle()
        return bool(self.known)


class _Asked:
    """Conditions that have not been read, in their order; a backward pass has a thread for each device."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Tensor, Judge]] = deque()
        self._reading = RLock()

    def add(self, holds: Tensor, fault: Callable[[], Exception] | None) -> Answer:
        answer = Answer(self)

        def judge(found: list[float]) -> Callable[[], Exception] | None:
            answer.known = bool(found[0])
            return None if answer.known else fault

        self.ask(holds, judge)
        return answer

    def ask(self, numbers: Tensor, judge: Judge) -> None:
        self._waiting.append((numbers, judge))

    def told(self) -> None:
        """Read them, at the end of what gathered them."""
        self.settle()

    def settle(self, *beside: Tensor) -> list[float]:
        with self._reading:  # what another thread reads is known when this returns
            return self._settle(*beside)

    def _settle(self, *beside: Tensor) -> list[float]:
        waiting = [self._waiting.popleft() for _ in range(len(self._waiting))]
        parts = [numbers.flatten().double() for numbers, _ in waiting]
        parts += [numbers.flatten().double() for numbers in beside]
        if not parts:
            return []
        found = torch.cat([part.to(parts[0].device) for part in parts]).tolist()
        faults = []
        for part, (_, judge) in zip(parts, waiting, strict=False):
            faults.append(judge(found[: part.numel()]))
            found = found[part.numel() :]
        for fault in filter(None, faults):
            raise _asked(fault()) from None
        return found


def _asked(error: Exception) -> Exception:
    error.__dict__["_asked"] = True
    return error


def was_asked(error: Exception) -> bool:
    """Whether an error comes from what was asked before, not from what has been tried."""
    return "_asked" in error.__dict__


_SCOPE: ContextVar[_Asked | None] = ContextVar("_SCOPE", default=None)
_BACKWARD: WeakValueDictionary[int, _Asked] = WeakValueDictionary()


def _current() -> _Asked | None:
    """Return where conditions are gathered: the backward pass that runs here, else the innermost scope."""
    task = torch._C._current_graph_task_id()
    if task == -1:
        return _SCOPE.get()
    asked = _BACKWARD.get(task)
    if asked is None:
        _BACKWARD[task] = asked = _Asked()
        # It keeps them as long as the pass runs, and no longer where that fails.
        torch.autograd.Variable._execution_engine.queue_callback(asked.told)
    return asked


def require(holds: Tensor, fault: Callable[[], Exception]) -> None:
    """Raise what `fault` makes unless `holds`, a scalar: at once on the host, together on a device.

    Examples
    --------
    >>> import torch
    >>> require(torch.tensor(2.0) > 1.0, lambda: ValueError("too small"))
    """
    asked = None if holds.is_cpu or _wrapped(holds) else _current()
    if asked is not None:
        asked.add(holds, fault)
    elif not bool(holds):
        raise fault()


def told(holds: Tensor) -> bool | Answer:
    """Return whether a scalar holds: on a device as what is read when its truth is asked for.

    Examples
    --------
    >>> import torch
    >>> told(torch.tensor(2.0) > 1.0)
    True
    """
    asked = None if holds.is_cpu or _wrapped(holds) else _current()
    return bool(holds) if asked is None else asked.add(holds, None)


def gathers(x: Tensor) -> bool:
    """Whether what is asked about `x` is gathered: it is on a device, in `together` or a backward pass."""
    return not (x.is_cpu or _wrapped(x)) and _current() is not None


def ask(numbers: Tensor, judge: Judge) -> None:
    """Have real numbers read with whatever is read next; `judge` tells what makes the error, or None.

    Examples
    --------
    >>> import torch
    >>> ask(torch.tensor([1.0, 2.0]), lambda found: ValueError if sum(found) > 5 else None)
    """
    asked = _current() if gathers(numbers) else None
    if asked is not None:
        asked.ask(numbers, judge)
        return
    fault = judge(numbers.flatten().tolist())
    if fault is not None:
        raise fault()


def settle() -> None:
    """Read what has been asked so far, before work that is in vain where something does not hold."""
    asked = _current()
    if asked is not None:
        asked.settle()


def read(*numbers: Tensor) -> list[float]:
    """Return real numbers and truth values to the host: from a device with one wait, which settles what has been asked.

    Examples
    --------
    >>> import torch
    >>> read(torch.tensor([1.0, 2.0]), torch.tensor(True))
    [1.0, 2.0, True]
    """
    if any(x.is_cpu or _wrapped(x) for x in numbers):
        return [number for x in numbers for number in x.flatten().tolist()]
    return (_current() or _Asked()).settle(*numbers)


@contextmanager
def together() -> Iterator[None]:
    """Gather conditions; they are read at the end at the latest, and before any other error leaves."""
    asked = _current() or _Asked()
    token = _SCOPE.set(asked)
    try:
        yield
    except Exception:
        asked.settle()
        raise
    finally:
        _SCOPE.reset(token)
    asked.settle()
