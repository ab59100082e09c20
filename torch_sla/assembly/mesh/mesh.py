"""The mesh: points, cells of one type, facets and tags, all immutable."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from torch_sla.assembly.elements import Element, lagrange
from torch_sla.assembly.mesh.topology import InteriorFacets, interior_facets
from torch_sla.assembly.reference.cell import ReferenceCell, reference_cell
from torch_sla.errors import MeshError
from torch_sla.lazy import cached_property
from torch_sla.linalg.sparse.segments import SegmentMap

__all__ = ["CELL_TYPES", "Mesh", "Where"]

# Cell types by their meshio name: the reference cell and the order of the geometry.
CELL_TYPES: Mapping[str, tuple[str, int]] = MappingProxyType(
    {
        "line": ("line", 1),
        "triangle": ("triangle", 1),
        "quad": ("quad", 1),
        "tetra": ("tetra", 1),
        "hexahedron": ("hexahedron", 1),
        "line3": ("line", 2),
        "triangle6": ("triangle", 2),
        "quad9": ("quad", 2),
        "tetra10": ("tetra", 2),
        "hexahedron27": ("hexahedron", 2),
    }
)

Where = Tensor | Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False, repr=False)
class Mesh:
    """A conforming mesh of one cell type. Build one with `make_mesh`, a shape, or `read_mesh`.

    Parameters
    ----------
    points
        Coordinates ``[n_points, dim]``, float64.
    cells
        Point indices ``[n_cells, nodes per cell]`` int64, positively oriented, in VTK order.
    cell
        Cell type, see `CELL_TYPES`; second-order names mean curved cells.
    cell_tags
        Indices into `cells` by name.
    facets
        Vertices ``[n_facets, k]`` of the boundary facets, followed by tagged interior ones; oriented outward
        from `facet_cells`.
    facet_cells
        Owner of each facet ``[n_facets]``.
    facet_sides
        Local number of the facet in its owner ``[n_facets]``.
    facet_neighbours
        The other cell ``[n_facets]``, -1 on the boundary.
    facet_tags
        Indices into `facets` by name.

    Examples
    --------
    >>> from torch_sla.assembly.mesh import rectangle_mesh
    >>> mesh = rectangle_mesh((2, 2))
    >>> mesh
    Mesh(8 triangle cells, 9 points in 2D, 8 facets; cell tags: none; facet tags: left right bottom top)
    """

    points: Tensor
    cells: Tensor
    cell: str
    cell_tags: Mapping[str, Tensor]
    facets: Tensor
    facet_cells: Tensor
    facet_sides: Tensor
    facet_neighbours: Tensor
    facet_tags: Mapping[str, Tensor]

    def __reduce__(self) -> tuple[object, ...]:
        """Tell how to make it again on another process."""
        tags = {"cell_tags": dict(self.cell_tags), "facet_tags": dict(self.facet_tags)}
        return _again, ({f.name: getattr(self, f.name) for f in fields(self)} | tags,)

    @property
    def dim(self) -> int:
        """Dimension of the space and of the cells."""
        return self.points.shape[1]

    @property
    def n_points(self) -> int:
        """Number of points."""
        return self.points.shape[0]

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return self.cells.shape[0]

    @property
    def n_facets(self) -> int:
        """Number of facets listed: all of the boundary and the tagged interior ones."""
        return self.facets.shape[0]

    @property
    def reference(self) -> ReferenceCell:
        """The reference cell."""
        return reference_cell(CELL_TYPES[self.cell][0])

    @property
    def geometry(self) -> Element:
        """The element that maps reference coordinates to space."""
        return lagrange(*CELL_TYPES[self.cell])

    @property
    def vertices(self) -> Tensor:
        """Corner vertices of the cells ``[n_cells, n_vertices]``."""
        return self.cells[:, : self.reference.n_vertices]

    @cached_property
    def boundary(self) -> Tensor:
        """Indices of the boundary facets into `facets`."""
        return torch.nonzero(self.facet_neighbours < 0)[:, 0]

    @cached_property
    def interior(self) -> InteriorFacets:
        """Every facet between two cells, on the host."""
        vertices = self.vertices.cpu().numpy()
        return interior_facets(vertices, self.reference, self.n_points)

    @cached_property
    def cell_points(self) -> SegmentMap:
        """The map from nodes of cells to points, by which coordinates are gathered."""
        target = self.cells.flatten()
        small = self.n_points < 2**31
        return SegmentMap(target.int() if small else target, self.n_points)

    @cached_property
    def topology_key(self) -> str:
        """Hash of cells, cell type and tags; coordinates do not enter."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(f"{self.cell} {self.n_points}".encode())
        digest.update(self.cells.cpu().numpy().tobytes())
        for kind, tags in (("cell", self.cell_tags), ("facet", self.facet_tags)):
            for name in sorted(tags):
                digest.update(f"{kind} {name!r} {len(tags[name])}".encode())
                digest.update(tags[name].cpu().numpy().tobytes())
        digest.update(self.facets.cpu().numpy().tobytes())
        return digest.hexdigest()

    @cached_property
    def key(self) -> str:
        """Hash of the whole content, coordinates included."""
        digest = hashlib.blake2b(self.topology_key.encode(), digest_size=16)
        digest.update(self.points.detach().cpu().numpy().tobytes())
        return digest.hexdigest()

    def select_cells(self, on: str | list[str] | tuple[str, ...] | None) -> Tensor:
        """Select the cells that carry any of the tags, indices ascending; None selects all.

        Raises
        ------
        MeshError
            If a tag is unknown; the message lists those there are.
        """
        return self._select(on, self.cell_tags, self.n_cells, "cell")

    def select_facets(self, on: str | list[str] | tuple[str, ...] | None) -> Tensor:
        """Select the facets that carry any of the tags, indices ascending; None selects the boundary.

        Raises
        ------
        MeshError
            If a tag is unknown; the message lists those there are.
        """
        if on is None:
            return self.boundary
        return self._select(on, self.facet_tags, self.n_facets, "facet")

    def _select(
        self,
        on: str | list[str] | tuple[str, ...] | None,
        tags: Mapping[str, Tensor],
        count: int,
        kind: str,
    ) -> Tensor:
        if on is None:
            return torch.arange(count, device=self.cells.device)
        names = [on] if isinstance(on, str) else list(on)
        for name in names:
            if name not in tags:
                known = ", ".join(tags) or "none"
                raise MeshError(f"on: the mesh has no {kind} tag {name!r}; {kind} tags: {known}")
        return torch.cat([tags[name] for name in names]).unique()

    def tag_facets(self, name: str, where: Where) -> Mesh:
        """Return the mesh with one more facet tag.

        Parameters
        ----------
        name
            The tag; an existing one is replaced.
        where
            A predicate ``points [..., dim] -> bool [...]``, which must hold at all vertices of a boundary facet; a
            boolean mask ``[n_facets]``; or indices into `facets`.

        Raises
        ------
        MeshError
            If nothing is selected, or an index is out of range, repeated or no integer.

        Examples
        --------
        >>> from torch_sla.assembly.mesh import rectangle_mesh
        >>> mesh = rectangle_mesh((4, 4)).tag_facets(
        ...     "inlet", lambda x: (x[..., 0] == 0) & (x[..., 1] >= 0.5)
        ... )
        >>> len(mesh.facet_tags["inlet"])
        2
        """
        on_boundary = self.facet_neighbours < 0
        at_all = where(self.points[self.facets]).all(1) if callable(where) else where
        chosen = at_all & on_boundary if callable(where) else at_all
        index = self._indices(name, chosen, self.n_facets, "facets", "boundary facet")
        return replace(self, facet_tags=MappingProxyType({**self.facet_tags, name: index}))

    def tag_cells(self, name: str, where: Where) -> Mesh:
        """Return the mesh with one more cell tag.

        Parameters
        ----------
        name
            The tag; an existing one is replaced.
        where
            A predicate ``points [..., dim] -> bool [...]`` evaluated at the centroids; a boolean mask
            ``[n_cells]``; or indices into `cells`.

        Raises
        ------
        MeshError
            If nothing is selected, or an index is out of range, repeated or no integer.
        """
        chosen = where(self.centroids) if callable(where) else where
        index = self._indices(name, chosen, self.n_cells, "cells", "cell")
        return replace(self, cell_tags=MappingProxyType({**self.cell_tags, name: index}))

    @property
    def centroids(self) -> Tensor:
        """Mean of the corner vertices of each cell ``[n_cells, dim]``."""
        return self.points[self.vertices].mean(1)

    def _indices(self, name: str, chosen: Tensor, count: int, attribute: str, noun: str) -> Tensor:
        if chosen.dtype == torch.bool:
            if chosen.shape != (count,):
                raise MeshError(
                    f"where: the mask for tag {name!r} has shape {tuple(chosen.shape)}; expected ({count},)"
                )
            chosen = torch.nonzero(chosen)[:, 0]
        if chosen.dtype.is_floating_point or chosen.dtype.is_complex:
            raise MeshError(
                f"where: tag {name!r} has dtype {chosen.dtype}; give indices of {attribute} (integers) or a mask of "
                "true and false"
            )
        index: Tensor = chosen.to(self.cells).reshape(-1).unique()
        if not len(index):
            raise MeshError(f"where: nothing is selected for tag {name!r}; no {noun} satisfies it")
        if len(index) < chosen.numel():
            raise MeshError(
                f"where: tag {name!r} names {chosen.numel()} {attribute}, but only {len(index)} different ones; give "
                "each index once, or a mask of true and false"
            )
        if int(index[0]) < 0 or int(index[-1]) >= count:
            raise MeshError(
                f"where: tag {name!r} has indices from {int(index[0])} to {int(index[-1])}; "
                f"there are {count} {attribute}"
            )
        return index

    def to(self, device: torch.device | str) -> Mesh:
        """Return the mesh with all its tensors on a device."""
        if self.points.device == torch.device(device):
            return self
        return replace(
            self,
            points=self.points.to(device),
            cells=self.cells.to(device),
            cell_tags=MappingProxyType({k: v.to(device) for k, v in self.cell_tags.items()}),
            facets=self.facets.to(device),
            facet_cells=self.facet_cells.to(device),
            facet_sides=self.facet_sides.to(device),
            facet_neighbours=self.facet_neighbours.to(device),
            facet_tags=MappingProxyType({k: v.to(device) for k, v in self.facet_tags.items()}),
        )

    def __repr__(self) -> str:
        tags = "; ".join(
            f"{kind} tags: {' '.join(names) or 'none'}"
            for kind, names in (("cell", self.cell_tags), ("facet", self.facet_tags))
        )
        return (
            f"Mesh({self.n_cells} {self.cell} cells, {self.n_points} points in {self.dim}D, "
            f"{self.n_facets} facets; {tags})"
        )


def _again(content: dict[str, Any]) -> Mesh:
    for name in ("cell_tags", "facet_tags"):
        content[name] = MappingProxyType(content[name])
    return Mesh(**content)
