"""The syntax tree of an expression, and its one canonical spelling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Binary", "Boolean", "Call", "Compare", "Index", "Name", "Node", "Number", "Unary"]


@dataclass(frozen=True, slots=True)
class Node:
    """One piece of an expression; ``at`` is the column where it starts (from 0)."""

    at: int

    @property
    def children(self) -> tuple[Node, ...]:
        """The pieces this one is made of."""
        return ()

    def walk(self) -> Iterator[Node]:
        """Yield this node and everything below it."""
        stack: list[Node] = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.children))


@dataclass(frozen=True, slots=True)
class Number(Node):
    """A real or imaginary constant."""

    value: float | complex

    def __str__(self) -> str:
        value = self.value
        if isinstance(value, complex):
            if value.real == 0.0:
                return f"{_real(value.imag)}j"
            return f"({_real(value.real)} + {_real(value.imag)}j)"
        return _real(value)


@dataclass(frozen=True, slots=True)
class Name(Node):
    """A coordinate, a field, a declared parameter or ``pi``."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Unary(Node):
    """``-a`` or ``not a``."""

    operator: str
    operand: Node

    @property
    def children(self) -> tuple[Node, ...]:
        """The operands."""
        return (self.operand,)

    def __str__(self) -> str:
        return f"(not {self.operand})" if self.operator == "not" else f"(-{self.operand})"


@dataclass(frozen=True, slots=True)
class Binary(Node):
    """``a + b`` and its like."""

    operator: str
    left: Node
    right: Node

    @property
    def children(self) -> tuple[Node, ...]:
        """The operands."""
        return (self.left, self.right)

    def __str__(self) -> str:
        return f"({self.left} {self.operator} {self.right})"


@dataclass(frozen=True, slots=True)
class Compare(Node):
    """``a < b <= c``: true where every link of the chain is."""

    operators: tuple[str, ...]
    operands: tuple[Node, ...]

    @property
    def children(self) -> tuple[Node, ...]:
        """The operands."""
        return self.operands

    def __str__(self) -> str:
        text = str(self.operands[0])
        for operator, operand in zip(self.operators, self.operands[1:], strict=True):
            text += f" {operator} {operand}"
        return f"({text})"


@dataclass(frozen=True, slots=True)
class Boolean(Node):
    """``a and b and c``, or the same with ``or``."""

    operator: str
    operands: tuple[Node, ...]

    @property
    def children(self) -> tuple[Node, ...]:
        """The operands."""
        return self.operands

    def __str__(self) -> str:
        return "(" + f" {self.operator} ".join(str(operand) for operand in self.operands) + ")"


@dataclass(frozen=True, slots=True)
class Call(Node):
    """A listed function of its arguments."""

    function: str
    arguments: tuple[Node, ...]

    @property
    def children(self) -> tuple[Node, ...]:
        """The operands."""
        return self.arguments

    def __str__(self) -> str:
        return f"{self.function}({', '.join(str(argument) for argument in self.arguments)})"


@dataclass(frozen=True, slots=True)
class Index(Node):
    """A component of a vector or matrix: ``grad(u)[0]``."""

    operand: Node
    indices: tuple[int, ...]

    @property
    def children(self) -> tuple[Node, ...]:
        """The operands."""
        return (self.operand,)

    def __str__(self) -> str:
        return f"{self.operand}[{', '.join(str(index) for index in self.indices)}]"


def _real(value: float) -> str:
    text = repr(value + 0.0)
    return text[:-2] if text.endswith(".0") else text
