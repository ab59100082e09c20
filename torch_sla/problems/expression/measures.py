"""Weak residuals as text: integrals over cells and facets, split into terms, with their degrees.

``"k*dot(grad(u), grad(v)) - f*v - g*v*ds('top')"`` is a sum of terms; each may be multiplied by one measure,
``dx``, ``dx("cells")``, ``ds`` or ``ds("facets")``, and is over all cells without one.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch_sla.errors import ExpressionError
from torch_sla.problems.expression.expression import Expression
from torch_sla.problems.expression.functions import FIELD_OPERATORS
from torch_sla.problems.expression.nodes import (
    Binary,
    Boolean,
    Call,
    Compare,
    Index,
    Name,
    Node,
    Number,
    Unary,
)
from torch_sla.problems.expression.parser import MAX_LENGTH, error_at, parse

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["Integral", "degrees", "split_residual"]

_MEASURE = re.compile(r"""\b(dx|ds)\s*\(\s*("[^"\n]*"|'[^'\n]*')\s*\)""")
_LINEAR = frozenset({"trace", "transpose", "sym", "real", "imag", "conj"})
_BILINEAR = frozenset({"dot", "inner"})
_PLACEHOLDER = "dxds_"


@dataclass(frozen=True)
class Integral:
    """One integral of a residual.

    Parameters
    ----------
    over
        ``"dx"`` for cells, ``"ds"`` for facets.
    on
        A tag; None means all cells, or the whole boundary.
    expression
        The integrand.
    """

    over: str
    on: str | None
    expression: Expression

    @property
    def canonical(self) -> tuple[str, str | None, str]:
        """The same integral in its one canonical spelling."""
        return self.over, self.on, self.expression.canonical


def split_residual(text: str) -> list[Integral]:
    """Split a residual into integrals, one for each term of its sum.

    Raises
    ------
    ExpressionError
        If it does not parse, or a measure does not multiply a whole term.

    Examples
    --------
    >>> [(i.over, i.on, i.expression.canonical) for i in split_residual("u*v - 2*v*ds('top')")]
    [('dx', None, '(u * v)'), ('ds', 'top', '(-(2 * v))')]
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError(
            f"the residual has {len(text)} characters; at most {MAX_LENGTH} are allowed"
        )
    if _PLACEHOLDER in text:
        raise ExpressionError(f"names that begin with {_PLACEHOLDER!r} are not allowed")
    measures: dict[str, tuple[str, str | None]] = {"dx": ("dx", None), "ds": ("ds", None)}

    def replaced(match: re.Match[str]) -> str:
        name = f"{_PLACEHOLDER}{len(measures) - 2}"
        measures[name] = (match.group(1), match.group(2)[1:-1])
        # Columns stay where they are, so that messages point at the right place.
        return name.ljust(len(match.group()))

    plain = _MEASURE.sub(replaced, text)
    return [_integral(text, term, measures) for term in _terms(parse(plain), negative=False)]


def _terms(node: Node, *, negative: bool) -> list[Node]:
    match node:
        case Binary(_, "+", left, right):
            return [*_terms(left, negative=negative), *_terms(right, negative=negative)]
        case Binary(_, "-", left, right):
            return [*_terms(left, negative=negative), *_terms(right, negative=not negative)]
        case Unary(_, "-", operand):
            return _terms(operand, negative=not negative)
    return [Unary(node.at, "-", node) if negative else node]


def _integral(text: str, term: Node, measures: dict[str, tuple[str, str | None]]) -> Integral:
    rest, found = _strip(text, term, measures)
    over, on = measures[found[0].name] if found else ("dx", None)
    if len(found) > 1:
        raise error_at(text, found[1].at, "a term has one measure")
    if rest is None:
        raise error_at(text, term.at, "a measure needs something to integrate")
    for node in rest.walk():
        if isinstance(node, Name) and node.name in measures:
            raise error_at(text, node.at, "a measure multiplies a whole term, as in f*v*dx('tag')")
    return Integral(over, on, Expression.parse(str(rest)))


def _strip(
    text: str, node: Node, measures: dict[str, tuple[str, str | None]]
) -> tuple[Node | None, list[Name]]:
    """Take the measures out of a product."""
    match node:
        case Name(_, name) if name in measures:
            return None, [node]
        case Unary(at, "-", operand):
            rest, found = _strip(text, operand, measures)
            return (None if rest is None else Unary(at, "-", rest)), found
        case Binary(at, "*", left, right):
            a, first = _strip(text, left, measures)
            b, second = _strip(text, right, measures)
            if a is None or b is None:
                return (b if a is None else a), first + second
            return Binary(at, "*", a, b), first + second
        case Binary(at, "/", left, right):
            a, found = _strip(text, left, measures)
            if a is None and found:
                raise error_at(text, at, "write the measure behind the term")
            return Binary(at, "/", a, right) if a is not None else node, found
    return node, []


def degrees(node: Node, names: Collection[str]) -> tuple[float, float]:
    """Return the least and greatest degree of an expression as a polynomial in some fields.

    Examples
    --------
    >>> degrees(Expression.parse("(1 + u)*dot(grad(u), grad(v))").root, {"u"})
    (1, 2)
    >>> degrees(Expression.parse("exp(u)*v").root, {"u"})
    (0, inf)
    """

    def below(child: Node) -> tuple[float, float]:
        return degrees(child, names)

    def joined(parts: list[tuple[float, float]]) -> tuple[float, float]:
        return min(p[0] for p in parts), max(p[1] for p in parts)

    free: tuple[float, float] = (0, 0)
    match node:
        case Number():
            return free
        case Name(_, name):
            return (1, 1) if name in names else free
        case Call(_, function, arguments) if function in FIELD_OPERATORS:
            return below(arguments[0])
        case Unary(_, "-", operand):
            return below(operand)
        case Binary(_, "+" | "-", left, right):
            return joined([below(left), below(right)])
        case Binary(_, "*", left, right):
            a, b = below(left), below(right)
            return a[0] + b[0], a[1] + b[1]
        case Binary(_, "/", left, right):
            return below(left) if below(right) == free else (0, math.inf)
        case Binary(_, "**", left, Number(_, value)) if value in (1, 2, 3, 4):
            a, n = below(left), int(value.real)
            return n * a[0], n * a[1]
        case Index(_, operand, _):
            return below(operand)
        case Call(_, "where", (condition, *branches)):
            parts = [below(b) for b in branches]
            if below(condition) != free:
                return 0, math.inf
            return joined(parts)
        case Call(_, function, arguments) if function in _LINEAR:
            return below(arguments[0])
        case Call(_, function, arguments) if function in _BILINEAR:
            a, b = (below(argument) for argument in arguments)
            return a[0] + b[0], a[1] + b[1]
        case Binary() | Boolean() | Call() | Compare() | Unary():
            inside = [below(child) for child in node.children]
            return free if all(part == free for part in inside) else (0, math.inf)
    raise ExpressionError(f"no degree for {type(node).__name__}")  # pragma: no cover
