"""Matrices of parts that are singular by themselves, dealt out."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.singular_parts import PARTS, left, regions
from torch_sla.errors import Result
from torch_sla.linalg import SparseTensor


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
