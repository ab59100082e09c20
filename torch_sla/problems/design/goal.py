"""Goals of a design as text, over named results, which may be arrays.

The grammar is that of all expressions; what can be called is its own: elementwise functions, reductions and
aggregates of arrays, regularisers of parameters and the misfit to measured data.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from torch_sla.errors import ExpressionError
from torch_sla.lazy import cached_property
from torch_sla.problems.design.regularisers import RESIDUALS
from torch_sla.problems.design.vocabulary import CALLABLE
from torch_sla.problems.expression.constants import ARITHMETIC, CONSTANTS
from torch_sla.problems.expression.expression import COMPARE
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
from torch_sla.problems.expression.parser import error_at, nearest, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from torch_sla.problems.design.transforms.place import Place

__all__ = ["Goal", "Scope", "Written", "parsed", "terms"]


class Scope(Protocol):
    """Where a goal finds what it names."""

    def value(self, name: str) -> Tensor:
        """Return a result or the value of a parameter."""

    def place(self, name: str) -> Place:
        """Return where a parameter lives."""

    def residual(self, data: str, found: Tensor) -> Tensor:
        """Return (found − measured)/noise, real."""


class Written:
    """A parsed text and how its parts are evaluated."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.root = parse(text, CALLABLE)
        calls = [n for n in self.root.walk() if isinstance(n, Call) and n.function == "misfit"]
        labels = {id(n.arguments[-1]): n for n in calls}
        names = [n for n in self.root.walk() if isinstance(n, Name) and n.name not in CONSTANTS]
        second = {i for i, call in labels.items() if len(call.arguments) == 2}
        self.names = frozenset(n.name for n in names if id(n) not in second)
        """Results and parameters that it uses."""
        self.data = frozenset(_label(call) for call in labels.values())
        """Data that it uses."""

    @property
    def canonical(self) -> str:
        """The same formula in its one canonical spelling."""
        return str(self.root)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.text!r})"

    def check(
        self, known: Collection[str], parameters: Collection[str], data: Collection[str]
    ) -> None:
        """Check all names.

        Parameters
        ----------
        known
            Results and parameters.
        parameters
            Those that live somewhere, so that regularisers have a meaning.
        data
            What has been measured.

        Raises
        ------
        ExpressionError
            At the first name that is wrong, with the nearest there is.
        """
        for node in self.root.walk():
            if isinstance(node, Call):
                entry = CALLABLE[node.function]
                if entry.kind == "misfit":
                    self._data(node, data)
                elif entry.kind == "regulariser":
                    self._home(node, parameters)
        for node in self.root.walk():
            if isinstance(node, Name) and node.name in self.names and node.name not in known:
                raise error_at(
                    self.text,
                    node.at,
                    f"there is no result or parameter {node.name!r}{nearest(node.name, known)}; "
                    f"known here: {' '.join(sorted(known)) or 'nothing'}",
                )

    def _data(self, call: Call, known: Collection[str]) -> str:
        label = call.arguments[-1]
        if not isinstance(label, Name):
            raise error_at(
                self.text,
                label.at,
                "misfit takes the name of data, as in misfit(sensors) or misfit(log(sensors), measured)",
            )
        if label.name not in known:
            there = " ".join(sorted(known)) or "nothing"
            raise error_at(
                self.text,
                label.at,
                f"no data is called {label.name!r}{nearest(label.name, known)}; data holds: {there}",
            )
        return label.name

    def _home(self, call: Call, parameters: Collection[str]) -> str:
        argument = call.arguments[0]
        names = sorted({n.name for n in argument.walk() if isinstance(n, Name)} - CONSTANTS.keys())
        if len(names) != 1 or names[0] not in parameters:
            there = " ".join(sorted(parameters)) or "none"
            raise error_at(
                self.text,
                argument.at,
                f"{call.function} takes an expression of one variable that lives on the mesh; there are: {there}",
            )
        return names[0]

    # -- values ---------------------------------------------------------------------------------

    def _at(self, node: Node, scope: Scope) -> Tensor:
        match node:
            case Number(_, value):
                return _constant(value)
            case Name(_, name):
                return _constant(CONSTANTS[name]) if name in CONSTANTS else scope.value(name)
            case Unary(_, symbol, operand):
                if symbol == "not":
                    return ~self._condition(operand, scope)
                return -self._at(operand, scope)
            case Binary(_, symbol, left, right):
                return self._joined(node, ARITHMETIC[symbol], left, right, scope)
            case Boolean(_, symbol, operands):
                join = torch.logical_and if symbol == "and" else torch.logical_or
                return functools.reduce(join, (self._condition(o, scope) for o in operands))
            case Compare(_, operators, operands):
                links = [
                    self._joined(node, COMPARE[o], a, b, scope)
                    for o, a, b in zip(operators, operands[:-1], operands[1:], strict=True)
                ]
                return functools.reduce(torch.logical_and, links)
            case Index(at, operand, indices):
                return self._component(at, self._at(operand, scope), indices)
            case Call():
                return self._called(node, scope)
            case _:  # pragma: no cover
                raise ExpressionError(f"no meaning for {type(node).__name__}")

    def _joined(
        self, node: Node, join: Callable[[Any, Any], Any], left: Node, right: Node, scope: Scope
    ) -> Tensor:
        a, b = self._at(left, scope), self._at(right, scope)
        try:
            np.broadcast_shapes(a.shape, b.shape)
        except ValueError:
            raise error_at(
                self.text, node.at, f"shapes {list(a.shape)} and {list(b.shape)} do not go together"
            ) from None
        return join(a, b)

    def _component(self, at: int, whole: Tensor, indices: tuple[int, ...]) -> Tensor:
        if len(indices) > whole.ndim:
            raise error_at(
                self.text, at, f"it has {whole.ndim} indices, but {len(indices)} are given"
            )
        for index, size in zip(indices, whole.shape[whole.ndim - len(indices) :], strict=True):
            if index >= size:
                raise error_at(
                    self.text, at, f"index {index} is out of range; there are {size}, from 0"
                )
        found = whole
        for index in reversed(indices):
            found = found.select(-1, index)
        return found

    def _called(self, call: Call, scope: Scope) -> Tensor:
        entry = CALLABLE[call.function]
        if entry.kind == "misfit":
            r = scope.residual(_label(call), self._at(call.arguments[0], scope))
            return 0.5 * r.square().sum()
        if entry.kind in ("aggregate", "regulariser"):
            return self._reduced(call, entry.apply, scope)
        arguments = [self._at(a, scope) for a in call.arguments]
        if call.function == "where":
            arguments[0] = self._condition(call.arguments[0], scope)
        try:
            found: Tensor = entry.apply(*arguments)
        except RuntimeError as error:
            raise error_at(self.text, call.at, f"{call.function}: {error}") from None
        return found

    def _condition(self, node: Node, scope: Scope) -> Tensor:
        found = self._at(node, scope)
        if found.dtype != torch.bool:
            raise error_at(self.text, node.at, "this is a number, where a condition is needed")
        return found

    def _reduced(self, call: Call, apply: Callable[..., Tensor], scope: Scope) -> Tensor:
        """Apply a function of an array and numbers."""
        first, *rest = call.arguments
        values = self._at(first, scope)
        numbers = []
        for node in rest:
            if not isinstance(node, Number) or isinstance(node.value, complex):
                raise error_at(self.text, node.at, f"{call.function} takes a plain number here")
            numbers.append(node.value)
        if CALLABLE[call.function].kind == "aggregate":
            return apply(values, *numbers)
        names = {n.name for n in first.walk() if isinstance(n, Name)} - CONSTANTS.keys()
        return apply(scope.place(names.pop()), values, *numbers)

    def number(self, node: Node, scope: Scope, what: str) -> Tensor:
        """Evaluate what must be one real number."""
        found = self._at(node, scope)
        if found.numel() != 1 or found.is_complex() or found.dtype == torch.bool:
            kind, remedy = f"of shape {list(found.shape)}", "sum, mean, max or p_norm"
            if found.is_complex():
                kind, remedy = "complex", "abs, real or imag"
            raise error_at(
                self.text,
                node.at,
                f"{what} is one real number, and this is {kind}; use {remedy}",
            )
        return found.reshape(())


def _constant(value: float | complex) -> Tensor:
    wide = torch.complex128 if isinstance(value, complex) else torch.float64
    return torch.tensor(value, dtype=wide)


def _label(call: Call) -> str:
    label = call.arguments[-1]
    return label.name if isinstance(label, Name) else ""


class Goal(Written):
    """An objective as text.

    Examples
    --------
    >>> goal = Goal("sum(sensors**2) + 0.5*max(T)")
    >>> sorted(goal.names), goal.canonical
    (['T', 'sensors'], '(sum((sensors ** 2)) + (0.5 * max(T)))')
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        if isinstance(self.root, Compare | Boolean):
            raise error_at(
                text, self.root.at, "an objective is a number; conditions go to constraints"
            )

    def evaluate(self, scope: Scope) -> Tensor:
        """Return the objective, one real number."""
        return self.number(self.root, scope, "an objective")

    @cached_property
    def squares(self) -> list[tuple[Call, float]]:
        """Terms of the sum that are half squares, with their weights."""
        return [
            (n, w) for n, w in terms(self.root, 1.0) if isinstance(n, Call) and _is_square(n, w)
        ]

    @cached_property
    def others(self) -> list[tuple[Node, float]]:
        """The other terms, with their weights."""
        return [(n, w) for n, w in terms(self.root, 1.0) if not _is_square(n, w)]

    def parts(self, scope: Scope) -> tuple[Tensor | None, Tensor | None]:
        """Return r ``[k]`` and the rest, with the objective ½‖r‖² + rest; None where there is none."""
        rest = [w * self.number(node, scope, "an objective") for node, w in self.others]
        return self.residual(scope), torch.stack(rest).sum() if rest else None

    def residual(self, scope: Scope, misfits: bool | None = None) -> Tensor | None:
        """Return the part r ``[k]`` whose half square is meant: all of it, that of data, or that of regularisers."""
        squares = []
        for call, weight in self.squares:
            if misfits is not None and misfits != (call.function == "misfit"):
                continue
            if call.function == "misfit":
                r = scope.residual(_label(call), self._at(call.arguments[0], scope))
            else:
                r = self._reduced(call, RESIDUALS[call.function], scope)
            squares.append(math.sqrt(weight) * r.reshape(-1))
        return torch.cat(squares) if squares else None


def terms(node: Node, weight: float) -> list[tuple[Node, float]]:
    """Split a sum into terms with constant weights."""
    match node:
        case Binary(_, "+", left, right):
            return [*terms(left, weight), *terms(right, weight)]
        case Binary(_, "-", left, right):
            return [*terms(left, weight), *terms(right, -weight)]
        case Binary(_, "*", Number(_, float(value)), right):
            return terms(right, weight * value)
        case Binary(_, "*", left, Number(_, float(value))):
            return terms(left, weight * value)
        case Binary(_, "/", left, Number(_, float(value))) if value != 0:
            return terms(left, weight / value)
        case _:
            return [(node, weight)]


def _is_square(node: Node, weight: float) -> bool:
    square = isinstance(node, Call) and (node.function == "misfit" or node.function in RESIDUALS)
    return square and weight > 0


def parsed(kind: type[Any]) -> Callable[[str], Any]:
    """Return a parser that keeps what it has parsed."""
    return functools.lru_cache(maxsize=1024)(kind)
