"""Meshes in ``.npz`` archives: plain arrays, tags included, of which any share can be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from torch_sla.assembly.elements import lagrange
from torch_sla.assembly.mesh.kinds import choose_cell
from torch_sla.assembly.mesh.mesh import CELL_TYPES
from torch_sla.assembly.mesh.share import MeshIndex, MeshShare, packed
from torch_sla.errors import MeshError
from torch_sla.linalg.sparse.archive import BROKEN, Archive
from torch_sla.linalg.sparse.whole import whole

if TYPE_CHECKING:
    from pathlib import Path

    from torch_sla.assembly.mesh.mesh import Mesh

__all__ = ["ArchiveIndex", "write_archive"]

_FORMAT = "torch_sla mesh 1"
_ARRAYS = ("points", "cells", "cell_groups", "facets", "facet_groups")


def write_archive(path: Path, mesh: Mesh) -> None:
    """Write a mesh with its tags as arrays.

    ``format`` and ``cell`` are texts, ``points`` ``[n_points, dim]``, ``cells`` ``[n_cells, k]``, ``facets`` the
    vertices ``[m, kf]`` of tagged facets; ``cell_group_names`` and ``facet_group_names`` are the tags, ``cell_groups``
    and ``facet_groups`` say which a cell or facet has, eight to a byte (`numpy.packbits` along the rows). Nothing is
    compressed.
    """

    def columns(tags: dict[str, np.ndarray], count: int) -> list[np.ndarray]:
        found = []
        for index in tags.values():
            column = np.zeros(count, bool)
            column[index] = True
            found.append(column)
        return found

    host = mesh.to("cpu")
    in_cells = {name: index.numpy() for name, index in host.cell_tags.items()}
    in_facets = {name: index.numpy() for name, index in host.facet_tags.items()}
    tagged = np.unique(np.concatenate([np.zeros(0, np.int64), *in_facets.values()]))
    bits = packed(columns(in_facets, host.n_facets), host.n_facets)
    small = np.int32 if host.n_points < 2**31 else np.int64
    with whole(path) as file:
        np.savez(
            file,
            format=_FORMAT,
            cell=host.cell,
            points=host.points.detach().numpy(),
            cells=host.cells.numpy().astype(small),
            cell_groups=packed(columns(in_cells, host.n_cells), host.n_cells),
            cell_group_names=np.array(list(in_cells), np.str_),
            facets=host.facets.numpy()[tagged].astype(small),
            facet_groups=bits[tagged],
            facet_group_names=np.array(list(in_facets), np.str_),
        )


class ArchiveIndex(MeshIndex):
    """An archive that `write_archive` wrote, or anybody who follows its description.

    Raises
    ------
    MeshError
        If it is no archive, arrays are missing, or have other shapes.
    """

    def __init__(self, path: Path, cell: str | None = None) -> None:
        self._path = path
        try:
            archive = Archive(path)
            missing = sorted({"format", "cell", *_ARRAYS} - archive.names)
            if missing:
                raise MeshError(
                    f"path: {path} is no mesh: it has no array {missing[0]!r}; write_mesh makes such files, from any "
                    "that read_mesh reads"
                )
            stated = str(archive.small("format"))
            self.cell = str(archive.small("cell"))
            shapes = {name: archive.shape(name) for name in _ARRAYS}
            self.cell_groups, self.facet_groups = (
                tuple(archive.small(f"{kind}_group_names").tolist()) for kind in ("cell", "facet")
            )
        except BROKEN as error:
            raise MeshError(f"path: {path} cannot be read: {error}") from error
        if stated != _FORMAT:
            raise MeshError(f"path: {path} holds {stated!r}; this version reads {_FORMAT!r}")
        if self.cell not in CELL_TYPES:
            raise MeshError(
                f"path: {path} is made of {self.cell} cells; cell types are {', '.join(CELL_TYPES)}"
            )
        geometry = lagrange(*CELL_TYPES[self.cell])
        self.n_points, self.n_cells = shapes["points"][0], shapes["cells"][0]
        wanted = {
            "points": (self.n_points, *shapes["points"][1:2]),
            "cells": (self.n_cells, geometry.n_nodes),
            "cell_groups": (self.n_cells, -(-len(self.cell_groups) // 8)),
            "facets": (shapes["facets"][0], len(geometry.cell.facets[0])),
            "facet_groups": (shapes["facets"][0], -(-len(self.facet_groups) // 8)),
        }
        for name, shape in shapes.items():
            if shape != wanted[name]:
                raise MeshError(
                    f"path: the array {name!r} of {path} has shape {shape}; expected {wanted[name]}"
                )
        choose_cell(path, {self.cell: self.n_cells}, cell)
        self._n_facets = shapes["facets"][0]

    def read(self, first: int, last: int, of: int) -> MeshShare:
        """Read shares of the arrays where they are."""

        def share(name: str, count: int) -> np.ndarray:
            return archive.read(name, count * first // of, count * last // of).numpy()

        try:
            archive = Archive(self._path)
            return MeshShare(
                points=share("points", self.n_points).astype(np.float64, copy=False),
                names=None,
                cells=share("cells", self.n_cells).astype(np.int64, copy=False),
                cell_groups=share("cell_groups", self.n_cells),
                facets=share("facets", self._n_facets).astype(np.int64, copy=False),
                facet_groups=share("facet_groups", self._n_facets),
            )
        except BROKEN as error:
            raise MeshError(f"path: {self._path} cannot be read: {error}") from error
