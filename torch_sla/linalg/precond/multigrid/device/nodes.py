"""What smoothers have in place of the diagonal where unknowns are in nodes: a small dense block for each.

The compiled smoothers have the same blocks (``csrc/include/torch_sla/multigrid/smoothers.hpp``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from torch_sla.linalg.kernels.rows import row_sums
from torch_sla.linalg.precond.multigrid.device.blocks import diagonal_blocks, unit_scale
from torch_sla.linalg.precond.multigrid.device.tied import pseudo_inverse

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.precond.multigrid.device.blocks import BlockRows

__all__ = ["inverse_blocks", "inverted", "least_squares_blocks"]

_SINGULAR = 100.0  # roundings, below which a part of a block is none
_EVEN = 4096.0  # roundings, up to which a block is symmetric but for them


def inverse_blocks(
    nodes: BlockRows, dtype: torch.dtype, *, singular: bool = False
) -> tuple[Tensor, Tensor]:
    """Invert the diagonal blocks, in double precision.

    Parameters
    ----------
    nodes
        Square.
    dtype
        Of the levels: blocks that are singular but for its rounding, or that of the matrix, are singular.
    singular
        Whether some are known to be; those get pseudo-inverses, and the host waits to know which.

    Returns
    -------
    Tensor
        ``[n, b, b]`` in `dtype`, symmetric where the blocks are but for rounding.
    Tensor
        True where no block is singular.

    Examples
    --------
    >>> import torch
    >>> from torch_sla.linalg.precond.multigrid.device.blocks import BlockRows
    >>> block = torch.tensor([[[4.0, 4.0], [4.0, 4.0]]])
    >>> nodes = BlockRows(torch.tensor([0, 1]), torch.tensor([0]), block, 1)
    >>> bool(inverse_blocks(nodes, torch.float32)[1])
    False
    >>> inverse_blocks(nodes, torch.float32, singular=True)[0].tolist()
    [[[0.0625, 0.0625], [0.0625, 0.0625]]]
    """
    D = diagonal_blocks(nodes).double()
    own = torch.finfo(nodes.values.dtype).eps
    eps = max(own, torch.finfo(dtype).eps)
    M, sound = inverted(D, eps)
    if singular:
        which = (~sound).nonzero().squeeze(1)
        M[which] = pseudo_inverse(D[which], _SINGULAR * eps)
    # Blocks of coarse levels are symmetric but for rounding; with blocks that are so without, the cycle is its adjoint.
    gap = ((D - D.mT) * unit_scale(D)).flatten(1).abs().amax(1)
    even = gap <= _EVEN * own
    M = torch.where(even[:, None, None], (M + M.mT) / 2, M)
    return M.to(dtype).contiguous(), sound.all()


def inverted(D: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Invert blocks ``[n, b, b]`` of double precision under symmetric scaling by their diagonals.

    Returns
    -------
    Tensor
        ``[n, b, b]``, anything where a block is singular.
    Tensor
        ``[n]``: which are not, but for a rounding `eps`.
    """
    scale = unit_scale(D)
    M, failed = torch.linalg.inv_ex(D * scale)
    sound = (failed == 0) & (M.flatten(1).abs().amax(1) * (D.shape[1] * eps) < 1)
    return M * scale, sound


def least_squares_blocks(nodes: BlockRows, dtype: torch.dtype, *, symmetric: bool) -> Tensor:
    """Return the blocks ``M`` that bring ``M A`` closest to the identity, or their symmetric parts, ``[n, b, b]``.

    Where the rows of a node depend on each other, the block is the diagonal of their weights as scalar rows.
    """
    edge = nodes.values.shape[1]
    D = diagonal_blocks(nodes).double()
    blocks = nodes.values.double()
    S = row_sums(nodes.crow, blocks @ blocks.mT, nodes.longest)
    square = S.diagonal(dim1=1, dim2=2)
    scale = torch.where(square > 0, square, 1.0).rsqrt().unsqueeze(2)
    L, failed = torch.linalg.cholesky_ex(S * scale * scale.mT)
    # Pivots are squares: they forget what is smaller than the root of their rounding. Below the square of that of the
    # matrix they are rounding as well.
    pivot = L.diagonal(dim1=1, dim2=2).square().amin(1)
    least = max(edge * torch.finfo(S.dtype).eps, (edge * torch.finfo(nodes.values.dtype).eps) ** 2)
    sound = (failed == 0) & (pivot > least)
    M = (scale * torch.cholesky_solve(scale * D, L)).mT
    M = (M + M.mT) / 2 if symmetric else M
    own = D.diagonal(dim1=1, dim2=2) * scale.squeeze(2).square()
    M = torch.where(sound[:, None, None], M, torch.diag_embed(own))
    return M.to(dtype).contiguous()
