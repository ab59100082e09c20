"""Objectives and constraints in a declaration: as text that is parsed, or as Python functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import AfterValidator, Discriminator, Field, Tag

from torch_sla.problems.design.goal import Goal, parsed
from torch_sla.problems.design.limit import Limit
from torch_sla.problems.specs.python import PythonFunction, is_reference
from torch_sla.problems.specs.written import Formula

__all__ = ["Goals", "Limits"]


def _text_or_function(value: Any) -> str:
    live = isinstance(value, PythonFunction) or hasattr(value, "__code__")
    return "function" if live or is_reference(value) else "text"


class GoalText(Formula):
    """The text of an objective that has been parsed."""

    __slots__ = ()

    @property
    def expression(self) -> Any:
        """The parsed objective."""
        return parsed(Goal)(str(self))


class LimitText(Formula):
    """The text of a constraint that has been parsed."""

    __slots__ = ()

    @property
    def expression(self) -> Any:
        """The parsed constraint."""
        return parsed(Limit)(str(self))


def _goal(text: type[Formula]) -> Any:
    def read(value: str) -> Formula:
        found = text(value)
        found.expression  # noqa: B018  (parses)
        return found

    written: Any = Annotated[str, Field(min_length=1), AfterValidator(read), Tag("text")]
    function: Any = Annotated[PythonFunction, Tag("function")]
    annotated: Any = Annotated
    return annotated[written | function, Discriminator(_text_or_function)]


if TYPE_CHECKING:
    Goals: TypeAlias = Any
    Limits: TypeAlias = Any
else:
    Goals = _goal(GoalText)
    """An objective."""
    Limits = _goal(LimitText)
    """A constraint."""
