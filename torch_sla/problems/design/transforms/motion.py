"""Shapes: a part of the boundary moves, and the mesh inside follows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from torch_sla.assembly import Dofs, assemble, weak
from torch_sla.assembly.constraints import DirichletConstraint
from torch_sla.errors import ArgumentError
from torch_sla.linalg.sparse.tensor import SparseTensor
from torch_sla.problems.design.transforms.base import Stage, Transform, by_columns, positive
from torch_sla.problems.design.transforms.cone import cone_weights

if TYPE_CHECKING:
    from torch_sla.problems.design.transforms.place import Place

__all__ = ["BoundaryMotion"]


@dataclass(frozen=True)
class BoundaryMotion(Transform):
    """Points of the mesh from how far a part of its boundary moves.

    The unknowns are displacements of the nodes on that part, along the normals that they begin with. All
    other boundary nodes stay where they are, and those inside follow by a Laplace equation, stiffer where cells
    are small, whose factor is made once. Bounds are those of the displacements.

    Parameters
    ----------
    on
        Tag or tags of boundary facets.
    radius
        Displacements are cone-weighted means of the unknowns within this distance along the boundary
        (Hojjat, Stavropoulou and Bletzinger, Comput. Methods Appl. Mech. Eng. 268 (2014), 494-513), which
        keeps the shape smooth; 0 takes each on its own.
    """

    on: str | tuple[str, ...]
    radius: float = 0.0
    type: Literal["boundary_motion"] = field(default="boundary_motion", kw_only=True)

    def __post_init__(self) -> None:
        """Check."""
        if self.radius != 0:
            positive("radius", self.radius)

    def prepare(self, place: Place) -> Stage:
        """Find the nodes and their normals, and assemble the equation of the mesh."""
        mesh = place.on_mesh
        if place.on != "nodes" or place.shape != (mesh.dim,):
            raise ArgumentError(
                "boundary_motion gives the points of a mesh, and this is another field"
            )
        return _Motion(self, place)


class _Motion(Stage):
    bounded = True

    def __init__(self, options: BoundaryMotion, place: Place) -> None:
        mesh = place.on_mesh
        chosen = mesh.select_facets(options.on)
        if bool((mesh.facet_neighbours[chosen] >= 0).any()):
            raise ArgumentError(
                f"on={options.on!r} holds facets inside the body, which are no boundary"
            )
        dofs = Dofs(mesh, mesh.geometry)
        moving = dofs.facet_dofs(chosen).unique()
        boundary = dofs.facet_dofs(mesh.boundary).unique()
        stiffness = assemble(weak.diffusion, dofs, kappa=1 / place.volumes[:, None])
        self.constraint = DirichletConstraint(dofs.pattern, boundary)
        zero, still = stiffness.new_zeros(mesh.n_points), stiffness.new_zeros(len(boundary))
        inner, _ = self.constraint.apply(stiffness, zero, still)
        self.matrix = SparseTensor.from_pattern(dofs.pattern, inner).declare(
            symmetric=True, positive_definite=True
        )
        self.stiffness, self.points = stiffness, mesh.points
        self.place, self.unknowns = place, len(moving)
        self.row = torch.searchsorted(boundary, moving)
        self.normal = _normals(place, chosen, moving)
        self.smooth = None
        if options.radius:
            weight = torch.ones(len(moving), dtype=torch.float64, device=moving.device)
            self.smooth = cone_weights(mesh.points[moving], weight, options.radius)

    def __call__(self, motion: Tensor) -> Tensor:
        """Map displacements ``[*batch, unknowns]`` to points ``[*batch, n, dim]``."""
        if motion.ndim < 1 or motion.shape[-1] != self.unknowns:
            raise ArgumentError(
                f"{self.unknowns} nodes move; got displacements of shape {tuple(motion.shape)}"
            )
        if self.smooth is not None:
            matrix = self.smooth
            motion = by_columns(lambda columns: matrix @ columns, motion)
        shift = motion[..., None, :] * self.normal.T.to(motion)
        rows = len(self.constraint.dofs)
        given = shift.new_zeros(*shift.shape[:-1], rows).index_copy(-1, self.row, shift)
        zero = given.new_zeros(self.place.n)
        _, load = self.constraint.apply(self.stiffness.to(given), zero, given)
        inside = by_columns(lambda columns: self.matrix.solve(columns), load)
        return self.points.to(inside) + inside.movedim(-1, -2)

    def start(self, initial: Tensor) -> Tensor:
        """Return displacements of zero: shapes start where the mesh is."""
        if initial.shape != self.points.shape or not torch.allclose(
            initial.to(self.points), self.points
        ):
            raise ArgumentError("a boundary starts where the mesh has it; move the mesh instead")
        return self.points.new_zeros(len(self.row))


def _normals(place: Place, facets: Tensor, nodes: Tensor) -> Tensor:
    """Return the outward unit normal at boundary nodes ``[m, dim]``: the mean of the facets around."""
    mesh = place.on_mesh
    corners = mesh.points[mesh.facets[facets]]
    if mesh.dim == 1:
        inside = mesh.centroids[mesh.facet_cells[facets]]
        normal = (corners[:, 0] - inside).sign()
    elif mesh.dim == 2:
        along = corners[:, 1] - corners[:, 0]
        normal = torch.stack([along[:, 1], -along[:, 0]], 1)
    else:
        normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    local = mesh.geometry.facet_nodes.to(facets.device)[mesh.facet_sides[facets]]
    around = mesh.cells[mesh.facet_cells[facets]].gather(1, local)
    spread = normal[:, None].expand(-1, around.shape[1], -1).flatten(0, 1)
    total = torch.zeros_like(mesh.points).index_add(0, around.flatten(), spread)
    return torch.nn.functional.normalize(total[nodes], dim=1)
