"""Error estimates by recovery, and the choice of cells to refine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.assembly.elements import lagrange
from torch_sla.assembly.measures import root
from torch_sla.assembly.recovery.projection import Projection
from torch_sla.errors import ArgumentError
from torch_sla.linalg.checks import require
from torch_sla.linalg.sparse.transforms import physical

if TYPE_CHECKING:
    from torch_sla.assembly.dofs import Dofs

__all__ = ["mark", "zz_estimate"]


def zz_estimate(
    dofs: Dofs, u: Tensor, weight: Tensor | float = 1.0, points: Tensor | None = None
) -> Tensor:
    """Estimate the error of the gradient in every cell by comparing it with a smoothed one.

    The gradient is projected onto continuous functions of first order (Zienkiewicz and Zhu, Int. J. Numer. Meth.
    Engng. 24 (1987), 337-357). On regular meshes the difference tends to the true error of linear and of biquadratic
    elements, and to 0.85 of it for quadratic triangles. Differentiable in the coefficients, the weight and the points.

    Parameters
    ----------
    dofs, u
        Numbering and coefficients ``[*batch, n]``.
    weight
        Weight of the squared gradient, such as a diffusivity, nowhere negative: a number or
        ``[*batch, n_cells|1, nq|1]``, at the quadrature points of ``basis = CellBasis(dofs.mesh, dofs.element)``. One
        number per cell is ``kappa[:, None]``; for a body of revolution it contains ``2 * pi * basis.x[..., 0]``. Where
        it jumps, the gradient does too and the estimate is too large.
    points
        Moved points ``[n_points, dim]``; the mesh's own when None.

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
    if dofs.element.degree < 1:
        raise ArgumentError(
            f"dofs: the functions of {dofs.element!r} have no gradient, so nothing is known of its error; use an "
            "element of order 1 or 2"
        )
    degree = 2 * dofs.element.degree
    projection = Projection(dofs.mesh, lagrange(dofs.element.cell_name, 1), degree, points=points)
    basis = projection.basis
    _check_weight(weight, (basis.n_sites, len(basis.rule)))
    gradient = basis.interpolate(dofs, u).gradient
    rank = 1 if dofs.components == 1 else 2
    smooth = projection.evaluate(projection(gradient, rank), rank).value
    gap = (smooth - gradient.flatten(-rank)).abs().square().sum(-1)
    return root(basis.integrate(weight * gap))


def _check_weight(weight: Tensor | float, sites: tuple[int, int]) -> None:
    """Check the shape and the sign of the weight of an estimate on sites ``n_cells, nq``."""
    seen = torch.as_tensor(weight).detach()
    n, nq = sites
    if seen.ndim and (
        seen.ndim == 1 or seen.shape[-2] not in (n, 1) or seen.shape[-1] not in (nq, 1)
    ):
        raise ArgumentError(
            f"weight: got shape {tuple(seen.shape)}; expected a number or [*batch, {n}|1, {nq}|1]; one number per cell "
            "is weight[:, None]"
        )
    every = physical(seen)
    require(
        (every >= 0).all(),
        lambda: ArgumentError(
            f"weight must not be negative; its least value is {float(every.min()):.6g}"
        ),
    )


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
