"""Shapes: a part of the boundary moves, and the mesh inside follows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from torch_sla.assembly import Dofs, assemble, weak
from torch_sla.assembly.constraints import DirichletConstraint
from torch_sla.errors import ArgumentError
from torch_sla.linalg.kernels.ordered import summed
from torch_sla.linalg.sparse.tensor import SparseTensor
from torch_sla.problems.design.transforms.base import (
    Stage,
    Transform,
    by_columns,
    finite,
    positive,
)
from torch_sla.problems.design.transforms.cone import cone_weights

if TYPE_CHECKING:
    from torch_sla.problems.design.transforms.place import Place

__all__ = ["BoundaryMotion"]


@dataclass(frozen=True)
class BoundaryMotion(Transform):
    """Points of the mesh from how far a part of its boundary moves.

    The unknowns are displacements of the nodes on that part, along the normals that they begin with or in one
    direction. Those inside follow by a Laplace equation, stiffer where cells are small, whose factor is made
    once. Nodes on sides that slide move along these; all other boundary nodes stay where they are. Bounds are
    those of the displacements.

    Parameters
    ----------
    on
        Tag or tags of facets: of the boundary, or between cells (an interface).
    radius
        Displacements are cone-weighted means of the unknowns within this distance along the boundary
        (Hojjat, Stavropoulou and Bletzinger, Comput. Methods Appl. Mech. Eng. 268 (2014), 494-513), which
        keeps the shape smooth; 0 takes each on its own.
    slide
        Tag or tags of sides normal to an axis, along which nodes may move (the symmetry lines of a quarter).
    along
        Direction of all displacements; the normals at the start when left out.

    Examples
    --------
    >>> from torch_sla import BoundaryMotion
    >>> BoundaryMotion("hole", radius=0.2, slide=("left", "bottom"))
    BoundaryMotion(on='hole', radius=0.2, slide=('left', 'bottom'), ...)
    """

    on: str | tuple[str, ...]
    radius: float = 0.0
    slide: str | tuple[str, ...] = ()
    along: tuple[float, ...] | None = None
    type: Literal["boundary_motion"] = field(default="boundary_motion", kw_only=True)

    def __post_init__(self) -> None:
        """Check."""
        if self.radius != 0:
            positive("radius", self.radius)
        for component in self.along or ():
            finite("along", component)
        if self.along is not None and not any(self.along):
            raise ArgumentError(f"along={self.along!r} is no direction")

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
        dofs = Dofs(mesh, mesh.geometry)
        moving = dofs.facet_dofs(chosen).unique()
        held = _sides(place, dofs, chosen, options.slide)
        self.points, self.place, self.moving = mesh.points, place, len(moving)
        self.unknowns = self.moving
        self.direction = _directions(place, chosen, moving, options.along, held[moving])
        held[moving] = True
        stiffness = assemble(weak.diffusion, dofs, kappa=1 / place.volumes[:, None])
        # Components that hold the same nodes share one matrix, and so one factor.
        kinds: dict[bytes, _Following] = {}
        self.following = []
        for component in held.T:
            key = component.cpu().numpy().tobytes()
            if key not in kinds:
                kinds[key] = _Following(dofs, stiffness, component, moving)
            self.following.append(kinds[key])
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
        shift = motion[..., None] * self.direction.to(motion)
        parts = [f(shift[..., c]) for c, f in enumerate(self.following)]
        return self.points.to(shift) + torch.stack(parts, -1)

    def start(self, initial: Tensor) -> Tensor:
        """Return displacements of zero: shapes start where the mesh is."""
        if initial.shape != self.points.shape or not torch.allclose(
            initial.to(self.points), self.points
        ):
            raise ArgumentError("a boundary starts where the mesh has it; move the mesh instead")
        return self.points.new_zeros(self.moving)


class _Following:
    """One component of the displacement of all points, from that of the moving ones."""

    def __init__(self, dofs: Dofs, stiffness: Tensor, held: Tensor, moving: Tensor) -> None:
        fixed = torch.nonzero(held)[:, 0]
        self.constraint = DirichletConstraint(dofs.pattern, fixed)
        zero, still = stiffness.new_zeros(dofs.n), stiffness.new_zeros(len(fixed))
        inner, _ = self.constraint.apply(stiffness, zero, still)
        self.matrix = SparseTensor.from_pattern(dofs.pattern, inner).declare(
            symmetric=True, positive_definite=True
        )
        self.stiffness, self.row = stiffness, torch.searchsorted(fixed, moving)

    def __call__(self, shift: Tensor) -> Tensor:
        """Map ``[*batch, moving]`` to ``[*batch, n_points]``."""
        constraint = self.constraint
        given = shift.new_zeros(*shift.shape[:-1], len(constraint.dofs))
        given = given.index_copy(-1, self.row, shift)
        _, load = constraint.apply(self.stiffness.to(shift), shift.new_zeros(constraint.n), given)
        return by_columns(lambda columns: self.matrix.solve(columns), load)


def _sides(place: Place, dofs: Dofs, chosen: Tensor, slide: str | tuple[str, ...]) -> Tensor:
    """Return which components of which points the sides that do not move hold ``[n_points, dim]``."""
    mesh = place.on_mesh
    held = torch.zeros(mesh.n_points, mesh.dim, dtype=torch.bool, device=mesh.cells.device)
    fixed = torch.zeros(mesh.n_facets, dtype=torch.bool, device=mesh.cells.device)
    fixed[mesh.boundary] = True
    fixed[chosen] = False
    for tag in (slide,) if isinstance(slide, str) else slide:
        facets = mesh.select_facets(tag)
        if bool(torch.isin(facets, chosen).any()):
            raise ArgumentError(f"slide={tag!r} holds facets that move themselves")
        normals = torch.nn.functional.normalize(_facet_normals(place, facets), dim=-1)
        axis = int(normals.abs().mean(0).argmax())
        off = float((normals[:, axis].abs() - 1).abs().max())
        if off > 1e-8:
            raise ArgumentError(
                f"slide={tag!r} is not normal to an axis (off by {off:.1e}), and only such sides let nodes slide"
            )
        fixed[facets] = False
        held[dofs.facet_dofs(facets).unique(), axis] = True
    held[dofs.facet_dofs(torch.nonzero(fixed)[:, 0]).unique()] = True
    return held


def _directions(
    place: Place, facets: Tensor, nodes: Tensor, along: tuple[float, ...] | None, held: Tensor
) -> Tensor:
    """Return the direction of each moving node ``[m, dim]``; none across the sides it shares."""
    mesh = place.on_mesh
    if along is None:
        normal = _normals(place, facets, nodes)
    elif len(along) == mesh.dim:
        normal = mesh.points.new_tensor(along).expand(len(nodes), -1)
        normal = torch.nn.functional.normalize(normal, dim=1)
    else:
        raise ArgumentError(
            f"along={along!r} has {len(along)} components, and the mesh {mesh.dim} dimensions"
        )
    left = torch.where(held, torch.zeros_like(normal), normal)
    still = left.norm(dim=1, keepdim=True) < 1e-9
    return torch.where(still, torch.zeros_like(left), torch.nn.functional.normalize(left, dim=1))


def _facet_normals(place: Place, facets: Tensor) -> Tensor:
    """Return outward normals of facets ``[n, dim]``, as long as the facets are large."""
    mesh = place.on_mesh
    corners = mesh.points[mesh.facets[facets]]
    if mesh.dim == 1:
        inside = mesh.centroids[mesh.facet_cells[facets]]
        return (corners[:, 0] - inside).sign()
    if mesh.dim == 2:
        along = corners[:, 1] - corners[:, 0]
        return torch.stack([along[:, 1], -along[:, 0]], 1)
    return torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def _normals(place: Place, facets: Tensor, nodes: Tensor) -> Tensor:
    """Return the outward unit normal at boundary nodes ``[m, dim]``: the mean of the facets around."""
    mesh = place.on_mesh
    normal = _facet_normals(place, facets)
    local = mesh.geometry.facet_nodes.to(facets.device)[mesh.facet_sides[facets]]
    around = mesh.cells[mesh.facet_cells[facets]].gather(1, local)
    total = summed(normal[:, None].expand(-1, around.shape[1], -1), around, mesh.n_points)
    return torch.nn.functional.normalize(total[nodes], dim=1)
