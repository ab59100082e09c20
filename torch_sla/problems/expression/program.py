"""An expression as a list of operations that write into memory of their own, for many evaluations in a row."""

from __future__ import annotations

import operator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from torch_sla.problems.expression.constants import ARITHMETIC, CONSTANTS
from torch_sla.problems.expression.expression import COMPARE, Expression
from torch_sla.problems.expression.functions import ELEMENTWISE, FUNCTIONS
from torch_sla.problems.expression.nodes import (
    Binary,
    Call,
    Compare,
    Index,
    Name,
    Node,
    Number,
    Unary,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Program"]

_TORCH: dict[str, Callable[..., Any]] = {
    **{name: FUNCTIONS[name].apply for name in ELEMENTWISE},
    "max": torch.maximum,
    "min": torch.minimum,
    "where": torch.where,
    "atan2": torch.atan2,
    "+": torch.add,
    "-": torch.sub,
    "*": torch.mul,
    "/": torch.div,
    "**": torch.pow,
    "<": torch.lt,
    "<=": torch.le,
    ">": torch.gt,
    ">=": torch.ge,
    "==": torch.eq,
    "!=": torch.ne,
    "neg": torch.neg,
}
_FOLDED: dict[str, Callable[..., Any]] = {**ARITHMETIC, "neg": operator.neg}
_NUMPY = {
    **{name: name for name in ("exp", "expm1", "log", "log1p", "log2", "log10")},
    **{name: name for name in ("tan", "sinh", "cosh", "tanh")},
    **{f"a{name}": f"arc{name}" for name in ("sin", "cos", "tan", "sinh")},
}
"""What expressions and NumPy call a function; not sines, which torch is quicker at."""


def _wide() -> dict[str, Callable[..., Any]]:
    """Return the functions that NumPy has in instructions of 512 bits, at a third of the time that torch takes."""
    introspect = getattr(np.lib, "introspect", None)
    if introspect is None:
        return {}
    any_of = "|".join(_NUMPY.values())
    info = introspect.opt_func_info(func_name=f"^({any_of})$", signature="float64")
    level = {name: str([way["current"] for way in ways.values()]) for name, ways in info.items()}
    return {
        name: _written(getattr(np, theirs))
        for name, theirs in _NUMPY.items()
        if "AVX512" in level.get(theirs, "") or "X86_V4" in level.get(theirs, "")
    }


class _UnknownError(Exception):
    """An operation that is none of a program."""


class Program:
    """Evaluates a real expression of scalars without derivatives, again and again for values of the same shapes.

    The memory of one evaluation is used by the next, so that it stays near the processor; what occurs twice is
    evaluated once. Use `Program.of`.

    Attributes
    ----------
    names
        What `run` asks for: names, and components of vectors as ``"normal[0]"``.

    Examples
    --------
    >>> from torch_sla.problems.expression import Expression
    >>> law = Expression.parse("2 - x*(a + 1)")
    >>> program = Program.of(law, {"x": (2, 1), "a": (1, 2)}, torch.float64)
    >>> x, a = (torch.tensor(v, dtype=torch.float64) for v in ([[1.0], [2.0]], [[0.0, 3.0]]))
    >>> program.run({"x": x, "a": a}, out := torch.empty(2, 2, dtype=torch.float64))
    >>> out.tolist()
    [[1.0, -2.0], [0.0, -6.0]]
    """

    def __init__(
        self, expression: Expression, shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype
    ) -> None:
        self._shapes, self._dtype = shapes, dtype
        self.names: dict[str, int] = {}
        # Registers: what is in each, which kind of tensor that is, and which of them are numbers.
        self._held: list[Any] = []
        self._kinds: list[_Kind] = []
        self._numbers: dict[int, float] = {}
        self._known: dict[str, int] = {}
        self._steps: list[tuple[Callable[..., Any], tuple[int, ...], int]] = []
        self._root = self._of(expression.root)
        self._lend()

    @classmethod
    def of(
        cls, expression: Expression, shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype
    ) -> Program | None:
        """Return the program of an expression; None where it has other operations, or other numbers.

        Parameters
        ----------
        shapes
            Of what the names stand for, real scalars that broadcast against each other.
        dtype
            Real, of all of them.
        """
        try:
            return cls(expression, shapes, dtype)
        except _UnknownError:
            return None

    @staticmethod
    def inputs(expression: Expression) -> dict[str, Expression]:
        """Return what an expression is a function of: names, and components of vectors as ``"normal[0]"``.

        Examples
        --------
        >>> from torch_sla.problems.expression import Expression
        >>> sorted(Program.inputs(Expression.parse("a*normal[0] + pi*a")))
        ['a', 'normal[0]']
        """
        nodes = list(expression.root.walk())
        inner = {id(node.operand) for node in nodes if isinstance(node, Index)}
        wanted = (n for n in nodes if isinstance(n, Name | Index) and id(n) not in inner)
        return {str(n): Expression.of(n) for n in wanted if str(n) not in CONSTANTS}

    def run(self, values: Mapping[str, Tensor], out: Tensor) -> None:
        """Evaluate.

        Parameters
        ----------
        values
            Those of `names`, without history.
        out
            Where the result is written, and repeated if it has a smaller shape.
        """
        held = self._held
        for name, at in self.names.items():
            held[at] = values[name]
        direct = bool(self._steps) and self._kinds[self._root].shape == out.shape
        if direct:
            held[self._root] = out
        for function, operands, result in self._steps:
            function(*[held[k] for k in operands], out=held[result])
        if not direct:
            out.copy_(held[self._root])

    # -- the list -------------------------------------------------------------------------------

    def _of(self, node: Node) -> int:
        """Return the register of a piece, which is the same wherever it occurs."""
        key = str(node)
        if key not in self._known:
            self._known[key] = self._made(node, key)
        return self._known[key]

    def _made(self, node: Node, key: str) -> int:
        match node:
            case Number(_, value) if not isinstance(value, complex):
                return self._number(value)
            case Name(_, name) if name in CONSTANTS:
                return self._number(CONSTANTS[name])
            case Name() | Index() if key in self._shapes:
                self.names[key] = self._register(_Kind(self._shapes[key], self._dtype))
                return self.names[key]
            case Unary(_, "-", operand):
                return self._step("neg", operand)
            case Binary(_, symbol, left, right):
                return self._step(symbol, left, right)
            case Compare(_, (symbol,), operands):
                return self._step(symbol, *operands)
            case Call(_, ("max" | "min") as name, (first, *others)):
                found = self._of(first)
                for other in others:
                    found = self._apply(name, found, self._of(other))
                return found
            case Call(_, name, arguments) if name in _TORCH:
                return self._step(name, *arguments)
        raise _UnknownError

    def _step(self, name: str, *operands: Node) -> int:
        return self._apply(name, *map(self._of, operands))

    def _apply(self, name: str, *operands: int) -> int:
        if all(k in self._numbers for k in operands) and name in _FOLDED:
            return self._number(_FOLDED[name](*(self._numbers[k] for k in operands)))
        kinds = [self._kinds[k] for k in operands]
        conditions = [kind.dtype == torch.bool for kind in kinds]
        if conditions != [name == "where"] + [False] * (len(kinds) - 1):
            raise _UnknownError
        shape = tuple(np.broadcast_shapes(*(kind.shape for kind in kinds)))
        result = self._register(_Kind(shape, torch.bool if name in COMPARE else self._dtype))
        function = _TORCH[name]
        if name in _WIDE and self._dtype == torch.float64:
            function = _WIDE[name]
        elif name == "**" and operands[1] in self._numbers:
            # Squares and cubes are products.
            power, operands = self._numbers[operands[1]], operands[:1]
            function = partial(torch.pow, exponent=power)
        self._steps.append((function, operands, result))
        return result

    def _number(self, value: float) -> int:
        at = self._register(_Kind((), self._dtype), torch.tensor(value, dtype=self._dtype))
        self._numbers[at] = value
        return at

    def _register(self, kind: _Kind, held: Any = None) -> int:
        self._kinds.append(kind)
        self._held.append(held)
        return len(self._held) - 1

    def _lend(self) -> None:
        """Give each result memory: that of an operand which nothing needs any more, where it has the same shape."""
        last = {k: i for i, (_, operands, _) in enumerate(self._steps) for k in operands}
        results = {result for _, _, result in self._steps}
        free: dict[_Kind, list[Tensor]] = {}
        for i, (_, operands, result) in enumerate(self._steps):
            kind = self._kinds[result]
            for k in {k for k in operands if k in results and last[k] == i}:
                free.setdefault(self._kinds[k], []).append(self._held[k])
            spare = free.get(kind)
            # The memory of the last result is only used where that is smaller than what is asked for.
            self._held[result] = spare.pop() if spare else torch.empty(kind.shape, dtype=kind.dtype)


class _Kind(NamedTuple):
    """Shape and dtype of a tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype


def _written(ufunc: Callable[..., Any]) -> Callable[..., None]:
    """Let a function of NumPy write into a tensor."""

    def apply(x: Tensor, *, out: Tensor) -> None:
        with np.errstate(all="ignore"):
            ufunc(x.numpy(), out=out.numpy())

    return apply


_WIDE = _wide()
