"""Boundary conditions: which facets they may share, and the values they give."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from torch_sla.errors import SpecError
from torch_sla.problems.lowering.sites import DofSites, Spread
from torch_sla.problems.specs.boundary import Dirichlet

if TYPE_CHECKING:
    from torch_sla.assembly import Mesh
    from torch_sla.problems.lowering.compiled import Selection
    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.lowering.scene import Scene
    from torch_sla.problems.specs.problem import FieldProblem

__all__ = ["check_overlap", "given_values"]


def given_values(model: Model, scene: Scene) -> Tensor:
    """Evaluate the Dirichlet conditions at their dofs: ``[*batch, n_constrained]``."""
    parts, places = [], []
    owner, constrained = model.compiled.owner, model.compiled.constrained
    at = model.dof_points(scene.geometry.points)
    spread = Spread(model.dofs)
    for i, condition in enumerate(model.spec.boundary):
        chosen = torch.nonzero(owner == i)[:, 0]
        if not isinstance(condition, Dirichlet) or not len(chosen):
            continue
        nodes = constrained[chosen]
        sites = DofSites(at[nodes], nodes, spread)
        value = scene.evaluate(condition.value, sites, f"boundary.{i}.value").tensor[..., 0]
        parts.append(value)
        places.append(chosen)
    if not parts:
        return torch.zeros(0, dtype=model.dtype, device=model.device)
    batch = np.broadcast_shapes(*(part.shape[:-1] for part in parts))
    full = [p.expand(*batch, len(c)) for p, c in zip(parts, places, strict=True)]
    return torch.cat(full, -1).index_select(-1, torch.cat(places).argsort())


def check_overlap(spec: FieldProblem, selections: tuple[Selection, ...], mesh: Mesh) -> None:
    """Refuse facets with both a given value and a given flux, and fluxes on interior facets."""
    fixed: dict[int, Tensor] = {}
    for i, selection in enumerate(selections):
        if selection.kind == "dirichlet":
            fixed[i] = selection.facets
    for i, selection in enumerate(selections):
        if selection.kind == "dirichlet":
            continue
        names = " ".join(spec.boundary[i].on)
        if bool((mesh.facet_neighbours[selection.facets] >= 0).any()):
            raise SpecError(
                f"{names!r} holds facets inside the body; {selection.kind} belongs on the boundary",
                path=f"boundary.{i}.on",
            )
        for j, facets in fixed.items():
            shared = int(torch.isin(selection.facets, facets).sum())
            if shared:
                other = " ".join(spec.boundary[j].on)
                raise SpecError(
                    f"{shared} facets of {names!r} already have a Dirichlet value (boundary.{j}, on {other!r}); "
                    "a facet has a value or a flux, not both",
                    path=f"boundary.{i}.on",
                )
