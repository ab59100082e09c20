"""The laws inside a declaration: where values stand, which names they use, what they may not see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from torch_sla.errors import ExpressionError, SpecError
from torch_sla.problems.expression.functions import FIELD_OPERATORS, FUNCTIONS
from torch_sla.problems.specs.base import Spec
from torch_sla.problems.specs.faults import dotted
from torch_sla.problems.specs.place import Place
from torch_sla.problems.specs.value import (
    RESERVED_NAMES,
    ArrayFile,
    Parameter,
    Table,
    is_nothing,
    leaves,
    names_of,
)
from torch_sla.problems.specs.written import Formula, FrozenMap

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from torch_sla.problems.files.loader import DataPath

__all__ = [
    "Law",
    "check_laws",
    "check_rank",
    "declared_parameters",
    "laws",
    "sees_solution",
    "visible",
]

_HOMES: dict[str, tuple[str, ...]] = {
    "constant": ("constant",),
    "cells": ("constant", "cells", "nodes", "quadrature"),
    "facets": ("constant", "cells", "facets", "nodes"),
    "dofs": ("constant", "nodes"),
    "points": ("constant", "cells", "nodes"),
    "output": ("constant", "cells", "facets", "nodes", "quadrature"),
}
_RANKS = ("a scalar", "a vector", "a matrix")


class Law(NamedTuple):
    """A value in its place."""

    path: DataPath
    value: Any
    place: Place


def laws(spec: Spec, path: DataPath = ()) -> Iterator[Law]:
    """Yield every law of a declaration, in order."""
    for name, field in type(spec).model_fields.items():
        value = getattr(spec, name)
        place = next((m for m in field.metadata if isinstance(m, Place)), None)
        if place is not None:
            if place.named:
                for key, item in value.items():
                    yield Law((*path, name, key), item, place)
            elif value is not None:
                yield Law((*path, name), value, place)
        elif isinstance(value, Spec) and not value.apart:
            yield from laws(value, (*path, name))
        elif isinstance(value, tuple):
            for i, item in enumerate(value):
                if isinstance(item, Spec) and not item.apart:
                    yield from laws(item, (*path, name, i))
    yield from spec.more_laws()


def declared_parameters(spec: Spec, reserved: Collection[str]) -> dict[str, Parameter]:
    """Return every parameter by name.

    Raises
    ------
    SpecError
        If a name is reserved, or two definitions of it disagree.
    """
    found: dict[str, tuple[DataPath, Parameter]] = {}
    declared: list[tuple[DataPath, Any]] = [
        (("parameters", i), p) for i, p in enumerate(getattr(spec, "parameters", ()))
    ]
    for law in laws(spec):
        declared.extend((law.path + path, leaf) for path, leaf in leaves(law.value))
    for path, leaf in declared:
        if not isinstance(leaf, Parameter):
            continue
        if leaf.name in reserved:
            raise SpecError(
                f"a parameter cannot be called {leaf.name!r}: the name has a meaning already",
                path=dotted(path),
            )
        place, first = found.setdefault(leaf.name, (path, leaf))
        if first != leaf:
            raise SpecError(
                f"the parameter {leaf.name!r} is defined differently at {dotted(place)}: {first!r} "
                f"against {leaf!r}; define it once under parameters, and use its name",
                path=dotted(path),
            )
    return {name: parameter for name, (_, parameter) in found.items()}


def check_laws(
    spec: Spec,
    fields: Mapping[str, int],
    unseen: Mapping[str, str],
    derived: Mapping[str, int],
    seeing: Collection[str | int],
    tests: Mapping[str, int],
    inner: Mapping[str, Parameter] | None,
) -> dict[str, Parameter]:
    """Check names, shapes and homes of every law; return the parameters.

    Parameters
    ----------
    fields
        Rank of each field of the physics.
    unseen
        Names that no law may use, with the reason.
    derived
        Rank of each quantity of the physics that outputs may use (``stress``).
    seeing
        Where laws begin that may use the solution, besides outputs (``"diffusivity"``).
    tests
        Rank of each test function, which a ``residual`` may use.
    inner
        Parameters of the problem that an analysis is of.

    Raises
    ------
    SpecError
        At the path of the law that is wrong.
    """
    reserved = RESERVED_NAMES | {"normal"} | fields.keys() | derived.keys() | tests.keys()
    parameters = declared_parameters(spec, reserved | FUNCTIONS.keys() | FIELD_OPERATORS)
    for name, parameter in (inner or {}).items():
        if parameters.setdefault(name, parameter) != parameter:
            raise SpecError(
                f"the parameter {name!r} is defined differently in the problem this is of; define it once"
            )
    here = {name: len(parameter.shape) for name, parameter in parameters.items()}
    here |= dict.fromkeys(set("xyzt") - unseen.keys(), 0)
    seen = visible(parameters, fields)
    seen = {name: rank for name, rank in seen.items() if name not in unseen}
    everything = {**seen, **derived}
    blind = dict.fromkeys(everything.keys() - here.keys(), "this law does not see the solution")
    later = dict.fromkeys(derived, "only outputs use it")
    for law in laws(spec):
        normal = {"normal": 1} if law.place.on == "facets" else {}
        if law.place.on == "constant":
            ranks = {name: rank for name, rank in here.items() if name not in set("xyzt")}
            forbidden = {
                **blind,
                **dict.fromkeys("xyzt", "it is one number for all places and times"),
            }
            _check_blind(law, parameters)
        elif law.place.on == "output":
            ranks, forbidden = everything | {"normal": 1}, dict(unseen)
        elif law.place.on in ("cells", "facets") and law.path[0] in seeing:
            ranks, forbidden = seen | normal, {**later, **unseen}
            if law.path[0] == "residual":
                every = visible(parameters, {**fields, **tests})
                ranks = {n: r for n, r in every.items() if n not in unseen} | normal
        else:
            ranks, forbidden = here | normal, {**blind, **unseen}
            _check_blind(law, parameters)
        _check(law, law.value, law.path, parameters, ranks, forbidden)
        _check_bound(law)
    return parameters


def check_rank(rank: int, allowed: Sequence[int], path: str, shape: Sequence[int] = ()) -> None:
    """Check the rank of a law.

    Parameters
    ----------
    rank, allowed
        Its rank, and those that it may have.
    path
        Its path.
    shape
        Shape of its values, where that is known.

    Raises
    ------
    SpecError
        If it has another.
    """
    if rank in allowed:
        return
    found = _RANKS[rank] if rank < len(_RANKS) else f"an array of {rank} dimensions"
    seen = f", each value of the shape {list(shape)}" if shape else ""
    wanted = " or ".join(_RANKS[r] for r in allowed)
    remedy = "; drop the dimensions of one" if set(shape) == {1} and 0 in allowed else ""
    raise SpecError(f"this is {found}{seen}; {wanted} is needed{remedy}", path=path)


def _check_bound(law: Law) -> None:
    """Check numbers that are declared, on the diagonal of a matrix; 0 may stand in a map, for no cells."""
    bound = law.place.within
    if bound is None:
        return
    for path, number in leaves(law.value, law.path):
        inside = path[len(law.path) :]
        if (
            not isinstance(number, int | float)
            or len({i for i in inside if isinstance(i, int)}) > 1
            or (number == 0 and any(isinstance(i, str) for i in inside))
        ):
            continue
        if not bound.holds(number):
            raise SpecError(f"it must {bound.words}; received {number:g}", path=dotted(path))


def _check_blind(law: Law, parameters: Mapping[str, Parameter]) -> None:
    for path, leaf in leaves(law.value, law.path):
        for name in names_of(leaf) & parameters.keys():
            if "u" in parameters[name].of:
                raise SpecError(
                    f"the parameter {name!r} is a law of u, and this law does not see the solution",
                    path=dotted(path),
                )


def visible(parameters: Mapping[str, Parameter], fields: Mapping[str, int]) -> dict[str, int]:
    """Return the rank of every name a law that sees the solution may use."""
    ranks = {name: len(parameter.shape) for name, parameter in parameters.items()}
    ranks |= dict.fromkeys("xyzt", 0)
    for name, rank in fields.items():
        ranks |= {name: rank, f"grad({name})": rank + 1}
        if rank == 1:
            ranks |= {f"div({name})": 0, f"sym_grad({name})": 2}
    return ranks


def sees_solution(value: Any, fields: Collection[str], parameters: Mapping[str, Parameter]) -> bool:
    """Whether a law uses the solution, by structure."""
    for _, leaf in leaves(value):
        names = names_of(leaf)
        if isinstance(leaf, Formula) and (leaf.expression.derivatives or names & set(fields)):
            return True
        if any("u" in parameters[n].of for n in names & parameters.keys()):
            return True
    return False


def _check(
    law: Law,
    value: Any,
    path: DataPath,
    parameters: Mapping[str, Parameter],
    ranks: Mapping[str, int],
    forbidden: Mapping[str, str],
) -> None:
    if isinstance(value, FrozenMap):
        telling = {tag: item for tag, item in value.items() if not is_nothing(item)} or value
        for tag, item in telling.items():
            _check(law, item, (*path, tag), parameters, ranks, forbidden)
        found = {tag: _rank(item, (*path, tag), ranks, forbidden) for tag, item in telling.items()}
        known = {rank: tag for tag, rank in found.items() if rank is not None}
        if len(known) > 1:
            (first, a), (second, b) = list(known.items())[:2]
            raise SpecError(
                f"the entries of a map need one shape; {a!r} is {_RANKS[first]}, {b!r} is {_RANKS[second]}",
                path=dotted(path),
            )
        return
    rank = _rank(value, path, ranks, forbidden)
    if rank is not None:
        check_rank(rank, law.place.ranks, dotted(path))
    for below, leaf in leaves(value, path):
        for name in sorted(names_of(leaf) & parameters.keys()):
            home = parameters[name].on
            if home not in _HOMES[law.place.on]:
                raise SpecError(
                    f"the parameter {name!r} lives on {home}, which has no meaning on "
                    f"{law.place.on}; it may live on: {' '.join(_HOMES[law.place.on])}",
                    path=dotted(below),
                )


def _rank(
    value: Any, path: DataPath, ranks: Mapping[str, int], forbidden: Mapping[str, str]
) -> int | None:
    if isinstance(value, tuple):
        below = {_rank(item, (*path, i), ranks, forbidden) for i, item in enumerate(value)}
        known = {rank for rank in below if rank is not None}
        if len(known) > 1:
            raise SpecError("the entries of a list need one shape", path=dotted(path))
        # Of a file nothing is known here; an entry beside it says what it has to be.
        return None if below and not known else 1 + max(known, default=0)
    if isinstance(value, Formula):
        try:
            return value.expression.check(ranks, forbidden)
        except ExpressionError as error:
            raise ExpressionError(error.message, path=dotted(path)) from None
    if isinstance(value, Parameter):
        return len(value.shape)
    if isinstance(value, Table):
        if _rank(value.of, (*path, "of"), ranks, forbidden):
            raise SpecError("a table is a function of a scalar", path=dotted((*path, "of")))
        return 0
    return None if isinstance(value, ArrayFile) else 0
