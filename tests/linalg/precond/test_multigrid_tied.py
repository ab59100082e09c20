"""Rows that flat cells tie together: stiff conditions on a few unknowns each, whatever the signs of the couplings."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from tests.helpers.grids import rhs, split
from tests.helpers.meshed import flat_cells
from torch_sla.errors import Result
from torch_sla.linalg.kernels import unavailable
from torch_sla.linalg.methods.outcome import KrylovOptions
from torch_sla.linalg.precond.multigrid import AMG, Hierarchy, rigid_body_modes
from torch_sla.linalg.sparse.structure import Structure

pytestmark = pytest.mark.skipif(unavailable() is not None, reason="needs the extension")

N = 18
AGGREGATES = AMG(method="smoothed_aggregation")
SMOOTHERS = ["spai0", "jacobi", "l1_jacobi", "chebyshev", "gauss_seidel"]


def iterations(A: sp.csr_array, options: AMG, structure: Structure | None = None) -> int:
    pattern, values = split(A)
    hierarchy = Hierarchy(pattern, values, options, structure=structure)
    b = rhs(A.shape[0])
    out = hierarchy.cg(values, b, options=KrylovOptions(rtol=1e-8, maxiter=300))
    assert out.result is Result.CONVERGED
    residual = np.linalg.norm(b[:, 0].numpy() - A @ out.x[:, 0].numpy())
    assert residual <= 1.01e-8 * np.linalg.norm(b.numpy())
    return out.iterations


@pytest.mark.parametrize("smoother", [None, *SMOOTHERS])
def test_iterations_do_not_grow_with_the_stiffness(smoother: str | None) -> None:
    options = AMG(method="smoothed_aggregation", smoother=smoother)
    mild, stiff, rigid = (iterations(flat_cells(s), options) for s in (1.0, 1e3, 1e6))
    assert max(stiff, rigid) <= mild + 3 <= 22


def test_displacements_are_tied_as_blocks() -> None:
    i, j, k = np.unravel_index(np.arange(N**3), (N, N, N))
    modes = rigid_body_modes(torch.from_numpy(np.stack([i, j, k], 1).astype(float)))
    options = AMG(near_nullspace=modes, smoother="chebyshev")
    mild, stiff = (iterations(flat_cells(s, each=4, dim=3), options) for s in (1.0, 1e3))
    assert stiff <= mild + 4 <= 14


@pytest.mark.parametrize("smoother", ["spai0", "gauss_seidel"])
def test_the_cycle_stays_symmetric_and_so_does_its_adjoint(smoother: str) -> None:
    pattern, values = split(flat_cells(100.0, each=5))
    hierarchy = Hierarchy(pattern, values, AMG(smoother=smoother, dtype="float64", coarse_size=60))
    probe = torch.randn(N**3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    applied = hierarchy.apply(probe)
    table = probe.T @ applied
    assert torch.allclose(table, table.T, rtol=1e-10, atol=1e-10 * float(table.abs().max()))
    assert torch.allclose(hierarchy.apply_adjoint(probe), applied, rtol=1e-9, atol=1e-9)


def test_the_adjoint_cycle_of_an_unsymmetric_matrix() -> None:
    A = flat_cells(100.0, each=5)
    scale = sp.diags_array(1.0 + 0.3 * np.sin(np.arange(N**3)))
    unsymmetric = sp.csr_array(scale @ A)
    unsymmetric.sort_indices()
    pattern, values = split(unsymmetric)
    structure = Structure(symmetric=False)
    hierarchy = Hierarchy(
        pattern, values, AMG(smoother="spai0", dtype="float64"), structure=structure
    )
    x = torch.randn(N**3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    y = torch.randn(N**3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    there, back = (hierarchy.apply(x) * y).sum(), (x * hierarchy.apply_adjoint(y)).sum()
    assert torch.allclose(there, back, rtol=1e-9)


def test_several_columns_and_new_values() -> None:
    pattern, values = split(flat_cells(1e3))
    hierarchy = Hierarchy(pattern, values, AGGREGATES)
    b = rhs(N**3, 4)
    options = KrylovOptions(rtol=1e-10, maxiter=200)
    together = hierarchy.cg(values, b, options=options)
    for c in range(4):
        alone = hierarchy.cg(values, b[:, c : c + 1].contiguous(), options=options)
        assert torch.allclose(together.x[:, c], alone.x[:, 0], rtol=1e-7, atol=1e-9)
    # New values tie other rows; what is made on the skeleton is what a new set-up makes.
    moved = split(flat_cells(1.0))[1]
    fresh = Hierarchy(pattern, moved, AGGREGATES)
    renewed = Hierarchy(pattern, moved, AGGREGATES, like=hierarchy.skeleton())
    assert torch.equal(fresh.apply(b), renewed.apply(b))
    assert (
        fresh.nbytes < hierarchy.nbytes
    )  # the blocks are counted, and there only where rows are tied
