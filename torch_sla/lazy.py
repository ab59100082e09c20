"""What is computed when it is first asked for, and kept."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

__all__ = ["cached_property"]

if TYPE_CHECKING:
    from functools import cached_property  # noqa: TID251
else:

    class cached_property(functools.cached_property):  # noqa: N801, TID251
        """A cached property without a lock: threads that ask at once all compute, and the first result stays.

        Until Python 3.12 the one of `functools` has a lock for all objects of a class. Threads that compute
        properties of properties wait for each other there, and a process forked meanwhile waits for ever.

        Examples
        --------
        >>> class Mesh:
        ...     @cached_property
        ...     def facets(self):
        ...         print("counted")
        ...         return 12
        >>> mesh = Mesh()
        >>> mesh.facets + mesh.facets
        counted
        24
        """

        def __get__(self, instance: Any, owner: Any = None) -> Any:
            if instance is None:
                return self
            return instance.__dict__.setdefault(self.attrname, self.func(instance))
