"""The YAML 1.2 core schema: which plain scalar is a number, a truth value, null or text.

Source: YAML Ain't Markup Language, version 1.2.2, section 10.3.2 (tag resolution).
"""

from __future__ import annotations

import re

__all__ = ["resolve"]

MAX_DIGITS = 400

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_INTEGER = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"[-+]?\.(?:inf|Inf|INF)")
_NAN = frozenset({".nan", ".NaN", ".NAN"})


def resolve(text: str) -> str | float | int | bool | None:
    """Return the value of a plain scalar.

    Raises
    ------
    ValueError
        If a number has more than `MAX_DIGITS` digits.

    Examples
    --------
    >>> [resolve(s) for s in ("on", "1e-8", "1:30", "0o17", "true", "~", "1.")]
    ['on', 1e-08, '1:30', 15, True, None, 1.0]
    """
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if text[0] not in "+-.0123456789":
        return text
    if len(text) > MAX_DIGITS and _FLOAT.fullmatch(text):
        raise ValueError(f"a number of {len(text)} digits; at most {MAX_DIGITS} are allowed")
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITY.fullmatch(text):
        return float("-inf") if text[0] == "-" else float("inf")
    if text in _NAN:
        return float("nan")
    if len(text) <= MAX_DIGITS and _OCTAL.fullmatch(text):
        return int(text, 8)
    if len(text) <= MAX_DIGITS and _HEXADECIMAL.fullmatch(text):
        return int(text, 16)
    return text
