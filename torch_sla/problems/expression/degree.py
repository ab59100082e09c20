"""In which power names stand in an expression, and which parts of it are functions of some names alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch_sla.problems.expression.constants import CONSTANTS
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

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__all__ = ["degree", "separated"]

_LINEAR = frozenset({"sym", "trace", "transpose"})
_NONE = 1_000_000  # of what is no polynomial


def degree(expression: Expression, variables: Collection[str], others: Collection[str]) -> int:
    """Return the degree of an expression as a polynomial of some variables; a million where it is none.

    Parameters
    ----------
    variables
        Names, ``"u"`` standing for ``grad(u)`` too.
    others
        Names that do not depend on the variables; any other might.

    Examples
    --------
    >>> [degree(Expression.parse(e), {"u"}, {"x"}) for e in ("sin(x)*u - u/2", "u*grad(u)[0]", "x")]
    [1, 2, 0]
    """
    return _degree(expression.root, variables, others)


def _degree(node: Node, variables: Collection[str], others: Collection[str]) -> int:
    def of(inner: Node) -> int:
        return _degree(inner, variables, others)

    match node:
        case Number():
            return 0
        case Name(_, name):
            if name in variables:
                return 1
            return 0 if name in others or name in CONSTANTS else _NONE
        case Call(_, function, (operand, *_)) if function in FIELD_OPERATORS:
            return of(operand)
        case Unary(_, "-", operand) | Index(_, operand):
            return of(operand)
        case Binary(_, "+" | "-", left, right):
            return max(of(left), of(right))
        case Binary(_, "*", left, right) | Call(_, ("dot" | "inner"), (left, right)):
            return of(left) + of(right)
        case Binary(_, "/", left, right):
            return of(left) if of(right) == 0 else _NONE
        case Call(_, function, (operand,)) if function in _LINEAR:
            return of(operand)
        case Call(_, "where", (condition, first, second)):
            return max(of(first), of(second)) if of(condition) == 0 else _NONE
    return 0 if all(of(child) == 0 for child in node.children) else _NONE


def separated(
    expression: Expression,
    moving: Collection[str],
    still: Collection[str],
    called: Callable[[Expression], str | None],
    *,
    branches: bool = False,
) -> Expression:
    """Put names in the place of all that depends on some names, and on nothing that lives somewhere.

    Parameters
    ----------
    moving
        The names, such as ``t``.
    still
        Numbers that such a part may use too.
    called
        Gives a part its name; None where it stays, and is looked into.
    branches
        Whether to look into ``where``, whose branches are functions of where each counts alone while they are
        differentiated.

    Examples
    --------
    >>> parts = []
    >>> name = lambda part: (parts.append(part.canonical), f"p{len(parts)}")[1]
    >>> separated(Expression.parse("x*sin(w*t)*t - 2"), {"t"}, {"w"}, name).canonical, parts
    ('((x * p1) - 2)', ['(sin((w * t)) * t)'])
    """

    def names(node: Node) -> set[str]:
        return {n.name for n in node.walk() if isinstance(n, Name)} - CONSTANTS.keys()

    def alone(node: Node) -> bool:
        used = names(node)
        return bool(used & set(moving)) and used <= {*moving, *still}

    def named(node: Node) -> Node | None:
        name = called(Expression.of(node)) if alone(node) else None
        return None if name is None else Name(node.at, name)

    def put(node: Node) -> Node:
        whole = named(node)
        if whole is not None:
            return whole
        match node:
            case Unary(at, symbol, operand):
                return Unary(at, symbol, put(operand))
            case Binary(at, "*" | "/", _, _):
                return _product(at, *_factors(node), put, alone, named)
            case Binary(at, symbol, left, right):
                return Binary(at, symbol, put(left), put(right))
            case Call(_, "where", _) if not branches:
                return node
            case Call(at, function, arguments) if function not in FIELD_OPERATORS:
                return Call(at, function, tuple(put(a) for a in arguments))
            case Index(at, operand, indices):
                return Index(at, put(operand), indices)
            case Compare(at, symbols, operands):
                return Compare(at, symbols, tuple(put(o) for o in operands))
            case Boolean(at, symbol, operands):
                return Boolean(at, symbol, tuple(put(o) for o in operands))
        return node

    return Expression.of(put(expression.root))


def _factors(node: Node) -> tuple[list[Node], list[Node]]:
    """Return what is multiplied and what it is divided by."""
    match node:
        case Binary(_, "*", left, right):
            (a, b), (c, d) = _factors(left), _factors(right)
            return a + c, b + d
        case Binary(_, "/", left, right):
            (a, b), (c, d) = _factors(left), _factors(right)
            return a + d, b + c
    return [node], []


def _product(
    at: int,
    above: list[Node],
    below: list[Node],
    put: Callable[[Node], Node],
    alone: Callable[[Node], bool],
    named: Callable[[Node], Node | None],
) -> Node:
    """Put factors together again, those that stand alone as one of them, which is looked into if it has no name."""
    groups: list[Node] = []
    for wanted in (False, True):
        up = [f for f in above if alone(f) is wanted]
        down = [f for f in below if alone(f) is wanted]
        if not up and not down:
            continue
        whole: Node = up.pop(0) if up else Number(at, 1.0)
        for factor in up:
            whole = Binary(at, "*", whole, factor)
        for factor in down:
            whole = Binary(at, "/", whole, factor)
        groups.append((named(whole) if wanted else None) or _inside(whole, put))
    return groups[0] if len(groups) == 1 else Binary(at, "*", *groups)


def _inside(node: Node, put: Callable[[Node], Node]) -> Node:
    """Go on inside the factors of a product."""
    match node:
        case Binary(at, ("*" | "/") as symbol, left, right):
            return Binary(at, symbol, _inside(left, put), _inside(right, put))
    return put(node)
