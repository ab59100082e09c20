"""Where a field of a design lives: sites, their coordinates and how much of the body each stands for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from torch_sla.assembly.basis import CellBasis
from torch_sla.assembly.mesh.images import surroundings
from torch_sla.errors import ArgumentError
from torch_sla.lazy import cached_property

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from torch_sla.assembly.mesh import Mesh

__all__ = ["Place"]

Made = TypeVar("Made")


@dataclass(frozen=True, eq=False)
class Place:
    """The sites of a field.

    Parameters
    ----------
    on
        ``"cells" "nodes" "facets" "quadrature"``, or ``"constant"`` for numbers that live nowhere.
    mesh
        The mesh; None for constants of problems without one.
    shape
        Shape of the value at each site: values are ``[*batch, n, *shape]``.
    sites
        Coordinates ``[n, dim]``; those of cells (their centroids) and of nodes are known without.
    moves
        Whether values are the coordinates of the sites themselves, so that means are of how far they moved.

    Examples
    --------
    >>> from torch_sla.assembly.mesh import rectangle_mesh
    >>> place = Place("cells", rectangle_mesh((2, 2), cell="quad"))
    >>> place.n, place.measure.tolist()
    (4, [0.25, 0.25, 0.25, 0.25])
    """

    on: str
    mesh: Mesh | None = None
    shape: tuple[int, ...] = ()
    sites: Tensor | None = None
    moves: bool = False
    _made: dict[object, Any] = field(default_factory=dict, repr=False)

    def once(self, make: Callable[[Place], Made]) -> Made:
        """Return what ``make(place)`` returns, made once."""
        if make not in self._made:
            self._made[make] = make(self)
        return self._made[make]

    @cached_property
    def x(self) -> Tensor:
        """Coordinates of the sites ``[n, dim]``, float64."""
        if self.sites is not None:
            return self.sites.detach()
        if self.on == "nodes":
            return self.on_mesh.points
        if self.on == "cells":
            return self.on_mesh.centroids
        if self.on == "constant":
            raise ArgumentError("a constant lives on no mesh; only functions of numbers change it")
        raise ArgumentError(f"a field on {self.on} says its sites= itself; got None")

    @cached_property
    def beside(self) -> Tensor:
        """A place in the body beside each site ``[n, dim]``, which tells those on the two faces of a crack apart."""
        mesh = self.mesh
        if mesh is not None and self.on == "nodes":
            return surroundings(mesh.cells, mesh.points)
        if mesh is not None and self.on == "facets":
            return mesh.centroids[mesh.facet_cells]
        return self.x

    @property
    def n(self) -> int:
        """Number of sites; 1 for constants."""
        return 1 if self.on == "constant" else self.x.shape[0]

    @property
    def on_mesh(self) -> Mesh:
        """The mesh.

        Raises
        ------
        ArgumentError
            If there is none.
        """
        if self.mesh is None:
            raise ArgumentError(
                "the field lives on no mesh; only transforms of numbers have a meaning"
            )
        return self.mesh

    @cached_property
    def volumes(self) -> Tensor:
        """Volumes of the cells ``[n_cells]``."""
        mesh = self.on_mesh
        return CellBasis(mesh, mesh.geometry, 2 * mesh.geometry.order).dx.sum(-1).detach()

    @cached_property
    def measure(self) -> Tensor:
        """Share of each site in the volume of the body ``[n]``.

        A node gets an equal part of each cell around it, which on simplices of first order is the integral
        of its function.

        Raises
        ------
        ArgumentError
            Where sites have no share: on facets, at quadrature points, for constants.
        """
        mesh = self.on_mesh
        if self.on == "cells":
            return self.volumes
        if self.on == "nodes":
            each = self.volumes / mesh.cells.shape[1]
            return mesh.cell_points.sum(each.repeat_interleave(mesh.cells.shape[1]))
        raise ArgumentError(
            f"this has a meaning on cells and nodes, and the field lives on {self.on}"
        )

    def last(self, values: Tensor) -> Tensor:
        """Bring the sites of ``[*batch, n, *shape]`` to the end: ``[*batch, *shape, n]``."""
        return values.movedim(-1 - len(self.shape), -1) if self.shape else values

    def back(self, values: Tensor) -> Tensor:
        """Undo `last`."""
        return values.movedim(-1, -1 - len(self.shape)) if self.shape else values

    def departures(self, values: Tensor) -> Tensor:
        """Return checked values of which means are taken: of coordinates, how far they moved."""
        values = self.check(values)
        return values - self.x.to(values) if self.moves else values

    def arrived(self, values: Tensor) -> Tensor:
        """Undo `departures`."""
        return values + self.x.to(values) if self.moves else values

    def check(self, values: Tensor) -> Tensor:
        """Return ``values`` if they are ``[*batch, n, *shape]``; one number per shape counts for all sites.

        Raises
        ------
        ArgumentError
            For another shape.
        """
        wanted = () if self.on == "constant" else (self.n,)
        wanted = (*wanted, *self.shape)
        if values.shape == self.shape:
            return values.expand(wanted)
        if values.ndim < len(wanted) or tuple(values.shape[values.ndim - len(wanted) :]) != wanted:
            text = ", ".join(["*batch", *map(str, wanted)])
            raise ArgumentError(
                f"a field on {self.on} is [{text}]; got shape {tuple(values.shape)}"
            )
        return values
