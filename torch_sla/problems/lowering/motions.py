"""Motions of a body that no condition stops: they leave its matrix singular."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from torch_sla.assembly.interpolation.locate import locate
from torch_sla.errors import MeshError, SpecError
from torch_sla.problems.lowering.conditions import positions
from torch_sla.problems.specs.boundary import Periodic
from torch_sla.problems.specs.mesh import MeshArrays, MeshFile

if TYPE_CHECKING:
    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.specs.field_problem import FieldProblem

__all__ = ["bodies", "braced_cells", "loose_motions", "may_fall_apart", "unstopped"]


def loose_motions(model: Model) -> int:
    """Count the motions that the conditions leave free, of all bodies that the mesh consists of."""
    points, held = model.dof_points().detach(), model.compiled.constrained
    if model.part is not None or not may_fall_apart(model.spec, len(model.ranks)):
        return model.loose(points, held, braced=is_braced(model))
    body, c = bodies(model.dofs.cell_nodes, len(points)), model.dofs.components
    braced = {
        k for cell in braced_cells(model) for k in body[model.dofs.cell_nodes[cell, 0]].tolist()
    }
    total, place = 0, torch.empty_like(body)
    for k in range(int(body.amax()) + 1):
        own = torch.nonzero(body == k)[:, 0]
        place[own] = torch.arange(len(own), device=own.device)
        mine = held[body[held // c] == k]
        total += model.loose(points[own], place[mine // c] * c + mine % c, braced=k in braced)
    return total


def may_fall_apart(spec: FieldProblem, unknowns: int) -> bool:
    """Whether bodies may be there that neither cells nor conditions join; several unknowns are taken as one body."""
    joined = unknowns > 1 or any(isinstance(c, Periodic) for c in spec.boundary)
    return isinstance(spec.mesh, MeshFile | MeshArrays) and not joined


def is_braced(model: Model) -> bool:
    """Whether some condition holds the mesh elastically; see `Model.bracing`."""
    return any(isinstance(condition, model.bracing) for condition in model.spec.boundary)


def unstopped(motions: Tensor, held: Tensor) -> int:
    """Return how many of the motions ``[n, m]`` of all unknowns are not stopped where some are held."""
    count = motions.shape[1]
    if not len(held):
        return count
    return count - int(torch.linalg.matrix_rank(motions[held], rtol=1e-8))


def braced_cells(model: Model) -> list[Tensor]:
    """Return the cells that each condition which holds elastically acts on."""
    found = []
    for i, condition in enumerate(model.spec.boundary):
        if not isinstance(condition, model.bracing):
            continue
        at = getattr(condition, "at", None)
        if at is None:
            found.append(model.mesh.facet_cells[model.selections[i].facets])
            continue
        path = f"boundary.{i}.at"
        try:
            found.append(locate(model.mesh, positions(model, at, path))[0])
        except MeshError as error:
            raise SpecError(str(error), path=path) from None
    return found


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
