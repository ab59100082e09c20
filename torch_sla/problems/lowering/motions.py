"""Motions of a body that no condition stops: they leave its matrix singular."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from torch_sla.assembly.interpolation.locate import locate
from torch_sla.assembly.mesh.topology import bodies
from torch_sla.linalg.precond.multigrid import rigid_body_modes
from torch_sla.problems.lowering.conditions import at_path, positions
from torch_sla.problems.specs.boundary import Periodic
from torch_sla.problems.specs.mesh import MeshArrays, MeshFile

if TYPE_CHECKING:
    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.specs.field_problem import FieldProblem

__all__ = [
    "Holds",
    "holds",
    "loose_motions",
    "may_fall_apart",
    "stopped_motions",
    "unstopped",
]


class Holds(NamedTuple):
    """Where something stops a body: given values, what holds it elastically, and what ties two places of it.

    Attributes
    ----------
    points
        Where ``[m, dim]``.
    partners
        Where the places are that move alike ``[m, dim]``; NaN means the ground.
    components
        In which direction ``[m]``.
    bodies
        Which body ``[m]``.
    """

    points: Tensor
    partners: Tensor
    components: Tensor
    bodies: Tensor

    def some(self, chosen: Tensor) -> Holds:
        """Return some of them, by mask or number."""
        return Holds(*(x[chosen] for x in self))

    @property
    def grounded(self) -> Holds:
        """Those that hold on to the ground."""
        return self.some(self.partners.isnan().any(1))


def loose_motions(model: Model) -> int:
    """Count the motions that the conditions leave free, of all bodies that the mesh consists of."""
    nodes, count = model.dofs.cell_nodes, model.dofs.n_nodes
    apart = model.part is None and may_fall_apart(model.spec, len(model.ranks))
    body = bodies(nodes, count) if apart else nodes.new_zeros(count, dtype=torch.int64)
    held = holds(model, body, body[nodes[:, 0]])
    total = 0
    for k in range(int(body.amax()) + 1):
        total += model.loose(held.some(held.bodies == k))
    return total


def may_fall_apart(spec: FieldProblem, unknowns: int) -> bool:
    """Whether bodies may be there that neither cells nor conditions join; several unknowns are taken as one body."""
    joined = unknowns > 1 or any(isinstance(c, Periodic) for c in spec.boundary)
    return isinstance(spec.mesh, MeshFile | MeshArrays) and not joined


def unstopped(holds: Holds) -> int:
    """Return how many rigid motions are not stopped."""
    rows = stopped_motions(holds)
    return rows.shape[1] - (int(torch.linalg.matrix_rank(rows, rtol=1e-8)) if len(rows) else 0)


def stopped_motions(holds: Holds) -> Tensor:
    """Return how much of each rigid motion each hold stops ``[m, motions]``."""
    m, dim = holds.points.shape
    ground = holds.partners.isnan()
    every = torch.cat([holds.points, torch.where(ground, holds.points, holds.partners)])
    place, index = every.unique(dim=0, return_inverse=True)
    motions = rigid_body_modes(place)
    there, partner = (motions[i * dim + holds.components] for i in (index[:m], index[m:]))
    return there - torch.where(ground.any(1)[:, None], 0.0, partner)


def holds(model: Model, node_body: Tensor, cell_body: Tensor) -> Holds:
    """Return all that holds the first unknown, where nodes ``[n_nodes]`` and cells ``[n_cells]`` belong to bodies."""
    dofs, x, c = model.dofs, model.dof_points().detach(), model.dofs.components
    held = model.compiled.constrained
    held = held[held < dofs.n]
    ground = x.new_full((1, x.shape[1]), torch.nan)
    rows = [Holds(x[held // c], ground.expand(len(held), -1), held % c, node_body[held // c])]
    for i, condition in enumerate(model.spec.boundary):
        name, to = model.bracing.get(type(condition)), model.selections[i].to
        if name is None and (to is None or model.selections[i].unknown != next(iter(model.ranks))):
            continue
        at: Any = getattr(condition, "at", None)
        directions, partner = list(range(c)), ground
        if name is not None:
            directions = _directions(getattr(condition, name), c)
        if to is not None:
            # All that is tied is moved by the same vector: that between the middles of both sides.
            nodes, others = dofs.facet_nodes(model.selections[i].facets), dofs.facet_nodes(to)
            if not len(nodes) or len(nodes) != len(others):
                continue  # of a part of the mesh, which does not see both
            place, partner = x[nodes].mean(0, keepdim=True), x[others].mean(0, keepdim=True)
            owner = node_body[nodes[:1]]
        elif at is None:
            nodes = dofs.facet_nodes(model.selections[i].facets)
            place, owner = x[nodes], node_body[nodes]
        else:
            # Located before they are widened, which would hide how they were rounded.
            points = positions(model, at, f"boundary.{i}.at").detach()
            with at_path(f"boundary.{i}.at"):
                owner = cell_body[locate(model.mesh, points)[0]]
            place = points.to(x)
        rows += [
            Holds(place, partner.expand(len(place), -1), torch.full_like(owner, k), owner)
            for k in directions
        ]
    return Holds(*(torch.cat(part) for part in zip(*rows, strict=True)))


def _directions(strength: Any, count: int) -> list[int]:
    """Return the directions in which something holds: all whose strength is not the number zero."""
    each = strength if isinstance(strength, tuple) else (strength,) * count
    return [k for k, s in enumerate(each[:count]) if not (isinstance(s, int | float) and s == 0)]
