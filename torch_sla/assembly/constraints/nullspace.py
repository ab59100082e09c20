"""Motions that fluxes and tractions alone leave undetermined, and the choice of one solution among many.

A problem with natural conditions only is singular: a constant, or a rigid motion, can be added. Solve it with the
modes as `nullspace` (of a matrix that is Hermitian), then fix the gauge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError

if TYPE_CHECKING:
    from torch_sla.assembly.dofs import Dofs

__all__ = ["Gauge", "constants", "rigid_motions"]


def constants(dofs: Dofs) -> Tensor:
    """Return the constant of each component, ``[n, components]``."""
    points = dofs.mesh.points
    eye = torch.eye(dofs.components, dtype=points.dtype, device=points.device)
    return eye.repeat(dofs.n_nodes, 1)


def rigid_motions(dofs: Dofs, points: Tensor | None = None) -> Tensor:
    """Return translations and small rotations about the mean node, ``[n, 1 | 3 | 6]`` in 1D, 2D, 3D.

    Parameters
    ----------
    dofs
        Numbering of a displacement, with as many components as the space has dimensions.
    points
        Moved points ``[n_points, dim]``; the mesh's own when None.

    Examples
    --------
    >>> from torch_sla.assembly import Dofs, box_mesh, lagrange
    >>> rigid_motions(Dofs(box_mesh((1, 1, 1)), lagrange("tetra"), 3)).shape
    torch.Size([24, 6])
    """
    dim = dofs.mesh.dim
    if dofs.components != dim:
        raise ArgumentError(
            f"dofs: rigid motions need a displacement with {dim} components; this field has {dofs.components}"
        )
    x = dofs.points(points)
    x = x - x.mean(0)
    modes = [*torch.eye(dim, dtype=x.dtype, device=x.device).repeat(dofs.n_nodes, 1).T]
    for i in range(dim):
        for j in range(i + 1, dim):
            spin = torch.zeros_like(x)
            spin[:, i], spin[:, j] = -x[:, j], x[:, i]
            modes.append(spin.flatten())
    return torch.stack(modes, 1)


class Gauge:
    """Choose among solutions that differ by given modes, by a weighted mean.

    With weights w (the assembled load of ``f = 1``) and constants as modes, the share of a mode is the mean value;
    with rigid motions it is the mean translation and rotation.

    Parameters
    ----------
    modes
        ``[n, k]``, see `constants` and `rigid_motions`.
    weights
        ``[n]``, or ``[n, k]`` for one functional per mode; None means the modes themselves.

    Examples
    --------
    >>> gauge = Gauge(torch.ones(3, 1).double(), torch.tensor([0.25, 0.5, 0.25]).double())
    >>> gauge.fix(torch.tensor([1.0, 2.0, 3.0]).double())
    tensor([-1.,  0.,  1.], dtype=torch.float64)
    """

    def __init__(self, modes: Tensor, weights: Tensor | None = None) -> None:
        if modes.ndim != 2:
            raise ArgumentError(f"modes: got shape {tuple(modes.shape)}; expected [n, k]")
        functionals = modes if weights is None else weights
        if functionals.ndim == 1:
            functionals = functionals[:, None] * modes
        if functionals.shape != modes.shape:
            raise ArgumentError(
                f"weights: got shape {tuple(functionals.shape)}; expected [n] or {tuple(modes.shape)}"
            )
        self.modes, self.functionals = modes, functionals
        self._gram = functionals.T @ modes

    def measure(self, u: Tensor) -> Tensor:
        """Return the shares ``[*batch, k]`` of the modes in ``u [*batch, n]``."""
        moments = u @ self.functionals.to(u.dtype)
        return torch.linalg.solve(self._gram.to(u.dtype), moments[..., None])[..., 0]

    def fix(self, u: Tensor, target: Tensor | float = 0.0) -> Tensor:
        """Return ``u [*batch, n]`` with given shares ``[k]`` of the modes."""
        return u + (target - self.measure(u)) @ self.modes.to(u.dtype).T
