"""What a declaration says, in one canonical form, and its hash.

The form does not depend on spelling: formulas are canonical, whole numbers equal their floats, files
and arrays count by content, fields left at their default do not count.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from torch_sla.problems.specs.arrays import Array, file_digest
from torch_sla.problems.specs.base import Spec
from torch_sla.problems.specs.python import PythonFunction
from torch_sla.problems.specs.residual import Residual
from torch_sla.problems.specs.written import DataFile, Formula, FrozenMap

__all__ = ["LiveObjectError", "canonical", "spec_hash", "stated"]


class LiveObjectError(TypeError):
    """A declaration holds an object that is no data, such as what a search remembers: it has no hash."""


def spec_hash(spec: Spec) -> str:
    """Return 32 hexadecimal digits that identify what is declared.

    Examples
    --------
    >>> from torch_sla.problems.specs.boundary import Dirichlet
    >>> spec_hash(Dirichlet("left", "2*x")) == spec_hash(Dirichlet(["left"], " 2.0 * x"))
    True
    """
    text = json.dumps(canonical(spec), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def canonical(value: Any) -> Any:
    """Return plain data that is equal for declarations that mean the same.

    Raises
    ------
    LiveObjectError
        For what is no data.
    """
    if isinstance(value, Spec):
        result = {}
        for name, field in type(value).model_fields.items():
            item = getattr(value, name)
            if name in ("type", "version") or item != field.default:
                if name in type(value).ordered and isinstance(item, FrozenMap | dict):
                    item = list(item.items())
                result[type(value).spelling(name)] = canonical(item)
        return result
    if isinstance(value, Formula):
        return {"formula": value.expression.canonical}
    if isinstance(value, PythonFunction):
        return {"python": value.digest}
    if isinstance(value, Residual):
        return {"residual": [list(i.canonical) for i in value.integrals]}
    if isinstance(value, DataFile):
        return {"content": file_digest(value)}
    if isinstance(value, Array):
        return {"array": value.digest}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return canonical(stated(value))
    if isinstance(value, FrozenMap | dict):
        return {"map": {str(key): canonical(item) for key, item in value.items()}}
    if isinstance(value, tuple | list):
        return [canonical(item) for item in value]
    if isinstance(value, float):
        return repr(value + 0.0)
    if value is None or isinstance(value, bool | int | str):
        return value
    raise LiveObjectError(f"{type(value).__name__} is no part of a declaration that has a hash")


def stated(options: Any) -> dict[str, Any]:
    """Return the fields of an options dataclass that differ from their default, and its type.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Cone:
    ...     radius: float
    ...     type: str = "cone"
    >>> stated(Cone(0.1))
    {'type': 'cone', 'radius': 0.1}
    """
    found: dict[str, Any] = {"type": options.type}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if field.init and value != _default(field):
            found.setdefault(field.name, value)
    return found


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default
