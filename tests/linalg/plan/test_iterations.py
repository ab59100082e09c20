"""Iterations that the plan expects, beside those that are needed."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from tests.helpers.grids import poisson
from torch_sla.linalg import SparseTensor


def with_far_entries(n: int, count: int, wind: float) -> SparseTensor:
    """A grid in which something flows, with some entries anywhere."""
    rng = np.random.default_rng(7)
    size = n * n
    row, col = rng.integers(0, size, (2, count))
    far = sp.coo_array((np.full(count, -0.5), (row, col)), (size, size))
    far = far - sp.diags_array(far.sum(1))
    one = np.full(size - 1, wind)
    flow = sp.diags_array([-one, one], offsets=[-1, 1])
    return SparseTensor.from_scipy(sp.csr_array(poisson(n, n) + far + flow))


@pytest.mark.parametrize("by", ["eigen bicgstab", "pytorch bicgstab", "pytorch gmres"])
@pytest.mark.parametrize("count", [0, 50])
def test_incomplete_factors_with_and_without_fill(by: str, count: int) -> None:
    backend, method = by.split()
    A = with_far_entries(80, count, 0.2)
    _, info = A.solve(
        torch.ones(6400, dtype=torch.float64),
        backend=backend,
        method=method,
        preconditioner="ilu",
        info=True,
    )
    expected = info.plan.iterations
    assert 1 / 3 < info.iterations / expected < 3, (info.iterations, expected)
