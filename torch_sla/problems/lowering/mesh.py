"""Mesh declarations to meshes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch_sla.assembly.mesh import (
    Mesh,
    Piece,
    annulus_mesh,
    box_mesh,
    disk_mesh,
    interval_mesh,
    lshape_mesh,
    make_mesh,
    rectangle_mesh,
    structured_window,
)
from torch_sla.errors import MeshError, SpecError
from torch_sla.problems.lowering.cache import structures
from torch_sla.problems.specs.hashing import spec_hash
from torch_sla.problems.specs.mesh import (
    AnnulusMesh,
    BoxMesh,
    DiskMesh,
    IntervalMesh,
    LShapeMesh,
    MeshArrays,
    MeshFile,
    RectangleMesh,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch_sla.assembly.mesh.share import MeshIndex
    from torch_sla.problems.specs.base import Spec

__all__ = ["build_mesh", "build_window", "divisions", "index_of", "read_once"]


def build_mesh(spec: Spec) -> Mesh:
    """Return the mesh of a declaration, from the cache where it was built before.

    Raises
    ------
    SpecError
        If the mesh cannot be read or makes no sense; carries the mesh's own message.
    """
    return structures.get(("mesh", spec_hash(spec)), lambda: _Held(read_once(spec))).mesh


def read_once(spec: Spec) -> Mesh:
    """Return the mesh of a declaration as `build_mesh` does, and keep none."""
    build: Callable[[Any], Mesh] = _BUILDERS[type(spec)]
    try:
        return build(spec)
    except MemoryError:
        raise SpecError(
            "this mesh needs more memory than there is; take fewer cells", path="mesh"
        ) from None
    except MeshError as error:
        raise SpecError(str(error), path="mesh") from error


def index_of(spec: MeshFile) -> MeshIndex | None:
    """Return what is where in the file of a mesh of which shares can be read; None where it has to be read whole.

    Raises
    ------
    SpecError
        If there is no such file, or it makes no sense.
    """
    from torch_sla.assembly.mesh import mesh_index

    try:
        return mesh_index(spec.path, spec.cell)
    except MeshError as error:
        raise SpecError(str(error), path="mesh") from error


def divisions(spec: Spec) -> tuple[int, ...] | None:
    """Return the divisions in each direction of a mesh that is a lattice; None of others."""
    match spec:
        case IntervalMesh():
            return (spec.cells,)
        case RectangleMesh() | BoxMesh():
            return tuple(spec.cells)
    return None


def build_window(spec: Any, window: Sequence[tuple[int, int]]) -> Piece:
    """Make some of the cells of an interval, a rectangle or a box; see `structured_window`."""
    if isinstance(spec, IntervalMesh):
        one = ((spec.cells,), (spec.size,), (spec.origin,))
        return structured_window(*one, "line", (spec.grading,), window)
    return structured_window(spec.cells, spec.size, spec.origin, spec.cell, spec.grading, window)


class _Held:
    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        tensors = [mesh.points, mesh.cells, mesh.facets, *mesh.facet_tags.values()]
        self.nbytes = sum(t.numel() * t.element_size() for t in tensors)


def _file(spec: MeshFile) -> Mesh:
    from torch_sla.assembly.mesh import read_mesh

    return read_mesh(
        spec.path,
        spec.cell,
        scale=spec.scale,
        duplicate_nodes=spec.duplicate_nodes,
        hanging_nodes=spec.hanging_nodes,
    )


def _arrays(spec: MeshArrays) -> Mesh:
    return make_mesh(
        spec.points.array,
        spec.cells.array,
        spec.cell,
        cell_tags={name: tag.array.copy() for name, tag in spec.cell_tags.items()},
        facet_tags={name: tag.array.copy() for name, tag in spec.facet_tags.items()},
        duplicate_nodes=spec.duplicate_nodes,
        hanging_nodes=spec.hanging_nodes,
    )


_BUILDERS: dict[type[Spec], Callable[[Any], Mesh]] = {
    IntervalMesh: lambda s: interval_mesh(s.cells, s.size, s.origin, s.grading),
    RectangleMesh: lambda s: rectangle_mesh(s.cells, s.size, s.origin, s.cell, s.grading),
    BoxMesh: lambda s: box_mesh(s.cells, s.size, s.origin, s.cell, s.grading),
    LShapeMesh: lambda s: lshape_mesh(s.cells, s.size, s.origin, s.cell),
    DiskMesh: lambda s: disk_mesh(s.cells, s.radius, s.origin, s.cell, curve=s.curved),
    AnnulusMesh: lambda s: annulus_mesh(
        s.cells, s.inner, s.outer, s.origin, s.cell, curve=s.curved
    ),
    MeshFile: _file,
    MeshArrays: _arrays,
}
