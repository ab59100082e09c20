"""Meshes from files, through meshio."""

from __future__ import annotations

import difflib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from torch_sla.assembly.mesh.archive import ArchiveIndex
from torch_sla.assembly.mesh.build import checked_mesh
from torch_sla.assembly.mesh.gmsh import groups_of_entities, names_of_groups
from torch_sla.assembly.mesh.kinds import GROUPS, base_name, choose_cell, group_numbers
from torch_sla.assembly.mesh.mesh import CELL_TYPES, Mesh
from torch_sla.assembly.mesh.raw import read_raw
from torch_sla.assembly.mesh.share import check_places, members, merged
from torch_sla.assembly.mesh.topology import number_rows
from torch_sla.assembly.mesh.vtu import VtuIndex, WholeOnlyError
from torch_sla.assembly.reference.cell import reference_cell
from torch_sla.errors import ArgumentError, MeshError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import meshio

    from torch_sla.assembly.mesh.share import MeshIndex

__all__ = ["mesh_index", "read_mesh"]

Ints = npt.NDArray[np.int64]


def read_mesh(
    path: str | Path,
    cell: str | None = None,
    *,
    scale: float = 1.0,
    duplicate_nodes: Literal["refuse", "allow"] = "refuse",
    hanging_nodes: Literal["refuse", "allow"] = "refuse",
) -> Mesh:
    """Read a mesh file in any format meshio knows, or an archive that `write_mesh` wrote (``.npz``).

    The cells of the highest dimension make the mesh. Groups on them become cell tags, groups on their facets facet
    tags: gmsh physical groups by name, or by number where they have none (``"7"``), groups of MED, reference numbers of
    Medit, Nastran and AVS files, and the named sets of others such as Abaqus. Points no cell uses are dropped, and so
    are coordinates beyond the dimension of the cells where they are constant.

    Parameters
    ----------
    path
        The file.
    cell
        Cell type to take, such as ``"tetra"``; None means the only one of the highest dimension.
    scale
        What coordinates are multiplied by: ``1e-3`` takes a file in millimetres as metres.
    duplicate_nodes
        Whether two points at one place are refused, or allowed as the two lips of a crack.
    hanging_nodes
        Whether a vertex inside a facet of another cell is refused, or allowed where bodies only touch.

    Raises
    ------
    MeshError
        If there is no such file (near names are given), meshio cannot read it, it lacks the cells, mixes cell types
        or holds unsupported ones, or the mesh is unsound (see `make_mesh`).
    ArgumentError
        If `scale` is no positive number.
    """
    path = Path(path)
    if not 0 < scale < math.inf:
        raise ArgumentError(f"scale: got {scale}; it must be a positive number, such as 1e-3")
    _check_exists(path)
    archive = ArchiveIndex(path, cell) if path.suffix == ".npz" else None
    found = _of_meshio(path, cell) if archive is None else _of_share(archive)
    is_used = np.zeros(len(found.points), bool)
    is_used[found.cells] = True
    used = np.nonzero(is_used)[0]
    reference = reference_cell(CELL_TYPES[found.cell][0])
    points = _flatten(path, found.points, used, reference.dim, scale)
    renumber = np.full(len(found.points), -1, dtype=np.int64)
    renumber[used] = np.arange(len(used))
    cells, corners = renumber[found.cells], renumber[found.facets]
    chosen, cell_tags, listed = found.cell, found.cell_tags, found.facet_tags
    del found, renumber, is_used, used  # what was read takes as much as the mesh
    # Facets of construction lines that bound no cell of the mesh are left out.
    present = corners.min(1, initial=0) >= 0
    facet_tags = {name: corners[index[present[index]]] for name, index in listed.items()}
    try:
        return checked_mesh(
            points,
            cells,
            chosen,
            cell_tags,
            {name: rows for name, rows in facet_tags.items() if len(rows)},
            duplicates=duplicate_nodes == "allow",
            hanging=hanging_nodes == "allow",
        )
    except MeshError as error:
        raise MeshError(f"{path}: {error}") from error


def mesh_index(path: str | Path, cell: str | None = None) -> MeshIndex | None:
    """Return what is where in a mesh file of which shares can be read; None where only the whole can be.

    Parameters
    ----------
    path, cell
        As for `read_mesh`.

    Raises
    ------
    MeshError
        If there is no such file, or it is none of these after all.
    """
    path = Path(path)
    _check_exists(path)
    try:
        if path.suffix == ".vtu":
            return VtuIndex(path, cell)
        return ArchiveIndex(path, cell) if path.suffix == ".npz" else None
    except WholeOnlyError:
        return None


class _Found(NamedTuple):
    """What a file holds: cells and facets with repetitions taken out, and by name which of them are in a group."""

    cell: str
    points: npt.NDArray[Any]
    cells: Ints
    cell_tags: Mapping[str, Ints]
    facets: Ints
    facet_tags: Mapping[str, Ints]


def _of_meshio(path: Path, cell: str | None) -> _Found:
    raw = read_raw(path)
    held = {name: sum(len(b.data) for b in raw.cells if b.type == name) for name in _types(raw)}
    chosen = choose_cell(path, held, cell)
    reference = reference_cell(CELL_TYPES[chosen][0])
    facet = reference.facet_cell
    names = tuple(n for n in held if base_name(n) == (facet.name if facet.dim else "vertex"))
    _check_places(path, raw, (chosen, *names))
    cells, cell_tags = _collect(path, raw, (chosen,), reference.dim)
    rows, tags = _collect(path, raw, names, facet.dim, facet.n_vertices)
    return _Found(chosen, raw.points, cells, cell_tags, rows, tags)


def _of_share(index: MeshIndex) -> _Found:
    whole = index.read(0, 1, 1)
    check_places(whole, index.n_points)
    kept, cell_groups = merged(whole.cells, whole.cell_groups, index.n_points)
    listed, facet_groups = merged(whole.facets, whole.facet_groups, index.n_points)
    tags = {name: members(cell_groups, i) for i, name in enumerate(index.cell_groups)}
    on_facets = {name: members(facet_groups, i) for i, name in enumerate(index.facet_groups)}
    return _Found(
        index.cell,
        whole.points,
        whole.cells[kept],
        {name: found for name, found in tags.items() if len(found)},
        whole.facets[listed],
        on_facets,
    )


def _check_exists(path: Path) -> None:
    if path.is_file():
        return
    if path.is_dir():
        raise MeshError(f"path: {path} is a folder; give the mesh file in it")
    folder = path.parent
    if not folder.is_dir():
        raise MeshError(f"path: there is no file {path}; the folder {folder} does not exist either")
    files = [entry.name for entry in folder.iterdir() if entry.is_file()]
    near = difflib.get_close_matches(path.name, files, n=3, cutoff=0.5)
    hint = (
        f"; did you mean {' or '.join(near)}?"
        if near
        else f"; no file in {folder} has a similar name"
    )
    raise MeshError(f"path: there is no file {path}{hint}")


def _types(raw: meshio.Mesh) -> list[str]:
    return list(dict.fromkeys(block.type for block in raw.cells))


def _check_places(path: Path, raw: meshio.Mesh, types: tuple[str, ...]) -> None:
    """Refuse cells of some types that lack points, or have some which are not there."""
    n = len(raw.points)
    for block in raw.cells:
        if block.type not in types:
            continue
        rows = np.asarray(block.data)
        base = base_name(block.type)
        width = int(block.type.removeprefix(base) or 0) or (
            1 if base == "vertex" else reference_cell(base).n_vertices
        )
        if len(rows) and rows.shape[1:] != (width,):
            raise MeshError(
                f"path: {path} has a {block.type} of {rows[0].size} points, which has {width}; the file may not be "
                "whole: write it again"
            )
        bad = np.nonzero(((rows < 0) | (rows >= n)).any(1))[0]
        if len(bad):
            raise MeshError(
                f"path: {path} has a {block.type} of points {rows[bad[0]].tolist()}; there are {n} points, counted "
                f"from 0 ({len(bad)} such cells)"
            )


def _collect(
    path: Path,
    raw: meshio.Mesh,
    types: tuple[str, ...],
    dim: int,
    corners: int | None = None,
) -> tuple[Ints, dict[str, Ints]]:
    """Distinct cells of some types, all of their points or the first `corners`, and which carry each group."""
    rows: list[Ints] = []
    groups: dict[str, list[Ints]] = {}
    offset = 0
    key = next((key for key in GROUPS if key in raw.cell_data), None)
    of_gmsh = "gmsh:geometrical" in raw.cell_data
    further = groups_of_entities(path) if of_gmsh else {}
    known = {
        (int(entry[1]), int(entry[0])): name
        for name, entry in raw.field_data.items()
        if len(entry) == 2
    }
    # Of groups of one name meshio knows the last.
    names = {**names_of_groups(path), **known} if of_gmsh else known
    for i, block in enumerate(raw.cells):
        if block.type not in types:
            continue
        data = np.asarray(block.data, dtype=np.int64)
        for group in further.get((dim, _entity(raw, i)), ()):
            name = names.get((dim, group), str(group))
            groups.setdefault(name, []).append(np.arange(len(data)) + offset)
        if key is not None:
            numbers = group_numbers(path, key, raw.cell_data[key][i])
            for number in np.unique(numbers):
                if number:
                    name = names.get((dim, int(number)), str(int(number)))
                    members = np.nonzero(numbers == number)[0]
                    groups.setdefault(name, []).append(members + offset)
        for name, blocks in raw.cell_sets.items():
            members = blocks[i]
            if name.startswith("gmsh:") or members is None or not len(members):
                continue
            groups.setdefault(name, []).append(np.asarray(members, dtype=np.int64) + offset)
        rows.append(data[:, :corners])
        offset += len(data)
    if not rows:
        return np.zeros((0, 1), dtype=np.int64), {}
    every = rows[0] if len(rows) == 1 else np.concatenate(rows)
    # A cell in several groups is listed once per group: keep one copy, with all its groups.
    first, number = number_rows(np.sort(every, 1), len(raw.points))
    if len(first) == len(every):
        return every, {k: np.unique(np.concatenate(v)) for k, v in groups.items()}
    kept = np.sort(first)
    position = np.searchsorted(kept, first)[number]
    return every[kept], {k: np.unique(position[np.concatenate(v)]) for k, v in groups.items()}


def _entity(raw: meshio.Mesh, block: int) -> int:
    """Return the number of the curve, surface or volume of gmsh that a block of cells is part of; -1 where unknown."""
    known = raw.cell_data.get("gmsh:geometrical")
    return -1 if known is None or not len(known[block]) else int(known[block][0])


def _flatten(
    path: Path, points: npt.NDArray[Any], used: Ints, dim: int, scale: float
) -> npt.NDArray[np.float64]:
    """Take the points that are used, without coordinates beyond the dimension of the cells, which must be constant."""
    xs = np.asarray(points, dtype=np.float64)[used] * scale
    check_flat(path, np.ptp(xs, axis=0), dim)
    return np.ascontiguousarray(xs[:, :dim])


def check_flat(path: Path, spread: npt.NDArray[np.float64], dim: int) -> None:
    """Refuse a mesh of which coordinates beyond the dimension of the cells vary.

    Parameters
    ----------
    spread
        Extent of the mesh along each coordinate.
    """
    if len(spread) < dim:
        raise MeshError(
            f"path: the points of {path} have {len(spread)} coordinates; its cells need {dim}"
        )
    for axis in range(dim, len(spread)):
        if spread[axis] > 1e-12 * max(spread.max(), 1e-300):
            raise MeshError(
                f"path: {path} is a mesh of dimension {dim} curved or tilted in {len(spread)}D space (coordinate "
                f"{'xyz'[axis]} varies by {spread[axis]:.3g}); only flat ones in the first {dim} coordinates work"
            )
