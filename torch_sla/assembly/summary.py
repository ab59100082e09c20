"""What a mesh is like: sizes, the shapes of its cells, and what its tags cover."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.assembly.basis import CellBasis, FacetBasis
from torch_sla.assembly.mapping import inverse_and_det, regular_simplex
from torch_sla.assembly.mesh.topology import bodies

if TYPE_CHECKING:
    from torch_sla.assembly.mesh.mesh import Mesh

__all__ = ["MeshSummary", "Tagged", "mesh_summary", "shape_quality"]


def shape_quality(mesh: Mesh) -> Tensor:
    """Return the mean ratio of each cell ``[n_cells]``: 1 where it is regular, near 0 where it is flat.

    With ``S`` the Jacobian of the map from the regular simplex, or from the square or cube, the least of
    ``d det(S)^(2/d) / |S|^2`` at the quadrature points (Knupp, SIAM J. Sci. Comput. 23 (2001), 193-218).

    Examples
    --------
    >>> from torch_sla.assembly import rectangle_mesh
    >>> [round(float(q), 3) for q in shape_quality(rectangle_mesh((1, 1), (2.0, 1.0), cell="quad"))]
    [0.8]
    """
    return _quality(mesh, CellBasis(mesh, mesh.geometry))


def _quality(mesh: Mesh, basis: CellBasis) -> Tensor:
    J, det = inverse_and_det(basis.geometry.inverse)
    det = 1.0 / det
    if mesh.reference.n_vertices == mesh.dim + 1:
        ideal = regular_simplex(J)
        J, det = torch.linalg.solve(ideal, J, left=False), det / torch.linalg.det(ideal)
    shape = mesh.dim * det ** (2.0 / mesh.dim) / J.square().sum((-2, -1))
    return shape.amin(1)


@dataclass(frozen=True)
class Tagged:
    """How many cells or facets a tag has, and their length, area or volume."""

    count: int
    measure: float


@dataclass(frozen=True)
class MeshSummary:
    """Numbers about a mesh.

    Parameters
    ----------
    cell, dim
        Type of the cells, and dimension.
    n_cells, n_points, n_bodies
        How many there are; a body is what cells join by common points.
    low, high
        Corners of the box around it ``[dim]``.
    measure, smallest, largest
        Length, area or volume of the whole, and of the smallest and the largest cell.
    quality, mean_quality, worst
        The least `shape_quality` and its mean, and the cell that has the least.
    boundary
        All facets on the boundary.
    cell_tags, facet_tags
        By name.
    """

    cell: str
    dim: int
    n_cells: int
    n_points: int
    n_bodies: int
    low: tuple[float, ...]
    high: tuple[float, ...]
    measure: float
    smallest: float
    largest: float
    quality: float
    mean_quality: float
    worst: int
    boundary: Tagged
    cell_tags: dict[str, Tagged]
    facet_tags: dict[str, Tagged]

    def as_dict(self) -> dict[str, Any]:
        """Return it as numbers, texts, lists and mappings."""
        return asdict(self)


def mesh_summary(mesh: Mesh) -> MeshSummary:
    """Measure a mesh.

    Examples
    --------
    >>> from torch_sla.assembly import rectangle_mesh
    >>> found = mesh_summary(rectangle_mesh((4, 4), size=(2.0, 1.0)))
    >>> found.measure, found.facet_tags["top"], round(found.quality, 3)
    (2.0, Tagged(count=4, measure=2.0), 0.693)
    """
    basis = CellBasis(mesh, mesh.geometry)
    size = basis.dx.sum(1)
    facets = torch.arange(mesh.n_facets, device=mesh.points.device)
    area = FacetBasis(mesh, mesh.geometry, facets).dx.sum(1)
    shape = _quality(mesh, basis)
    # Points that no cell has as a corner, such as middles of edges, are in no body of their own.
    body = bodies(mesh.vertices, mesh.n_points)[mesh.vertices[:, 0]]

    def tagged(of: Tensor, index: Tensor) -> Tagged:
        return Tagged(len(index), float(of[index].sum()))

    return MeshSummary(
        cell=mesh.cell,
        dim=mesh.dim,
        n_cells=mesh.n_cells,
        n_points=mesh.n_points,
        n_bodies=len(body.unique()),
        low=tuple(mesh.points.amin(0).tolist()),
        high=tuple(mesh.points.amax(0).tolist()),
        measure=float(size.sum()),
        smallest=float(size.min()),
        largest=float(size.max()),
        quality=float(shape.min()),
        mean_quality=float(shape.mean()),
        worst=int(shape.argmin()),
        boundary=tagged(area, mesh.boundary),
        cell_tags={name: tagged(size, index) for name, index in mesh.cell_tags.items()},
        facet_tags={name: tagged(area, index) for name, index in mesh.facet_tags.items()},
    )
