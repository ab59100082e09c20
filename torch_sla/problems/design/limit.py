"""Constraints of a design as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch_sla.problems.design.goal import Written, terms
from torch_sla.problems.expression.constants import constant_of
from torch_sla.problems.expression.nodes import Compare, Node
from torch_sla.problems.expression.parser import error_at

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.problems.design.goal import Scope

__all__ = ["Limit"]


class Limit(Written):
    """Constraints as text: ``a <= b``, ``a >= b``, ``a == b`` or ``a <= b <= c``.

    Examples
    --------
    >>> [link.symbol for link in Limit("0.1 <= volume <= 0.4").links]
    ['<=', '<=']
    """

    class Link(NamedTuple):
        """One comparison."""

        left: Node
        symbol: str
        right: Node

        @property
        def scale(self) -> float | None:
            """What a violation is measured in: the bound of a side or of one term in a sum; None where there is none.

            Beside several terms a number is no bound: ``a <= b + 1e-12`` is about a and b.
            """
            for side in (self.right, self.left):
                value = constant_of(side)
                if value:
                    return abs(value)
            parts = terms(self.left, 1.0) + terms(self.right, -1.0)
            if sum(constant_of(node) is None for node, _ in parts) > 1:
                return None
            values = [weight * (constant_of(node) or 0.0) for node, weight in parts]
            if any(isinstance(value, complex) for value in values):
                return None
            total, size = abs(sum(values)), sum(map(abs, values))
            return total if total > 1e-9 * size else None

    def __init__(self, text: str) -> None:
        super().__init__(text)
        root = self.root
        if not isinstance(root, Compare):
            raise error_at(
                text, root.at, "a constraint compares, as in volume <= 0.4 or 1.0 <= f <= 2.0"
            )
        wrong = [o for o in root.operators if o not in ("<=", ">=", "==")]
        if wrong:
            raise error_at(text, root.at, f"{wrong[0]!r} has no meaning here; use <= >= or ==")
        for side in root.operands:
            if isinstance(constant_of(side), complex):
                raise error_at(text, side.at, "this is no real number")
        pairs = zip(root.operands[:-1], root.operators, root.operands[1:], strict=True)
        self.links = [Limit.Link(a, o, b) for a, o, b in pairs]

    @property
    def equalities(self) -> list[bool]:
        """Which links are equalities."""
        return [link.symbol == "==" for link in self.links]

    @property
    def relative(self) -> list[bool]:
        """Which links are measured in numbers that stand in them."""
        return [link.scale is not None for link in self.links]

    def evaluate(self, scope: Scope) -> list[Tensor]:
        """Return one number per link, at most 0 (or 0, for equalities) where it holds; relative where `relative`."""
        found = []
        for left, symbol, right in self.links:
            a = self.number(left, scope, "each side of a constraint")
            b = self.number(right, scope, "each side of a constraint")
            scale = Limit.Link(left, symbol, right).scale or 1.0
            found.append(((b - a) if symbol == ">=" else (a - b)) / scale)
        return found
