"""Bounded memory of analyses and factors, shared by the whole process."""

from __future__ import annotations

import os
import threading
import weakref
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = [
    "FactorCache",
    "cache_counters",
    "clear_factor_cache",
    "count",
    "memory_share",
    "numerics",
    "symbolics",
]


class _Sized(Protocol):
    @property
    def nbytes(self) -> int:
        """Bytes held."""


T = TypeVar("T", bound=_Sized)


class FactorCache:
    """Least-recently-used store, bounded in bytes of each memory, safe to use from several threads.

    Whoever needs an item asks for it with the means to make it; an evicted one is simply made
    again. The newest item is kept even when it is larger than the bound, since its adjoint is about
    to ask for it.

    Parameters
    ----------
    limit
        Bound in bytes, or what tells it for a device.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> cache = FactorCache(limit=100)
    >>> make = lambda: SimpleNamespace(nbytes=60)
    >>> cache.get("a", make) is cache.get("a", make)
    True
    >>> _ = cache.get("b", make)
    >>> len(cache), cache.nbytes
    (1, 60)
    """

    def __init__(self, limit: int | Callable[[str], int]) -> None:
        self._limit = limit
        # A plain dict keeps its order too, and is walked without hashing keys.
        self._items: dict[Hashable, _Sized] = {}
        self._sizes: dict[Hashable, tuple[str, int]] = {}
        self._totals: Counter[str] = Counter()
        self._users: dict[Hashable, weakref.WeakSet[object]] = {}
        self._lock = threading.Lock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def get(
        self, key: Hashable, make: Callable[[], T], user: object = None, *, place: str = "cpu"
    ) -> T:
        """Return the item of `key`, calling `make` when there is none.

        As long as `user` lives the item may be asked for again, and `retire` leaves it alone. `place`
        is the device in whose memory it lies.
        """
        with self._lock:
            found = self._items.pop(key, None)
            if found is not None:
                self._items[key] = found
                self._enlist(key, user)
                return found  # type: ignore[return-value]
        made = make()
        with self._lock:
            gone = [self._take(key)]
            self._items[key] = made
            self._enlist(key, user)
            gone += self._weigh(key, place)
        gone.clear()  # outside of the lock: what goes may call back
        return made

    def measure(self, key: Hashable) -> None:
        """Look again at the size of an item that has grown, if it is there."""
        with self._lock:
            gone = self._weigh(key, self._sizes[key][0]) if key in self._items else []
        gone.clear()

    def drop(self, key: Hashable) -> None:
        """Forget an item, if it is there."""
        with self._lock:
            self._users.pop(key, None)
            gone = self._take(key)
        del gone  # outside of the lock

    def _weigh(self, key: Hashable, place: str) -> list[_Sized | None]:
        """Note the size of an item, and take out what there is no room for beside it."""
        nbytes = self._items[key].nbytes
        self._totals[place] += nbytes - self._sizes.get(key, (place, 0))[1]
        self._sizes[key] = (place, nbytes)
        limit = self._limit if isinstance(self._limit, int) else self._limit(place)
        gone: list[_Sized | None] = []
        if self._totals[place] > limit:
            for old in [k for k in self._items if k != key and self._sizes[k][0] == place]:
                if self._totals[place] <= limit:
                    break
                self._users.pop(old, None)
                gone.append(self._take(old))
        return gone

    def _enlist(self, key: Hashable, user: object) -> None:
        if user is not None:
            self._users.setdefault(key, weakref.WeakSet()).add(user)

    def _take(self, key: Hashable) -> _Sized | None:
        """Remove an item and its size, where it is there."""
        place, nbytes = self._sizes.pop(key, ("cpu", 0))
        self._totals[place] -= nbytes
        return self._items.pop(key, None)

    def retire(self, family: tuple[Hashable, ...], keep: int) -> None:
        """Forget all but the `keep` newest items of a family that have no living user.

        Parameters
        ----------
        family
            What the keys of the family begin with.
        keep
            How many of those without users stay, for whoever comes back to old values.
        """
        gone = []
        with self._lock:
            for key in [
                k for k in self._items if isinstance(k, tuple) and k[: len(family)] == family
            ]:
                if not self._users.get(key):
                    gone.append(key)
            items = [self._take(key) for key in gone[: max(0, len(gone) - keep)]]
            for key in gone[: len(items)]:
                self._users.pop(key, None)
        items.clear()  # outside of the lock: what goes may call back

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        with self._lock:
            return self._totals.total()

    def __len__(self) -> int:
        return len(self._items)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            items = list(self._items.values())
            self._items.clear()
            self._sizes.clear()
            self._users.clear()
            self._totals.clear()
        items.clear()


def memory_share(share: float, place: str = "cpu") -> int:
    """Part of the memory of a device, in bytes."""
    device = torch.device(place)
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory * share)
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        total = 8 << 30
    return int(total * share)


symbolics = FactorCache(memory_share(0.05))
numerics = FactorCache(partial(memory_share, 0.15))

_counts: Counter[str] = Counter()


def count(event: str, times: int = 1) -> None:
    """Note that an expensive step ran: ``analyze``, ``factorize`` or ``solve``."""
    _counts[event] += times


def cache_counters() -> dict[str, int]:
    """Return how often each expensive step ran in this process.

    Examples
    --------
    >>> sorted(cache_counters())
    ['analyze', 'factorize', 'solve']
    """
    return {name: _counts[name] for name in ("analyze", "factorize", "solve")}


def clear_factor_cache() -> None:
    """Forget all analyses and factors; live graphs make theirs again when they need them."""
    symbolics.clear()
    numerics.clear()
