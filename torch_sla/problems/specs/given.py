"""Values given to the verbs of a problem."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch_sla.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["joined"]


def joined(values: Mapping[str, Any] | None, named: Mapping[str, Any]) -> dict[str, Any]:
    """Return all values by name: those of the mapping and those given by keyword.

    Raises
    ------
    ArgumentError
        If a name is given in both ways.

    Examples
    --------
    >>> joined({"kappa-1": 2.0}, {"f": 1.0})
    {'kappa-1': 2.0, 'f': 1.0}
    """
    found = dict(values or {})
    for name, value in named.items():
        if name in found:
            raise ArgumentError(f"{name!r} is given twice: in the mapping, and by keyword")
        found[name] = value
    return found
