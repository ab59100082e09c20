"""The words of a weak form. All of them act at quadrature points on the trailing dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.assembly.field import Field, value_of
from torch_sla.assembly.forms.determinants import cofactor, det

if TYPE_CHECKING:
    from torch_sla.assembly.forms.context import Context
    from torch_sla.assembly.sided import Sided

__all__ = [
    "average",
    "cofactor",
    "curl",
    "det",
    "div",
    "dot",
    "grad",
    "identity",
    "inner",
    "jump",
    "matvec",
    "normal",
    "sym_grad",
    "trace",
]


def grad(u: Field) -> Tensor:
    """Gradient: ``[..., dim]`` of a scalar, ``[..., i, j] = du_i/dx_j`` of a vector."""
    return u.gradient


def div(u: Field) -> Tensor:
    """Divergence ``[...]`` of a vector field."""
    return trace(u.gradient)


def curl(u: Field) -> Tensor:
    """Curl of a vector field: a vector ``[..., 3]`` in 3D, the scalar ``du_1/dx_0 - du_0/dx_1`` in 2D."""
    g = u.gradient
    if g.shape[-1] == 2:
        return g[..., 1, 0] - g[..., 0, 1]
    return torch.stack(
        [
            g[..., 2, 1] - g[..., 1, 2],
            g[..., 0, 2] - g[..., 2, 0],
            g[..., 1, 0] - g[..., 0, 1],
        ],
        -1,
    )


def sym_grad(u: Field) -> Tensor:
    """Symmetric gradient ``(grad u + grad u^T) / 2`` of a vector field ``[..., dim, dim]``."""
    g = u.gradient
    return 0.5 * (g + g.transpose(-1, -2))


def dot(a: Tensor | Field, b: Tensor | Field) -> Tensor:
    """Scalar product of two vectors ``[..., d]``: ``[...]``; no conjugation."""
    return (value_of(a) * value_of(b)).sum(-1)


def inner(A: Tensor, B: Tensor) -> Tensor:
    """Double contraction ``A_ij B_ij`` of two matrices ``[..., d, d]``: ``[...]``; no conjugation."""
    return (A * B).sum((-2, -1))


def matvec(A: Tensor, b: Tensor | Field) -> Tensor:
    """Matrix times vector: ``[..., d, d]`` and ``[..., d]`` give ``[..., d]``."""
    return (A * value_of(b)[..., None, :]).sum(-1)


def trace(A: Tensor) -> Tensor:
    """Trace of a matrix ``[..., d, d]``: ``[...]``."""
    return A.diagonal(dim1=-2, dim2=-1).sum(-1)


def identity(A: Tensor) -> Tensor:
    """Identity matrix of the size, dtype and device of ``A [..., d, d]``."""
    return torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)


def jump(a: Sided) -> Tensor:
    """Value on the plus side less that on the minus side of an interior facet."""
    return value_of(a.plus) - value_of(a.minus)


def average(a: Sided) -> Tensor:
    """Mean of the values on both sides of an interior facet."""
    return 0.5 * (value_of(a.plus) + value_of(a.minus))


def normal(w: Context) -> Tensor:
    """Outward unit normal of the facets of the integral ``[n, nq|1, dim]``."""
    return w.normal
