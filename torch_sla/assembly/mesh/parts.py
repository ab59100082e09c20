"""Cutting a mesh into parts with a halo, for work on several processes."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torch_sla.assembly.mesh.submesh import submesh
from torch_sla.assembly.mesh.topology import facet_runs
from torch_sla.errors import ArgumentError, BackendUnavailableError
from torch_sla.linalg.sparse.partition import partition_graph_metis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch_sla.assembly.mesh.mesh import Mesh

__all__ = ["Part", "partition", "partition_boxes", "partition_cells"]

Ints = npt.NDArray[np.int64]


class Part(NamedTuple):
    """One part of a mesh with its halo.

    The halo is made of the cells of other parts that touch a point of this one, so matrix rows of owned points
    assembled on the part alone are complete.

    Parameters
    ----------
    mesh
        Owned and halo cells as a mesh of its own.
    cells, points
        Where they are in the whole ``[n_cells]``, ``[n_points]``.
    owned_cells, owned_points
        Masks; every cell and every point of the whole is owned by exactly one part.
    neighbours
        Owner of every point ``[n_points]``.
    """

    mesh: Mesh
    cells: Tensor
    points: Tensor
    owned_cells: Tensor
    owned_points: Tensor
    neighbours: Tensor


def partition_cells(
    mesh: Mesh, parts: int, method: Literal["auto", "metis", "coordinates"] = "auto"
) -> Tensor:
    """Assign every cell to a part.

    Parameters
    ----------
    mesh
        The mesh.
    parts
        Number of parts.
    method
        ``"metis"`` cuts few facets (needs pymetis), ``"coordinates"`` bisects along the longest extent again and
        again; ``"auto"`` is the first where it is installed.

    Returns
    -------
    Tensor ``[n_cells]``, every part not empty.

    Raises
    ------
    ArgumentError
        If there are fewer cells than parts, or the method is unknown.
    BackendUnavailableError
        If pymetis is asked for and not installed.

    Examples
    --------
    >>> from torch_sla.assembly.mesh import interval_mesh
    >>> partition_cells(interval_mesh(6), 3, "coordinates")
    tensor([0, 0, 1, 1, 2, 2])
    """
    if not 1 <= parts <= mesh.n_cells:
        raise ArgumentError(f"parts: got {parts}; give between 1 and the {mesh.n_cells} cells")
    if method not in ("auto", "metis", "coordinates"):
        raise ArgumentError(f"method: got {method!r}; use 'auto', 'metis' or 'coordinates'")
    installed = find_spec("pymetis") is not None
    if method == "metis" and not installed:
        raise BackendUnavailableError(
            "method: 'metis' needs pymetis; install it (pip install pymetis) or use 'coordinates'"
        )
    if parts == 1:
        owner = np.zeros(mesh.n_cells, dtype=np.int64)
    elif method == "coordinates" or not installed:
        owner = np.empty(mesh.n_cells, dtype=np.int64)
        centres = mesh.centroids.detach().cpu().numpy()
        _bisect(centres, np.arange(mesh.n_cells), 0, parts, owner)
    else:
        owner = _metis(mesh, parts)
    return torch.from_numpy(owner).to(mesh.cells.device)


def partition_boxes(cells: Sequence[int], parts: int) -> list[tuple[tuple[int, int], ...]]:
    """Cut the divisions of an interval, a rectangle or a box into boxes of about equal size.

    Parameters
    ----------
    cells
        Divisions in each direction.
    parts
        Number of parts; some are empty where there are more of them than divisions.

    Returns
    -------
    list of boxes
        Per direction the first division, and the first that is not in it any more.

    Examples
    --------
    >>> partition_boxes((4, 1), 2)
    [((0, 2), (0, 1)), ((2, 4), (0, 1))]
    """
    if parts < 1:
        raise ArgumentError(f"parts: got {parts}; give 1 or more")
    return _boxes(tuple((0, count) for count in cells), parts)


def _boxes(box: tuple[tuple[int, int], ...], parts: int) -> list[tuple[tuple[int, int], ...]]:
    """Bisect along the longest direction, in proportion to the parts of each side."""
    if parts == 1:
        return [box]
    half = parts // 2
    lengths = [high - low for low, high in box]
    along = lengths.index(max(lengths))
    low, high = box[along]
    cut = low + round((high - low) * half / parts)
    sides = [(*box[:along], run, *box[along + 1 :]) for run in ((low, cut), (cut, high))]
    return _boxes(sides[0], half) + _boxes(sides[1], parts - half)


def partition(
    mesh: Mesh, parts: int, method: Literal["auto", "metis", "coordinates"] = "auto"
) -> list[Part]:
    """Cut a mesh into parts with a halo; parameters as in `partition_cells`.

    A point belongs to the lowest part among its cells.

    Examples
    --------
    >>> from torch_sla.assembly.mesh import interval_mesh
    >>> first, second = partition(interval_mesh(4), 2, "coordinates")
    >>> first.points[first.owned_points].tolist(), second.points[second.owned_points].tolist()
    ([0, 1, 2], [3, 4])
    >>> second.cells[~second.owned_cells].tolist()
    []
    >>> first.cells[~first.owned_cells].tolist()
    [2]
    """
    owner = partition_cells(mesh, parts, method).cpu().numpy()
    cells = mesh.cells.cpu().numpy()
    point_owner = np.full(mesh.n_points, parts, dtype=np.int64)
    np.minimum.at(point_owner, cells, owner[:, None])
    result = []
    for part in range(parts):
        touched = (point_owner[cells] == part).any(1) | (owner == part)
        piece = submesh(mesh, torch.from_numpy(np.nonzero(touched)[0]).to(mesh.cells.device))
        points = torch.from_numpy(point_owner).to(mesh.cells.device)[piece.points]
        owned = torch.from_numpy(owner == part).to(mesh.cells.device)[piece.cells]
        result.append(Part(piece.mesh, piece.cells, piece.points, owned, points == part, points))
    return result


def _bisect(
    centres: npt.NDArray[np.float64], cells: Ints, first: int, parts: int, owner: Ints
) -> None:
    """Split cells at a quantile of their longest extent, in proportion to the parts of each side."""
    if parts == 1:
        owner[cells] = first
        return
    half = parts // 2
    along = int(np.ptp(centres[cells], axis=0).argmax())
    order = cells[np.argsort(centres[cells, along], kind="stable")]
    cut = round(len(cells) * half / parts)
    _bisect(centres, np.sort(order[:cut]), first, half, owner)
    _bisect(centres, np.sort(order[cut:]), first + half, parts - half, owner)


def _metis(mesh: Mesh, parts: int) -> Ints:
    """Cut the graph of cells that share facets."""
    runs = facet_runs(mesh.vertices.cpu().numpy(), mesh.reference, mesh.n_points)
    small = np.int32 if mesh.n_cells < 2**31 else np.int64
    pairs = [
        np.stack([run.owner, run.neighbour])[:, run.neighbour >= 0].astype(small) for run in runs
    ]
    one, other = torch.from_numpy(np.concatenate(pairs, 1))
    del pairs
    owner = partition_graph_metis(one, other, mesh.n_cells, parts).numpy()
    missing = np.setdiff1d(np.arange(parts), owner)
    for part in missing:
        # A part without cells takes one from the largest.
        largest = np.bincount(owner).argmax()
        owner[np.nonzero(owner == largest)[0][0]] = part
    return owner
