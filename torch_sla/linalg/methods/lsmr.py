"""Least squares by bidiagonalisation: LSMR.

Fong and Saunders, SIAM J. Sci. Comput. 33, 2011, pages 2950-2971, without damping.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torch_sla.linalg.methods.bidiagonal import Descent, rotate
from torch_sla.linalg.methods.outcome import KrylovOptions, Outcome
from torch_sla.linalg.methods.space import Operator, VectorSpace, divide

__all__ = ["lsmr"]


def lsmr(
    A: Operator,
    b: Tensor,
    *,
    adjoint: Operator,
    x0: Tensor | None = None,
    options: KrylovOptions = KrylovOptions(),  # noqa: B008
    space: VectorSpace | None = None,
) -> Outcome:
    """Minimise ``‖b - A x‖₂`` for any shape and rank; the shortest such ``x`` when there are many.

    Equal to minimal residuals on the normal equations in exact arithmetic: ``‖Aᴴ r‖`` falls at
    every step, so it may stop earlier than `torch_sla.linalg.methods.lsqr.lsqr`, whose parameters
    it shares.

    Examples
    --------
    >>> import torch
    >>> A = torch.tensor([[1.0, 1.0]], dtype=torch.float64)
    >>> b = torch.tensor([[2.0]], dtype=torch.float64)
    >>> lsmr(lambda v: A @ v, b, adjoint=lambda u: A.T @ u).x.squeeze()
    tensor([1.0000, 1.0000], dtype=torch.float64)
    """
    descent = Descent(A, adjoint, b, x0, options, space or VectorSpace())
    pair, x = descent.pair, descent.out.x
    one, zero = torch.ones_like(pair.alpha), torch.zeros_like(pair.alpha)
    h, h_bar = pair.v.clone(), torch.zeros_like(pair.v)
    alpha_bar, zeta_bar = pair.alpha, pair.alpha * pair.beta
    rho, rho_bar, c_bar, s_bar = one, one, one, zero
    # For ‖r‖: the same rotations, once more (section 5.1 of the paper).
    beta_dd, beta_d, rho_d, tau, theta_tilde, zeta = pair.beta, zero, one, zero, zero, zero
    r_norm = pair.beta
    while descent.goes_on():
        pair.step()
        active = descent.active
        rho_old, rho_bar_old, zeta_old = rho, rho_bar, zeta
        c, s, rho = rotate(alpha_bar, pair.beta)
        theta, alpha_bar = s * pair.alpha, c * pair.alpha
        theta_bar = s_bar * rho
        c_bar, s_bar, rho_bar = rotate(c_bar * rho, theta)
        zeta, zeta_bar = c_bar * zeta_bar, torch.where(active, -s_bar * zeta_bar, zeta_bar)
        h_bar = h - divide(theta_bar * rho, rho_old * rho_bar_old) * h_bar
        x += divide(zeta, rho * rho_bar, active) * h_bar
        h = pair.v - divide(theta, rho) * h

        beta_hat, beta_dd = c * beta_dd, -s * beta_dd
        theta_tilde_old = theta_tilde
        c_tilde, s_tilde, rho_tilde = rotate(rho_d, theta_bar)
        theta_tilde, rho_d = s_tilde * rho_bar, c_tilde * rho_bar
        beta_d = c_tilde * beta_hat - s_tilde * beta_d
        tau = divide(zeta_old - theta_tilde_old * tau, rho_tilde)
        tau_d = divide(zeta - theta_tilde * tau, rho_d)
        r_norm = torch.where(active, torch.hypot(beta_d - tau_d, beta_dd), r_norm)
        descent.stepped(r_norm, zeta_bar.abs())
    return descent.out
