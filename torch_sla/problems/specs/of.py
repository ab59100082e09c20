"""The problem that an analysis is of: any of the registry, told by its type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, Union

from pydantic import Field, WrapValidator

from torch_sla.problems.registry import PHYSICS, problem_class
from torch_sla.problems.specs.faults import fault
from torch_sla.problems.specs.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.problems.specs.field_problem import FieldProblem

__all__ = ["Physics", "any_of", "innermost", "times_in"]


def any_of(kinds: tuple[str, ...]) -> Any:
    """Return the annotation of a problem of one of some types."""

    def keep(value: Any, validate: Callable[[Any], Any]) -> Any:
        # A problem that has been checked is kept as it is, and with it what it has compiled.
        if not isinstance(value, Problem):
            return validate(value)
        if value.type not in kinds:
            raise fault(f"it cannot be of a {value.type} problem; one of: {' '.join(kinds)}")
        return value

    union: Any = Union  # indexed at run time, which type checkers do not follow
    found = union[tuple(problem_class(kind) for kind in kinds)]
    annotated: Any = Annotated
    return annotated[found, Field(discriminator="type"), WrapValidator(keep)]


if TYPE_CHECKING:
    Physics: TypeAlias = FieldProblem
else:
    Physics: TypeAlias = any_of(tuple(k for k, e in PHYSICS.items() if e.kind == "field"))
    """A problem for a field on a mesh."""


def innermost(problem: Problem) -> Problem:
    """Return the problem below all analyses."""
    while problem.inner is not None:
        problem = problem.inner
    return problem


def times_in(problem: Problem) -> int:
    """Return how many times a value with one entry for each has, in a march or in cases of one."""
    while problem.inner is not None and not hasattr(problem, "steps"):
        problem = problem.inner
    return int(getattr(problem, "steps", 0)) + 1
