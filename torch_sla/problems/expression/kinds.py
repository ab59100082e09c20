"""What an expression is, found without values: its names known, its operations between shapes that match."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from torch_sla.errors import ExpressionError
from torch_sla.problems.expression.constants import CONSTANTS
from torch_sla.problems.expression.functions import FIELD_OPERATORS, FUNCTIONS
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
from torch_sla.problems.expression.parser import error_at, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Kind", "Kinds"]


_WORDS = ("a scalar", "a vector", "a matrix")
_WHOLE = ("real", "imag", "conj")


class Kind(NamedTuple):
    """Rank (0 scalar, 1 vector, 2 matrix), and whether it is a condition."""

    rank: int = 0
    boolean: bool = False


@dataclass(frozen=True)
class Kinds:
    """The rules an expression is checked by.

    Parameters
    ----------
    text
        The expression, for messages.
    ranks
        Rank of every name that may be used, ``"grad(u)"`` included.
    forbidden
        Names that exist but may not be used here, with the reason.
    operators
        Sparse matrices, which do nothing but act on a vector: ``dot(A, x)``.
    elementwise
        Whether vectors are lists of numbers, so that ``x**2``, ``x*y`` and ``exp(x)`` act on each of them.
    """

    text: str
    ranks: Mapping[str, int]
    forbidden: Mapping[str, str] = field(default_factory=dict)
    operators: frozenset[str] = frozenset()
    elementwise: bool = False

    def of(self, node: Node) -> Kind:
        """Return the kind of a piece of the expression.

        Raises
        ------
        ExpressionError
            For an unknown or forbidden name, or an operation between shapes that do not match.
        """
        match node:
            case Number():
                return Kind()
            case Name(at, name):
                if name in self.operators:
                    raise self._error(at, f"the matrix {name!r} acts on a vector: dot({name}, x)")
                return self._name(at, name)
            case Call(at, function) if function in FIELD_OPERATORS:
                return self._name(at, str(node))
            case Call(_, "dot", (Name(_, name), vector)) if name in self.operators:
                if self.of(vector).rank != 1:
                    raise self._error(vector.at, "a matrix acts on a vector")
                return Kind(1)
            case Unary(_, "not", operand):
                self._condition(operand)
                return Kind(boolean=True)
            case Unary(_, _, operand):
                return Kind(self.of(operand).rank)
            case Boolean(_, _, operands):
                for operand in operands:
                    self._condition(operand)
                return Kind(boolean=True)
            case Compare(at, _, operands):
                if any(self.of(operand).rank for operand in operands):
                    raise self._error(at, "only scalars can be compared; use norm(...) or v[0]")
                return Kind(boolean=True)
            case Binary(at, symbol, left, right):
                return self._binary(at, symbol, self.of(left).rank, self.of(right).rank)
            case Index(at, operand, indices):
                rank = self.of(operand).rank
                if len(indices) != rank:
                    raise self._error(
                        at, f"{operand} has {rank} indices, but {len(indices)} are given"
                    )
                return Kind()
            case Call(at, function, arguments):
                return self._call(at, function, arguments)
            case _:  # pragma: no cover
                raise ExpressionError(f"no meaning for {type(node).__name__}")

    def _error(self, at: int, message: str) -> ExpressionError:
        return error_at(self.text, at, message)

    def _name(self, at: int, name: str) -> Kind:
        if name in CONSTANTS:
            return Kind()
        if name in self.forbidden:
            reason = self.forbidden[name]
            raise self._error(at, f"{name!r} cannot be used here: {reason}")
        if name not in self.ranks:
            known = sorted(self.ranks.keys() | CONSTANTS.keys())
            raise self._error(
                at,
                f"unknown name {name!r}{nearest(name, known)}; known here: {' '.join(known)}",
            )
        return Kind(self.ranks[name])

    def _condition(self, node: Node) -> None:
        if not self.of(node).boolean:
            raise self._error(node.at, "this is a number, where a condition is needed")

    def _binary(self, at: int, symbol: str, left: int, right: int) -> Kind:
        if left == right == 0:
            return Kind()
        if self.elementwise and (left == right or 0 in (left, right)):
            return Kind(max(left, right))
        if symbol in "+-" and left == right:
            return Kind(left)
        if symbol == "*" and 0 in (left, right):
            return Kind(max(left, right))
        if symbol == "/" and right == 0:
            return Kind(left)
        hint = "; use dot(a, b)" if symbol == "*" else ""
        raise self._error(at, f"{symbol!r} between {_WORDS[left]} and {_WORDS[right]}{hint}")

    def _call(self, at: int, function: str, arguments: tuple[Node, ...]) -> Kind:
        kinds = [self.of(argument) for argument in arguments]
        if function == "where":
            self._condition(arguments[0])
            if kinds[1].rank != kinds[2].rank:
                raise self._error(at, "both branches of where need the same shape")
            return Kind(kinds[1].rank)
        results = FUNCTIONS[function].results
        ranks = tuple(kind.rank for kind in kinds)
        if results is not None:
            if ranks not in results:
                wanted = next(iter(results))
                at, need = next(
                    (a.at, w) for a, w, r in zip(arguments, wanted, ranks, strict=True) if w != r
                )
                raise self._error(at, f"{function} takes {_WORDS[need]} here")
            return Kind(results[ranks])
        if self.elementwise and len({rank for rank in ranks if rank}) <= 1:
            return Kind(max(ranks))
        for argument, kind in zip(arguments, kinds, strict=True):
            if kind.rank and function not in _WHOLE:
                raise self._error(argument.at, f"{function} takes a scalar here")
        return Kind(kinds[0].rank)
