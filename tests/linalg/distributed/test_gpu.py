"""Matrices in parts on one GPU: all in this process, and over NCCL with a single rank."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
import torch.distributed as dist

from tests.helpers import rank_programs as programs
from tests.helpers.devices import NEEDS_CUDA
from torch_sla.linalg import DSparseTensor
from torch_sla.linalg.distributed.precond.multigrid import PartMultigrid

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = NEEDS_CUDA


def gradients(D: DSparseTensor, b: torch.Tensor, preconditioner: str) -> list[torch.Tensor]:
    x = D.solve(b, preconditioner=preconditioner)
    loss = (x**3).sum() + (D @ x).norm()
    g_values, g_b = torch.autograd.grad(loss, (D.values, b))
    return [t.detach().cpu() for t in (x, g_values, g_b)]


@pytest.mark.parametrize("preconditioner", ["jacobi", "multigrid"])
def test_as_on_the_cpu(preconditioner: str) -> None:
    A = programs.poisson(30)
    part = (torch.arange(900) * 3) // 900
    out = []
    for device in ("cpu", "cuda"):
        values = A.values.to(device).requires_grad_()
        row, col = A.row_indices.to(device), A.col_indices.to(device)
        D = DSparseTensor(values, row, col, (900, 900), 3, partition_ids=part.to(device))
        b = programs.rhs(900, A.dtype).to(device).requires_grad_()
        out.append(gradients(D, b, preconditioner))
    for x, y in zip(*out, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("parts", [1, 3])
def test_stencils_as_on_the_cpu(parts: int) -> None:
    A = programs.lattice((21, 30, 17), (1.0, 1e-3, 1.0))
    r, out = programs.rhs(A.shape[-1], A.dtype, 2), []
    for device in ("cpu", "cuda"):
        D = A.partition(parts, partition_method="lattice", device=device)
        options = PartMultigrid(method="lattice", dtype="float64", coarse_size=100)
        made = options.build_parts(D.sharding.slots, D.slot_values(), None)
        at = D.layout.names
        z = torch.empty_like(r)
        z[at.cpu()] = made.apply(r.to(device)[at]).cpu()
        out.append(z)
    torch.testing.assert_close(*out, rtol=1e-10, atol=1e-12)


def test_spectra_as_on_the_cpu() -> None:
    A = programs.poisson(14)
    D = DSparseTensor(A.values, A.row_indices, A.col_indices, (196, 196), 3, device="cuda")
    w, V = D.eigsh(2, "SA")
    assert V.is_cuda
    torch.testing.assert_close(w.cpu(), A.eigsh(2, "SM")[0], rtol=1e-8, atol=0)


@pytest.mark.skipif(not dist.is_nccl_available(), reason="torch was built without NCCL")
def test_nccl(tmp_path: Path) -> None:
    dist.init_process_group("nccl", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        A = programs.poisson(30)
        D = DSparseTensor.from_device_mesh(
            A.values, A.row_indices, A.col_indices, (900, 900), num_partitions=3, device="cuda"
        )
        b = D.vector(programs.rhs(900, A.dtype).cuda())
        x, info = D.solve(b, preconditioner="multigrid", info=True)
        assert info.iterations < 20
        exact = A.solve(programs.rhs(900, A.dtype))
        torch.testing.assert_close(x.full_tensor().cpu(), exact, rtol=1e-7, atol=1e-7)
        # What lives on the CPU goes through the device of the group.
        there = D.comm.reduce(torch.tensor([1.0, 2.0 + 1.0j]))
        assert there.device.type == "cpu"
        assert there.tolist() == [1.0, 2.0 + 1.0j]
        assert D.comm.gather(torch.arange(3))[0].tolist() == [0, 1, 2]
    finally:
        dist.destroy_process_group()
