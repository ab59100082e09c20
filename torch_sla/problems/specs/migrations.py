"""Older formats, brought up to date one version at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch_sla.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FORMAT", "migrate"]

FORMAT = 2


def _roots(data: Any) -> Any:
    """Version 1 called the unknowns of a nonlinear problem variables; those are of designs now."""
    if isinstance(data, list):
        return [_roots(item) for item in data]
    if not isinstance(data, dict):
        return data
    if data.get("type") == "nonlinear" and isinstance(data.get("unknowns"), list):
        renamed = [
            {**u, "type": "root"} if isinstance(u, dict) and u.get("type") == "variable" else u
            for u in data["unknowns"]
        ]
        data = {**data, "unknowns": renamed}
    return {key: _roots(item) for key, item in data.items()}


MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _roots}
"""``MIGRATIONS[n]`` turns a file of version n into one of version n + 1."""


def migrate(data: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Return the data in the current format; a declaration without a version is taken as current.

    Declarations inside others have versions of their own.

    Raises
    ------
    SpecError
        If a version is unknown.

    Examples
    --------
    >>> migrate({"type": "poisson"})
    {'type': 'poisson'}
    >>> migrate({"type": "sweep", "of": {"type": "poisson", "version": 1}})
    {'type': 'sweep', 'of': {'type': 'poisson', 'version': 2}}
    """
    version = data.get("version", FORMAT)
    at = f"{path}version"
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise SpecError(f"a format version is a whole number; received {version!r}", path=at)
    if version > FORMAT:
        raise SpecError(
            f"the file has format version {version}, and this torch_sla reads up to {FORMAT}: "
            "update torch_sla",
            path=at,
        )
    for step in range(version, FORMAT):
        data = {**MIGRATIONS[step](data), "version": step + 1}
    return {key: _inside(item, f"{path}{key}.") for key, item in data.items()}


def _inside(value: Any, path: str) -> Any:
    if isinstance(value, list):
        return [_inside(item, f"{path}{i}.") for i, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if "type" in value:
        return migrate(value, path)
    return {key: _inside(item, f"{path}{key}.") for key, item in value.items()}
