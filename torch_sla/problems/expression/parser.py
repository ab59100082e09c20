"""Text to syntax tree: a fixed grammar, read by precedence climbing, with nothing to execute.

Operator precedence follows Python, from loosest to tightest: ``or``, ``and``, ``not``, comparisons,
``+ -``, ``* /``, unary minus, ``**`` (from the right), calls and indices.
Method: V. R. Pratt, "Top down operator precedence", POPL 1973.
"""

from __future__ import annotations

import cmath
import difflib
import re
from typing import TYPE_CHECKING, NamedTuple, Protocol

from torch_sla.errors import ExpressionError
from torch_sla.problems.expression.constants import ARITHMETIC, CONSTANTS
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

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["MAX_DEPTH", "MAX_LENGTH", "Arity", "error_at", "nearest", "parse"]

MAX_LENGTH = 4000
MAX_DEPTH = 100
MAX_EXPONENT = 64.0

_TOKEN = re.compile(
    r"(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?j?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<operator>\*\*|<=|>=|==|!=|[-+*/<>(),\[\]])"
)
_COMPARISONS = frozenset({"<", "<=", ">", ">=", "==", "!="})
_KEYWORDS = frozenset({"and", "or", "not"})
_NOT, _UNARY = 2, 6
_POWER = {
    "or": 0,
    "and": 1,
    **dict.fromkeys(_COMPARISONS, 3),
    **dict.fromkeys("+-", 4),
    **dict.fromkeys("*/", 5),
    "**": 7,
}
_HINTS = {
    "&": "use 'and'",
    "|": "use 'or'",
    "^": "a power is written **",
    "%": "there is no remainder operator",
    "=": "equality is written ==; an expression assigns nothing",
    ".": "attributes are not allowed in an expression",
    ":": "slices and lambdas are not allowed in an expression",
    ";": "an expression is one formula",
    "'": "there are no strings in an expression",
    '"': "there are no strings in an expression",
    "{": "only ( ) group and [ ] index",
}
_WORDS = {
    "import": "an expression imports nothing",
    "lambda": "an expression defines nothing",
    "if": "use where(condition, a, b)",
    "else": "use where(condition, a, b)",
    "for": "an expression does not loop",
    "in": "comparisons are < <= > >= == !=",
    "is": "comparisons are < <= > >= == !=",
    "True": "write a comparison",
    "False": "write a comparison",
}


class Arity(Protocol):
    """Something that may be called."""

    @property
    def arity(self) -> tuple[int, int]:
        """Least and greatest number of arguments."""


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


def error_at(text: str, at: int, message: str) -> ExpressionError:
    """Return an `ExpressionError` that points at column ``at`` of ``text``."""
    start = max(0, at - 60)
    line = text[start : at + 40].replace("\n", " ")
    return ExpressionError(f"{message}\n    {line}\n    {' ' * (at - start)}^")


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the closest known word, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def parse(text: str, functions: Mapping[str, Arity] = FUNCTIONS) -> Node:
    """Parse ``text`` into a syntax tree.

    Parameters
    ----------
    text
        The expression.
    functions
        What may be called, with least and greatest number of arguments.

    Raises
    ------
    ExpressionError
        For anything outside the grammar, for more than `MAX_LENGTH` characters or `MAX_DEPTH`
        levels, and for constants that overflow; the message points at the column.
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError(
            f"the expression has {len(text)} characters; at most {MAX_LENGTH} are allowed"
        )
    return _Parser(text, functions).parse()


class _Parser:
    def __init__(self, text: str, functions: Mapping[str, Arity]) -> None:
        self.text, self.functions = text, functions
        self.tokens = self._tokenize()
        self.position = 0
        self.depth = 0
        # Of operations on constants with names, by identity: the tree keeps them alive.
        self._values: dict[int, float | complex] = {}

    def parse(self) -> Node:
        if len(self.tokens) == 1:
            raise ExpressionError("the expression is empty")
        node = self._expression()
        token = self._peek()
        if token.kind != "end":
            raise self._unexpected(token)
        self._check_height(node)
        return node

    def _check_height(self, root: Node) -> None:
        """Refuse trees too high to be walked by recursion (chains of operators count)."""
        level, height = [root], 0
        while level:
            height += 1
            if height > MAX_DEPTH:
                message = f"the expression is nested more than {MAX_DEPTH} levels deep"
                raise self._error(level[0].at, f"{message}; use brackets to split long chains")
            level = [child for node in level for child in node.children]

    def _error(self, at: int, message: str) -> ExpressionError:
        return error_at(self.text, at, message)

    # -- tokens ---------------------------------------------------------------------------------

    def _tokenize(self) -> list[_Token]:
        text, tokens, at = self.text, list[_Token](), 0
        while at < len(text):
            if text[at] in " \t\n":
                at += 1
                continue
            match = _TOKEN.match(text, at)
            if match is None:
                hint = _HINTS.get(text[at])
                raise self._error(
                    at, f"{text[at]!r} is not allowed" + (f": {hint}" if hint else "")
                )
            kind, word = str(match.lastgroup), match.group()
            if kind == "name" and (word in _WORDS or "__" in word):
                raise self._error(
                    at, f"{word!r} is not allowed: {_WORDS.get(word, 'no such name')}"
                )
            if kind == "number" and match.end() < len(text) and text[match.end()].isalnum():
                raise self._error(
                    at, f"{word + text[match.end()]!r} is not a number; write * between"
                )
            tokens.append(_Token("keyword" if word in _KEYWORDS else kind, word, at))
            at = match.end()
        tokens.append(_Token("end", "", len(text)))
        return tokens

    def _peek(self) -> _Token:
        return self.tokens[self.position]

    def _take(self) -> _Token:
        token = self.tokens[self.position]
        self.position += token.kind != "end"
        return token

    def _accept(self, *texts: str) -> _Token | None:
        token = self._peek()
        return self._take() if token.kind != "end" and token.text in texts else None

    def _expect(self, text: str, opened: int) -> None:
        if self._accept(text) is None:
            token = self._peek()
            if token.kind == "end":
                closed = {")": "(", "]": "["}[text]
                raise self._error(opened, f"this {closed!r} is never closed")
            raise self._unexpected(token, f"expected {text!r} or ','")

    def _unexpected(self, token: _Token, expected: str = "expected an operator") -> ExpressionError:
        if token.kind == "end":
            return self._error(token.at, "the expression ends too early")
        return self._error(token.at, f"unexpected {token.text!r}; {expected}")

    # -- grammar --------------------------------------------------------------------------------

    def _expression(self, minimum: int = 0) -> Node:
        """Read an operand, then every operator that binds at least as tightly as ``minimum``."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            at = self._peek().at
            raise self._error(at, f"the expression is nested more than {MAX_DEPTH} levels deep")
        node = self._prefix(minimum)
        while True:
            token = self._peek()
            power = _POWER.get(token.text, -1)
            if token.kind == "end" or power < minimum or power < 0:
                break
            if token.text in _COMPARISONS:
                node = self._compare(node)
            elif token.kind == "keyword":
                node = self._boolean(node, token.text)
            else:
                self._take()
                right = self._expression(_UNARY if token.text == "**" else power + 1)
                if (
                    token.text == "**"
                    and isinstance(right, Number)
                    and abs(right.value) > MAX_EXPONENT
                ):
                    raise self._error(
                        right.at, f"exponents beyond {MAX_EXPONENT:g} are not allowed"
                    )
                node = self._binary(token, node, right)
        self.depth -= 1
        return node

    def _prefix(self, minimum: int) -> Node:
        token = self._accept("not", "-", "+")
        if token is None:
            return self._postfix()
        if token.text == "not":
            if minimum > _NOT:
                raise self._error(token.at, "put brackets around (not ...)")
            return Unary(token.at, "not", self._expression(_NOT))
        operand = self._expression(_UNARY)
        if token.text == "+":
            return operand
        if isinstance(operand, Number):
            return Number(token.at, -operand.value)
        node, value = Unary(token.at, "-", operand), self._constant(operand)
        if value is not None:
            self._values[id(node)] = -value
        return node

    def _compare(self, first: Node) -> Node:
        operands, operators = [first], list[str]()
        while self._peek().text in _COMPARISONS:
            token = self._take()
            operators.append(token.text)
            operands.append(self._expression(_POWER[token.text] + 1))
        return Compare(first.at, tuple(operators), tuple(operands))

    def _boolean(self, first: Node, operator: str) -> Node:
        operands = [first]
        while self._accept(operator):
            operands.append(self._expression(_POWER[operator] + 1))
        return Boolean(first.at, operator, tuple(operands))

    def _postfix(self) -> Node:
        node = self._atom()
        while token := self._accept("["):
            indices = [self._index()]
            while self._accept(","):
                indices.append(self._index())
            self._expect("]", token.at)
            node = Index(node.at, node, tuple(indices))
        if self._peek().text == "(":
            raise self._error(self._peek().at, "only a listed function can be called")
        return node

    def _index(self) -> int:
        token = self._take()
        if token.kind != "number" or not token.text.isdigit() or len(token.text) > 3:
            raise self._error(token.at, "an index is a whole number")
        return int(token.text)

    def _atom(self) -> Node:
        token = self._take()
        if token.kind == "number":
            return self._number(token)
        if token.kind == "name":
            return self._call(token) if self._peek().text == "(" else Name(token.at, token.text)
        if token.text == "(":
            node = self._expression()
            self._expect(")", token.at)
            return node
        raise self._unexpected(token, "expected a number, a name or '('")

    def _number(self, token: _Token) -> Number:
        if len(token.text) > 1 and token.text[0] == "0" and token.text[1].isdigit():
            raise self._error(token.at, f"{token.text!r} starts with a zero; dates are no numbers")
        imaginary = token.text.endswith("j")
        value = float(token.text.rstrip("j"))
        if value == float("inf"):
            raise self._error(token.at, f"{token.text[:24]!r} is too large for float64")
        return Number(token.at, complex(0.0, value) if imaginary else value)

    def _call(self, name: _Token) -> Node:
        operators = FIELD_OPERATORS if self.functions is FUNCTIONS else frozenset()
        known = self.functions.keys() | operators
        if name.text not in known:
            raise self._error(
                name.at,
                f"{name.text!r} is not a function of expressions{nearest(name.text, known)}; "
                f"there are: {' '.join(sorted(known))}",
            )
        opened = self._take()
        arguments = [] if self._peek().text == ")" else [self._expression()]
        while arguments and self._accept(","):
            arguments.append(self._expression())
        self._expect(")", opened.at)
        if name.text in operators:
            if len(arguments) != 1 or not isinstance(arguments[0], Name):
                raise self._error(name.at, f"{name.text} takes the name of a field, as in grad(u)")
            return Call(name.at, name.text, tuple(arguments))
        least, most = self.functions[name.text].arity
        if not least <= len(arguments) <= most:
            count = str(least) if least == most else f"{least} to {most}"
            raise self._error(name.at, f"{name.text} takes {count} arguments, not {len(arguments)}")
        return Call(name.at, name.text, tuple(arguments))

    def _binary(self, token: _Token, left: Node, right: Node) -> Node:
        """Join two operands; numbers are folded, and what of constants has no value is refused here."""
        node = Binary(left.at, token.text, left, right)
        a, b = self._constant(left), self._constant(right)
        if a is None or b is None:
            return node
        try:
            value = ARITHMETIC[token.text](a, b)
        except ZeroDivisionError:
            raise self._error(token.at, "this divides by zero") from None
        except OverflowError:
            raise self._error(token.at, "this constant is too large for float64") from None
        if isinstance(value, complex) and not isinstance(a, complex) and not isinstance(b, complex):
            raise self._error(token.at, "a fractional power of a negative number is not real")
        if not cmath.isfinite(value):
            raise self._error(token.at, "this constant is too large for float64")
        if isinstance(left, Number) and isinstance(right, Number):
            return Number(left.at, value)
        self._values[id(node)] = value
        return node

    def _constant(self, node: Node) -> float | complex | None:
        """Return the value of what has no variables; None where there are some."""
        match node:
            case Number(_, value):
                return value
            case Name(_, name):
                return CONSTANTS.get(name)
            case _:
                return self._values.get(id(node))
