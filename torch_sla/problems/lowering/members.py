"""Laws of the members of a batch at many points, without derivatives: what some of them share is evaluated once.

What depends on the member alone is a number for each of them. A function of one coordinate, as in ``sin(k*x)*y``, is
evaluated at the values that this coordinate has, which are few in a mesh of rows and columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import SpecError
from torch_sla.lazy import cached_property
from torch_sla.problems.expression import Expression, Program, Ranked, separated
from torch_sla.problems.expression.nodes import Binary, Call, Name, Node, Number
from torch_sla.problems.lowering.affine import batched
from torch_sla.problems.lowering.names import Names
from torch_sla.problems.lowering.phases import plain_names
from torch_sla.problems.lowering.scene import Scene
from torch_sla.problems.lowering.selection import AXES
from torch_sla.problems.lowering.sites import BasisSites, Sites
from torch_sla.problems.specs.value import Parameter, leaves
from torch_sla.problems.specs.written import Formula

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from torch_sla.problems.lowering.geometry import Levels

__all__ = ["LevelSites", "Members", "PartedLaw", "PointSlice"]

_PLACES = tuple(AXES)


class PartedLaw:
    """A law whose parts have names.

    Parameters
    ----------
    law
        Number, formula, parameter, list of those, or map over cell tags.
    sites
        Where it is evaluated.
    path
        Of the law.
    scene
        The scene of a member.
    names
        Parameters that change from member to member.

    Attributes
    ----------
    replaced
        What stands in the place of formulas.
    numbers
        Parts that depend on the member alone, by name.
    along
        Parts that depend on one coordinate besides, and the values that this has.
    written
        The law as expressions, one for each component; None where it is none.
    components
        These with names for its parts.
    inputs
        What these are functions of.
    placed
        Given values at the sites.
    """

    def __init__(
        self, law: Any, sites: BasisSites, path: str, scene: Scene, names: Collection[str]
    ) -> None:
        self.law, self.sites, self.path = law, sites, path
        plain = plain_names(scene.model)
        moving, still = plain & set(names), plain.difference(names)
        self.placed: dict[Any, Tensor] = {}
        self.replaced: dict[Any, Expression] = {}
        self.numbers: dict[str, Expression] = {}
        self.along: dict[str, tuple[Expression, int, Levels]] = {}
        parts = law if isinstance(law, tuple) else (law,)
        # Entries of a map are evaluated at some of the sites.
        axes = range(scene.model.mesh.dim if all(map(_everywhere, parts)) else 0)
        numbered = _named("member", lambda name, part: self.numbers.update({name: part}))
        for _, leaf in leaves(law):
            if not isinstance(leaf, Formula) or not leaf.expression.names & moving:
                continue
            put = separated(leaf.expression, moving, still, numbered, branches=True)
            for axis in axes:
                tabled = self._tabled(scene, axis)
                put = separated(put, {AXES[axis]}, {*still, *self.numbers}, tabled, branches=True)
            self.replaced[leaf] = put
        self.written = _expressions(parts, scene, {})
        self.components = _expressions(parts, scene, self.replaced)
        found = self.components or []
        self.inputs = dict(item for x in found for item in Program.inputs(x).items())

    def _tabled(self, scene: Scene, axis: int) -> Callable[[Expression], str | None]:
        def keep(name: str, part: Expression) -> None:
            levels = scene.geometry.levels(self.sites.basis, axis)
            if levels is not None:
                self.along[name] = (part, axis, levels)

        named = _named(f"along {AXES[axis]}", keep)

        def called(part: Expression) -> str | None:
            if not part.names & self.numbers.keys() or not any(map(_dear, part.root.walk())):
                return None
            name = named(part)
            return name if name in self.along else None

        return called


def _named(kind: str, keep: Callable[[str, Expression], None]) -> Callable[[Expression], str]:
    """Give parts names that no text can hold, the same part the same one."""

    def called(part: Expression) -> str:
        name = f"{kind}: {part.canonical}"
        keep(name, part)
        return name

    return called


def _everywhere(law: Any) -> bool:
    return isinstance(law, Formula | Parameter | int | float)


def _dear(node: Node) -> bool:
    """Whether an operation costs more than to look a number up."""
    if isinstance(node, Binary) and node.operator == "**":
        return not (isinstance(node.right, Number) and node.right.value in (1, 2, 3))
    return isinstance(node, Call)


class Members(Scene):
    """A scene whose batch lies where the points of a site do: ``[1, members, *shape]``.

    So the members of one point are next to each other, as right-hand sides of a solver are.

    Parameters
    ----------
    scene
        The scene of all members.
    batch
        Its dimensions, in the order of which members are numbered.
    some
        Those of this scene.
    law
        What is to be evaluated.
    """

    def __init__(self, scene: Scene, batch: tuple[int, ...], some: slice, law: PartedLaw) -> None:
        super().__init__(scene.model, scene.given, scene.geometry)
        self.__dict__.update(scene.__dict__)
        self.trial = True  # sums are looked at, which are fewer
        self._batch, self._some, self._names = batch, some, batched(scene)
        self._law, self.width = law, some.stop - some.start
        self._runs: dict[int, _Run | None] = {}
        self._found: dict[tuple[str, int], Tensor] = {}
        self.replaced = law.replaced
        self._rows = {n: x.evaluate(Names(self, None)).tensor for n, x in law.numbers.items()}
        self.known = self._rows
        self._tables = {
            n: x.evaluate(Names(self, LevelSites(self, axis, levels))).tensor.contiguous()
            for n, (x, axis, levels) in law.along.items()
        }

    def constant(self, name: str) -> Ranked:
        """Return a parameter that is the same everywhere."""
        found = super().constant(name)
        if name not in self._names:
            return found
        shape = self.declared[name].shape
        value = found.tensor.squeeze((-1 - len(shape), -2 - len(shape)))
        members = value.expand(*self._batch, *shape).reshape(-1, *shape)[self._some]
        return Ranked(members.unsqueeze(0), len(shape))

    def columns(self, some: slice) -> Tensor:
        """Evaluate the law at the points of some sites, until it is evaluated again.

        Returns
        -------
        Tensor
            ``[points * components, members]``.
        """
        law, n = self._law, (some.stop - some.start) * self._law.sites.q
        sites = PointSlice(law.sites, some, law.placed)
        values = self._values(sites, some)
        if n not in self._runs:
            self._runs[n] = _Run.of(law.components, values, (n, self.width), self.model.dtype)
        run = self._runs[n]
        if run is not None:
            return run(values)
        value = self._evaluated(sites, values)
        return value.expand(n, self.width, *value.shape[2:]).movedim(1, -1).reshape(-1, self.width)

    def blame(self, some: slice) -> None:
        """Raise the error of a law that is not finite at some sites, if there it is not."""
        sites = PointSlice(self._law.sites, some, self._law.placed)
        self.trial = False
        self._evaluated(sites, self._values(sites, some))

    def _evaluated(self, sites: PointSlice, values: Mapping[str, Tensor]) -> Tensor:
        self.known = {**self._rows, **{name: values[name] for name in self._tables}}
        return self.evaluate(self._law.law, sites, self._law.path).tensor

    def _values(self, sites: PointSlice, some: slice) -> dict[str, Tensor]:
        """Return what the law is a function of: ``[points|1, members|1]``."""
        values, q, x = dict(self._rows), self._law.sites.q, self._law.sites.x.detach()
        points = slice(some.start * q, some.stop * q)
        for name, table in self._tables.items():
            index, key = self._law.along[name][2].which[points], (name, sites.n)
            if key not in self._found:
                self._found[key] = table.new_empty(sites.n, table.shape[1])
            values[name] = torch.index_select(table, 0, index, out=self._found[key])
        for name, part in self._law.inputs.items():
            if name in _PLACES:
                axis = _PLACES.index(name)
                values[name] = x[some, :, axis].reshape(-1, 1)
            elif name not in values:
                values[name] = part.evaluate(Names(self, sites)).tensor.detach()
        return values


class _Run:
    """The programs of the components of a law, and where their results lie."""

    def __init__(self, programs: Sequence[Program], out: Tensor) -> None:
        self._programs, self._out = programs, out
        self._parts = out.unbind(1)

    @classmethod
    def of(
        cls,
        components: Sequence[Expression] | None,
        values: Mapping[str, Tensor],
        shape: tuple[int, int],
        dtype: torch.dtype,
    ) -> _Run | None:
        """Return the run of a law at points, for members; None where it is no list of programs."""
        if not components or any(x.dtype != dtype or x.ndim > 2 for x in values.values()):
            return None
        shapes = {name: tuple(x.shape) for name, x in values.items()}
        programs = [Program.of(component, shapes, dtype) for component in components]
        found = [program for program in programs if program is not None]
        if len(found) < len(programs):
            return None
        return cls(found, torch.empty(shape[0], len(found), shape[1], dtype=dtype))

    def __call__(self, values: Mapping[str, Tensor]) -> Tensor:
        for program, out in zip(self._programs, self._parts, strict=True):
            program.run(values, out)
        return self._out.flatten(0, 1)


def _expressions(
    parts: Sequence[Any], scene: Scene, replaced: Mapping[Any, Expression]
) -> list[Expression] | None:
    """Return components as expressions; None where one is none."""
    every = [_expression(part, scene, replaced) for part in parts]
    found = [x for x in every if x is not None]
    return found if len(found) == len(every) else None


def _expression(law: Any, scene: Scene, replaced: Mapping[Any, Expression]) -> Expression | None:
    """Return a law as an expression; None where it is none."""
    match law:
        case Formula():
            return replaced.get(law, law.expression)
        case Parameter(name=name) if (
            name not in scene.given.laws and scene.declared[name].on == "constant"
        ):
            return Expression.of(Name(0, name))
        case int() | float():
            return Expression.of(Number(0, float(law)))
    return None


class LevelSites(Sites):
    """One point for each value of a coordinate."""

    owners = None

    def __init__(self, scene: Scene, axis: int, levels: Levels) -> None:
        self.n, self.q = len(levels.values), 1
        self._x = torch.zeros(self.n, 1, scene.model.mesh.dim, dtype=levels.values.dtype)
        self._x[:, 0, axis] = levels.values

    @property
    def x(self) -> Tensor:
        """Coordinates ``[n, 1, dim]``."""
        return self._x

    def place(self, values: Tensor, on: str, rank: int) -> Tensor:
        """Nothing that lives somewhere depends on one coordinate."""
        del values, rank
        raise SpecError(f"values that live on {on} are no function of one coordinate")


class PointSlice(Sites):
    """The points of some consecutive sites, one by one."""

    def __init__(self, base: BasisSites, some: slice, placed: dict[Any, Tensor]) -> None:
        self._base, self._some, self._placed = base, some, placed
        self.n, self.q = (some.stop - some.start) * base.q, 1

    @cached_property
    def owners(self) -> Tensor | None:  # type: ignore[override]
        """The cell each point belongs to ``[n]``."""
        owners = self._base.owners
        return None if owners is None else self._flat(owners[:, None], 0)[:, 0]

    @property
    def x(self) -> Tensor:
        """Coordinates ``[n, 1, dim]``."""
        return self._flat(self._base.x, 1)

    def place(self, values: Tensor, on: str, rank: int) -> Tensor:
        """Bring values here; see `Sites.place`."""
        key = (id(values), on)
        if key not in self._placed:
            self._placed[key] = self._base.place(values, on, rank)
        return self._flat(self._placed[key], rank)

    def field(self, name: str) -> Ranked:
        """Return the normal."""
        value, rank = self._base.field(name)
        return Ranked(self._flat(value, rank), rank)

    def _flat(self, value: Tensor, rank: int) -> Tensor:
        """Take the sites out of ``[n, q|1, *shape]``: ``[n q, 1, *shape]``."""
        some = value[self._some]
        full = some.expand(len(some), self._base.q, *value.shape[value.ndim - rank :])
        return full.flatten(0, 1).unsqueeze(1)
