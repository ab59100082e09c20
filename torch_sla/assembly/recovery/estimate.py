"""Error estimates by recovery, and the choice of cells to refine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch_sla.assembly.elements import lagrange
from torch_sla.assembly.recovery.projection import Projection
from torch_sla.errors import ArgumentError

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.assembly.dofs import Dofs

__all__ = ["mark", "zz_estimate"]


def zz_estimate(dofs: Dofs, u: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """Estimate the error of the gradient in every cell by comparing it with a smoothed one.

    The gradient is projected onto continuous functions of first order (Zienkiewicz and Zhu, Int. J. Numer. Meth.
    Engng. 24 (1987), 337-357). On regular meshes the difference tends to the true error of linear and of biquadratic
    elements, and to 0.85 of it for quadratic triangles.

    Parameters
    ----------
    dofs, u
        Numbering and coefficients ``[*batch, n]``.
    weight
        Weight of the squared gradient, such as a diffusivity: a number or ``[*batch, n_cells, nq|1]``. Where it jumps,
        the gradient does too and the estimate is too large.

    Returns
    -------
    Tensor
        ``[*batch, n_cells]``; the root of the sum of squares estimates the whole error.

    Examples
    --------
    >>> from torch_sla.assembly import Dofs, lagrange, rectangle_mesh
    >>> mesh = rectangle_mesh((4, 4))
    >>> eta = zz_estimate(Dofs(mesh, lagrange("triangle")), 2.0 * mesh.points[:, 0])
    >>> eta.shape, bool(eta.max() < 1e-12)
    (torch.Size([32]), True)
    """
    degree = max(1, 2 * dofs.element.degree)
    projection = Projection(dofs.mesh, lagrange(dofs.element.cell_name, 1), degree)
    basis = projection.basis
    gradient = basis.interpolate(dofs, u).gradient
    rank = 1 if dofs.components == 1 else 2
    smooth = projection.evaluate(projection(gradient, rank), rank).value
    gap = (smooth - gradient.flatten(-rank)).abs().square().sum(-1)
    return basis.integrate(weight * gap).sqrt()


def mark(estimate: Tensor, fraction: float = 0.5) -> Tensor:
    """Choose the fewest cells that hold a fraction of the squared error.

    With any fraction below a bound, refining these converges at the optimal rate (Doerfler, SIAM J. Numer. Anal. 33
    (1996), 1106-1124).

    Parameters
    ----------
    estimate
        ``[n_cells]``.
    fraction
        In (0, 1].

    Returns
    -------
    Tensor
        Indices of cells.

    Examples
    --------
    >>> import torch
    >>> mark(torch.tensor([0.1, 2.0, 1.0]), 0.9)
    tensor([1, 2])
    """
    if not 0 < fraction <= 1:
        raise ArgumentError(f"fraction: got {fraction}; it lies in (0, 1]")
    if estimate.ndim != 1:
        raise ArgumentError(f"estimate: got shape {tuple(estimate.shape)}; expected [n_cells]")
    if not bool(estimate.isfinite().all()):
        raise ArgumentError("estimate holds NaN or infinity, which has no order")
    square, order = estimate.detach().square().sort(descending=True, stable=True)
    held = square.cumsum(0) - square
    return order[held < fraction * square.sum()].sort().values
