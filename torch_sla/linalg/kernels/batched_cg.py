"""Conjugate gradients for many small systems on one pattern, each from beginning to end in one program.

A system of a few thousand unknowns fits into the registers of one multiprocessor, so all its iterations
are one kernel: nothing is launched and nobody waits in between.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torch_sla.linalg.kernels import sparse, triton as device

__all__ = ["LARGEST", "batched_cg", "takes"]

LARGEST = 4096  # unknowns of a system that one program holds


def takes(values: Tensor, n: int) -> bool:
    """Whether systems of `n` unknowns with these values run as one kernel."""
    real = values.dtype in (torch.float32, torch.float64)
    return real and 0 < n <= LARGEST and device.runs(values)


def batched_cg(
    crow: Tensor,
    ccol: Tensor,
    values: Tensor,
    diagonal: Tensor,
    b: Tensor,
    target: Tensor,
    limit: int,
) -> tuple[Tensor, Tensor]:
    """Solve ``A_i x_i = b_i`` with Jacobi-preconditioned conjugate gradients.

    Parameters
    ----------
    crow, ccol
        The pattern of all ``A_i``, square and in compressed rows.
    values
        ``[B, nnz]`` of symmetric positive definite matrices.
    diagonal
        ``[B, n]``, their positive diagonals.
    b
        ``[B, n]``.
    target
        ``[B]``: a member stops at ``‖r‖`` below it, and stands still where a direction has no positive
        curvature.
    limit
        Iterations.

    Returns
    -------
    x, iterations
        ``[B, n]``, and int32 ``[B]``. Whether a member converged is for the true residual to tell.

    Examples
    --------
    >>> import torch
    >>> crow, ccol = torch.tensor([0, 1, 2]), torch.tensor([0, 1])
    >>> a = torch.tensor([[1.0, 2.0], [4.0, 8.0]])
    >>> batched_cg(crow, ccol, a, a, torch.ones(2, 2), torch.full((2,), 1e-6), 5)[0].tolist()
    [[1.0, 0.5], [0.25, 0.125]]
    """
    if takes(values, b.shape[1]):
        from torch_sla.linalg.kernels.triton.batched_cg import batched_cg as fused

        return fused(crow, ccol, values.contiguous(), diagonal, b.contiguous(), target, limit)
    x, r = torch.zeros_like(b), b.clone()
    z = r / diagonal
    p, rho = z, (r * z).sum(1)
    iterations = torch.zeros(len(b), dtype=torch.int32, device=b.device)
    running = torch.linalg.vector_norm(r, dim=1) > target
    for _ in range(limit):
        if not bool(running.any()):
            break
        q = sparse.spmm(crow, ccol, values, p.unsqueeze(2)).squeeze(2)
        pq = (p * q).sum(1)
        running = running & (pq > 0)
        alpha = torch.where(running, rho / torch.where(running, pq, 1.0), 0.0).unsqueeze(1)
        x, r = x + alpha * p, r - alpha * q
        iterations += running
        z = r / diagonal
        new = (r * z).sum(1)
        beta = torch.where(running, new / torch.where(running, rho, 1.0), 0.0)
        p, rho = z + beta.unsqueeze(1) * p, new
        running = running & (torch.linalg.vector_norm(r, dim=1) > target)
    return x, iterations
