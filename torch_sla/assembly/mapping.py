"""From reference coordinates to space: positions, inverse Jacobians, measures, normals.

Everything here is made of torch operations on the node coordinates, so shape derivatives of any order follow
from autograd. With ``x(X) = sum_k phi_k(X) x_k`` the Jacobian is ``J = dx/dX``, a volume element is
``det J dX`` and an oriented area element is ``n ds = det J J^-T N dS`` (Nanson's formula).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import MeshError
from torch_sla.linalg.kernels.ordered import taken
from torch_sla.linalg.sparse.segments import SegmentMap

if TYPE_CHECKING:
    from torch_sla.assembly.mesh.mesh import Mesh
    from torch_sla.assembly.reference.cell import ReferenceCell

__all__ = [
    "Geometry",
    "cell_geometry",
    "cell_nodes",
    "facet_geometry",
    "facet_points",
    "inverse_and_det",
    "regular_simplex",
    "side_geometry",
]


@dataclass(frozen=True, eq=False)
class Geometry:
    """Geometric factors at the quadrature points of ``n`` cells or facets.

    Parameters
    ----------
    x
        Positions ``[n, nq, dim]``.
    inverse
        ``dX/dx``, ``[n, nq|1, dim, dim]``: first the reference, then the space direction.
    measure
        ``[n, nq|1]``: volume or area element per reference measure, without quadrature weights.
    normal
        Outward unit normals ``[n, nq|1, dim]`` on facets, None in cells.
    """

    x: Tensor
    inverse: Tensor
    measure: Tensor
    normal: Tensor | None = None


def regular_simplex(like: Tensor) -> Tensor:
    """Return the map of the reference simplex to the regular one of unit edges ``[dim, dim]``.

    Parameters
    ----------
    like
        ``[..., dim, dim]``, whose dtype and device it has.
    """
    dim = like.shape[-1]
    edges = 0.5 * (torch.eye(dim, dtype=like.dtype, device=like.device) + 1.0)
    return torch.linalg.cholesky(edges).T


def inverse_and_det(J: Tensor) -> tuple[Tensor, Tensor]:
    """Invert small matrices in closed form.

    Parameters
    ----------
    J
        ``[..., d, d]`` with d = 1, 2 or 3.

    Returns
    -------
    inverse, det
        ``[..., d, d]`` and ``[...]``.
    """
    d = J.shape[-1]
    if d == 1:
        det = J[..., 0, 0]
        return (1.0 / det)[..., None, None], det
    if d == 2:
        a, b, c, e = J[..., 0, 0], J[..., 0, 1], J[..., 1, 0], J[..., 1, 1]
        det = a * e - b * c
        adjugate = torch.stack([e, -b, -c, a], -1).unflatten(-1, (2, 2))
        return adjugate / det[..., None, None], det
    first, second, third = J.unbind(-1)
    # Rows of the inverse are cross products of the columns.
    rows = [
        torch.linalg.cross(second, third),
        torch.linalg.cross(third, first),
        torch.linalg.cross(first, second),
    ]
    det = (first * rows[0]).sum(-1)
    return torch.stack(rows, -2) / det[..., None, None], det


def cell_nodes(mesh: Mesh, points: Tensor | None = None, cells: Tensor | None = None) -> Tensor:
    """Coordinates of the nodes of every cell ``[n_cells, nodes per cell, dim]``.

    Parameters
    ----------
    mesh
        The mesh.
    points
        Moved points ``[n_points, dim]``; the mesh's own when None.
    cells
        Indices of some cells; None means all.

    Raises
    ------
    MeshError
        If `points` has a wrong shape or holds a value that is not finite.
    """
    if points is None:
        points = mesh.points
    elif points.shape != mesh.points.shape:
        raise MeshError(
            f"points: got shape {tuple(points.shape)}; this mesh has {tuple(mesh.points.shape)}"
        )
    table = mesh.cells if cells is None else mesh.cells.index_select(0, cells)
    gather = mesh.cell_points if cells is None else SegmentMap(table.flatten(), mesh.n_points)
    return gather.gather(points, dim=0).unflatten(0, tuple(table.shape))


def cell_geometry(
    mesh: Mesh, X: Tensor, points: Tensor | None = None, cells: Tensor | None = None
) -> Geometry:
    """Geometric factors at the same reference points of every cell.

    Parameters
    ----------
    mesh
        The mesh.
    X
        Reference points ``[nq, dim]``.
    points
        Moved points ``[n_points, dim]``, differentiable; the mesh's own when None.
    cells
        Indices of some cells; None means all.

    Raises
    ------
    MeshError
        If a cell is inverted or flat, naming the first.
    """
    nodes = cell_nodes(mesh, points, cells)
    element = mesh.geometry
    X = X.to(nodes)
    fixed = points is None or points is mesh.points
    constant = element.is_affine or (fixed and _parallel(mesh, nodes))
    slopes = element.gradients(X[:1] if constant else X)
    J = torch.einsum("cka,qkm->cqam", nodes, slopes)
    inverse, det = inverse_and_det(J)
    _check_orientation(mesh, det, cells)
    x = torch.einsum("qk,cka->cqa", element.values(X), nodes)
    return Geometry(x, inverse, det)


def facet_points(cell: ReferenceCell, X: Tensor) -> Tensor:
    """Place points of the reference facet on every facet of a reference cell.

    Parameters
    ----------
    cell
        The reference cell.
    X
        Points of its reference facet ``[nq, dim - 1]``.

    Returns
    -------
    Tensor ``[n_facets, nq, dim]``.
    """
    corners = cell.vertices[torch.tensor(cell.facets, device="cpu")].to(X)
    # Facets of reference cells are parallelograms or triangles: two edges span them.
    edges = corners[:, [1, -1][: cell.dim - 1]] - corners[:, :1]
    return corners[:, :1] + X @ edges if cell.dim > 1 else corners[:, :1].expand(-1, len(X), -1)


def _area_vectors(cell: ReferenceCell) -> Tensor:
    """Oriented area element of every reference facet per parameter measure ``[n_facets, dim]``."""
    corners = cell.vertices[torch.tensor(cell.facets, device="cpu")]
    if cell.dim == 1:
        return torch.tensor([[-1.0], [1.0]], dtype=corners.dtype, device="cpu")
    edges = corners[:, [1, -1][: cell.dim - 1]] - corners[:, :1]
    if cell.dim == 2:
        return torch.stack([edges[:, 0, 1], -edges[:, 0, 0]], -1)
    return torch.linalg.cross(edges[:, 0], edges[:, 1])


def facet_geometry(mesh: Mesh, facets: Tensor, X: Tensor, points: Tensor | None = None) -> Geometry:
    """Geometric factors at the quadrature points of facets, seen from their owners.

    Parameters
    ----------
    mesh
        The mesh.
    facets
        Indices into ``mesh.facets`` ``[n]``.
    X
        Points of the reference facet ``[nq, dim - 1]``.
    points
        Moved points ``[n_points, dim]``, differentiable; the mesh's own when None.

    Raises
    ------
    MeshError
        If an owner is inverted or flat at a facet, naming the first.
    """
    placed = facet_points(mesh.reference, X)
    outward = torch.arange(len(placed), device="cpu")
    owners, side = mesh.facet_cells[facets], mesh.facet_sides[facets]
    return side_geometry(mesh, owners, side, placed, outward, points)


def side_geometry(
    mesh: Mesh,
    cells: Tensor,
    table: Tensor,
    X: Tensor,
    outward: Tensor | None,
    points: Tensor | None = None,
) -> Geometry:
    """Geometric factors at points that cells place in one of several ways.

    Parameters
    ----------
    mesh
        The mesh.
    cells
        Cell of each site ``[n]``.
    table
        Which row of X each site uses ``[n]``.
    X
        Reference points ``[tables, nq, dim]``.
    outward
        Facet of the reference cell that each table lies on, whose oriented area is the measure; None where another
        side measures it, which leaves the measure at one.
    points
        Moved points ``[n_points, dim]``, differentiable; the mesh's own when None.
    """
    nodes = taken(cell_nodes(mesh, points), cells)
    element = mesh.geometry
    placed = X.to(nodes)
    slopes = element.gradients(placed[:, :1] if element.is_affine else placed)
    J = torch.einsum("fka,fqkm->fqam", nodes, slopes[table])
    inverse, det = inverse_and_det(J)
    _check_orientation(mesh, det, cells)
    x = torch.einsum("fqk,fka->fqa", element.values(placed)[table], nodes)
    if outward is None:
        return Geometry(x, inverse, torch.ones_like(det))
    area = _area_vectors(mesh.reference).to(nodes)[outward.to(table.device)][table]
    oriented = det[..., None] * torch.einsum("fqma,fm->fqa", inverse, area)
    measure = oriented.square().sum(-1).sqrt()
    return Geometry(x, inverse, measure, oriented / measure[..., None])


def _parallel(mesh: Mesh, nodes: Tensor) -> bool:
    """Whether every cell is an affine image of the reference cell, up to rounding."""
    if nodes.requires_grad:
        return False
    cell, X = mesh.reference, mesh.geometry.nodes.to(nodes)
    corner = [
        int((cell.vertices == row).all(1).nonzero()) for row in torch.eye(cell.dim, device="cpu")
    ]
    edges = nodes[:, corner] - nodes[:, :1]
    deviation = (nodes - nodes[:, :1] - X @ edges).abs().amax()
    smallest = edges.abs().amax((1, 2)).amin()
    rounding = 8.0 * torch.finfo(nodes.dtype).eps * nodes.abs().amax()
    return bool(deviation <= torch.maximum(rounding, 1e-14 * smallest)) and bool(
        rounding < 1e-9 * smallest
    )


def _check_orientation(mesh: Mesh, det: Tensor, owners: Tensor | None = None) -> None:
    bad = ~(det > 0)
    if bool(bad.any()):
        first = int(torch.nonzero(bad.any(1))[0])
        cell = first if owners is None else int(owners[first])
        raise MeshError(
            f"points: cell {cell} (points {mesh.cells[cell].tolist()}) is inverted, flat or not finite: its Jacobian "
            f"determinant is {float(det[first].detach().min()):.3g}; move the points less"
        )
