"""Bounded memory of analyses and factors, shared by the whole process."""

from __future__ import annotations

import os
import threading
import weakref
from collections import Counter
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = ["FactorCache", "cache_counters", "clear_factor_cache", "count", "numerics", "symbolics"]


class _Sized(Protocol):
    nbytes: int


T = TypeVar("T", bound=_Sized)


class FactorCache:
    """Least-recently-used store, bounded in bytes, safe to use from several threads.

    Whoever needs an item asks for it with the means to make it; an evicted one is simply made
    again. The newest item is kept even when it is larger than the bound, since its adjoint is about
    to ask for it.

    Parameters
    ----------
    limit
        Bound in bytes.

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

    def __init__(self, limit: int) -> None:
        self.limit = limit
        # A plain dict keeps its order too, and is walked without hashing keys.
        self._items: dict[Hashable, _Sized] = {}
        self._sizes: dict[Hashable, int] = {}
        self._total = 0
        self._users: dict[Hashable, weakref.WeakSet[object]] = {}
        self._lock = threading.Lock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T], user: object = None) -> T:
        """Return the item of `key`, calling `make` when there is none.

        As long as `user` lives the item may be asked for again, and `retire` leaves it alone.
        """
        with self._lock:
            if user is not None:
                self._users.setdefault(key, weakref.WeakSet()).add(user)
            found = self._items.pop(key, None)
            if found is not None:
                self._items[key] = found
                return found  # type: ignore[return-value]
        made = make()
        gone = []
        with self._lock:
            gone.append(self._take(key))
            self._items[key], self._sizes[key] = made, made.nbytes
            self._total += made.nbytes
            while len(self._items) > 1 and self._total > self.limit:
                oldest = next(iter(self._items))
                self._users.pop(oldest, None)
                gone.append(self._take(oldest))
        gone.clear()  # outside of the lock: what goes may call back
        return made

    def _take(self, key: Hashable) -> _Sized | None:
        """Remove an item and its size, where it is there."""
        self._total -= self._sizes.pop(key, 0)
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
            return self._total

    def __len__(self) -> int:
        return len(self._items)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            items = list(self._items.values())
            self._items.clear()
            self._sizes.clear()
            self._users.clear()
            self._total = 0
        items.clear()


def _memory_share(share: float) -> int:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        total = 8 << 30
    return int(total * share)


symbolics = FactorCache(_memory_share(0.05))
numerics = FactorCache(_memory_share(0.15))

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
