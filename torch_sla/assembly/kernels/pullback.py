"""Pull-back of form coefficients to the reference cell."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["pull_back", "pull_back_vector"]


def pull_back(
    C: Tensor, inverse: Tensor, measure: Tensor, test_gradient: bool, trial_gradient: bool
) -> Tensor:
    """Compute ``measure * P_test C P_trial^T`` with ``P = diag(1, dX/dx)``.

    Parameters
    ----------
    C
        ``[..., n|1, q|1, Dv, Du]``; the derivative slots come last in each jet.
    inverse
        ``dX/dx``, ``[n, q|1, dim, dim]``.
    measure
        ``[n, q|1]``.
    test_gradient, trial_gradient
        Whether the jets hold derivatives.

    Returns
    -------
    Tensor ``[..., n, q, Dv, Du]``.
    """
    dim = inverse.shape[-1]
    if trial_gradient:
        head, tail = C[..., :-dim], C[..., -dim:] @ inverse.transpose(-1, -2)
        C = _join(head, tail, -1)
    if test_gradient:
        head, tail = C[..., :-dim, :], inverse @ C[..., -dim:, :]
        C = _join(head, tail, -2)
    return C * measure[..., None, None]


def pull_back_vector(L: Tensor, inverse: Tensor, measure: Tensor, gradient: bool) -> Tensor:
    """Compute ``measure * P L`` for ``L [..., n|1, q|1, D]``: ``[..., n, q, D]``."""
    if gradient:
        dim = inverse.shape[-1]
        tail = (inverse * L[..., None, -dim:]).sum(-1)
        L = _join(L[..., :-dim], tail, -1)
    return L * measure[..., None]


def _join(head: Tensor, tail: Tensor, dim: int) -> Tensor:
    if head.shape[dim] == 0:
        return tail
    shape = list(torch.broadcast_shapes(_but(head, dim), _but(tail, dim)))
    position = dim % head.ndim
    shape.insert(position, -1)
    shape_tail = list(shape)
    shape[position], shape_tail[position] = head.shape[dim], tail.shape[dim]
    return torch.cat([head.expand(shape), tail.expand(shape_tail)], dim)


def _but(x: Tensor, dim: int) -> list[int]:
    shape = list(x.shape)
    del shape[dim]
    return shape
