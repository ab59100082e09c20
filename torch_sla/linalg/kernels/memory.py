"""How much memory is left, and how much of it is kept for the next factors, hierarchies and solutions."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch_sla._core import extension
from torch_sla.errors import Result, SolveError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["available_bytes", "keep_at_most", "kept_bytes", "release", "room_for", "total_bytes"]

# Asking what is free takes longer than a factorisation in so many bytes.
_ALWAYS_FREE = 1 << 20

_pool: Any = None if extension is None else extension.memory


def _read_int(path: str) -> int | None:
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):  # absent, unreadable, or "max"
        return None


def available_bytes() -> int:
    """Bytes that can be allocated without swapping: what the system says, within the container's limit.

    Examples
    --------
    >>> available_bytes() > 0
    True
    """
    free = sys.maxsize
    if hasattr(os, "sysconf"):
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("MemAvailable:"):
            free = 1024 * int(line.split()[1])
    limit, used = (_read_int(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    if limit is not None and used is not None:
        free = min(free, max(0, limit - used))
    return free


@contextmanager
def room_for(needed: int) -> Iterator[None]:
    """Factorise in here, in so many bytes.

    Raises
    ------
    SolveError
        ``OUT_OF_MEMORY``: before anything is allocated where less is free, else where the system refuses.
    """
    free = needed if needed <= _ALWAYS_FREE else available_bytes()
    if needed > free:
        raise SolveError(
            Result.OUT_OF_MEMORY,
            f"the factors need {needed / 2**30:.3g} GiB and {free / 2**30:.3g} GiB are free",
        )
    try:
        yield
    except MemoryError as error:
        raise SolveError(Result.OUT_OF_MEMORY, "the factors could not be allocated") from error


@cache
def total_bytes() -> int:
    """Bytes the machine has, within the container's limit: the same all the time, unlike what is free.

    Examples
    --------
    >>> total_bytes() > 0
    True
    """
    total = sys.maxsize
    if hasattr(os, "sysconf"):
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _read_int("/sys/fs/cgroup/memory.max")
    return total if limit is None else min(total, limit)


def keep_at_most(nbytes: int) -> None:
    """Bound the memory that factors, hierarchies and results of the compiled kernels leave for the next ones.

    Only large blocks are kept. Their pages stay in place, and the system may take them when it runs short.
    """
    if _pool is not None:
        _pool.keep_at_most(nbytes)


def kept_bytes() -> int:
    """Bytes that are kept now.

    Examples
    --------
    >>> release()
    >>> kept_bytes()
    0
    """
    return 0 if _pool is None else int(_pool.kept_bytes())


def release() -> None:
    """Give all of it back to the system."""
    if _pool is not None:
        _pool.release()
