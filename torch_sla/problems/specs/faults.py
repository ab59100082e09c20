"""What is wrong with a declaration, where, and what was probably meant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticCustomError

from torch_sla.errors import SpecError
from torch_sla.problems.expression import nearest

if TYPE_CHECKING:
    from pydantic import ValidationError

    from torch_sla.problems.files.loader import DataPath, Document

__all__ = ["dotted", "fault", "located", "spec_error", "unbuilt_key", "unknown_key"]

MAX_SHOWN = 5
_QUOTED = ": a text, which is no number; write it without quotes"


def fault(message: str) -> PydanticCustomError:
    """Return a validation error with this message, braces and all."""
    return PydanticCustomError("fault", "{message}", {"message": message})


def unknown_key(key: str, known: Iterable[str], kind: str) -> PydanticCustomError:
    """Return the error for a field that does not exist."""
    known = [name for name in known if name != "type"]
    of = f" of {kind!r}" if kind else ""
    message = f"unknown field {key!r}{nearest(key, known)}; the fields{of} are: {' '.join(known)}"
    return PydanticCustomError("unknown_key", "{message}", {"message": message, "key": key})


def unbuilt_key(key: str, message: str) -> PydanticCustomError:
    """Return the error for a field that does not exist yet."""
    return PydanticCustomError("unknown_key", "{message}", {"message": message, "key": key})


def spec_error(error: ValidationError, data: Any, document: Document | None = None) -> SpecError:
    """Translate what pydantic found into one located message.

    Parameters
    ----------
    error
        The validation error.
    data
        What was validated, to tell paths in the data from pydantic's own labels.
    document
        Where the data was read from, for lines.
    """
    found: list[tuple[DataPath, str, DataPath]] = []
    for item in error.errors(include_url=False):
        path = _data_path(item["loc"], data)
        context: Mapping[str, Any] = item.get("ctx", {})
        if item["type"] == "too_short" and len(item["input"]) >= context["min_length"]:
            continue  # pydantic counts without the entries that it names as wrong
        inner = context.get("error")
        if isinstance(inner, SpecError):
            message = inner.message
            path = (*path, *(inner.path.split(".") if inner.path else ()))
        else:
            message = _message(item["type"], item["msg"], item["input"], context, item["loc"])
        if item["type"] == "unknown_key":
            path = (*path, context["key"])
        # The type itself is what is wrong, also where a whole file is included.
        at = (*path, "type") if item["type"] == "union_tag_invalid" else path
        if (path, message, at) not in found:
            found.append((path, message, at))
    path, message, at = found[0]
    file, line = document.place(at) if document else (None, None)
    for other, text, at in found[1:MAX_SHOWN]:
        elsewhere, number = document.place(at) if document else (None, None)
        spot = f"line {number}" if number else ""
        if elsewhere != file:
            spot = f"{elsewhere}:{number}" if number else f"{elsewhere}"
        place = ": ".join(part for part in (spot, dotted(other)) if part)
        message += f"\nand {place}: {text}" if place else f"\nand {text}"
    if len(found) > MAX_SHOWN:
        message += f"\nand {len(found) - MAX_SHOWN} more"
    return SpecError(
        message,
        file=file,
        line=line,
        path=dotted(path) or None,
    )


def located(error: SpecError, document: Document) -> SpecError:
    """Return the same error with the file and the line of its path."""
    file, line = document.place(tuple(part for part in (error.path or "").split(".") if part))
    return type(error)(error.message, file=file, line=line, path=error.path)


def dotted(path: DataPath) -> str:
    """Return a path as it is written in messages."""
    return ".".join(str(part) for part in path)


def _data_path(loc: tuple[str | int, ...], data: Any) -> DataPath:
    """Drop pydantic's labels (union members, functions) from a location."""
    path: list[str | int] = []
    here = data
    for part in loc:
        if isinstance(here, Mapping):
            if part not in here:
                continue
            here = here[part]
        elif isinstance(here, list | tuple):
            if not isinstance(part, int) or part >= len(here):
                continue
            here = here[part]
        elif isinstance(part, str) and hasattr(here, "model_fields_set"):
            if part not in type(here).model_fields:
                continue
            here = getattr(here, part)
        else:
            continue
        path.append(part)
    return tuple(path)


def _message(
    kind: str, message: str, received: Any, context: Mapping[str, Any], loc: tuple[str | int, ...]
) -> str:
    if kind in ("unknown_key", "fault"):
        return message
    if kind == "missing":
        return f"{loc[-1]!r} is required"
    if kind == "union_tag_not_found":
        return f"'type' is required here; received {_short(received)}"
    if kind == "union_tag_invalid":
        known = [word.strip(" '") for word in context["expected_tags"].split(",")]
        tag = context["tag"]
        return f"unknown type {tag!r}{nearest(tag, known)}; one of: {' '.join(known)}"
    if kind == "literal_error":
        known = [word.strip(" '") for word in context["expected"].replace(" or ", ",").split(",")]
        guess = nearest(received, known) if isinstance(received, str) else ""
        guess = _QUOTED if isinstance(received, str) and received in known else guess
        return f"received {_short(received)}{guess}; one of: {' '.join(known)}"
    if kind == "value_error":
        return str(context.get("error", message))
    if kind == "tuple_type":
        return f"should be a list; received {_short(received)}"
    if kind == "dict_type":
        return f"should be a mapping of names; received {_short(received)}"
    if kind in ("model_type", "model_attributes_type"):
        return f"a mapping of fields is needed; received {_short(received)}"
    if kind in ("float_type", "int_type") and isinstance(received, str) and _is_number(received):
        noun = "whole number" if kind == "int_type" else "number"
        return f"should be a {noun}; received {_short(received)}{_QUOTED}"
    if kind in ("too_short", "string_too_short") and not received:
        return f"it must not be empty; received {_short(received)}"
    text = message.replace("Input should be", "should be").replace(" after validation", "")
    return f"{text}; received {_short(received)}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _short(value: Any) -> str:
    text = repr(value)
    if len(text) > 60:
        text = text[:57] + "..."
    return f"{text} ({type(value).__name__})"
