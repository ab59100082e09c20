"""Boundary conditions: where they hold, which facets they may share, the values and the point loads they give."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from torch_sla.errors import MeshError, SpecError
from torch_sla.problems.lowering.compiled import Selection
from torch_sla.problems.lowering.points import PointSites
from torch_sla.problems.lowering.selection import select_facets
from torch_sla.problems.lowering.sites import DofSites, Spread
from torch_sla.problems.specs.boundary import Dirichlet, PointLoad

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch_sla.assembly import Mesh
    from torch_sla.problems.expression import Ranked
    from torch_sla.problems.lowering.compiled import Unknown
    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.lowering.part import PartOfMesh
    from torch_sla.problems.lowering.scene import Scene
    from torch_sla.problems.specs.field_problem import FieldProblem

__all__ = [
    "as_vector",
    "check_coordinates",
    "check_overlap",
    "given_values",
    "point_loads",
    "positions",
    "select",
    "sites_of_values",
]


def select(
    spec: FieldProblem, i: int, mesh: Mesh, unknowns: tuple[Unknown, ...], part: PartOfMesh | None
) -> Selection:
    """Find where the boundary condition number `i` holds, on a mesh or on a part of it."""
    condition = spec.boundary[i]
    unknown = condition.unknown or next(iter(spec.fields))
    on, to = (getattr(condition, side, None) for side in ("on", "to"))
    facets = torch.zeros(0, dtype=torch.int64)
    if on is not None:
        facets = select_facets(mesh, on, f"boundary.{i}.on")
    repeated = None
    if to is not None:
        repeated = select_facets(mesh, to, f"boundary.{i}.to")
        if bool(torch.isin(facets, repeated).any()):
            raise SpecError("a facet cannot repeat itself; name two sides", path=f"boundary.{i}.to")
    component = getattr(condition, "component", None)
    size = {u.name: u.components for u in unknowns}[unknown]
    if component is not None and component >= size:
        raise SpecError(
            f"{unknown!r} has components 0 to {size - 1}; received {component}",
            path=f"boundary.{i}.component",
        )
    held, path = None, f"boundary.{i}.at"
    if isinstance(condition, Dirichlet) and condition.at is not None:
        known = None if part is None else part.held.get(path)
        held = _corners(mesh, condition.at, path) if known is None else known
    return Selection(condition.type, facets, unknown, component, repeated, held)


def _corners(mesh: Mesh, at: tuple[tuple[float, ...], ...], path: str) -> Tensor:
    """Find the corners of cells at some positions."""
    check_coordinates(at, mesh.dim, path)
    corners = mesh.cells[:, : mesh.reference.n_vertices].unique().cpu()
    x = mesh.points.cpu()[corners]
    size = float((x.amax(0) - x.amin(0)).amax())
    found = []
    for j, point in enumerate(at):
        away = torch.linalg.vector_norm(x - torch.tensor(point, dtype=x.dtype), dim=-1)
        nearest = int(away.argmin())
        if float(away[nearest]) > 1e-8 * size:
            raise SpecError(
                f"no corner of a cell lies at {point}; the nearest one is {tuple(x[nearest].tolist())}",
                path=f"{path}.{j}",
            )
        found.append(corners[nearest])
    return torch.stack(found).to(mesh.cells.device)


def sites_of_values(model: Model, scene: Scene, i: int) -> DofSites:
    """Return the nodes of the dofs that the Dirichlet condition number `i` gives, one for each dof."""
    name = model.selections[i].unknown
    dofs = model.numbering.fields[name]
    index = model.compiled.constrained[model.compiled.owned[i]]
    nodes = (index - model.numbering.ranges[name].start) // dofs.components
    return DofSites(dofs.points(scene.geometry.points)[nodes], nodes, Spread(dofs))


def given_values(model: Model, scene: Scene) -> Tensor:
    """Evaluate the Dirichlet conditions at their dofs: ``[*batch, n_constrained]``."""
    parts, places = [], []
    constrained = model.compiled.constrained
    for i, condition in model.conditions(Dirichlet):
        chosen = model.compiled.owned[i]
        if not len(chosen):
            continue
        name = model.selections[i].unknown
        dofs = model.numbering.fields[name]
        index = constrained[chosen] - model.numbering.ranges[name].start
        sites = sites_of_values(model, scene, i)
        nodes = sites.nodes
        path = f"boundary.{i}.value"
        value = scene.evaluate(condition.value, sites, path)
        vector = as_vector(value, dofs.components, path)
        if value.rank == 1 and condition.component is not None:
            raise SpecError("one component takes a scalar; this is a vector", path=path)
        component = (index % dofs.components)[:, None]
        value_here = vector[..., 0, :].expand(*vector.shape[:-3], len(nodes), vector.shape[-1])
        width = value_here.shape[-1]
        picked = value_here.gather(
            -1, (component if width > 1 else 0 * component).expand(*value_here.shape[:-1], 1)
        )
        parts.append(picked[..., 0])
        places.append(chosen)
    if not parts:
        return torch.zeros(0, dtype=model.field_dtype, device=model.device)
    batch = np.broadcast_shapes(*(part.shape[:-1] for part in parts))
    full = [p.expand(*batch, len(c)) for p, c in zip(parts, places, strict=True)]
    together = torch.cat(full, -1).index_select(-1, torch.cat(places).argsort())
    return together.to(model.field_dtype)


def as_vector(value: Ranked, components: int, path: str) -> Tensor:
    """Give a value its component dimension: 1 for a scalar, else as many as the field has."""
    if value.rank == 0:
        return value.tensor[..., None]
    if value.tensor.shape[-1] != components:
        raise SpecError(
            f"the value has {value.tensor.shape[-1]} components; the unknown has {components}",
            path=path,
        )
    return value.tensor


def check_coordinates(at: tuple[tuple[float, ...], ...], dim: int, path: str) -> None:
    """Refuse declared points with more or fewer coordinates than the mesh."""
    for i, point in enumerate(at):
        if len(point) != dim:
            raise SpecError(
                f"the point {point} has {len(point)} coordinates; this mesh has {dim}",
                path=f"{path}.{i}",
            )


@contextmanager
def at_path(path: str) -> Iterator[None]:
    """Say at which path of the declaration points are that the mesh has no place for."""
    try:
        yield
    except MeshError as error:
        raise SpecError(str(error), path=path) from None


def positions(model: Model, at: tuple[tuple[float, ...], ...], path: str) -> Tensor:
    """Return declared points as a tensor ``[m, dim]``; of a part of the mesh, those in it."""

    def make() -> Tensor:
        check_coordinates(at, model.mesh.dim, path)
        points = torch.tensor(at, dtype=model.dtype, device=model.device)
        inside = None if model.part is None else model.part.near.get(path)
        return points if inside is None else points[inside.to(points.device)]

    return model.once(("positions", path, at), make)


def point_loads(model: Model, scene: Scene) -> Tensor | None:
    """Sum concentrated forces into a load ``[*batch, n]``; None where there are none."""
    total: Tensor | None = None
    for i, condition in model.conditions(PointLoad):
        name, path = model.selections[i].unknown, f"boundary.{i}"
        dofs = model.numbering.fields[name]
        at = positions(model, condition.at, f"{path}.at")
        if not len(at):
            continue
        with at_path(f"{path}.at"):
            located = scene.geometry.located(at, dofs)
            sites = PointSites(model, scene.geometry, at)
        value = scene.evaluate(condition.value, sites, f"{path}.value")
        if value.rank == 0 and dofs.components > 1:
            raise SpecError(
                f"a force has {dofs.components} components; this is a number", path=f"{path}.value"
            )
        vector = as_vector(value, dofs.components, f"{path}.value")[..., 0, :]
        force = vector.expand(*vector.shape[:-2], len(at), vector.shape[-1])
        part = located.load(force[..., 0] if dofs.components == 1 else force)
        load = model.numbering.placed(part, name)
        total = load if total is None else total + load
    return total


def _names(spec: FieldProblem, i: int) -> str:
    return " ".join(getattr(spec.boundary[i], "on", None) or ())


def check_overlap(spec: FieldProblem, selections: tuple[Selection, ...], mesh: Mesh) -> None:
    """Refuse facets with both a given value and a given flux, and fluxes on interior facets."""
    fixed: dict[int, Tensor] = {}
    for i, selection in enumerate(selections):
        if selection.kind == "dirichlet" and selection.component is None:
            fixed[i] = selection.facets
    for i, selection in enumerate(selections):
        if selection.kind == "dirichlet" or not len(selection.facets):
            continue
        names = _names(spec, i)
        if bool((mesh.facet_neighbours[selection.facets] >= 0).any()):
            raise SpecError(
                f"{names!r} holds facets inside the body; {selection.kind} belongs on the boundary",
                path=f"boundary.{i}.on",
            )
        if selection.to is not None:
            continue  # values and repetitions are equations, which all hold
        for j, facets in fixed.items():
            shared = int(torch.isin(selection.facets, facets).sum())
            if shared and selections[j].unknown == selection.unknown:
                other = _names(spec, j)
                raise SpecError(
                    f"{shared} facets of {names!r} already have a Dirichlet value (boundary.{j}, on {other!r}); "
                    "a facet has a value or a flux, not both",
                    path=f"boundary.{i}.on",
                )
