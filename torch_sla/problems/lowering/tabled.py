"""Laws of a batch as sums of products of tables: a function of one coordinate at the values that this has.

Such laws are never evaluated at all points: see `torch_sla.linalg.kernels.tables`.
"""

from __future__ import annotations

from math import log, prod
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from torch_sla.linalg.kernels import tables as kernels
from torch_sla.problems.expression import Expression, Product, products_of
from torch_sla.problems.lowering.members import LevelSites, Members, PartedLaw, PointSlice
from torch_sla.problems.lowering.names import Names
from torch_sla.problems.lowering.phases import plain_names
from torch_sla.problems.lowering.selection import AXES

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from torch_sla.problems.lowering.geometry import Levels
    from torch_sla.problems.lowering.scene import Scene
    from torch_sla.problems.lowering.sites import Sites

__all__ = ["Tabled", "TabledLaw"]


class Tabled(NamedTuple):
    """One product: which component of how many, tables ``[levels, members]``, level and weight of each point."""

    component: int
    components: int
    tables: list[Tensor]
    levels: list[Tensor]
    weight: Tensor | None


class TabledLaw:
    """The products of a law. Use `TabledLaw.of`.

    Parameters
    ----------
    law
        The law.
    products
        Of each component.
    levels
        Values of the coordinates that they see, by name.
    """

    def __init__(
        self, law: PartedLaw, products: list[list[Product]], levels: dict[str, Levels]
    ) -> None:
        self._law, self._products, self._levels = law, products, levels
        self._stills: dict[str, Tensor] = {}

    @classmethod
    def of(cls, law: PartedLaw, scene: Scene, names: Collection[str]) -> TabledLaw | None:
        """Return the products of a law; None where it has none, or sees coordinates that have too many values.

        Parameters
        ----------
        scene
            The scene of a member.
        names
            Parameters that change from member to member.
        """
        if law.written is None or not kernels.multiplies(scene.model.dtype):
            return None
        plain, axes = plain_names(scene.model), tuple(AXES)[: scene.model.mesh.dim]
        moving, still = plain & set(names), plain.difference(names)
        found: list[list[Product]] = []
        seen: set[str] = set()
        for component in law.written:
            # What is derived may be made of what changes.
            closed = set(names) - moving | set(scene.model.spec.derived_of)
            if component.is_complex or component.names & closed:
                return None
            products = products_of(component, moving, still, axes)
            if products is None:
                return None
            seen.update(axis for product in products for axis in product.along if axis)
            found.append(products)
        levels = {axis: scene.geometry.levels(law.sites.basis, axes.index(axis)) for axis in axes}
        held = {axis: here for axis, here in levels.items() if here is not None}
        return cls(law, found, held) if seen <= held.keys() else None

    def tabled(self, members: Members) -> list[Tabled] | None:
        """Evaluate the factors for members; None where numbers would leave their range on the way."""
        found: list[Tabled] = []
        for component, products in enumerate(self._products):
            for product in products:
                if not all(_within(self._parts(members, parts)) for parts in product.exponents):
                    return None
                one = self._product(members, component, product)
                if one is None:
                    return None
                found.append(one)
        return found

    def _product(self, members: Members, component: int, product: Product) -> Tabled | None:
        axes = [axis for axis in product.along if axis]
        tables = [self._along(members, axis, product.along[axis]) for axis in axes]
        levels = [self._levels[axis].which for axis in axes]
        if not tables:
            tables = [torch.ones(1, members.width, dtype=members.model.dtype)]
            levels = [torch.zeros(self._law.sites.n * self._law.sites.q, dtype=torch.int32)]
        if "" in product.along:
            tables[0] = tables[0] * self._along(members, "", product.along[""])
        weight = None if product.still is None else self._still(members, product.still)
        if weight is not None and len(weight) == 1:
            tables[0], weight = tables[0] * weight, None
        factors = [*tables, *([] if weight is None else [weight])]
        if any(factor.dtype != members.model.dtype for factor in factors):
            return None
        largest = prod(float(factor.abs().amax()) for factor in factors)
        if not largest < torch.finfo(members.model.dtype).max ** 0.5:  # nor where it is NaN
            return None
        whole = [table.contiguous() for table in tables]
        return Tabled(component, len(self._products), whole, levels, weight)

    def _along(self, members: Members, axis: str, part: Expression) -> Tensor:
        """Evaluate what sees one coordinate ``[levels, members]``, or none ``[1, members]``."""
        sites: LevelSites | None = None
        if axis:
            sites = LevelSites(members, AXES.index(axis), self._levels[axis])
        value = _found(members, sites, part)
        value = value.reshape(-1, value.shape[-1] if value.ndim else 1)
        return value.expand(sites.n if sites is not None else 1, members.width)

    def _still(self, members: Members, part: Expression) -> Tensor:
        """Return what does not change ``[points]``, evaluated once, or ``[1]`` if it is the same everywhere."""
        key = part.canonical
        if key not in self._stills:
            self._stills[key] = self._placed(members, part)
        return self._stills[key]

    def _placed(self, members: Members, part: Expression) -> Tensor:
        sites, seen = self._law.sites, part.names & set(AXES)
        axis = next(iter(seen)) if len(seen) == 1 else ""
        if axis in self._levels and part.names <= {axis, *plain_names(members.model)}:
            values = self._along(members, axis, part)[:, 0]
            return torch.index_select(values, 0, self._levels[axis].which)
        points = PointSlice(sites, slice(0, sites.n), self._law.placed)
        return _found(members, points, part).flatten().contiguous()

    def _parts(self, members: Members, parts: Mapping[str | None, Expression]) -> list[Tensor]:
        return [
            self._still(members, part)
            if axis is None or (axis and axis not in self._levels)
            else self._along(members, axis, part)
            for axis, part in parts.items()
        ]


def _found(members: Members, sites: Sites | None, part: Expression) -> Tensor:
    value = part.evaluate(Names(members, sites)).tensor.detach()
    return value if value.is_complex() else value.to(members.model.dtype)


def _within(parts: list[Tensor]) -> bool:
    """Whether the exponential of a sum is the product of exponentials, none of which is out of range by itself."""
    largest = [float(part.amax()) for part in parts]
    if all(size <= 0 for size in largest):
        return True
    limit = log(torch.finfo(parts[0].dtype).max) - 9
    return sum(float(part.abs().amax()) for part in parts) <= limit
