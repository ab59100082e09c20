"""Selectors to indices: a tag, several tags, or a predicate of the coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import ExpressionError, SpecError
from torch_sla.problems.expression import Expression, Ranked, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch_sla.assembly.mesh import Mesh

__all__ = [
    "coordinates",
    "nothing_satisfies",
    "satisfying",
    "select_cells",
    "select_facets",
    "tag_entries",
]

AXES = "xyz"


def coordinates(points: Tensor) -> dict[str, Ranked]:
    """Return ``x y z`` as far as there are dimensions, from ``[..., dim]``."""
    return {AXES[d]: Ranked(points[..., d]) for d in range(points.shape[-1])}


def select_facets(mesh: Mesh, on: tuple[str, ...], path: str) -> Tensor:
    """Return the indices of facets that carry a tag, or whose vertices all satisfy a predicate.

    An exact tag comes first, so that ``fluid-wall`` can be a tag. Predicates see boundary facets.

    Raises
    ------
    SpecError
        If a name is neither, or selects nothing; the message lists the tags there are.
    """
    return torch.cat([_facets(mesh, name, path) for name in on]).unique()


def _facets(mesh: Mesh, name: str, path: str) -> Tensor:
    if name in mesh.facet_tags:
        return mesh.facet_tags[name]
    chosen = satisfying(mesh, name, path)
    if not len(chosen):
        raise nothing_satisfies(mesh, name, path)
    return chosen


def satisfying(mesh: Mesh, predicate: str, path: str) -> Tensor:
    """Return the indices of the boundary facets whose vertices all satisfy a predicate; there may be none."""
    vertices = mesh.points[mesh.facets[mesh.boundary]]
    inside = _predicate(predicate, vertices, mesh.facet_tags, path)
    return mesh.boundary[inside.all(-1)]


def nothing_satisfies(mesh: Mesh, predicate: str, path: str) -> SpecError:
    """Return what is said where a predicate selects nothing."""
    return SpecError(
        f"no boundary facet satisfies {predicate!r} at all its vertices; {_listed('facet', mesh.facet_tags)}",
        path=path,
    )


def select_cells(mesh: Mesh, on: tuple[str, ...], path: str) -> Tensor:
    """Return the indices of cells that carry any of the tags."""
    found = list[Tensor]()
    for name in on:
        if name not in mesh.cell_tags:
            raise SpecError(_unknown(name, mesh.cell_tags, "cell"), path=path)
        found.append(mesh.cell_tags[name])
    return torch.cat(found).unique()


def tag_entries(mesh: Mesh, tags: tuple[str, ...], path: str) -> Tensor:
    """Return which entry of a map over cell tags each cell takes ``[n_cells]``.

    Raises
    ------
    SpecError
        If a tag is unknown, a cell matches two entries, or a cell matches none. ``"*"`` takes the rest,
        of which there may be none.
    """
    entry = torch.full((mesh.n_cells,), -1, dtype=torch.int64, device=mesh.cells.device)
    for i, tag in enumerate(tags):
        if tag == "*":
            continue
        if tag not in mesh.cell_tags:
            raise SpecError(_unknown(tag, mesh.cell_tags, "cell"), path=f"{path}.{tag}")
        cells = mesh.cell_tags[tag]
        taken = entry[cells]
        if bool((taken >= 0).any()):
            other = tags[int(taken.max())]
            raise SpecError(
                f"the tags {other!r} and {tag!r} share cells; each cell takes exactly one entry",
                path=path,
            )
        entry[cells] = i
    rest = entry < 0
    if "*" in tags:
        entry[rest] = tags.index("*")
    elif bool(rest.any()):
        raise SpecError(
            f"{int(rest.sum())} of {mesh.n_cells} cells match no entry; add '*' for the rest "
            f"({_listed('cell', mesh.cell_tags)})",
            path=path,
        )
    return entry


def _predicate(text: str, vertices: Tensor, tags: Mapping[str, Tensor], path: str) -> Tensor:
    names = coordinates(vertices)
    try:
        expression = Expression.parse(text)
        expression.check_predicate(names)
    except ExpressionError as error:
        message = _unknown(text, tags, "facet")
        if any(sign in text for sign in "<>="):  # meant as a condition
            message += f"; as a condition: {error.message}"
        raise SpecError(message, path=path) from None
    inside = expression.evaluate(names).tensor
    return inside.expand(vertices.shape[:-1])


def _unknown(name: str, tags: Mapping[str, Tensor], kind: str) -> str:
    message = f"the mesh has no {kind} tag {name!r}{nearest(name, tags)}"
    also = ", and it is no condition on x y z either" if kind == "facet" else ""
    return f"{message}{also}; {_listed(kind, tags)}"


def _listed(kind: str, tags: Mapping[str, Tensor]) -> str:
    return f"{kind} tags: {' '.join(tags) or 'none'}"
