"""The problem that an analysis is of: any physics of the registry, told by its type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, Union

from pydantic import Field

from torch_sla.problems.registry import PHYSICS, problem_class
from torch_sla.problems.specs.problem import FieldProblem

__all__ = ["Physics"]


def _union() -> Any:
    found = tuple(problem_class(kind) for kind, entry in PHYSICS.items() if entry.kind == "field")
    return Annotated[Union[found], Field(discriminator="type")]  # noqa: UP007


if TYPE_CHECKING:
    Physics: TypeAlias = FieldProblem
else:
    Physics: TypeAlias = _union()
    """A problem for a field on a mesh."""
