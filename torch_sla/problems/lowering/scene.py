"""One set of values on one geometry: where laws become tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, DTypeError, SpecError
from torch_sla.linalg.checks import require
from torch_sla.linalg.kernels.detection import all_finite
from torch_sla.problems.expression import Ranked
from torch_sla.problems.lowering.bounds import require_within
from torch_sla.problems.lowering.geometry import Geometry
from torch_sla.problems.lowering.interpolated import on_grid, tabulated
from torch_sla.problems.lowering.names import Names
from torch_sla.problems.lowering.parameters import Given, bound, law_tensors
from torch_sla.problems.lowering.sites import BasisSites, Fields, RestrictedSites, Sites
from torch_sla.problems.lowering.slopes import Watch
from torch_sla.problems.specs.laws import sees_solution
from torch_sla.problems.specs.value import ArrayFile, Grid, Parameter, Table, is_nothing
from torch_sla.problems.specs.written import Formula, FrozenMap

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch_sla.assembly import Basis, Field
    from torch_sla.problems.expression import Expression
    from torch_sla.problems.lowering.model import Model

__all__ = ["Scene"]


class Scene:
    """Given values on a geometry.

    Parameters
    ----------
    model
        The lowered problem.
    given
        Resolved parameters.
    geometry
        Bases on the coordinates in use.

    Attributes
    ----------
    factor
        Share of the loads that acts, while they are applied in steps.
    trial
        Whether the solution is one that an iteration tries: laws may then be infinite or not positive,
        and the iteration steps back.
    ended
        Whether it is one that an iteration has ended with, and that is looked at before it is taken for a solution.
    beginning
        Whether it is one that an iteration begins with, so that messages say so.
    blaming
        Whether laws of the solution without a derivative are looked for.
    """

    trial: bool = False
    ended: bool = False
    beginning: bool = False
    blaming: bool = False
    time: Tensor | None = None
    """What ``t`` is, where there is a time."""

    factor: float = 1.0
    replaced: Mapping[Any, Expression] = FrozenMap()
    """Expressions that stand in the place of laws, and may use the numbers that are `known`."""
    known: Mapping[str, Tensor] = FrozenMap()

    def __init__(self, model: Model, given: Given, geometry: Geometry) -> None:
        self.model, self.given, self.geometry = model, given, geometry
        self.declared = model.declared

    def like(self, given: Given, geometry: Geometry | None = None) -> Scene:
        """Return the scene with other values, at the same time."""
        other = Scene(self.model, given, geometry or self.geometry)
        other.time, other.declared, other.factor = self.time, self.declared, self.factor
        other.replaced, other.known = self.replaced, self.known
        return other

    @property
    def requires_grad(self) -> bool:
        """Whether anything given wants a gradient."""
        return any(x.requires_grad for x in (self.geometry.points, *self.tensors()))

    # -- the tensors in it, for implicit nodes --------------------------------------------------

    def tensors(self) -> tuple[Tensor, ...]:
        """Return every tensor it depends on: given values, weights of laws, moved points."""
        found = list(self.given.values())
        for law in self.given.laws.values():
            found += law_tensors(law)
        if self.geometry.moved:
            found.append(self.geometry.points)
        return tuple(found)

    def put(self, tensors: tuple[Tensor, ...]) -> Scene:
        """Return the scene with others in the places of `tensors`."""
        given, rest = Given(), list(tensors)
        given.home = self.given.home
        for name in self.given:
            given[name] = rest.pop(0)
        for name, law in self.given.laws.items():
            own = [rest.pop(0) for _ in law_tensors(law)]
            given.laws[name] = bound(law, own)
        geometry = self.geometry
        if geometry.moved:
            geometry = Geometry(self.model, rest.pop(0), moved=True)
        return self.like(given, geometry)

    def at(self, t: float, values: Mapping[str, Tensor]) -> Scene:
        """Return the scene at a time, with the values that some parameters have then."""
        scene = self.like(self.given.changed(values))
        scene.time = torch.full((), t, dtype=self.model.dtype, device=self.model.device)
        return scene

    # -- places ---------------------------------------------------------------------------------

    def cells(self, u: Tensor | None = None) -> BasisSites:
        """Return all cells, where the solution is seen if it is given."""
        return self._seeing(self.geometry.cells, u)

    def facets(self, facets: Tensor, u: Tensor | None = None) -> BasisSites:
        """Return some facets, where the solution is seen if it is given."""
        return self._seeing(self.geometry.facets(facets), u)

    def _seeing(self, basis: Basis, u: Tensor | None) -> BasisSites:
        fields = None if u is None else self.fields(basis, u)
        return BasisSites(basis, self.model.nodal, fields)

    def fields(self, basis: Basis, u: Tensor) -> Fields:
        """Return the unknowns at the quadrature points of a basis."""
        numbering = self.model.numbering

        def get(name: str) -> Field:
            return basis.interpolate(numbering.fields[name], numbering.part(u, name))

        return Fields(get, self.model.ranks, u)

    def parameter(self, name: str, sites: Sites) -> Ranked:
        """Return a parameter at sites: ``[*batch, n|1, q|1, *shape]``."""
        if name in self.given.laws:
            return self._called(name, sites)
        parameter = self.declared[name]
        if parameter.on == "constant":
            return self.constant(name)
        rank = len(parameter.shape)
        return Ranked(sites.place(self.given[name], parameter.on, rank), rank)

    def constant(self, name: str) -> Ranked:
        """Return a parameter that is the same everywhere: ``[*batch, 1, 1, *shape]``."""
        shape, value = self.declared[name].shape, self.given[name]
        batch = value.shape[: value.ndim - len(shape)]
        return Ranked(value.reshape(*batch, 1, 1, *shape), len(shape))

    def _called(self, name: str, sites: Sites) -> Ranked:
        """Evaluate a module that was given as a law of place and solution."""
        columns = []
        for what in self.declared[name].of:
            value = Ranked(sites.x, 1) if what == "x" else sites.field(what)
            columns.append(value.tensor if value.rank else value.tensor[..., None])
        shape = np.broadcast_shapes(*(c.shape[:-1] for c in columns))
        seen = torch.cat([c.expand(*shape, c.shape[-1]) for c in columns], -1)
        result = self.given.laws[name](seen)
        if result.shape != (*shape, 1) and result.shape != shape:
            raise ArgumentError(
                f"{name!r}: the module maps {list(seen.shape)} to {list(result.shape)}; expected "
                f"{[*shape, 1]} or {list(shape)}"
            )
        return Ranked(result.reshape(shape))

    def summed(self, parts: Mapping[str, Tensor], facets: Tensor | None = None) -> Tensor:
        """Sum element vectors of a load, by field, into ``[*batch, n]``.

        Parameters
        ----------
        parts
            ``[*batch, n_sites, n_local of the field]``.
        facets
            The sites; None for all cells.
        """
        return self.model.numbering.vector(parts, facets)

    def evaluate(self, value: Any, sites: Sites, path: str) -> Ranked:
        """Evaluate a law at sites.

        Parameters
        ----------
        value
            Number, formula, parameter, file, list of those, or map over cell tags.
        sites
            Where.
        path
            Path of the law in the declaration, for messages.

        Returns
        -------
        Ranked
            ``[*batch, n|1, q|1, *shape]``.

        Raises
        ------
        ArgumentError
            If the result is not finite, or outside the bound of its law.
        DTypeError
            If it is complex.
        SpecError
            If its values have a shape that it may not have.
        """
        result = self._evaluate(value, sites, path)
        self.model.check_shape(path, result.rank, _shape(result))
        tensor = result.tensor
        if not tensor.is_complex():
            tensor = tensor.to(self.model.dtype)
        elif self.model.spec.is_complex:
            tensor = tensor.to(self.model.field_dtype)
        else:
            raise DTypeError(f"{path}: the law is complex; this problem is real")
        if tensor.ndim < 2 + result.rank:
            tensor = tensor.reshape(*[1] * (2 + result.rank - tensor.ndim), *tensor.shape)
        bound = self.model.bound_of(path)
        if not self.trial:
            require(
                all_finite(tensor.detach()),
                lambda: ArgumentError(
                    f"{path}: the law is NaN or infinite at {_where(result, sites)}{self.remedy(value)}"
                ),
            )
            if bound is not None:
                require_within(
                    Ranked(tensor, result.rank), bound, path, sites, lambda: self.remedy(value)
                )
        return Ranked(tensor, result.rank)

    def remedy(self, law: Any) -> str:
        """Return what to add to a message about a law that the solution has broken where an iteration begins."""
        if not (self.beginning and sees_solution(law, self.model.ranks, self.declared)):
            return ""
        return (
            ", where the iteration begins, with a solution of 0 unless start= says otherwise; give a start= at which "
            "the law has a meaning"
        )

    def number(self, law: Any) -> Tensor:
        """Evaluate a law that is one number for the whole body ``[*batch]``.

        Parameters
        ----------
        law
            Formula, parameter or table of time and constants.

        Raises
        ------
        ArgumentError
            If it is not finite.
        DTypeError
            If it is complex.
        """
        if isinstance(law, Parameter):
            text, found = law.name, self.constant(law.name)
        else:
            text = Formula(law.of if isinstance(law, Table) else law)
            found = text.expression.evaluate(Names(self, None))
        value = _with_sites(found)[..., 0, 0]
        value = tabulated(law, value, str(text)) if isinstance(law, Table) else value
        value = value.to(self.model.field_dtype if value.is_complex() else self.model.dtype)
        if value.is_complex() and not self.model.spec.is_complex:
            raise DTypeError(f"{text}: the law is complex; this problem is real")
        require(
            torch.isfinite(value.detach()).all(),
            lambda: ArgumentError(
                f"{text}: the law is NaN or infinite"
                + ("" if self.time is None else f" at t = {float(self.time):.6g}")
            ),
        )
        return value

    def _evaluate(self, value: Any, sites: Sites, path: str) -> Ranked:
        if isinstance(value, FrozenMap):
            return self._by_tag(value, sites, path)
        expression = value.expression if isinstance(value, Formula) else None
        if self.replaced:
            expression = self.replaced.get(value, expression)
        try:
            if expression is not None:
                watch = Watch(path)
                found = expression.evaluate(Names(self, sites, watch))
                return watch.result(found._replace(tensor=found.tensor.to(self.model.device)))
            if isinstance(value, Parameter):
                return self.parameter(value.name, sites)
            if isinstance(value, ArrayFile):
                return self._from_file(value, sites, path)
        except SpecError as error:
            raise type(error)(error.message, path=path) from None
        if isinstance(value, Table):
            at = self._evaluate(value.of, sites, f"{path}.of").tensor
            return Ranked(tabulated(value, at, path))
        if isinstance(value, Grid):
            return Ranked(on_grid(value, self.model.file_array(value, path), sites.x, path))
        if isinstance(value, tuple):
            parts = [self._evaluate(item, sites, f"{path}.{i}") for i, item in enumerate(value)]
            rank = parts[0].rank
            if any(part.rank != rank or _shape(part) != _shape(parts[0]) for part in parts):
                raise SpecError("the entries of a list need one shape", path=path)
            tensors = torch.broadcast_tensors(*(_with_sites(part) for part in parts))
            return Ranked(torch.stack(tensors, -1 - rank), rank + 1)
        # Filled on a device: a copy to it would be waited for.
        one = torch.full((1, 1), value, dtype=self.model.dtype, device=self.model.device)
        return Ranked(one)

    def _by_tag(self, value: FrozenMap, sites: Sites, path: str) -> Ranked:
        tags = tuple(value)
        taken = dict(zip(tags, self.model.tag_places(tags, sites, path), strict=True))
        acting = [tag for tag, chosen in taken.items() if len(chosen)]
        if not acting:  # a part may have none of these sites: the laws of its cells tell the shape
            acting = [tags[i] for i in self.model.tag_entries(tags, path).unique().tolist()]
        known = {
            tag: self._evaluate(value[tag], RestrictedSites(sites, taken[tag]), f"{path}.{tag}")
            for tag in acting
            if not is_nothing(value[tag])
        }
        shapes = [_shape(part) for part in known.values()] or [self.model.needed_shape(path)]
        shape, rank = shapes[0], len(shapes[0])
        if any(other != shape for other in shapes):
            raise SpecError(
                "the entries of a map need one shape: 0, or a number, a vector or a matrix of one size, for each tag",
                path=path,
            )
        zero = Ranked(torch.zeros(shape, dtype=self.model.dtype, device=self.model.device), rank)
        tensors = {tag: _with_sites(known.get(tag, zero)) for tag in acting}
        batch = np.broadcast_shapes(*(t.shape[: t.ndim - rank - 2] for t in tensors.values()))
        q = max(t.shape[t.ndim - rank - 1] for t in tensors.values())
        full = [t.expand(*batch, len(taken[tag]), q, *shape) for tag, t in tensors.items()]
        order = torch.cat([taken[tag] for tag in acting]).argsort()
        return Ranked(torch.cat(full, len(batch)).index_select(len(batch), order), rank)

    def _from_file(self, value: ArrayFile, sites: Sites, path: str) -> Ranked:
        array = self.model.file_array(value, path)
        counts = self.model.whole_counts
        homes = (
            [value.on] if value.on else [k for k, n in counts.items() if array.shape[:1] == (n,)]
        )
        if array.ndim == 0:
            homes = ["constant"]
        if len(homes) != 1:
            found = " and ".join(homes) if homes else "no kind of site"
            sizes = ", ".join(f"{n} {k}" for k, n in counts.items())
            raise SpecError(
                f"the array has shape {tuple(array.shape)}, which fits {found} ({sizes}); say on: cells, nodes, "
                "facets, quadrature or constant",
                path=path,
            )
        if homes[0] == "constant":
            return Ranked(array.reshape(1, 1, *array.shape), array.ndim)
        if array.shape[0] != counts[homes[0]]:
            raise SpecError(
                f"the array has shape {tuple(array.shape)}; there are {counts[homes[0]]} {homes[0]}",
                path=path,
            )
        array = self.model.localised(array, homes[0], 0)
        return Ranked(sites.place(array, homes[0], array.ndim - 1), array.ndim - 1)


def _with_sites(value: Ranked) -> Tensor:
    """Give constants of an expression their site dimensions."""
    missing = 2 + value.rank - value.tensor.ndim
    return value.tensor.reshape(*[1] * max(missing, 0), *value.tensor.shape)


def _shape(value: Ranked) -> tuple[int, ...]:
    return tuple(value.tensor.shape[value.tensor.ndim - value.rank :])


def _where(value: Ranked, sites: Sites) -> str:
    """Say where the first value is that is not finite."""
    bad = ~torch.isfinite(value.tensor.detach())
    site = bad.ndim - value.rank - 2
    if site < 0 or (bad.shape[site] == 1 and sites.n > 1):
        return "every place"
    first = torch.nonzero(bad)[0]
    n, q = int(first[site]), int(first[site + 1])
    x = ", ".join(f"{c:.6g}" for c in sites.x.detach()[n, min(q, sites.x.shape[1] - 1)].tolist())
    return f"({x})" if sites.owners is None else f"({x}), in cell {int(sites.owners[n])}"
