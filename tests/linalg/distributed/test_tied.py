"""Rows that flat cells tie together, in parts: one block of the smoother, within the parts."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.sparse.csgraph import reverse_cuthill_mckee

from tests.helpers.grids import rhs
from tests.helpers.meshed import delaunay, flat_cells
from torch_sla.linalg import AMG, DSparseTensor, SparseTensor
from torch_sla.linalg.distributed.precond.chebyshev import Chebyshev
from torch_sla.linalg.distributed.precond.multigrid import PartMultigrid
from torch_sla.linalg.distributed.precond.tied import Ties

AGGREGATES = PartMultigrid(method="smoothed_aggregation")


def tensor(A: sp.csr_array) -> SparseTensor:
    A = sp.coo_array(A)
    row, col = (torch.from_numpy(np.asarray(i, np.int64)) for i in (A.row, A.col))
    made = SparseTensor(torch.from_numpy(A.data), row, col, A.shape)
    return made.declare(positive_definite=True)


def in_parts(A: sp.csr_array, parts: int = 1) -> DSparseTensor:
    return tensor(A).partition(parts, partition_method="simple")


def smoother(D: DSparseTensor, *, tied: bool = True) -> Chebyshev:
    return Chebyshev(D.sharding, D.slot_values(), 2, edge=1 if tied else None)


def iterations(A: sp.csr_array, parts: int) -> int:
    b = rhs(A.shape[0])[:, 0]
    x, info = in_parts(A, parts).solve(
        b, method="cg", preconditioner=AGGREGATES, rtol=1e-8, info=True
    )
    assert float((torch.from_numpy(A @ x.numpy()) - b).norm()) <= 1.01e-8 * float(b.norm())
    return info.iterations


@pytest.mark.parametrize("parts", [1, 3])
def test_iterations_do_not_grow_with_the_stiffness(parts: int) -> None:
    mild, stiff = (iterations(flat_cells(s, edge=14), parts) for s in (1.0, 1e4))
    assert stiff <= 1.5 * mild <= 30


@pytest.mark.parametrize("parts", [1, 8])
def test_tetrahedra_with_slivers_take_what_one_matrix_takes(parts: int) -> None:
    A = delaunay(6000, 3)
    b = rhs(A.shape[0])[:, 0]
    options = {"method": "cg", "rtol": 1e-10, "info": True}
    _, whole = tensor(A).solve(b, backend="pytorch", preconditioner=AMG(), **options)
    order = reverse_cuthill_mckee(A, symmetric_mode=True)  # neighbours in one part, without METIS
    ids = torch.from_numpy(np.argsort(order) * parts // len(order))
    D = tensor(A).partition(parts, partition_ids=ids)
    _, info = D.solve(b, preconditioner="multigrid", **options)
    assert info.iterations <= 1.5 * whole.iterations


def test_the_blocks_are_inverted() -> None:
    A = flat_cells(1e3, edge=8)
    D = in_parts(A)
    r = rhs(A.shape[0], 2)
    ties = Ties.of(D.sharding, D.slot_values(), 1)
    assert ties is not None
    assert len(ties.rows) == 4 * len(np.arange(1, 7, 3)) ** 3
    expected = r / torch.from_numpy(A.diagonal())[:, None]
    for group in ties.rows.reshape(-1, 4).tolist():
        expected[group] = torch.from_numpy(
            np.linalg.solve(A[group][:, group].toarray(), r[group].numpy())
        )
    found = smoother(D)._divided(r)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("parts", [1, 3])
def test_what_is_smoothed_is_the_adjoint_of_its_adjoint(parts: int) -> None:
    A = flat_cells(1e3, edge=8)
    A = sp.csr_array(sp.diags_array(1.0 + 0.3 * np.sin(np.arange(A.shape[0]))) @ A)
    M = smoother(in_parts(A, parts))
    x, y = rhs(A.shape[0], 2).T.reshape(2, -1, 1)
    there, back = (M.apply(x) * y).sum(), (x * M.apply_adjoint(y)).sum()
    assert abs(float(there - back)) <= 1e-12 * float(M.apply(x).norm() * y.norm())


def test_groups_stay_small_and_within_parts() -> None:
    # A chain in which each row is tied to the next one.
    n = 100
    A = sp.diags_array(
        [np.full(n - 1, -0.999), np.full(n, 1.2), np.full(n - 1, -0.999)], offsets=[-1, 0, 1]
    )
    for parts in (1, 3):
        D = in_parts(sp.csr_array(A), parts)
        ties = Ties.of(D.sharding, D.slot_values(), 1)
        assert ties is not None
        assert torch.equal(ties.rows.sort().values, torch.arange(n))
        lengths = ties.crow.diff()
        assert 12 <= int(lengths.min()) <= int(lengths.max()) <= 24
        first = ties.rows[ties.ccol[ties.crow[:-1]]]
        owner = D.layout.owner(ties.rows)
        assert torch.equal(owner, D.layout.owner(first))


def test_nothing_is_tied_on_regular_meshes_and_singular_blocks_stay_apart() -> None:
    D = in_parts(flat_cells(0.0, edge=6))
    assert Ties.of(D.sharding, D.slot_values(), 1) is None
    twice = sp.csr_array(np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.1], [0.0, 0.1, 1.0]]))
    D = in_parts(twice)
    assert Ties.of(D.sharding, D.slot_values(), 1) is None
    assert float(smoother(D)._divided(torch.ones(3, 1, dtype=torch.float64)).sum()) == 3.0
