"""Motions of a body that no condition stops: they leave its matrix singular."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from torch_sla.assembly.interpolation.locate import locate
from torch_sla.linalg.precond.multigrid import rigid_body_modes
from torch_sla.problems.lowering.conditions import at_path, positions
from torch_sla.problems.specs.boundary import Periodic
from torch_sla.problems.specs.mesh import MeshArrays, MeshFile

if TYPE_CHECKING:
    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.specs.field_problem import FieldProblem

__all__ = ["Holds", "bodies", "holds", "loose_motions", "may_fall_apart", "unstopped"]


class Holds(NamedTuple):
    """Where something stops a body, given values and what holds it elastically: one row for each direction.

    Attributes
    ----------
    points
        Where ``[m, dim]``.
    components
        In which direction ``[m]``.
    bodies
        Which body ``[m]``.
    """

    points: Tensor
    components: Tensor
    bodies: Tensor


def loose_motions(model: Model) -> int:
    """Count the motions that the conditions leave free, of all bodies that the mesh consists of."""
    nodes, count = model.dofs.cell_nodes, model.dofs.n_nodes
    apart = model.part is None and may_fall_apart(model.spec, len(model.ranks))
    body = bodies(nodes, count) if apart else nodes.new_zeros(count, dtype=torch.int64)
    held = holds(model, body, body[nodes[:, 0]])
    total = 0
    for k in range(int(body.amax()) + 1):
        own = held.bodies == k
        total += model.loose(held.points[own], held.components[own])
    return total


def may_fall_apart(spec: FieldProblem, unknowns: int) -> bool:
    """Whether bodies may be there that neither cells nor conditions join; several unknowns are taken as one body."""
    joined = unknowns > 1 or any(isinstance(c, Periodic) for c in spec.boundary)
    return isinstance(spec.mesh, MeshFile | MeshArrays) and not joined


def unstopped(points: Tensor, components: Tensor) -> int:
    """Return how many rigid motions are not stopped by holds at points ``[m, dim]`` in directions ``[m]``."""
    place, index = points.unique(dim=0, return_inverse=True)
    motions = rigid_body_modes(place)
    count = motions.shape[1]
    if not len(components):
        return count
    rows = motions[index * points.shape[1] + components]
    return count - int(torch.linalg.matrix_rank(rows, rtol=1e-8))


def holds(model: Model, node_body: Tensor, cell_body: Tensor) -> Holds:
    """Return all that holds the first unknown, where nodes ``[n_nodes]`` and cells ``[n_cells]`` belong to bodies."""
    dofs, x, c = model.dofs, model.dof_points().detach(), model.dofs.components
    held = model.compiled.constrained
    held = held[held < dofs.n]
    points, components, body = [x[held // c]], [held % c], [node_body[held // c]]
    for i, condition in enumerate(model.spec.boundary):
        name = model.bracing.get(type(condition))
        if name is None:
            continue
        at: Any = getattr(condition, "at", None)
        if at is None:
            nodes = dofs.facet_nodes(model.selections[i].facets)
            place, owner = x[nodes], node_body[nodes]
        else:
            place = positions(model, at, f"boundary.{i}.at")
            with at_path(f"boundary.{i}.at"):
                owner = cell_body[locate(model.mesh, place)[0]]
        for k in _directions(getattr(condition, name), c):
            points.append(place.detach().to(x))
            components.append(torch.full_like(owner, k))
            body.append(owner)
    return Holds(torch.cat(points), torch.cat(components), torch.cat(body))


def _directions(strength: Any, count: int) -> list[int]:
    """Return the directions in which something holds: all whose strength is not the number zero."""
    each = strength if isinstance(strength, tuple) else (strength,) * count
    return [k for k, s in enumerate(each[:count]) if not (isinstance(s, int | float) and s == 0)]


def bodies(cell_nodes: Tensor, count: int) -> Tensor:
    """Return which body each node belongs to ``[count]``, from 0: no cell joins two of them.

    Parameters
    ----------
    cell_nodes
        ``[n_cells, nodes of a cell]``.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    nodes = cell_nodes.cpu().numpy().astype(np.int32 if count < 2**31 else np.int64)
    rows = np.repeat(nodes[:, 0], nodes.shape[1] - 1)
    entries = (np.ones(len(rows), bool), (rows, nodes[:, 1:].ravel()))
    _, label = connected_components(coo_array(entries, shape=(count, count)), directed=False)
    return torch.from_numpy(label.astype(np.int64)).to(cell_nodes.device)
