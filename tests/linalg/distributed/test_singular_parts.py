"""Matrices of parts that are singular by themselves, dealt out."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.singular_parts import PARTS, bodies, left, regions
from torch_sla.errors import Result
from torch_sla.linalg import SparseTensor
from torch_sla.linalg.distributed.precond.multigrid import PartMultigrid


@pytest.mark.parametrize("dealt", [1, 2])
@pytest.mark.parametrize("name", PARTS)
def test_regions(name: str, dealt: int) -> None:
    A, b, _, _ = regions(PARTS[name])
    D = SparseTensor.from_scipy(A).partition(dealt)
    x, info = D.solve(
        torch.from_numpy(b), method="cg", preconditioner="multigrid", rtol=1e-8, info=True
    )
    assert info.result is Result.CONVERGED
    assert info.iterations <= 20
    assert left(A, x, b) <= 1e-8


@pytest.fixture(scope="module", params=[False, True], ids=["floating", "hinged"])
def loose(request):
    return bodies(hinged=request.param, large=(32, 32), small=60)


@pytest.mark.parametrize("dealt", ["as they are", "across bodies"])
@pytest.mark.parametrize(
    "multigrid", [PartMultigrid(dtype="float32"), PartMultigrid(dtype="float64", coarse_size=100)]
)
def test_bodies(loose, multigrid: PartMultigrid, dealt: str) -> None:
    A, b, modes, _ = loose
    A = SparseTensor.from_scipy(A)
    nodes = torch.arange(A.shape[0]) // 2
    part = torch.zeros_like(nodes) if dealt == "as they are" else nodes * 3 // len(nodes) * 2
    D = A.partition(3, partition_ids=part.clamp(max=2), near_nullspace=modes)
    x, info = D.solve(
        torch.from_numpy(b), method="cg", preconditioner=multigrid, rtol=1e-8, info=True
    )
    assert info.result is Result.CONVERGED
    assert info.iterations <= (18 if dealt == "as they are" else 30)
    assert left(A.to_scipy(), x, b) <= 1e-8
