"""Older formats, brought up to date one version at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch_sla.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FORMAT", "migrate"]

FORMAT = 1

MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""``MIGRATIONS[n]`` turns a file of version n into one of version n + 1."""


def migrate(data: dict[str, Any]) -> dict[str, Any]:
    """Return the data in the current format; a file without a version is taken as current.

    Raises
    ------
    SpecError
        If the version is unknown.

    Examples
    --------
    >>> migrate({"type": "poisson"})
    {'type': 'poisson'}
    """
    version = data.get("version", FORMAT)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise SpecError(f"a format version is a whole number; received {version!r}", path="version")
    if version > FORMAT:
        raise SpecError(
            f"the file has format version {version}, and this torch_sla reads up to {FORMAT}: "
            "update torch_sla",
            path="version",
        )
    for step in range(version, FORMAT):
        data = {**MIGRATIONS[step](data), "version": step + 1}
    return data
