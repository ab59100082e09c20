"""Multigrid for several right-hand sides at once."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from tests.helpers.grids import poisson, rhs, split
from torch_sla.errors import Result
from torch_sla.linalg.methods.outcome import KrylovOptions
from torch_sla.linalg.precond.multigrid import AMG, Hierarchy
from torch_sla.linalg.sparse.structure import Structure


@pytest.mark.parametrize("method", ["lattice", "smoothed_aggregation", "classical"])
@pytest.mark.parametrize("count", [2, 5])
def test_columns_side_by_side(method: str, count: int) -> None:
    """Each column is what it is alone, and stops on its own; the cycle likewise."""
    pattern, values = split(poisson(24, 21))
    hierarchy = Hierarchy(pattern, values, AMG(method=method, threads=2))
    b = rhs(24 * 21, count)
    b[:, 1] = 0.0
    b[:, 0] *= 1e-6
    options = KrylovOptions(rtol=1e-9)
    together = hierarchy.cg(values, b, options=options)
    assert together.result is Result.CONVERGED
    assert torch.equal(together.x[:, 1], torch.zeros_like(b[:, 1]))
    applied = hierarchy.apply(b)
    for c in range(count):
        alone = hierarchy.cg(values, b[:, c : c + 1].clone(), options=options)
        size = torch.linalg.vector_norm(alone.x).clamp(min=1e-300)
        assert torch.linalg.vector_norm(together.x[:, c : c + 1] - alone.x) <= 1e-7 * size
        cycle = hierarchy.apply(b[:, c : c + 1].clone())
        size = torch.linalg.vector_norm(cycle).clamp(min=1e-300)
        assert torch.linalg.vector_norm(applied[:, c : c + 1] - cycle) <= 1e-5 * size
    again = hierarchy.cg(values, b, x0=together.x, options=options)
    assert again.iterations == 0
    assert torch.equal(hierarchy.cg(values, b, options=options).x, together.x)


@pytest.mark.parametrize("lanes", [1, 3, 6])
@pytest.mark.parametrize("method", ["gmres", "bicgstab"])
def test_general_methods_side_by_side(method: str, lanes: int) -> None:
    """Columns of every size, one of zeros, adjoint and forward, from zero and from a start."""
    ahead = sp.diags_array([-20.0, 20.0], offsets=[-1, 0], shape=(30, 30))
    A = sp.csr_array(poisson(30, 30) + sp.kron(ahead, sp.eye_array(30)))
    A.sort_indices()
    pattern, values = split(A)
    hierarchy = Hierarchy(pattern, values, structure=Structure(symmetric=False))
    b = rhs(900, lanes)
    b[:, 0] *= 1e-9
    b[:, lanes // 2] *= 1e6 if lanes == 1 else 0.0
    options = KrylovOptions(rtol=1e-9, restart=5)
    turned = (pattern.transposed, pattern.transpose_values(values))
    for adjoint, M, matrix in ((False, A, (pattern, values)), (True, A.T, turned)):
        out = hierarchy.krylov(method, matrix, b, adjoint=adjoint, options=options)
        assert out.result is Result.CONVERGED
        left = np.linalg.norm(M @ out.x.numpy() - b.numpy(), axis=0)
        assert (left <= 1.001e-9 * np.linalg.norm(b.numpy(), axis=0)).all()
        again = hierarchy.krylov(method, matrix, b, adjoint=adjoint, x0=out.x, options=options)
        assert again.iterations == 0
    assert out.iterations <= 40


@pytest.mark.parametrize("method", ["lattice", "smoothed_aggregation"])
def test_a_column_that_fails_says_so_beside_others(method: str) -> None:
    pattern, values = split(poisson(20, 20))
    hierarchy = Hierarchy(pattern, values, AMG(method=method))
    b = rhs(400, 3)
    b[7, 1] = torch.inf
    out = hierarchy.cg(values, b)
    assert out.result is Result.NONFINITE
    assert hierarchy.cg(-values, rhs(400, 3)).result is Result.BREAKDOWN
    assert (
        hierarchy.cg(values, rhs(400, 3), options=KrylovOptions(maxiter=2)).result is Result.MAXITER
    )
