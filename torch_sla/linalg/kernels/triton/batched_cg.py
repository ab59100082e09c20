"""Conjugate gradients for many small systems in Triton: one program per system."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from torch_sla.linalg.kernels.triton.launch import launch

if TYPE_CHECKING:
    from torch import Tensor


@triton.jit(do_not_specialize=["n", "nnz", "limit"])
def _cg_kernel(
    crow,
    ccol,
    values,
    diagonal,
    b,
    x,
    shared,
    target,
    iterations,
    n,
    nnz,
    limit,
    BLOCK: tl.constexpr,
):
    m = tl.program_id(0).to(tl.int64)
    i = tl.arange(0, BLOCK)
    inside = i < n
    start = tl.load(crow + i, mask=inside, other=0)
    stop = tl.load(crow + i + 1, mask=inside, other=0)
    width = tl.max(stop - start)
    a, direction = values + m * nnz, shared + m * n
    inverse = 1.0 / tl.load(diagonal + m * n + i, mask=inside, other=1.0)
    r = tl.load(b + m * n + i, mask=inside, other=0.0)
    solution = tl.zeros([BLOCK], dtype=r.dtype)
    z = inverse * r
    p = z
    rho = tl.sum(r * z)
    wanted = tl.load(target + m)
    wanted = wanted * wanted
    done = 0
    running = tl.sum(r * r) > wanted
    while running & (done < limit):
        # Everybody's part of the direction, for everybody's rows.
        tl.store(direction + i, p, mask=inside)
        tl.debug_barrier()
        q = tl.zeros([BLOCK], dtype=r.dtype)
        for s in range(width):
            here = inside & (start + s < stop)
            j = tl.load(ccol + start + s, mask=here, other=0)
            v = tl.load(a + start + s, mask=here, other=0.0)
            q += v * tl.load(direction + j, mask=here, other=0.0)
        tl.debug_barrier()
        pq = tl.sum(p * q)
        running = pq > 0
        alpha = tl.where(running, rho / tl.where(running, pq, 1.0), 0.0)
        solution += alpha * p
        r -= alpha * q
        z = inverse * r
        new = tl.sum(r * z)
        p = z + tl.where(running, new / tl.where(running, rho, 1.0), 0.0) * p
        rho = new
        done += running.to(tl.int32)
        running = running & (tl.sum(r * r) > wanted)
    tl.store(x + m * n + i, solution, mask=inside)
    tl.store(iterations + m, done)


def batched_cg(
    crow: Tensor,
    ccol: Tensor,
    values: Tensor,
    diagonal: Tensor,
    b: Tensor,
    target: Tensor,
    limit: int,
) -> tuple[Tensor, Tensor]:
    """Run one program per member; `torch_sla.linalg.kernels.batched_cg` says what it computes."""
    members, n = b.shape
    x, shared = torch.empty_like(b), torch.empty_like(b)
    iterations = torch.empty(members, dtype=torch.int32, device=b.device)
    block = max(triton.next_power_of_2(n), 32)
    launch(
        _cg_kernel, (members,), crow, ccol, values, diagonal, b, x, shared, target, iterations, n,
        values.shape[1], limit, block, num_warps=min(16, max(1, block // 128)),
    )  # fmt: skip
    return x, iterations
