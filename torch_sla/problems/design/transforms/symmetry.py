"""Fields that are the same on both sides of a plane, and fields with a part that is not designed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from torch_sla.assembly.mesh.images import images
from torch_sla.errors import ArgumentError
from torch_sla.problems.design.transforms.base import Stage, Transform, finite

if TYPE_CHECKING:
    from torch_sla.problems.design.transforms.place import Place

__all__ = ["Fixed", "Symmetry"]


@dataclass(frozen=True)
class Symmetry(Transform):
    """The mean of a field and its mirror image, so that gradients are symmetric too.

    The mirror image of a vector (a field of as many components as the mesh has dimensions) has the component along
    the axis reversed, that of a matrix of so many rows and columns the entries of its row and column; of `points` it
    is that of how far they moved. Of sites in one place, as on the faces of a crack, the cells around them tell
    which is the image of which.

    Parameters
    ----------
    axis
        ``"x" "y" "z"``: the normal of the plane.
    at
        Position of the plane along that axis.

    Examples
    --------
    >>> from torch_sla import Symmetry
    >>> Symmetry("x", at=0.5)
    Symmetry(axis='x', at=0.5, type='symmetry')
    """

    axis: Literal["x", "y", "z"]
    at: float = 0.0
    type: Literal["symmetry"] = field(default="symmetry", kw_only=True)

    def __post_init__(self) -> None:
        """Check."""
        finite("at", self.at)
        if self.axis not in ("x", "y", "z"):
            raise ArgumentError(f"axis must be x, y or z; got {self.axis!r}")

    def prepare(self, place: Place) -> Stage:
        """Find the partner of each site.

        Raises
        ------
        ArgumentError
            If the mesh is not symmetric: a site has no partner, or sites in one place have no partners of their own.
        """
        axis, x = "xyz".index(self.axis), place.x.cpu()
        if axis >= x.shape[1]:
            raise ArgumentError(f"axis={self.axis!r}, but the mesh has {x.shape[1]} dimensions")
        near = place.beside.cpu()
        mirrored, there = x.clone(), near.clone()
        mirrored[:, axis] = 2 * self.at - x[:, axis]
        there[:, axis] = 2 * self.at - near[:, axis]
        size = float((x.amax(0) - x.amin(0)).norm())
        distance, partner = images(mirrored, x, there, near)
        worst = int(distance.argmax())
        if distance[worst] > 1e-6 * size:
            raise ArgumentError(
                f"the mesh is not symmetric about {self.axis} = {self.at:g}: the site at "
                f"{tuple(x[worst].tolist())} has no partner, the nearest is {distance[worst]:.3g} away"
            )
        unsure = torch.nonzero(partner[partner] != torch.arange(len(partner)))
        if len(unsure):
            where = tuple(x[unsure[0, 0]].tolist())
            raise ArgumentError(
                f"the sites at {where} lie in one place, and the cells around them do not tell which is the image of "
                f"which about {self.axis} = {self.at:g}"
            )
        return _Mirroring(place, partner.to(place.x.device), _signs(place, axis))


def _signs(place: Place, axis: int) -> Tensor:
    """Return what the components ``[*shape]`` of a mirror image are multiplied by."""
    dim = place.x.shape[1]
    signs = torch.ones(place.shape, dtype=torch.float64, device=place.x.device)
    if place.shape in ((dim,), (dim, dim)):
        for direction in range(len(place.shape)):
            signs.select(direction, axis).neg_()
    return signs


class _Mirroring(Stage):
    def __init__(self, place: Place, partner: Tensor, signs: Tensor) -> None:
        self.place, self.partner, self.signs = place, partner, signs

    def __call__(self, values: Tensor) -> Tensor:
        place = self.place
        here = place.departures(values)
        there = here.index_select(-1 - len(place.shape), self.partner) * self.signs.to(here)
        return place.arrived(0.5 * (here + there))


@dataclass(frozen=True)
class Fixed(Transform):
    """Sites in tagged cells have a given value, whatever the unknown says: a flange, a keep-out region.

    Parameters
    ----------
    on
        Tag or tags of cells.
    value
        Value in these cells.

    Examples
    --------
    >>> from torch_sla import Fixed
    >>> Fixed("flange", 1.0)
    Fixed(on='flange', value=1.0, type='fixed')
    """

    on: str | tuple[str, ...]
    value: float
    type: Literal["fixed"] = field(default="fixed", kw_only=True)

    def __post_init__(self) -> None:
        """Check."""
        finite("value", self.value)

    def prepare(self, place: Place) -> Stage:
        """Look the cells up; of nodal fields, all their nodes."""
        mesh = place.on_mesh
        cells = mesh.select_cells(self.on)
        if place.on not in ("cells", "nodes"):
            raise ArgumentError(f"fixed acts on cells and nodes, and the field lives on {place.on}")
        sites = cells if place.on == "cells" else mesh.cells[cells].unique()
        held = torch.zeros(place.n, dtype=torch.bool, device=cells.device)
        held[sites] = True
        return _Held(place, held, self.value)


class _Held(Stage):
    def __init__(self, place: Place, held: Tensor, value: float) -> None:
        self.place, self.held, self.value = place, held, value

    def __call__(self, values: Tensor) -> Tensor:
        place = self.place
        return place.back(place.last(place.check(values)).masked_fill(self.held, self.value))
