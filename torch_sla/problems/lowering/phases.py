"""Loads and given values that are sums of numbers of time times what does not change.

A law such as ``sin(10*t)*x`` is ``p(t) x``. What it loads is linear in it, so with all such numbers of time p the
load is F₀ + Σ p F and the given values are g₀ + Σ p g: each is assembled once, and a time takes the numbers alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.problems.expression import Expression, degree, separated
from torch_sla.problems.expression.nodes import Name
from torch_sla.problems.lowering.timing import uses_time
from torch_sla.problems.specs.laws import laws
from torch_sla.problems.specs.value import Formula, FrozenMap, Parameter, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.lowering.scene import Scene

__all__ = ["Phases", "phases_of", "together"]

_MOST = 16
"""Numbers of time beyond which loads are assembled at each time."""


class Phases:
    """The numbers of time of a problem.

    Parameters
    ----------
    parts
        The law of each number.
    replaced
        Laws that depend on time, and what stands for them, with the names of the numbers.
    """

    def __init__(self, parts: list[Any], replaced: Mapping[Any, Expression]) -> None:
        self.parts, self._replaced = parts, replaced

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
        total = torch.addcmul(total, number[..., None].to(piece.dtype), piece)
    return total


def phases_of(model: Model) -> Phases | None:
    """Find the numbers of time of a problem; None where its loads are not made of them, or its matrix changes."""
    if model.timed_matrix:
        return None
    declared = model.declared
    plain = {n for n, p in declared.items() if p.on == "constant" and not p.shape and not p.of}
    moving = {"t", *(n for n in plain if declared[n].time is not None)}
    others = (declared.keys() | set("xyz") | {"normal"}) - moving
    parts: dict[Any, str] = {}
    replaced: dict[Any, Expression] = {}
    for law in laws(model.spec):
        if law.path[0] == "outputs":
            continue
        for leaf in _timed(law.value, declared):
            found: Expression | None = None
            if isinstance(leaf, Table):
                if Formula(leaf.of).expression.names <= moving | plain:
                    found = _alone(parts.setdefault(leaf, _name(len(parts))))
            elif isinstance(leaf, Parameter):
                if leaf.name in moving:
                    found = _alone(parts.setdefault(leaf, _name(len(parts))))
            else:
                found = separated(
                    leaf.expression,
                    moving,
                    plain - moving,
                    lambda part: parts.setdefault(Formula(part.canonical), _name(len(parts))),
                )
            if found is None or degree(found, set(parts.values()), others) > 1:
                return None
            replaced[leaf] = found
    return Phases(list(parts), replaced) if len(parts) <= _MOST else None


def _name(k: int) -> str:
    # No text can hold it, so that it is no parameter.
    return f"t[{k}]"


def _alone(name: str) -> Expression:
    return Expression.of(Name(0, name))


def _timed(value: Any, declared: Mapping[str, Parameter]) -> Iterator[Any]:
    """Yield the formulas, parameters and tables inside a law that depend on time."""
    if isinstance(value, tuple):
        for item in value:
            yield from _timed(item, declared)
    elif isinstance(value, FrozenMap):
        for item in value.values():
            yield from _timed(item, declared)
    elif isinstance(value, Table):
        if uses_time(Formula(value.of).expression.names, declared):
            yield value
    elif isinstance(value, Parameter):
        if uses_time(frozenset({value.name}), declared):
            yield value
    elif isinstance(value, Formula) and uses_time(value.expression.names, declared):
        yield value
