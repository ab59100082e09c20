"""Expressions as sums of products whose factors see one coordinate each.

Only identities that keep the accuracy of an expression are used: what comes out is the value for parts that are off
by a rounding. So products of two sums and powers of sums stay closed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TYPE_CHECKING

from torch_sla.problems.expression.constants import CONSTANTS
from torch_sla.problems.expression.expression import Expression
from torch_sla.problems.expression.nodes import Binary, Call, Name, Node, Number, Unary

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

__all__ = ["Product", "products_of"]

_MOST = 8
"""Products of one expression."""


@dataclass(frozen=True)
class Product:
    """One product.

    Attributes
    ----------
    along
        Factors that see a coordinate besides what changes, by its name; by ``""`` what sees none.
    still
        What does not change; None where that is 1.
    exponents
        Parts of exponents, by coordinate as well, with None for what does not change, each list of one exponential.
        The product is that exponential where no part is positive, or where they all are so small that the exponential
        of none is out of range.
    """

    along: Mapping[str, Expression] = field(default_factory=dict)
    still: Expression | None = None
    exponents: tuple[Mapping[str | None, Expression], ...] = ()

    def times(self, other: Product) -> Product:
        """Multiply by another."""
        along = dict(self.along)
        for axis, factor in other.along.items():
            along[axis] = _binary("*", along[axis], factor) if axis in along else factor
        pair = [still for still in (self.still, other.still) if still is not None]
        still = reduce(lambda a, b: _binary("*", a, b), pair) if pair else None
        return Product(along, still, self.exponents + other.exponents)

    def through(self, function: Callable[[Expression], Expression]) -> Product:
        """Apply to each factor what is that of the product then."""
        along = {axis: function(factor) for axis, factor in self.along.items()}
        return replace(
            self, along=along, still=None if self.still is None else function(self.still)
        )


def products_of(
    expression: Expression,
    moving: Collection[str],
    constant: Collection[str],
    axes: Collection[str],
) -> list[Product] | None:
    """Return the products whose sum an expression is; None where none were found.

    Parameters
    ----------
    moving
        Names of what changes, which is the same everywhere.
    constant
        Names of numbers that are the same everywhere and do not change.
    axes
        Names of the coordinates.

    Examples
    --------
    >>> law = Expression.parse("exp(-(x - a)**2 - y**2) + k*sin(a*x)*y")
    >>> for product in products_of(law, {"a"}, {"k"}, "xy"):
    ...     print({axis: f.canonical for axis, f in product.along.items()}, product.still.canonical)
    {'x': 'exp((-((x - a) ** 2)))'} exp((-(y ** 2)))
    {'x': '(k * sin((a * x)))'} y
    """
    return _Finder(frozenset(moving), frozenset(constant), frozenset(axes)).sums(expression.root)


Parts = dict["str | None", Expression]


@dataclass(frozen=True)
class _Finder:
    moving: frozenset[str]
    constant: frozenset[str]
    axes: frozenset[str]

    def kind(self, node: Node) -> tuple[str | None, bool] | None:
        """Return which coordinate a node sees, and whether it changes; None where it sees several and changes.

        The coordinate is ``""`` where it sees none, and None where it does not change and sees anything.
        """
        used = {n.name for n in node.walk() if isinstance(n, Name)} - CONSTANTS.keys()
        changes = bool(used & self.moving)
        seen = used - self.moving - self.constant
        if len(seen) <= 1 and seen <= self.axes:
            return next(iter(seen), ""), changes
        return None if changes else (None, False)

    # -- sums of products -----------------------------------------------------------------------

    def sums(self, node: Node) -> list[Product] | None:
        """Return the products that a node is the sum of."""
        kind = self.kind(node)
        if kind is not None:
            axis, changes = kind
            part = Expression.of(node)
            return [Product({axis or "": part}) if changes else Product(still=part)]
        match node:
            case Unary(_, "-", operand):
                return self._scaled(self.sums(operand))
            case Binary(_, ("+" | "-") as symbol, left, right):
                first, second = self.sums(left), self.sums(right)
                if symbol == "-":
                    second = self._scaled(second)
                return self._few(first, second, lambda a, b: a + b)
            case Binary(_, "*", left, right):
                return self._multiplied(self.sums(left), self.sums(right))
            case Binary(_, "/", left, right):
                below = self.sums(right)
                if below is None or len(below) > 1:
                    return None
                inverse = below[0].through(lambda f: _binary("/", _number(1.0), f))
                return self._multiplied(self.sums(left), [inverse])
            case Binary(_, "**", base, Number(_, float() | int() as power)) if power == int(power):
                found = self.sums(base)
                if found is None or len(found) > 1 or found[0].exponents:
                    return None
                return [found[0].through(lambda f: _binary("**", f, _number(power)))]
            case Call(_, "exp", (argument,)):
                return self._exponential(self.parts(argument))
            case Call(_, ("sin" | "cos") as name, (argument,)):
                return self._wave(name, self.parts(argument))
        return None

    def _scaled(self, found: list[Product] | None) -> list[Product] | None:
        minus = Product(still=_number(-1.0))
        return None if found is None else [minus.times(product) for product in found]

    def _few(
        self,
        a: list[Product] | None,
        b: list[Product] | None,
        join: Callable[[list[Product], list[Product]], list[Product]],
    ) -> list[Product] | None:
        if a is None or b is None:
            return None
        found = join(a, b)
        return found if len(found) <= _MOST else None

    def _multiplied(self, a: list[Product] | None, b: list[Product] | None) -> list[Product] | None:
        if a is not None and b is not None and len(a) > 1 and len(b) > 1:
            return None
        return self._few(a, b, lambda a, b: [p.times(q) for p in a for q in b])

    def _exponential(self, parts: Parts | None) -> list[Product] | None:
        if parts is None:
            return None
        return [replace(self._factors(parts, "exp"), exponents=(parts,))]

    def _wave(self, name: str, parts: Parts | None) -> list[Product] | None:
        """Add angles one after the other."""
        if parts is None:
            return None
        (axis, first), *rest = parts.items()
        sine, cosine = (self._factors({axis: first}, function) for function in ("sin", "cos"))
        if not rest:
            return [sine if name == "sin" else cosine]
        others = [self._wave(function, dict(rest)) or [] for function in ("sin", "cos")]
        if name == "sin":
            found = [sine.times(p) for p in others[1]] + [cosine.times(p) for p in others[0]]
        else:
            minus = self._scaled([sine.times(p) for p in others[0]]) or []
            found = [cosine.times(p) for p in others[1]] + minus
        return found if len(found) <= _MOST else None

    def _factors(self, parts: Parts, function: str) -> Product:
        """Return the product of a function of parts."""
        found = Product()
        for axis, part in parts.items():
            factor = Expression.of(Call(0, function, (part.root,)))
            changes = self._changes(part)
            found = found.times(Product({axis or "": factor}) if changes else Product(still=factor))
        return found

    def _changes(self, part: Expression) -> bool:
        return bool(part.names & self.moving)

    # -- sums of parts --------------------------------------------------------------------------

    def parts(self, node: Node) -> Parts | None:
        """Return what a node is the sum of, by coordinate; what sees none goes to another part, if there is one."""
        found = self._linear(node)
        if found is None or len(found) < 2 or "" not in found:
            return found
        alone = found.pop("")

        def later(axis: str | None) -> tuple[bool, bool]:
            return axis is None, not self._changes(found[axis])

        first = min(found, key=later)
        if first is None and self._changes(alone):
            return {"": alone, **found}
        return {**found, first: _binary("+", found[first], alone)}

    def _linear(self, node: Node) -> Parts | None:
        kind = self.kind(node)
        if kind is not None:
            return {kind[0]: Expression.of(node)}
        match node:
            case Unary(_, "-", operand):
                return self._each(self._linear(operand), lambda f: _negative(f))
            case Binary(_, ("+" | "-") as symbol, left, right):
                first, second = self._linear(left), self._linear(right)
                if first is None or second is None:
                    return None
                joined = dict(first)
                for axis, part in second.items():
                    if axis in joined:
                        joined[axis] = _binary(symbol, joined[axis], part)
                    else:
                        joined[axis] = part if symbol == "+" else _negative(part)
                return joined
            case Binary(_, ("*" | "/") as symbol, left, right):
                if symbol == "*" and self._alone(left):
                    left, right = right, left
                if not self._alone(right):
                    return None
                scale, inner = Expression.of(right), self._linear(left)
                changes = self.kind(right) == ("", True)
                if inner is None or (changes and None in inner):
                    return None
                return self._each(inner, lambda f: _binary(symbol, f, scale))
        return None

    def _alone(self, node: Node) -> bool:
        kind = self.kind(node)
        return kind is not None and kind[0] == ""

    @staticmethod
    def _each(parts: Parts | None, function: Callable[[Expression], Expression]) -> Parts | None:
        return None if parts is None else {axis: function(part) for axis, part in parts.items()}


def _number(value: float) -> Expression:
    return Expression.of(Number(0, float(value)))


def _negative(part: Expression) -> Expression:
    return Expression.of(Unary(0, "-", part.root))


def _binary(symbol: str, a: Expression, b: Expression) -> Expression:
    return Expression.of(Binary(0, symbol, a.root, b.root))
