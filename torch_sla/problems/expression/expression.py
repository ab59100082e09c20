"""Safe expressions: a formula as text, compiled to a differentiable function of named tensors.

The grammar is fixed: numbers, names, ``+ - * / **``, comparisons, ``and or not``, ``where``, ``1j``
and a listed set of functions. There is nothing in it that could call, import or reach an attribute.
"""

from __future__ import annotations

import functools
import operator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import ExpressionError
from torch_sla.problems.expression.constants import ARITHMETIC, CONSTANTS
from torch_sla.problems.expression.functions import FIELD_OPERATORS, FUNCTIONS
from torch_sla.problems.expression.kinds import Kinds
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
from torch_sla.problems.expression.parser import error_at, parse
from torch_sla.problems.expression.ranked import Masked, Ranked, raised

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

__all__ = ["Expression"]

COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


class Expression:
    """A parsed expression.

    Use `Expression.parse`, which keeps what it has parsed before.

    Examples
    --------
    >>> import torch
    >>> e = Expression.parse("where(x < 1, k*x**2, 0)")
    >>> sorted(e.names), e.canonical
    (['k', 'x'], 'where((x < 1), (k * (x ** 2)), 0)')
    >>> values = {"x": torch.tensor([0.5, 2.0]), "k": torch.tensor(4.0)}
    >>> e.evaluate({name: Ranked(value) for name, value in values.items()}).tensor
    tensor([1., 0.])
    """

    def __init__(self, text: str, root: Node | None = None) -> None:
        self.text = text
        self.root = parse(text) if root is None else root
        nodes = list(self.root.walk())
        operators = [n for n in nodes if isinstance(n, Call) and n.function in FIELD_OPERATORS]
        hidden = {id(n.arguments[0]) for n in operators}
        self.names = frozenset(
            n.name
            for n in nodes
            if isinstance(n, Name) and id(n) not in hidden and n.name not in CONSTANTS
        )
        """Free names, operators on fields (``grad(u)``) and constants left out."""
        self.derivatives = frozenset(str(n) for n in operators)
        """Field operators used, spelled ``"grad(u)"``."""
        self.is_complex = any(isinstance(n, Number) and isinstance(n.value, complex) for n in nodes)
        """Whether an imaginary number is written in it."""

    @staticmethod
    @functools.lru_cache(maxsize=4096)
    def parse(text: str) -> Expression:
        """Parse ``text``, or return the expression parsed from it before.

        Raises
        ------
        ExpressionError
            Where the text leaves the grammar; the message points at the column.
        """
        return Expression(text)

    @staticmethod
    def of(root: Node) -> Expression:
        """Return the expression of a tree, which may use names that no text can hold."""
        return Expression(str(root), root)

    @property
    def canonical(self) -> str:
        """The same formula in its one canonical spelling (blanks and brackets do not matter)."""
        return str(self.root)

    @property
    def constant(self) -> float | complex | None:
        """The value, when the expression is a plain number."""
        return self.root.value if isinstance(self.root, Number) else None

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    def check(
        self,
        ranks: Mapping[str, int],
        forbidden: Mapping[str, str] | None = None,
        *,
        operators: Collection[str] = (),
        elementwise: bool = False,
    ) -> int:
        """Check every name and every operation; return the rank (0 scalar, 1 vector, 2 matrix).

        Parameters
        ----------
        ranks
            Rank of every name that may be used, ``"grad(u)"`` included.
        forbidden
            Names that exist but may not be used here, with the reason.
        operators
            Sparse matrices, which do nothing but act on a vector: ``dot(A, x)``.
        elementwise
            Whether vectors are lists of numbers, so that ``x**2``, ``x*y`` and ``exp(x)`` act on each of
            them; a vector of physics has no such powers.

        Raises
        ------
        ExpressionError
            For an unknown or forbidden name, or an operation between shapes that do not match.
        """
        rules = Kinds(self.text, ranks, forbidden or {}, frozenset(operators), elementwise)
        return rules.of(self.root).rank

    def check_predicate(self, names: Collection[str]) -> None:
        """Check that this is a condition (true or false) on the scalars ``names``."""
        kind = Kinds(self.text, dict.fromkeys(names, 0)).of(self.root)
        if not kind.boolean:
            raise error_at(
                self.text, self.root.at, "this is a number, not a condition (as in x < 0.5)"
            )

    def evaluate(self, values: Mapping[str, Ranked]) -> Ranked:
        """Evaluate with tensors for the names; differentiable in all of them.

        Parameters
        ----------
        values
            A tensor and its rank for each name, ``"grad(u)"`` included. Batch and site dimensions
            broadcast against each other. Names that the expression does not use are not looked at.
        """
        result = self._evaluate(self.root, values)
        if isinstance(result, Ranked):
            return result
        return Ranked(_as_tensor(result, next(iter(values.values()), None) if values else None))

    # -- values ---------------------------------------------------------------------------------

    def _evaluate(self, node: Node, values: Mapping[str, Ranked]) -> Ranked | float | complex:
        match node:
            case Number(_, value):
                return value
            case Name(_, name):
                return CONSTANTS[name] if name in CONSTANTS else values[name]
            case Call(_, function) if function in FIELD_OPERATORS:
                return values[str(node)]
            case Unary(_, symbol, operand):
                inner = self._evaluate(operand, values)
                if not isinstance(inner, Ranked):
                    return -inner
                tensor = ~inner.tensor if symbol == "not" else -_number(inner.tensor)
                return Ranked(tensor, inner.rank)
            case Binary(_, symbol, left, right):
                a, b = self._evaluate(left, values), self._evaluate(right, values)
                self._fitting(node, a, b)
                return _arithmetic(symbol, a, b)
            case Boolean(_, symbol, operands):
                parts = [self._tensor(operand, values) for operand in operands]
                join = torch.logical_and if symbol == "and" else torch.logical_or
                return Ranked(functools.reduce(join, parts))
            case Compare(_, operators, operands):
                items = [self._tensor(operand, values) for operand in operands]
                links = [
                    COMPARE[o](a, b)
                    for o, a, b in zip(operators, items[:-1], items[1:], strict=True)
                ]
                return Ranked(functools.reduce(torch.logical_and, links))
            case Index(_, operand, indices):
                whole = self._evaluate(operand, values)
                if not isinstance(whole, Ranked):
                    raise ExpressionError(f"{operand} has no components")
                shape = whole.tensor.shape[whole.tensor.ndim - whole.rank :]
                if any(i >= n for i, n in zip(indices, shape, strict=True)):
                    raise error_at(
                        self.text, node.at, f"{node} is out of range for shape {tuple(shape)}"
                    )
                component = whole.tensor
                for index in reversed(indices):
                    component = component.select(-1, index)
                return Ranked(component)
            case Call(_, "where", arguments):
                return self._where(arguments, values)
            case Call(_, function, arguments):
                return self._call(function, arguments, values)
            case _:  # pragma: no cover
                raise ExpressionError(f"no meaning for {type(node).__name__}")

    def _tensor(self, node: Node, values: Mapping[str, Ranked]) -> Tensor:
        value = self._evaluate(node, values)
        return value.tensor if isinstance(value, Ranked) else _as_tensor(value, None)

    def _where(self, arguments: tuple[Node, ...], values: Mapping[str, Ranked]) -> Ranked:
        """Choose between branches, each of which sees only the places where it counts.

        Elsewhere a branch sees the names as they are at one place where it counts. Without that, a
        derivative that is infinite where the branch does not count, as in ``where(x > 0, sqrt(x), 0)``,
        would turn the zero it is multiplied with into NaN.
        """
        condition = self._tensor(arguments[0], values)
        sides = (condition, ~condition)
        parts = [
            self._evaluate(branch, Masked(values, side))
            for branch, side in zip(arguments[1:], sides, strict=True)
        ]
        self._fitting(arguments[1], *parts)
        like = next((part for part in parts if isinstance(part, Ranked)), None)
        ranked = [p if isinstance(p, Ranked) else Ranked(_as_tensor(p, like)) for p in parts]
        rank = max(part.rank for part in ranked)
        first, second = (_number(raised(part, rank)) for part in ranked)
        return Ranked(torch.where(raised(Ranked(condition), rank), first, second), rank)

    def _call(
        self, function: str, arguments: tuple[Node, ...], values: Mapping[str, Ranked]
    ) -> Ranked:
        evaluated = [self._evaluate(argument, values) for argument in arguments]
        self._fitting(arguments[0], *evaluated)
        like = next(
            (e for e in evaluated if isinstance(e, Ranked) and e.tensor.dtype != torch.bool), None
        )
        parts = [e if isinstance(e, Ranked) else Ranked(_as_tensor(e, like)) for e in evaluated]
        entry = FUNCTIONS[function]
        if entry.results is not None:
            return entry.apply(*(Ranked(_number(p.tensor), p.rank) for p in parts))
        rank = max(part.rank for part in parts)
        return Ranked(entry.apply(*(_number(raised(part, rank)) for part in parts)), rank)

    def _fitting(self, node: Node, *values: Ranked | float | complex) -> None:
        """Refuse vectors and matrices of different sizes side by side; numbers fit everything."""
        # Operators on vectors (sparse matrices) look at the sizes themselves.
        ranked = [v for v in values if isinstance(v, Ranked) and v.rank]
        sized = [v for v in ranked if isinstance(v.tensor, Tensor)]
        sizes = {int(v.tensor.shape[-1]) for v in sized}
        if len(sizes) > 1:
            shapes = " and ".join(str(tuple(v.tensor.shape[-v.rank :])) for v in sized)
            hint = "; take components, as in stress[0, 1]*normal[1]: stress and strain are 3 by 3 in every model"
            raise error_at(
                self.text,
                node.at,
                f"{shapes} are shapes that do not go together{hint if 3 in sizes else ''}",
            )


def _as_tensor(value: float | complex, like: Ranked | None) -> Tensor:
    dtype = torch.float64
    if like is not None and like.tensor.dtype.is_floating_point:
        dtype = like.tensor.dtype
    if isinstance(value, complex):
        dtype = torch.complex64 if dtype == torch.float32 else torch.complex128
    return torch.tensor(value, dtype=dtype)


def _number(tensor: Tensor) -> Tensor:
    """Turn a condition into 0 and 1, so that arithmetic on it means what it says."""
    return tensor.to(torch.float64) if tensor.dtype == torch.bool else tensor


def _arithmetic(
    symbol: str, a: Ranked | float | complex, b: Ranked | float | complex
) -> Ranked | float | complex:
    apply = ARITHMETIC[symbol]
    if not isinstance(a, Ranked) and not isinstance(b, Ranked):
        return apply(a, b)
    rank = max(value.rank for value in (a, b) if isinstance(value, Ranked))
    left = _number(raised(a, rank)) if isinstance(a, Ranked) else a
    right = _number(raised(b, rank)) if isinstance(b, Ranked) else b
    return Ranked(apply(left, right), rank)
