"""Least squares by bidiagonalisation: LSQR.

Paige and Saunders, ACM Trans. Math. Softw. 8, 1982, pages 43-71.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torch_sla.linalg.methods.bidiagonal import Descent, rotate
from torch_sla.linalg.methods.outcome import KrylovOptions, Outcome
from torch_sla.linalg.methods.space import Operator, VectorSpace, divide

__all__ = ["lsqr"]


def lsqr(
    A: Operator,
    b: Tensor,
    *,
    adjoint: Operator,
    x0: Tensor | None = None,
    options: KrylovOptions = KrylovOptions(),  # noqa: B008
    space: VectorSpace | None = None,
) -> Outcome:
    """Minimise ``‖b - A x‖₂`` for any shape and rank; the shortest such ``x`` when there are many.

    Equal to conjugate gradients on the normal equations in exact arithmetic, and more accurate: the
    residual falls at every step.

    Parameters
    ----------
    A, adjoint
        ``[n, K] -> [m, K]`` and its conjugate transpose.
    b
        Right-hand sides ``[m, K]``.
    x0
        Starting value ``[n, K]``. The shortest *correction* to it is found.
    options
        Stops at ``‖r‖ <= max(rtol ‖b‖, atol)``, or, with `least_squares`, at
        ``‖Aᴴ r‖ <= rtol ‖A‖ ‖r‖`` with ``‖A‖`` estimated from below.
    space
        Where vectors live.

    Examples
    --------
    >>> import torch
    >>> A = torch.tensor([[1.0], [1.0]], dtype=torch.float64)
    >>> b = torch.tensor([[1.0], [3.0]], dtype=torch.float64)
    >>> lsqr(lambda v: A @ v, b, adjoint=lambda u: A.T @ u).x
    tensor([[2.]], dtype=torch.float64)
    """
    descent = Descent(A, adjoint, b, x0, options, space or VectorSpace())
    pair, x = descent.pair, descent.out.x
    w, phi_bar, rho_bar = pair.v.clone(), pair.beta, pair.alpha
    while descent.goes_on():
        pair.step()
        active = descent.active
        c, s, rho = rotate(rho_bar, pair.beta)
        theta, rho_bar = s * pair.alpha, -c * pair.alpha
        phi, phi_bar = c * phi_bar, torch.where(active, s * phi_bar, phi_bar)
        x += divide(phi, rho, active) * w
        w = pair.v - divide(theta, rho) * w
        descent.stepped(phi_bar, phi_bar * pair.alpha * c.abs())
    return descent.out
