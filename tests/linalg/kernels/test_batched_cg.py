from __future__ import annotations

import os

import pytest
import torch

from tests.helpers.devices import ON_CUDA
from tests.helpers.grids import split
from tests.helpers.lattices import laplacian
from torch_sla.linalg import SparseTensor
from torch_sla.linalg.backends import pytorch
from torch_sla.linalg.kernels import sparse, triton as device
from torch_sla.linalg.kernels.batched_cg import batched_cg

WHERE = [
    "cpu",
    ON_CUDA,
]


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_member_converges_to_its_own_solution(dtype: torch.dtype, where: str) -> None:
    pattern, values = split(laplacian(9, 7))
    n, members = pattern.shape[0], 5
    shifts = torch.linspace(0.0, 2.0, members, dtype=dtype).unsqueeze(1)
    a = values.to(dtype).repeat(members, 1)
    a[:, pattern.diagonal_slots.long()] += shifts
    pattern, a = pattern.to(where), a.to(where)
    diagonal = a[:, pattern.diagonal_slots.long()].contiguous()
    b = torch.randn(members, n, dtype=dtype).to(where)
    b[3] = 0.0
    target = 1e-5 * torch.linalg.vector_norm(b, dim=1)
    x, iterations = batched_cg(pattern.crow, pattern.ccol, a, diagonal, b, target, 200)
    left = b - sparse.spmm(pattern.crow, pattern.ccol, a, x.unsqueeze(2)).squeeze(2)
    assert bool((torch.linalg.vector_norm(left, dim=1) <= 2 * target).all())
    assert iterations.dtype is torch.int32
    assert int(iterations[3]) == 0
    assert 0 < int(iterations[4]) < int(iterations[0]) < 60
    again = batched_cg(pattern.crow, pattern.ccol, a, diagonal, b, target, 200)[0]
    assert torch.equal(x, again)
    few = batched_cg(pattern.crow, pattern.ccol, a, diagonal, b, target, 3)[1]
    assert few.tolist() == [3, 3, 3, 0, 3]


@pytest.mark.parametrize("where", WHERE)
def test_an_indefinite_member_stands_still(where: str) -> None:
    pattern, values = split(laplacian(6, 5))
    a = torch.stack([values, -values]).to(where)
    pattern = pattern.to(where)
    diagonal = a[:, pattern.diagonal_slots.long()].abs().contiguous()
    b = torch.ones(2, 30, dtype=torch.float64, device=where)
    target = torch.full((2,), 1e-8, dtype=torch.float64, device=where)
    x, iterations = batched_cg(pattern.crow, pattern.ccol, a, diagonal, b, target, 100)
    assert int(iterations[0]) > 3
    assert int(iterations[1]) == 0
    assert not bool(x[1].any())


@pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1" or not device.installed(),
    reason="needs triton and TRITON_INTERPRET=1",
)
def test_the_kernel_is_the_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    pattern, values = split(laplacian(6, 7))
    a = torch.stack([values, 3 * values])
    diagonal = a[:, pattern.diagonal_slots.long()].contiguous()
    b = torch.randn(2, 42, dtype=torch.float64)
    arguments = (
        pattern.crow,
        pattern.ccol,
        a,
        diagonal,
        b,
        torch.full((2,), 1e-9, dtype=b.dtype),
        90,
    )
    x, iterations = batched_cg(*arguments)
    monkeypatch.setattr(device, "runs", lambda *_: False)
    expected, counted = batched_cg(*arguments)
    assert torch.equal(iterations, counted)
    assert float((x - expected).abs().max()) <= 1e-9


@pytest.mark.parametrize("where", WHERE)
def test_a_batch_is_solved_together(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if where == "cuda" and not device.installed():
        pytest.skip("no triton beside the simulated device")
    if where == "cpu":  # where no kernel would take it
        monkeypatch.setattr(pytorch, "takes", lambda *_: True)
    pattern, values = split(laplacian(9, 7))
    a = torch.stack([values, 2 * values, 5 * values]).to(where).requires_grad_()
    A = SparseTensor.from_pattern(pattern.to(where), a)
    b = torch.randn(3, 63, dtype=torch.float64).to(where).requires_grad_()
    x, info = A.solve(
        b, backend="pytorch", method="cg", preconditioner="jacobi", rtol=1e-10, info=True
    )
    assert "3 matrices at once" in info.notes
    assert 0 < info.iterations < 100
    assert info.residual <= 1e-10
    x.square().sum().backward()
    alone = SparseTensor.from_pattern(pattern, (5 * values).requires_grad_())
    c = b[2].detach().cpu().requires_grad_()
    y = alone.solve(c, rtol=1e-12)
    y.square().sum().backward()
    assert float((x[2].cpu() - y).detach().norm()) <= 1e-8 * float(y.detach().norm())
    assert float((b.grad[2].cpu() - c.grad).norm()) <= 1e-7 * float(c.grad.norm())
    assert float((a.grad[2].cpu() - alone.grad).norm()) <= 1e-7 * float(alone.grad.norm())
