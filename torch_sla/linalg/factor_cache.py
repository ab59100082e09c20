"""Bounded memory of analyses and factors, shared by the whole process."""

from __future__ import annotations

import os
import threading
import weakref
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch

from torch_sla.linalg.kernels import memory
from torch_sla.linalg.kernels.threads import FreshLock

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

# Families that are remembered, items of each that are remembered after they went, and bytes that the
# smallest item counts as.
_FAMILIES, _REMEMBERED, _LEAST = 256, 64, 1 << 20


@dataclass(eq=False)
class _Family:
    """Items of which a new one usually takes the place of older ones: oldest first, and what became of them.

    Parameters
    ----------
    room
        Bytes that those without a living user may hold.
    members
        Keys of those there are.
    gone
        Keys of those that had to go, with the bytes they held.
    """

    room: int
    members: dict[Hashable, None] = field(default_factory=dict)
    gone: dict[Hashable, int] = field(default_factory=dict)


class FactorCache:
    """Least-recently-used store, bounded in bytes of each memory, safe to use from several threads.

    Whoever needs an item asks for it with the means to make it; an evicted one is simply made
    again. The newest item is kept even when it is larger than the bound, since its adjoint is about
    to ask for it.

    Parameters
    ----------
    limit
        Bound in bytes, or what tells it for a device.
    spare
        Bytes of old items that a family may keep from the start, see `get`.

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

    def __init__(self, limit: int | Callable[[str], int], spare: int = 0) -> None:
        self._limit, self._spare = limit, spare
        # A plain dict keeps its order too, and is walked without hashing keys.
        self._items: dict[Hashable, _Sized] = {}
        self._sizes: dict[Hashable, tuple[str, int]] = {}
        self._totals: Counter[str] = Counter()
        self._users: dict[Hashable, weakref.WeakSet[object]] = {}
        self._families: dict[Hashable, _Family] = {}
        self._family_of: dict[Hashable, _Family] = {}
        self._lock = threading.Lock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork_in_child)

    def _after_fork_in_child(self) -> None:
        torn, self._lock = self._lock.locked(), threading.Lock()
        if torn:  # a thread that did not come along was changing what is kept
            self.clear()

    def get(
        self,
        key: Hashable,
        make: Callable[[], T],
        user: object = None,
        *,
        place: str = "cpu",
        family: Hashable = None,
        few: int | None = None,
    ) -> T:
        """Return the item of `key`, calling `make` when there is none.

        Parameters
        ----------
        key, make
            What is asked for, and the means to make it.
        user
            As long as it lives the item may be asked for again.
        place
            Device in whose memory the item lies.
        family
            Items of which a new one usually takes the place of older ones, as the factors of new values
            do. Before one is made, the oldest without users go, down to what the family may keep; one that
            is asked for after it went shows that this was too little, and raises it for good, up to
            half the bound.
        few
            How many of those without users stay at most, where the new one is made of what old ones
            leave.
        """
        found = self.peek(key, user)
        if found is not None:
            return found  # type: ignore[return-value]
        with self._lock:
            gone = [] if family is None else self._make_room(family, key, self._bound(place), few)
        gone.clear()  # outside of the lock: what goes may call back
        made = make()
        with self._lock:
            gone = [self._take(key)]
            self._items[key] = made
            if family is not None:
                self._family_of[key] = self._family(family)
            self._enlist(key, user)
            gone += self._weigh(key, place)
        gone.clear()
        return made

    def peek(self, key: Hashable, user: object = None) -> object | None:
        """Return the item of `key`, as `get` does where there is one."""
        with self._lock:
            found = self._items.pop(key, None)
            if found is not None:
                self._items[key] = found
                self._enlist(key, user)
            return found

    def measure(self, key: Hashable) -> None:
        """Look again at the size of an item that has grown, if it is there."""
        with self._lock:
            gone = self._weigh(key, self._sizes[key][0]) if key in self._items else []
        gone.clear()

    def drop(self, key: Hashable) -> None:
        """Forget an item, if it is there."""
        with self._lock:
            gone = self._take(key)
        del gone  # outside of the lock

    def _weigh(self, key: Hashable, place: str) -> list[_Sized | None]:
        """Note the size of an item, and take out what there is no room for beside it."""
        nbytes = self._items[key].nbytes
        self._totals[place] += nbytes - self._sizes.get(key, (place, 0))[1]
        self._sizes[key] = (place, nbytes)
        limit = self._bound(place)
        gone: list[_Sized | None] = []
        if self._totals[place] > limit:
            for old in [k for k in self._items if k != key and self._sizes[k][0] == place]:
                if self._totals[place] <= limit:
                    break
                gone.append(self._take(old))
        return gone

    def _bound(self, place: str) -> int:
        return self._limit if isinstance(self._limit, int) else self._limit(place)

    def _family(self, name: Hashable) -> _Family:
        found = self._families.pop(name, None) or _Family(self._spare)
        self._families[name] = found
        if len(self._families) > _FAMILIES:
            del self._families[next(iter(self._families))]
        return found

    def _make_room(
        self, name: Hashable, coming: Hashable, bound: int, few: int | None
    ) -> list[_Sized | None]:
        """Take out old items of a family, more of them where none has been missed so far."""
        family = self._family(name)
        idle = {k: max(self._sizes[k][1], _LEAST) for k in family.members if not self._users.get(k)}
        held = sum(idle.values())
        if coming in family.gone:
            # It would be here, had there been room for it and for all that went since.
            names = list(family.gone)
            missed = held + sum(family.gone[k] for k in names[names.index(coming) :])
            if missed <= bound // 2:
                family.room = max(family.room, missed)
            del family.gone[coming]
        out: list[_Sized | None] = []
        for key, nbytes in idle.items():
            crowded = few is not None and len(idle) - len(out) > few
            if held <= family.room and not crowded:
                break
            held -= nbytes
            out.append(self._take(key))
            family.gone[key] = nbytes
        for key in list(family.gone)[: max(0, len(family.gone) - _REMEMBERED)]:
            del family.gone[key]
        return out

    def _enlist(self, key: Hashable, user: object) -> None:
        """Note who asked for an item, and that it is the newest of its family."""
        if user is not None:
            self._users.setdefault(key, weakref.WeakSet()).add(user)
        family = self._family_of.get(key)
        if family is not None:
            family.members.pop(key, None)
            family.members[key] = None

    def _take(self, key: Hashable) -> _Sized | None:
        """Remove an item and what is known of it, where it is there."""
        place, nbytes = self._sizes.pop(key, ("cpu", 0))
        self._totals[place] -= nbytes
        self._users.pop(key, None)
        family = self._family_of.pop(key, None)
        if family is not None:
            family.members.pop(key, None)
        return self._items.pop(key, None)

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
            self._families.clear()
            self._family_of.clear()
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
numerics = FactorCache(partial(memory_share, 0.15), spare=memory_share(0.001))
memory.keep_at_most(memory_share(0.1))

_counts: Counter[str] = Counter()
_counting = FreshLock()


def count(event: str, times: int = 1) -> None:
    """Note that an expensive step ran: ``analyze``, ``factorize`` or ``solve``."""
    with _counting.held:
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
    """Forget all analyses and factors; live graphs make theirs again when they need them.

    The memory that past factors, hierarchies and solutions left for the next ones goes back to the system.
    """
    symbolics.clear()
    numerics.clear()
    memory.release()
