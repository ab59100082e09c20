"""Pairs of pencils that are not symmetric, or damped: complex eigenvalues and modes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from torch_sla.errors import SpecError
from torch_sla.linalg import SparseTensor, quadratic_eigs
from torch_sla.linalg.eigen.convention import leading_rows

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["general_pairs"]


def general_pairs(
    A: SparseTensor,
    C: SparseTensor | None,
    M: SparseTensor | None,
    k: int,
    which: str,
    sigma: complex | None,
    *,
    halves: bool = False,
    weight: SparseTensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Find pairs of ``A v = λ M v``, or with damping of ``(A + λ C + λ² M) v = 0``.

    Parameters
    ----------
    A, C, M
        ``[*batch, n, n]``; no C is no damping, no M the identity.
    k, which, sigma
        How many, and which.
    halves
        Of each conjugate pair of real matrices give the half above the real axis only.
    weight
        What scales the modes: W; M by default.

    Returns
    -------
    eigenvalues, modes
        ``[*batch, k]`` and ``[*batch, k, n]``, complex, with ``|vᴴ W v| = 1`` and the largest entry real and positive.
    """
    if which in ("SA", "LA"):
        raise SpecError(
            "the matrices are not symmetric, and their eigenvalues complex: SM or LM, by magnitude",
            path="which",
        )
    if sigma is not None:
        which = "LM"
    if C is None:
        w, V = A.eigs(k, which, sigma, M=M)
    else:
        inertia = (
            SparseTensor.eye(A.flat_shape[0], dtype=A.dtype, device=A.device) if M is None else M
        )
        size = A.flat_shape[0]
        asked = min(2 * k, 2 * size) if halves else k
        w, V = quadratic_eigs(A, C, inertia, asked, which, sigma)
        if halves:
            w, V = _upper(w, V, k)
    scale = M if weight is None else weight
    moved = V if scale is None else _product(scale, V)
    V = V / (V.conj() * moved).sum(-2, keepdim=True).abs().sqrt()
    # In the graph, so that a loss of the modes does not depend on the phase the solver left.
    entry = V.gather(-2, leading_rows(V.detach()))
    V = V * (entry.conj() / entry.abs())
    return w, V.transpose(-1, -2)


def _upper(w: Tensor, V: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Keep the first k above or on the real axis; of 2 k in conjugate pairs there are as many."""
    below = w.detach().imag < 0
    kept = torch.sort(below.to(torch.int8), dim=-1, stable=True).indices[..., :k]
    return w.gather(-1, kept), V.gather(-1, kept[..., None, :].expand(*V.shape[:-1], k))


def _product(M: SparseTensor, V: Tensor) -> Tensor:
    wide = SparseTensor.from_pattern(M.pattern, M.values.to(V.dtype))
    return wide @ V
