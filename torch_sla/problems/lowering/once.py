"""What the structure alone decides, made once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from torch_sla.lazy import cached_property

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = ["Once"]

_Made = TypeVar("_Made")


class Once:
    """Keeps what no value changes, so that no device is asked for it again.

    Examples
    --------
    >>> kept = Once()
    >>> kept.once("key", lambda: [1]) is kept.once("key", lambda: [2])
    True
    """

    @cached_property
    def _once(self) -> dict[Hashable, Any]:
        return {}

    def once(self, key: Hashable, make: Callable[[], _Made]) -> _Made:
        """Return what was made under a key, or make it."""
        if key not in self._once:
            self._once[key] = make()
        return self._once[key]
