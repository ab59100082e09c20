"""Near-nullspaces: the vectors that a coarse grid must be able to represent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from torch_sla.errors import ArgumentError

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.sparse.structure import Structure

__all__ = ["chosen_near_nullspace", "rigid_body_modes"]


def rigid_body_modes(coordinates: Tensor) -> Tensor:
    """Return the translations and infinitesimal rotations of points.

    Parameters
    ----------
    coordinates
        ``[n, dim]``, dim 1, 2 or 3.

    Returns
    -------
    Tensor
        ``[n * dim, k]`` with k = 1, 3 or 6; unknown ``node * dim + component``. Rotations are taken
        about the centroid and scaled by the extent, so that all columns have like sizes.

    Examples
    --------
    >>> import torch
    >>> rigid_body_modes(torch.tensor([[0.0, 0.0], [2.0, 2.0]])).tolist()
    [[1.0, 0.0, 1.0], [0.0, 1.0, -1.0], [1.0, 0.0, -1.0], [0.0, 1.0, 1.0]]
    """
    if coordinates.ndim != 2 or coordinates.shape[1] not in (1, 2, 3):
        raise ArgumentError(
            f"`coordinates` must be [n, dim] with dim 1, 2 or 3, got {list(coordinates.shape)}"
        )
    n, dim = coordinates.shape
    x = coordinates.detach()
    if n:
        x = x - x.mean(0)
        extent = x.abs().max()
        x = x / torch.where(extent > 0, extent, 1.0)
    modes = x.new_zeros(n, dim, (1, 3, 6)[dim - 1])
    for c in range(dim):
        modes[:, c, c] = 1.0
    planes = ((0, 1),) if dim == 2 else ((0, 1), (1, 2), (2, 0)) if dim == 3 else ()
    for k, (a, b) in enumerate(planes):
        modes[:, a, dim + k] = -x[:, b]
        modes[:, b, dim + k] = x[:, a]
    return modes.flatten(0, 1)


def chosen_near_nullspace(
    given: Tensor | None, structure: Structure | None, n: int
) -> Tensor | None:
    """Return the vectors asked for, else those that travel with the matrix, else rigid-body modes.

    The last applies where there are coordinates with as many components as unknowns; None stands
    for constants.

    Raises
    ------
    ArgumentError
        For vectors of another length, or none.
    """
    if given is not None:
        return _columns(given, n)
    if structure is None:
        return None
    if structure.near_nullspace is not None:
        return _columns(structure.near_nullspace, n)
    x = structure.coordinates
    if x is not None and x.ndim == 2 and x.shape[1] in (2, 3) and x.numel() == n:
        return rigid_body_modes(x)
    return None


def _columns(vectors: Tensor, n: int) -> Tensor:
    """Return ``[n, k]`` vectors as they are, or refuse them."""
    if vectors.ndim != 2 or vectors.shape[0] != n or not vectors.shape[1]:
        raise ArgumentError(f"`near_nullspace` must be [{n}, k], got {list(vectors.shape)}")
    return vectors
