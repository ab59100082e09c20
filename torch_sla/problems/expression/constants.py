"""What an expression knows before it sees a tensor: constants with names, and arithmetic of numbers."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

from torch_sla.problems.expression.nodes import Binary, Name, Node, Number, Unary

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ARITHMETIC", "CONSTANTS", "constant_of"]

CONSTANTS = {"pi": math.pi}
ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": operator.pow,
}


def constant_of(node: Node) -> float | complex | None:
    """Return what arithmetic of numbers gives, such as ``-0.002`` or ``2*pi/3``; None where there is more in it.

    Raises
    ------
    ArithmeticError
        Where it divides by zero or overflows.

    Examples
    --------
    >>> constant_of(Binary(0, "/", Name(0, "pi"), Number(3, 2.0)))
    1.5707963267948966
    """
    match node:
        case Number(_, value):
            return value
        case Name(_, name):
            return CONSTANTS.get(name)
        case Unary(_, "-", operand):
            inner = constant_of(operand)
            return None if inner is None else -inner
        case Binary(_, symbol, left, right):
            a, b = constant_of(left), constant_of(right)
            return None if a is None or b is None else ARITHMETIC[symbol](a, b)
    return None
