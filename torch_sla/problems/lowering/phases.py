"""Loads and given values that are sums of numbers, of time or of cases, times what does not change.

A law such as ``sin(10*t)*x`` is ``p(t) x``. What it loads is linear in it, so with all such numbers p the load is
F₀ + Σ p F and the given values are g₀ + Σ p g: each is assembled once, and a time or case takes the numbers alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.problems.expression import Expression, degree, separated
from torch_sla.problems.expression.nodes import Name
from torch_sla.problems.lowering.timing import in_load, uses_time
from torch_sla.problems.specs.value import Parameter, Table, names_of
from torch_sla.problems.specs.written import Formula, FrozenMap

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.lowering.scene import Scene

__all__ = ["Phases", "phases_of", "phases_of_batch", "plain_names", "together"]

_MOST = 16
"""Numbers beyond which loads are assembled for each time or case."""


class Phases:
    """The numbers of a problem that change.

    Parameters
    ----------
    parts
        The law of each number.
    replaced
        Laws that change, and what stands for them, with the names of the numbers.
    """

    def __init__(self, parts: list[Any], replaced: Mapping[Any, Expression]) -> None:
        self.parts, self._replaced = parts, replaced

    @property
    def names(self) -> frozenset[str]:
        """Names that the numbers are made of."""
        return frozenset().union(*map(_names, self.parts))

    def numbers(self, scene: Scene) -> list[Tensor]:
        """Return the numbers at the time of a scene ``[*batch]``."""
        return [scene.number(part) for part in self.parts]

    def pieces(self, scene: Scene, make: Callable[[Scene], Tensor]) -> list[Tensor]:
        """Return what is made without them, and what each of them adds ``[*batch, n]``.

        Parameters
        ----------
        make
            Makes a load or given values of a scene, linear in its laws.
        """
        still = make(self._with(scene, None) if self.parts else scene)
        return [still, *(make(self._with(scene, k)) - still for k in range(len(self.parts)))]

    def _with(self, scene: Scene, chosen: int | None) -> Scene:
        """Return the scene where one of the numbers is one and the others are zero."""
        other = scene.like(scene.given)
        like = torch.zeros((), dtype=scene.model.dtype, device=scene.model.device)
        other.replaced = self._replaced
        other.known = {
            _name(k): torch.ones_like(like) if k == chosen else like for k in range(len(self.parts))
        }
        return other


def together(pieces: Sequence[Tensor], numbers: Sequence[Tensor]) -> Tensor:
    """Add up pieces ``[*batch, n]``, but for the first each times its number ``[*batch]``."""
    total, *rest = pieces
    for piece, number in zip(rest, numbers, strict=True):
        total = torch.addcmul(total, number[..., None].to(piece), piece)
    return total


def phases_of(model: Model) -> Phases | None:
    """Find the numbers of time of a problem; None where its loads are not made of them, or its matrix changes."""
    if model.timed_matrix:
        return None
    declared = model.declared
    moving = {n for n in plain_names(model) if declared[n].time is not None}
    return _found(model, moving | {"t"}, lambda names: uses_time(names, declared))


def phases_of_batch(model: Model, names: frozenset[str]) -> Phases | None:
    """Find the numbers that change from member to member of a batch; None where they are not all that changes.

    Parameters
    ----------
    names
        Parameters with batch dimensions.
    """
    if names & model.names_in(lambda path: not in_load(path, model.loading)):
        return None
    return _found(model, names & plain_names(model), lambda used: bool(used & names))


def plain_names(model: Model) -> frozenset[str]:
    """Return the names of the parameters that are one number for the whole body."""
    constants = (p for p in model.declared.values() if p.on == "constant")
    return frozenset(p.name for p in constants if not p.shape and not p.of)


def _found(
    model: Model, moving: Collection[str], changes: Callable[[frozenset[str]], bool]
) -> Phases | None:
    plain = plain_names(model)
    every = model.declared.keys() | set("xyz") | {"normal"}
    others = {name for name in every if not changes(frozenset({name}))}
    parts: dict[Any, str] = {}
    replaced: dict[Any, Expression] = {}
    changing: set[str] = set()
    for path, value in model.acting_laws():
        if path[0] == "outputs":
            continue
        for leaf in _changing(value, changes):
            changing.add(str(path[0]))
            found: Expression | None = None
            if isinstance(leaf, Table):
                if Formula(leaf.of).expression.names <= plain.union(moving):
                    found = _alone(parts.setdefault(leaf, _name(len(parts))))
            elif isinstance(leaf, Parameter):
                if leaf.name in moving:
                    found = _alone(parts.setdefault(leaf, _name(len(parts))))
            else:
                found = separated(
                    leaf.expression,
                    moving,
                    plain.difference(moving),
                    lambda part: parts.setdefault(Formula(part.canonical), _name(len(parts))),
                )
            if found is None or degree(found, set(parts.values()), others) > 1:
                return None
            replaced[leaf] = found
    if any(len(changing.intersection(group)) > 1 for group in model.multiplied):
        return None  # linear in each, not in all
    return Phases(list(parts), replaced) if len(parts) <= _MOST else None


def _name(k: int) -> str:
    # No text can hold it, so that it is no parameter.
    return f"t[{k}]"


def _alone(name: str) -> Expression:
    return Expression.of(Name(0, name))


def _changing(value: Any, changes: Callable[[frozenset[str]], bool]) -> Iterator[Any]:
    """Yield the formulas, parameters and tables inside a law that change."""
    if isinstance(value, tuple):
        for item in value:
            yield from _changing(item, changes)
    elif isinstance(value, FrozenMap):
        for item in value.values():
            yield from _changing(item, changes)
    elif isinstance(value, Table | Parameter | Formula) and changes(_names(value)):
        yield value


def _names(leaf: Any) -> frozenset[str]:
    return names_of(leaf.of if isinstance(leaf, Table) else leaf)
