"""Solving ``(A - λ_i M) y_i = r_i`` in the complement of computed eigenvectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import GradientError, SolveError
from torch_sla.linalg.eigen.dense import dense_pencil
from torch_sla.linalg.eigen.operators import product, shifted, solver_of
from torch_sla.linalg.sparse.transforms import physical

if TYPE_CHECKING:
    from torch_sla.linalg.methods.space import Operator
    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["complement_solve"]

_DENSE = 256
_STEPS = 40
_LOOSE = 1e3
"""Rounding may end the decrease of residuals this far above what they are to reach."""
_CLOSE = (
    "an eigenvalue that was not computed lies too close to one that was, so the gradient of the vectors is not "
    "determined; ask for more eigenvalues (the whole cluster)"
)


def complement_solve(
    pattern: Pattern,
    values: Tensor,
    mass: tuple[Pattern, Tensor] | None,
    w: Tensor,
    V: Tensor,
    R: Tensor,
    same: float,
) -> Tensor:
    """Return ``Y`` ``[n, j]`` with ``Vᴴ M Y = 0``; `R` must satisfy ``Vᴴ R = 0``.

    `w` ``[j]`` has the eigenvalue of each right-hand side, `V` all vectors that were computed; eigenvalues no
    farther apart than `same` count as equal.

    Small problems use a full dense decomposition, if its solution has a small residual. Otherwise each cluster of
    eigenvalues has one factor of ``A - (λ + δ) M``, and iterative refinement projected on the complement removes the
    shift: it contracts by ``δ / |λ_j - λ|`` for the nearest eigenvalue ``λ_j`` outside.

    Raises
    ------
    GradientError
        When such an eigenvalue is within rounding.
    """
    values, w, V, R = (physical(t) for t in (values, w, V, R))
    if mass is not None:
        mass = mass[0], physical(mass[1])
    A = product(pattern, values)
    M = (lambda X: X) if mass is None else product(*mass)
    mass_v = M(V)
    if pattern.shape[0] <= _DENSE:
        try:
            Y = _dense(pattern, values, mass, w, R, same)
        except SolveError:
            pass  # a semidefinite M, and vectors have a part beside those of finite eigenvalues
        else:
            # Beside light masses a decomposition loses what belongs to small eigenvalues.
            Y = Y - V @ (mass_v.mH @ Y)
            if _error(_residual(A, M, mass_v, V, w, R, Y), R) <= _LOOSE * _target(R):
                return Y
    gaps = (w.unsqueeze(1) - w).abs()
    apart = gaps[gaps > same]
    span = float(w.abs().max())
    Y = torch.zeros_like(R)
    done = torch.zeros(len(w), dtype=torch.bool)
    for i in range(len(w)):
        if done[i]:
            continue
        members = (gaps[i] <= same).nonzero().squeeze(1)
        done[members] = True
        delta = 0.01 * float(apart.min()) if apart.numel() else 1e-4 * span
        for _ in range(3):
            found = _refine(
                A,
                M,
                mass_v,
                V,
                w[members],
                R[:, members],
                float(w[i]),
                delta,
                pattern,
                values,
                mass,
            )
            if found is not None:
                Y[:, members] = found
                break
            delta *= 0.01
        else:
            raise GradientError(_CLOSE)
    return Y


def _target(R: Tensor) -> float:
    """Return the relative residual that refinement is to reach."""
    return 1e-11 if R.dtype in (torch.float64, torch.complex128) else 1e-4


def _residual(
    A: Operator, M: Operator, mass_v: Tensor, V: Tensor, w: Tensor, R: Tensor, Y: Tensor
) -> Tensor:
    """Return ``r_i - (A - λ_i M) y_i``, projected on the complement."""
    residual = R - (A(Y) - M(Y) * w)
    return residual - mass_v @ (V.mH @ residual)


def _error(residual: Tensor, R: Tensor) -> float:
    """Return the largest norm of a residual, relative to its right-hand side."""
    unit = torch.linalg.vector_norm(R, dim=0).clamp(min=torch.finfo(R.dtype).tiny)
    return float((torch.linalg.vector_norm(residual, dim=0) / unit).max())


def _refine(
    A: Operator, M: Operator, mass_v: Tensor, V: Tensor, w: Tensor, R: Tensor, center: float, delta: float,
    pattern: Pattern, values: Tensor, mass: tuple[Pattern, Tensor] | None,
) -> Tensor | None:  # fmt: skip
    try:
        solver = solver_of(shifted(pattern, values, mass, center + delta))
    except SolveError:
        return None
    Y = torch.zeros_like(R)
    target, before = _target(R), float("inf")
    for _ in range(_STEPS):
        residual = _residual(A, M, mass_v, V, w, R, Y)
        worst = _error(residual, R)
        if worst <= target:
            return Y
        if not worst < 0.9 * before:
            return Y if worst <= _LOOSE * target else None
        before = worst
        step = solver.raw(residual.contiguous())
        Y = Y + step - V @ (mass_v.mH @ step)
    return None


def _dense(
    pattern: Pattern,
    values: Tensor,
    mass: tuple[Pattern, Tensor] | None,
    w: Tensor,
    R: Tensor,
    same: float,
) -> Tensor:
    all_w, U = dense_pencil(pattern, values, mass)
    C = U.mH @ R
    gap = all_w.unsqueeze(1) - w
    close = gap.abs() <= same
    size = torch.linalg.vector_norm(R, dim=0).clamp(min=torch.finfo(w.dtype).tiny)
    limit = torch.finfo(w.dtype).eps ** 0.5 * size * torch.linalg.vector_norm(U, dim=0).max()
    if bool((close & (C.abs() > limit)).any()):
        raise GradientError(_CLOSE)
    return U @ torch.where(close, torch.zeros_like(C), C / torch.where(close, 1.0, gap))
