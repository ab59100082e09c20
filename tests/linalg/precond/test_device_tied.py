"""Rows that flat cells tie together, over tensors: one block for each group, as in the compiled smoothers.

Under ``TRITON_INTERPRET=1`` with triton installed, Triton's kernels run here too.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from tests.helpers.devices import SIMULATION
from tests.helpers.grids import rhs
from tests.helpers.meshed import flat_cells, poisson, split
from tests.helpers.simulated import counted
from torch_sla.errors import Result
from torch_sla.linalg.kernels.rows import Rows, product
from torch_sla.linalg.methods.cg import cg
from torch_sla.linalg.methods.outcome import KrylovOptions
from torch_sla.linalg.precond.multigrid import AMG, Hierarchy, rigid_body_modes
from torch_sla.linalg.precond.multigrid.device.aggregation import DeviceAggregation
from torch_sla.linalg.precond.multigrid.device.blocks import grouped
from torch_sla.linalg.precond.multigrid.device.smoothers import make_smoother
from torch_sla.linalg.precond.multigrid.device.strength import own_sizes
from torch_sla.linalg.precond.multigrid.device.tied import tied_groups

SMOOTHERS = ["chebyshev", "jacobi", "l1_jacobi", "spai0"]
EDGE = 14


def iterations(A: sp.csr_array, options: AMG, vectors: torch.Tensor | None = None) -> int:
    pattern, values = split(A)
    hierarchy = DeviceAggregation(pattern, values, options, vectors)
    matrix = Rows.of(pattern.crow, pattern.ccol, values, A.shape[0])
    b, asked = rhs(A.shape[0]), KrylovOptions(rtol=1e-8, maxiter=100)
    out = cg(lambda x: product(matrix, x), b, M=hierarchy.apply, options=asked)
    assert out.result is Result.CONVERGED
    return out.iterations


@pytest.mark.parametrize("smoother", SMOOTHERS)
def test_iterations_do_not_grow_with_the_stiffness(smoother: str) -> None:
    options = AMG(smoother=smoother)
    mild, stiff, rigid = (iterations(flat_cells(s, edge=EDGE), options) for s in (1.0, 1e3, 1e6))
    assert max(stiff, rigid) <= mild + 3 <= 20


def test_as_many_iterations_as_the_compiled_hierarchy() -> None:
    A = flat_cells(1e3, edge=EDGE)
    pattern, values = split(A)
    options = AMG(smoother="chebyshev", method="smoothed_aggregation")
    compiled = Hierarchy(pattern, values, options)
    asked = KrylovOptions(rtol=1e-8, maxiter=100)
    there = compiled.cg(values, rhs(A.shape[0]), options=asked).iterations
    assert abs(iterations(A, options) - there) <= 3


def test_displacements_are_tied_as_blocks() -> None:
    i, j, k = np.unravel_index(np.arange(EDGE**3), (EDGE, EDGE, EDGE))
    modes = rigid_body_modes(torch.from_numpy(np.stack([i, j, k], 1).astype(float)))
    mild, stiff = (
        iterations(flat_cells(s, each=4, dim=3, edge=EDGE), AMG(), modes) for s in (1.0, 1e3)
    )
    assert stiff <= mild + 4 <= 14
    pattern, values = split(flat_cells(1e3, each=4, dim=3, edge=EDGE))
    weight = DeviceAggregation(pattern, values, AMG(), modes)._forward.stages[0].smoother
    assert weight.tied is not None
    assert weight.tied.inverse.longest == 12  # all displacements of four corners


@pytest.mark.parametrize("edge", [1, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_groups_of_different_sizes(edge: int, weighted: bool) -> None:
    """A pair, three in a row and a square, of scalars or of displacements that one component ties."""
    ties = [([40, 41], [1, -1]), ([80, 81, 82], [1, -2, 1]), ([150, 151, 157, 156], [1, -1, 1, -1])]
    A = sp.kron(poisson(6, 6, 6), sp.eye_array(edge)).tolil()
    for nodes, weights in ties:
        at = np.array(nodes) * edge
        A[np.ix_(at, at)] += 1e3 * np.outer(weights, weights)
    A = sp.csr_array(A)
    A.sort_indices()
    pattern, values = split(A)
    M = grouped(pattern.crow, pattern.ccol, values, edge)
    groups = tied_groups(M.crow, M.ccol, M.values, own_sizes(M))
    assert groups is not None
    found = (groups.heavier() if weighted else groups).inverted(1e-10)
    assert found is not None
    assert found.size.tolist() == [2 * edge, 3 * edge, 4 * edge]
    assert found.entries == 29 * edge**2
    D, first = A.toarray(), 0
    for block, size, (nodes, _) in zip(found.blocks, found.size.tolist(), ties, strict=True):
        rows = found.rows[first : first + size].numpy()
        assert sorted(set((rows // edge).tolist())) == sorted(nodes)
        own = D[np.ix_(rows, rows)]
        if weighted:
            own = own + np.diag(np.abs(D[rows]).sum(1) - np.abs(own).sum(1))
        np.testing.assert_allclose(block[:size, :size], np.linalg.inv(own), rtol=1e-8, atol=1e-12)
        first += size


def blocks(A: np.ndarray, groups: list[list[int]], name: str) -> np.ndarray:
    """Return what stands in place of the inverse diagonal, dense, as it is defined."""
    d, size = np.diag(A), np.abs(A).sum(1)
    M = np.diag({"l1_jacobi": 1 / size, "spai0": d / (A**2).sum(1)}.get(name, 1 / d))
    for g in groups:
        own = A[np.ix_(g, g)]
        if name == "l1_jacobi":
            own = own + np.diag(size[g] - np.abs(own).sum(1))
        Z = np.linalg.inv(own)
        weight = len(g) / np.linalg.norm(Z @ A[g]) ** 2 if name == "spai0" else 1.0
        M[np.ix_(g, g)] = weight * Z
    return M


@pytest.mark.parametrize("name", SMOOTHERS)
@pytest.mark.parametrize("turned", [False, True])
def test_the_blocks_are_inverted(name: str, turned: bool) -> None:
    A = flat_cells(1e3, edge=6)
    if turned:
        A = sp.csr_array(sp.diags_array(1.0 + 0.3 * np.sin(np.arange(A.shape[0]))) @ A)
    pattern, values = split(A)
    rows = Rows.of(pattern.crow, pattern.ccol, values, A.shape[0])
    own = torch.from_numpy(A.diagonal()).abs()
    groups = tied_groups(pattern.crow, pattern.ccol, values, own)
    assert groups is not None
    smoother, _ = make_smoother(name, 2, rows, groups)
    M = blocks(A.toarray(), groups.rows.reshape(-1, 4).tolist(), name)
    if name == "chebyshev":
        largest = np.abs(np.linalg.eigvals(M @ A.toarray())).max()
        theta = 1.0 / smoother.steps[0][0]
        assert largest <= theta / 0.625 <= 1.25 * largest
    b, x = rhs(A.shape[0], 2).numpy(), rhs(A.shape[0], 2).numpy()[::-1].copy()
    for start in (None, x):
        now, before = (np.zeros_like(b) if start is None else start), None
        for alpha, momentum in smoother.steps:
            step = alpha * M @ (b - A @ now)
            after = now + step + (0 if before is None else momentum * (now - before))
            now, before = after, now
        given = torch.from_numpy(b)
        found = (
            smoother.from_zero(rows, given)
            if start is None
            else smoother(rows, torch.from_numpy(start), given)
        )
        torch.testing.assert_close(found.numpy(), now, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("smoother", ["chebyshev", "spai0"])
def test_the_cycle_stays_symmetric_and_has_an_adjoint(smoother: str) -> None:
    A = flat_cells(100.0, each=5, edge=10)
    options = AMG(smoother=smoother, dtype="float64", coarse_size=60)
    pattern, values = split(A)
    hierarchy = DeviceAggregation(pattern, values, options, None)
    probe = rhs(A.shape[0], 6)
    table = probe.T @ hierarchy.apply(probe)
    assert torch.allclose(table, table.T, rtol=1e-9, atol=1e-9 * float(table.abs().max()))
    scale = sp.diags_array(1.0 + 0.3 * np.sin(np.arange(A.shape[0])))
    pattern, values = split(sp.csr_array(scale @ A))
    other = DeviceAggregation(pattern, values, options, None, unsymmetric=True)
    x, y = probe[:, :3], probe[:, 3:]
    there, back = (other.apply(x) * y).sum(), (x * other.apply_adjoint(y)).sum()
    assert torch.allclose(there, back, rtol=1e-9)


def test_new_values_tie_other_rows() -> None:
    pattern, values = split(flat_cells(1e3, edge=8))
    hierarchy = DeviceAggregation(pattern, values, AMG(dtype="float64"), None)
    tied = hierarchy.nbytes
    mild = split(flat_cells(1e-3, edge=8))[1]
    hierarchy.update(mild)
    assert hierarchy._forward.stages[0].smoother.tied is None
    assert hierarchy.nbytes < tied
    hierarchy.update(values)
    fresh = DeviceAggregation(pattern, values, AMG(dtype="float64"), None)
    b = rhs(pattern.shape[0])
    torch.testing.assert_close(hierarchy.apply(b), fresh.apply(b), rtol=1e-12, atol=1e-14)


def test_nothing_is_tied_on_regular_grids_and_singular_blocks_stay_apart() -> None:
    pattern, values = split(poisson(9, 9, weights=(1.0, 1e4)))
    own = values[pattern.diagonal_slots.long()].abs()
    assert tied_groups(pattern.crow, pattern.ccol, values, own) is None
    twice = sp.csr_array(np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.1], [0.0, 0.1, 1.0]]))
    pattern, values = split(twice)
    groups = tied_groups(pattern.crow, pattern.ccol, values, torch.ones(3, dtype=torch.float64))
    assert groups is not None
    rows = Rows.of(pattern.crow, pattern.ccol, values, 3)
    assert make_smoother("jacobi", 1, rows, groups)[0].tied is None


@SIMULATION[0]
@SIMULATION[1]
def test_a_device_tells_once_what_is_tied() -> None:
    pattern, values = split(flat_cells(1e3, edge=6))
    own = values[pattern.diagonal_slots.long()].abs()
    known = tied_groups(pattern.crow, pattern.ccol, values, own)
    *where, size = (t.cuda() for t in (pattern.crow, pattern.ccol, values, own))
    rows = Rows(*where, pattern.shape[1], int(pattern.crow.diff().max()))
    with counted("linalg/kernels/") as seen:
        groups = tied_groups(*where, size)
        make_smoother("chebyshev", 2, rows, groups)
    assert seen.total() <= 7, seen  # two of them for spectral radii
    assert known is not None
    assert groups is not None
    for name in ("rows", "size", "blocks", "outside", "group", "place"):
        torch.testing.assert_close(getattr(groups, name).cpu(), getattr(known, name))
