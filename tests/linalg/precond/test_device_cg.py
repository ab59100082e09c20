"""Conjugate gradients of hierarchies over tensors, called directly: what they call converged."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.grids import rhs, split
from tests.helpers.lattices import laplacian
from torch_sla.errors import Result
from torch_sla.linalg.methods.outcome import KrylovOptions
from torch_sla.linalg.precond.multigrid import AMG
from torch_sla.linalg.precond.multigrid.device import build

NEEDS_CUDA = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_CUDA)])
@pytest.mark.parametrize("method", ["lattice", "smoothed_aggregation"])
def test_converged_is_a_matter_of_the_true_residual(method: str, device: str) -> None:
    """From far away the residual of the recurrence falls on where rounding keeps the true one."""
    A = laplacian(30, 30)
    pattern, values = (t.to(device) for t in split(A))
    hierarchy = build(pattern, values, AMG(method=method))
    b, far = rhs(900, 2).to(device), 1e9 * rhs(900, 2).to(device)
    options = KrylovOptions(rtol=1e-11)
    out = hierarchy.cg(values, b, x0=far, options=options)
    assert out.result is Result.CONVERGED
    left = b.cpu() - torch.from_numpy(A @ out.x.cpu().numpy())
    assert (left.norm(dim=0) <= 1.01e-11 * b.cpu().norm(dim=0)).all()
    assert len(out.history) == out.iterations
    once = hierarchy.unchecked_cg(values, b, x0=far, options=options)
    assert once.result is Result.CONVERGED
    assert once.iterations < out.iterations
    limited = KrylovOptions(rtol=1e-11, maxiter=once.iterations)
    assert hierarchy.cg(values, b, x0=far, options=limited).result is Result.MAXITER
    beyond = hierarchy.cg(values, b, options=KrylovOptions(rtol=1e-17))
    assert beyond.result is Result.STAGNATION
