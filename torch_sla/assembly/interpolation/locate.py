"""Finding the cell that contains a point.

Cells are sorted into classes of similar size (powers of two of their bounding radius), each with a tree over its
bounding-sphere centres. A point can only lie in cells of a class whose centre is within the class's largest radius,
so the number of candidates stays small however graded the mesh is. Candidates are then tested exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torch_sla.assembly.mapping import cell_nodes, inverse_and_det
from torch_sla.errors import MeshError

if TYPE_CHECKING:
    from torch_sla.assembly.mesh.mesh import Mesh

__all__ = ["local_coordinates", "locate"]

# How far outside its reference cell a point may lie and still count as inside.
_TOLERANCE = 1e-9
_NEWTON_STEPS = 12


def locate(
    mesh: Mesh, at: Tensor, points: Tensor | None = None, *, strict: bool = True
) -> tuple[Tensor, Tensor]:
    """Find the cell and the reference coordinates of every point.

    Parameters
    ----------
    mesh
        The mesh.
    at
        Points in space ``[m, dim]``.
    points
        Moved mesh points ``[n_points, dim]``; the mesh's own when None.
    strict
        Whether points outside the mesh are refused; else their cell is -1.

    Returns
    -------
    cells, X
        ``[m]`` and ``[m, dim]``. A point shared by several cells goes to the one it lies deepest in, the lowest
        index among equals.

    Raises
    ------
    MeshError
        If a point is outside the mesh or not finite, naming the first.
    """
    if at.ndim != 2 or at.shape[1] != mesh.dim:
        raise MeshError(f"at: got shape {tuple(at.shape)}; points in this mesh are [m, {mesh.dim}]")
    where = at.detach().cpu().to(torch.float64)
    bad = torch.nonzero(~torch.isfinite(where).all(1))[:, 0]
    if len(bad):
        raise MeshError(
            f"at: point {int(bad[0])} is {where[bad[0]].tolist()}; coordinates must be finite"
        )
    moved = None if points is None else points.detach().cpu().to(torch.float64)
    nodes = cell_nodes(mesh.to("cpu"), moved)
    every = mesh.points if points is None else points
    eps = max(torch.finfo(x.dtype).eps for x in (where, at, every) if x.is_floating_point())
    rounding = 4.0 * eps * where.abs().amax(1)
    point, cell = _candidates(mesh, nodes, where, rounding)
    X, converged = _newton(mesh, nodes[cell], where[point])
    depth = torch.where(converged, mesh.reference.slack(X), -torch.inf)
    best = _deepest(point.numpy(), cell.numpy(), depth.numpy(), len(where))
    missed = torch.from_numpy(best < 0)[point]
    if bool(missed.any()):
        # A point on the surface may lie outside by the rounding of its coordinates, and of those of the mesh.
        off = rounding[point[missed]] * _steepness(mesh, nodes[cell[missed]], X[missed])
        depth[missed] = (depth[missed] + torch.nan_to_num(off, posinf=0.0)).clamp(max=0.0)
        best = _deepest(point.numpy(), cell.numpy(), depth.numpy(), len(where))
    outside = np.nonzero(best < 0)[0]
    if len(outside) and strict:
        first = int(outside[0])
        raise MeshError(
            f"at: point {first} at {where[first].tolist()} is outside the mesh ({len(outside)} of {len(where)} points "
            f"are); the mesh spans {_span(nodes)}"
        )
    chosen = torch.from_numpy(best)
    found, local = X.new_full((len(where),), -1).long(), X.new_zeros(len(where), mesh.dim)
    inside = chosen >= 0
    found[inside], local[inside] = cell[chosen[inside]], X[chosen[inside]]
    return found.to(at.device), local.to(at.device)


def local_coordinates(mesh: Mesh, nodes: Tensor, at: Tensor, X: Tensor) -> Tensor:
    """Express reference coordinates as a differentiable function of node coordinates and of the points.

    Two Newton steps from the located coordinates X: each doubles the order to which the result depends correctly on
    its inputs, so derivatives up to the third are exact. On affine cells the first step already is.

    Parameters
    ----------
    mesh
        The mesh.
    nodes
        Node coordinates of the located cells ``[m, nodes per cell, dim]``.
    at
        Points ``[m, dim]``.
    X
        Located reference coordinates ``[m, dim]``.
    """
    for _ in range(1 if mesh.geometry.is_affine else 2):
        X = _newton_step(mesh, nodes, at, X)
    return X


def _newton_step(mesh: Mesh, nodes: Tensor, at: Tensor, X: Tensor) -> Tensor:
    element = mesh.geometry
    # Seen from the point, so that a cell far from the origin is as good as one beside it: its own size rounds.
    around = nodes - at[:, None]
    residual = torch.einsum("mk,mka->ma", element.values(X), around)
    inverse, _ = inverse_and_det(torch.einsum("mka,mkd->mad", around, element.gradients(X)))
    return X - (inverse @ residual[..., None])[..., 0]


def _newton(mesh: Mesh, nodes: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """Solve x(X) = at by Newton's method from the centre; also whether each point converged."""
    centre = mesh.reference.vertices.mean(0)
    X = centre.expand_as(at).clone()
    if mesh.geometry.is_affine:
        return _newton_step(mesh, nodes, at, X), torch.ones(len(X), dtype=torch.bool, device="cpu")
    change = torch.zeros(len(X), dtype=X.dtype, device="cpu")
    for _ in range(_NEWTON_STEPS):
        # Candidates far outside may diverge; they are not in the cell and are kept from overflowing.
        following = torch.nan_to_num(_newton_step(mesh, nodes, at, X), nan=10.0).clamp(-10.0, 10.0)
        change = (following - X).abs().amax(1)
        X = following
        if not len(change) or float(change.amax()) < 1e-13:
            break
    return X, change < 1e-10


def _steepness(mesh: Mesh, nodes: Tensor, X: Tensor) -> Tensor:
    """By how much a step in space of length 1 changes reference coordinates at most ``[m]``."""
    inverse, _ = inverse_and_det(torch.einsum("mka,mkd->mad", nodes, mesh.geometry.gradients(X)))
    return inverse.square().sum((1, 2)).sqrt()


def _candidates(mesh: Mesh, nodes: Tensor, at: Tensor, rounding: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of point and cell whose bounding boxes touch up to a rounding, sorted by point and cell."""
    from scipy.spatial import cKDTree

    low, high = nodes.amin(1).numpy(), nodes.amax(1).numpy()
    if not mesh.geometry.is_affine and mesh.geometry.order > 1:
        # A curved cell may bulge out of the box of its nodes.
        margin = 0.5 * (high - low).max(1, keepdims=True)
        low, high = low - margin, high + margin
    centre = 0.5 * (low + high)
    radius = 0.5 * np.linalg.norm(high - low, axis=1) * (1.0 + 1e-6)
    level = np.frexp(radius)[1]
    target, off = cKDTree(at.numpy()), rounding.numpy()
    most = float(off.max(initial=0.0)) * at.shape[1]
    found_point: list[npt.NDArray[np.int64]] = []
    found_cell: list[npt.NDArray[np.int64]] = []
    for size in np.unique(level):
        members = np.nonzero(level == size)[0]
        pairs = target.sparse_distance_matrix(
            cKDTree(centre[members]), float(radius[members].max()) + most, output_type="ndarray"
        )
        point, cell = pairs["i"].astype(np.int64), members[pairs["j"]]
        slack = 1e-6 * radius[cell, None] + off[point, None]
        x = at.numpy()[point]
        near = ((x >= low[cell] - slack) & (x <= high[cell] + slack)).all(1)
        found_point.append(point[near])
        found_cell.append(cell[near])
    point, cell = np.concatenate(found_point), np.concatenate(found_cell)
    order = np.lexsort((cell, point))
    return torch.from_numpy(point[order]), torch.from_numpy(cell[order])


def _deepest(
    point: npt.NDArray[np.int64],
    cell: npt.NDArray[np.int64],
    depth: npt.NDArray[np.float64],
    count: int,
) -> npt.NDArray[np.int64]:
    """Index of the best candidate of every point, -1 where none contains it."""
    best = np.full(count, -1, dtype=np.int64)
    inside = np.nonzero(depth >= -_TOLERANCE)[0]
    # Depths that differ by rounding count as equal, so that ties do not depend on it.
    rounded = np.round(depth[inside], 9)
    order = np.lexsort((cell[inside], -rounded, point[inside]))
    ranked = inside[order]
    first = np.unique(point[ranked], return_index=True)[1] if len(ranked) else ranked
    best[point[ranked[first]]] = ranked[first]
    return best


def _span(nodes: Tensor) -> str:
    low, high = nodes.flatten(0, 1).amin(0).tolist(), nodes.flatten(0, 1).amax(0).tolist()
    return " x ".join(f"[{a:g}, {b:g}]" for a, b in zip(low, high, strict=True))
