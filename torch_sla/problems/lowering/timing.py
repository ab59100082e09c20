"""Which laws of a problem depend on time, and how far that reaches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch_sla.problems.specs.laws import laws
from torch_sla.problems.specs.value import Parameter, leaves, names_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch_sla.problems.specs.field_problem import FieldProblem

__all__ = ["in_load", "timed_laws", "uses_time"]

DataPath = tuple[str | int, ...]

_CONDITIONS = frozenset({"value", "flux", "traction", "pressure", "ambient"})


def uses_time(names: frozenset[str], declared: Mapping[str, Parameter]) -> bool:
    """Whether the time, or a parameter with a value for each time, is among some names."""
    return "t" in names or any(declared[n].time is not None for n in names & declared.keys())


def timed_laws(spec: FieldProblem, declared: Mapping[str, Parameter]) -> Iterator[DataPath]:
    """Yield the path of each law that depends on time, as often as it does."""
    for law in laws(spec):
        for _, leaf in leaves(law.value):
            if uses_time(names_of(leaf), declared):
                yield law.path


def in_load(path: DataPath, loading: frozenset[str]) -> bool:
    """Whether a law enters the load or the given values alone, or what is taken from the solution."""
    if path[0] == "boundary":
        return path[2] in _CONDITIONS
    return path[0] == "outputs" or path[0] in loading
