"""How much memory is left."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path

__all__ = ["available_bytes", "total_bytes"]


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
