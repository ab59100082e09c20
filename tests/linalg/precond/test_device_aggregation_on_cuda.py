"""Smoothed aggregation on CUDA: the numbers of the CPU, replayed graphs, gradients through the door."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.helpers.devices import NEEDS_CUDA
from tests.helpers.grids import rhs
from tests.helpers.meshed import delaunay, elastic, split
from tests.helpers.singular_parts import PARTS, bodies, left, regions
from torch_sla.errors import Result
from torch_sla.linalg import SparseTensor
from torch_sla.linalg.methods.outcome import KrylovOptions
from torch_sla.linalg.precond.multigrid import AMG, rigid_body_modes
from torch_sla.linalg.precond.multigrid.device.aggregation import DeviceAggregation

pytestmark = NEEDS_CUDA


@pytest.mark.parametrize("case", ["plane", "space", "jump", "elastic", "blocks"])
def test_cuda_agrees_with_the_cpu(case: str) -> None:
    vectors = None
    if case in ("elastic", "blocks"):
        A, points = elastic((8, 6, 6))
        vectors = rigid_body_modes(points)
    else:
        A = delaunay(6000, 3 if case == "space" else 2, 1e6 if case == "jump" else 1.0)
    options = AMG(dtype="float64", smoother="spai0" if case == "blocks" else None)
    here = DeviceAggregation(*split(A), options, vectors)
    there = DeviceAggregation(
        *split(A, "cuda"), options, None if vectors is None else vectors.cuda()
    )
    assert here.levels == there.levels
    r = rhs(A.shape[0], 2)
    z = here.apply(r)
    for k in (slice(0, 2), slice(0, 1)):
        got = there.apply(r[:, k].cuda())
        assert float((got.cpu() - z[:, k]).norm() / z[:, k].norm()) < 1e-8
    again = DeviceAggregation(
        *split(A, "cuda"), options, None if vectors is None else vectors.cuda()
    )
    assert torch.equal(again.apply(r.cuda()), there.apply(r.cuda()))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cycles_are_replayed_from_graphs(dtype: str) -> None:
    pattern, values = split(delaunay(5929, 2), "cuda")
    hierarchy = DeviceAggregation(pattern, values, AMG(dtype=dtype), None)
    r = rhs(5929, 2).cuda()
    first = hierarchy.apply(r)
    for scale in (2.0, 1.0, 8.0):
        assert torch.equal(hierarchy.apply(scale * r), scale * first)
    hierarchy.update(4 * values)
    for _ in range(3):
        torch.testing.assert_close(hierarchy.apply(r), first / 4, rtol=1e-5, atol=1e-9)


def test_conjugate_gradients_on_cuda() -> None:
    A = delaunay(5929, 2)
    pattern, values = split(A, "cuda")
    hierarchy = DeviceAggregation(pattern, values, AMG(), None)
    b = rhs(5929).cuda()
    options = KrylovOptions(rtol=1e-10, maxiter=60)
    for scale in (1.0, 3.0):  # the second time from the graph of the first, with its new values
        values.mul_(scale)
        out = hierarchy.cg(values, b, options=options)
        assert out.result is Result.CONVERGED
        residual = np.linalg.norm(b.cpu().numpy() - scale * (A @ out.x.cpu().numpy()))
        assert residual <= 1e-9 * float(b.norm())


def test_solve_and_gradient_through_the_door() -> None:
    A = delaunay(5929, 2)
    found = []
    for device in ("cpu", "cuda"):
        pattern, values = split(A, device)
        values.requires_grad_()
        matrix = SparseTensor.from_pattern(pattern, values)
        b = rhs(5929)[:, 0].to(device)
        x, info = matrix.solve(b, method="cg", preconditioner="multigrid", rtol=1e-11, info=True)
        assert info.converged
        assert info.iterations <= 25
        (grad,) = torch.autograd.grad((x**3).sum(), values)
        found.append((x.detach().cpu(), grad.cpu()))
    for here, there in zip(*found, strict=True):
        assert float((here - there).norm()) <= 1e-8 * float(here.norm())


@pytest.mark.parametrize("case", [*PARTS, "floating", "hinged"])
def test_parts_that_are_singular_by_themselves(case: str) -> None:
    vectors = None
    if case in PARTS:
        A, b, _, _ = regions(PARTS[case])
    else:
        A, b, vectors, _ = bodies(hinged=case == "hinged")
        vectors = vectors.cuda()
    pattern, values = split(A, "cuda")
    hierarchy = DeviceAggregation(pattern, values, AMG(), vectors)
    rhs = torch.from_numpy(b)[:, None].cuda()
    out = hierarchy.cg(values, rhs, options=KrylovOptions(rtol=1e-8, maxiter=60))
    assert out.iterations <= 20
    assert left(A, out.x.cpu(), b) <= 1e-8
