"""One field of a declaration changed, by its path."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from torch_sla.errors import ArgumentError, SpecError
from torch_sla.problems.expression import nearest
from torch_sla.problems.specs.base import Spec

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["changed"]


def changed(spec: Any, path: str | Sequence[str], value: Any) -> Any:
    """Return the declaration with one field changed, checked as a new one.

    Parameters
    ----------
    spec
        A declaration, or a part of one.
    path
        As in ``"mesh.cells"`` or ``"variables.0.transform.1.beta"``.
    value
        Its new value.

    Raises
    ------
    SpecError
        If there is no such field, or the value does not fit.

    Examples
    --------
    >>> from torch_sla import IntervalMesh, PoissonProblem
    >>> changed(PoissonProblem(mesh=IntervalMesh(cells=4)), "mesh.cells", 8).mesh.cells
    8
    """
    parts = path.split(".") if isinstance(path, str) else list(path)
    if not parts:
        return value
    head, rest = parts[0], parts[1:]
    if isinstance(spec, Spec):
        names = {type(spec).spelling(name): name for name in type(spec).model_fields}
        if head not in names:
            raise _unknown(head, names)
        return spec.updated(**{head: changed(getattr(spec, names[head]), rest, value)})
    if dataclasses.is_dataclass(spec) and not isinstance(spec, type):
        names = {field.name: field.name for field in dataclasses.fields(spec) if field.init}
        if head not in names:
            raise _unknown(head, names)
        new = changed(getattr(spec, head), rest, value)
        whole = isinstance(getattr(spec, head), float) and type(new) is int
        try:
            return dataclasses.replace(spec, **{head: float(new) if whole else new})
        except (ArgumentError, TypeError) as error:
            raise SpecError(str(error)) from None
    if isinstance(spec, tuple):
        if not head.isdigit() or int(head) >= len(spec):
            raise SpecError(f"{head!r} is no index of a list of {len(spec)}")
        i = int(head)
        return (*spec[:i], changed(spec[i], rest, value), *spec[i + 1 :])
    if isinstance(spec, dict):
        if head not in spec:
            raise _unknown(head, spec)
        return {**spec, head: changed(spec[head], rest, value)}
    raise SpecError(f"there is no {head!r} in {spec!r}, which is a single value")


def _unknown(name: str, known: Any) -> SpecError:
    there = " ".join(n for n in known if n != "type")
    return SpecError(f"there is no field {name!r}{nearest(name, known)}; fields: {there}")
