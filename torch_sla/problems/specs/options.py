"""Options dataclasses of other rooms as fields of declarations: by instance, by mapping, by bare name."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_type_hints

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from torch_sla.errors import ArgumentError, SpecError
from torch_sla.problems.expression import nearest
from torch_sla.problems.specs.faults import fault, spec_error, unknown_key

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["described", "options_of", "tag_of"]


def tag_of(cls: type[Any]) -> str:
    """Return the type tag of an options class.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Cone:
    ...     type: Literal["cone"] = "cone"
    >>> tag_of(Cone)
    'cone'
    """
    field = next(f for f in dataclasses.fields(cls) if f.name == "type")
    return str(field.default)


def described(cls: type[Any]) -> dict[str, str]:
    """Return what the docstrings of an options class and of its bases say about each field.

    Examples
    --------
    >>> from torch_sla import ConeFilter
    >>> described(ConeFilter)
    {'radius': 'Radius of the cone, in the unit of the mesh.'}
    """
    fields = {f.name for f in dataclasses.fields(cls)}
    texts: dict[str, str] = {}
    for base in cls.__mro__:
        _, _, listed = inspect.cleandoc(base.__doc__ or "").partition("Parameters\n----------\n")
        for entry in re.split(r"\n(?=\S)", listed.partition("\n\n")[0]):
            names, _, text = entry.partition("\n")
            for name in fields.intersection(names.split(", ")):
                texts.setdefault(name, " ".join(text.split()))
    return texts


def options_of(classes: Sequence[type[Any]], what: str, default: type[Any] | None = None) -> Any:
    """Return the annotation of one of some options classes, told by its type.

    In a file it is a mapping, or its bare type where nothing else is needed.

    Parameters
    ----------
    classes
        Frozen dataclasses with a ``type`` that has a default.
    what
        What they are, for messages.
    default
        Which of them a mapping without a type is; without one a type is required.
    """
    known = {tag_of(cls): cls for cls in classes}

    def read(value: Any) -> Any:
        if isinstance(value, tuple(classes)):
            return value
        if isinstance(value, str):
            value = {"type": value}
        if not isinstance(value, Mapping):
            raise fault(f"{what} is needed; received {value!r}, which is a {type(value).__name__}")
        tag = value.get("type")
        if tag is None and default is not None:
            tag = tag_of(default)
        if tag is None:
            raise fault(f"'type' is required here; one of: {' '.join(known)}")
        if tag not in known:
            guess = nearest(tag, known) if isinstance(tag, str) else ""
            raise fault(f"unknown {what} {tag!r}{guess}; one of: {' '.join(known)}")
        return _made(known[tag], dict(value))

    union: Any = Union  # indexed at run time, which type checkers do not follow
    annotated: Any = Annotated
    one_of = union[tuple(classes)]
    literal: Any = Literal
    written = union[annotated[one_of, Field(discriminator="type")], literal[tuple(known)]]
    return annotated[one_of, BeforeValidator(read, json_schema_input_type=written)]


def _made(cls: type[Any], data: dict[str, Any]) -> Any:
    """Make an instance from plain data, without conversions: numbers are numbers and text is text."""
    names = [f.name for f in dataclasses.fields(cls) if f.init]
    for key in data:
        if key not in names:
            raise unknown_key(str(key), names, tag_of(cls))
    hints = get_type_hints(cls, include_extras=True)
    for name, value in data.items():
        # Whole numbers are written for floats; a mapping that was checked before is plain data again.
        if type(value) is int and float in (hints[name], *get_args(hints[name])):
            data[name] = value if int in get_args(hints[name]) else float(value)
    try:
        return TypeAdapter(cls).validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        inner = spec_error(error, data)
        raise SpecError(inner.message, path=inner.path) from None
    except (ArgumentError, TypeError) as error:
        raise fault(str(error)) from None
