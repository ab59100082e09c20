"""How many threads a kernel uses."""

from __future__ import annotations

import os
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import torch

from torch_sla.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["SMALL_WORK", "ForkLock", "FreshLock", "one_thread_each", "resolve_threads", "spread"]

T = TypeVar("T")
R = TypeVar("R")

# Below this many elementary operations (multiply-adds, moved entries) a region ends sooner than a
# second thread starts: 20 microseconds of starting at about one operation per nanosecond.
SMALL_WORK = 100_000

_forked = False
_member = threading.local()
_teams = 0  # that run at this time, and torch's number before the first of them
_every = 1


class ForkLock:
    """A lock that a fork waits for, so that what it guards is whole in the child, and free.

    It is for compiled work on one object, which has a lock of its own that would stay taken there. Who holds one
    takes no other.

    Attributes
    ----------
    held
        What a ``with`` takes. It is one of Python's own, since a signal that came within an ``__enter__`` written in
        Python, behind the taking, would leave it taken for ever.

    Examples
    --------
    >>> lock = ForkLock()
    >>> with lock.held:
    ...     pass
    """

    def __init__(self) -> None:
        self.held = threading.RLock()
        _fork_locks.add(self)


class FreshLock:
    """A lock that is free in a forked child, whoever held it in the parent: for short work on Python's own objects.

    Attributes
    ----------
    held
        What a ``with`` takes, as that of `ForkLock`.

    Examples
    --------
    >>> lock = FreshLock()
    >>> with lock.held:
    ...     pass
    """

    def __init__(self) -> None:
        self.renew()
        _fresh_locks.add(self)

    def renew(self) -> None:
        """Forget who holds it."""
        self.held = threading.Lock()


_fresh_locks: weakref.WeakSet[FreshLock] = weakref.WeakSet()
_guard = FreshLock()
_fork_locks: weakref.WeakSet[ForkLock] = weakref.WeakSet()
_taken: list[ForkLock] = []


def _before_fork() -> None:
    # While one is waited for, other threads may make new ones.
    while fresh := [lock for lock in _fork_locks.copy() if lock not in _taken]:
        for lock in fresh:
            lock.held.acquire()
            _taken.append(lock)


def _after_fork() -> None:
    while _taken:
        _taken.pop().held.release()


def _after_fork_in_child() -> None:
    global _forked, _teams
    _forked, _teams = True, 0
    for lock in _fresh_locks:
        lock.renew()
    # The threads of OpenMP did not come along, and a torch operation that waited for them would
    # wait for ever; torch's own data loaders do the same in their workers.
    torch.set_num_threads(1)
    _after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child
    )


def spread(function: Callable[[T], R], items: Iterable[T], work: int) -> list[R]:
    """Apply `function`, which releases the interpreter's lock, to items in several threads.

    Kernels and operations of torch that it calls have one thread each.

    Parameters
    ----------
    function, items
        Results come in the order of the items, and do not depend on the number of threads.
    work
        Elementary operations of all together.

    Examples
    --------
    >>> spread(lambda x: x + 1, [1, 2, 3], work=10)
    [2, 3, 4]
    """
    team = resolve_threads(None, work)
    if team == 1:
        return [function(item) for item in items]
    with one_thread_each(), ThreadPoolExecutor(team, initializer=_as_member) as pool:
        return list(pool.map(function, items))


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Set torch's number of threads to one meanwhile: new threads take it up, and would start teams of their own.

    The number is one for the whole process, and what another team has made of it is not what to return to.
    """
    global _teams, _every
    counted = False
    try:
        with _guard.held:
            if _teams == 0:
                _every = torch.get_num_threads()
            _teams, counted = _teams + 1, True
            torch.set_num_threads(1)
        yield
    finally:
        if counted:
            with _guard.held:
                _teams -= 1
                torch.set_num_threads(_every)


def _as_member() -> None:
    _member.of_a_team = True


def resolve_threads(threads: int | None, work: int) -> int:
    """Return the number of threads for a region of `work` elementary operations.

    Parameters
    ----------
    threads
        A positive number is obeyed. None means torch's intra-op count, cut to one in a forked
        child and in a thread of `spread`, and to one per `SMALL_WORK` operations, so that short
        kernels never lose from threading.
    work
        Elementary operations in the region.

    Raises
    ------
    ArgumentError
        If `threads` is given and not positive.

    Examples
    --------
    >>> resolve_threads(3, work=10)
    3
    >>> resolve_threads(None, work=10)
    1
    """
    if threads is not None:
        if threads < 1:
            raise ArgumentError(
                f"`threads` is {threads}; give a positive number, or None for torch's count"
            )
        return threads
    if _forked or work < 2 * SMALL_WORK or getattr(_member, "of_a_team", False):
        return 1
    return max(1, min(torch.get_num_threads(), work // SMALL_WORK))
