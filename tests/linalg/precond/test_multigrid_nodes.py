"""SPAI-0 with a block for each node: least squares, symmetric only where the matrix may be."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from tests.helpers.grids import poisson, rhs, split
from torch_sla.errors import Result, SolveError
from torch_sla.linalg.kernels import unavailable
from torch_sla.linalg.methods.outcome import KrylovOptions
from torch_sla.linalg.precond.multigrid import AMG, Hierarchy
from torch_sla.linalg.sparse.structure import Structure

pytestmark = pytest.mark.skipif(unavailable() is not None, reason="needs the extension")

UNSYMMETRIC = Structure(symmetric=False)


def coupled(edge: int, seed: int = 0) -> np.ndarray:
    """A matrix of 12 nodes whose unknowns are coupled much within a node, and little beyond."""
    rng = np.random.default_rng(seed)
    D = 0.05 * np.kron(poisson(4, 3).toarray() != 0, np.ones((edge, edge)))
    D *= rng.standard_normal(D.shape)
    for i in range(0, len(D), edge):
        D[i : i + edge, i : i + edge] = np.eye(edge) + 0.25 * rng.standard_normal((edge, edge))
    return D


def smoothed(D: np.ndarray, edge: int, structure: Structure | None) -> np.ndarray:
    """Return what one level does, a step before and a step after: ``2 M - M A M``."""
    options = AMG(
        method="smoothed_aggregation",
        smoother="spai0",
        block=edge,
        dtype="float64",
        coarse_size=1,
        max_levels=1,
    )
    hierarchy = Hierarchy(*split(sp.csr_array(D)), options, structure=structure)
    return hierarchy.apply(torch.eye(len(D), dtype=torch.float64)).numpy()


def least_squares(D: np.ndarray, edge: int) -> np.ndarray:
    M = np.zeros_like(D)
    for i in range(0, len(D), edge):
        here = slice(i, i + edge)
        # M A_i: = E_i:, each row of M by itself
        M[here, here] = np.linalg.lstsq(D[here].T, np.eye(len(D))[:, here], rcond=None)[0].T
    return M


@pytest.mark.parametrize("edge", [2, 3, 4])
@pytest.mark.parametrize("structure", [None, UNSYMMETRIC], ids=["unknown", "unsymmetric"])
def test_blocks_are_least_squares(edge: int, structure: Structure | None) -> None:
    D = coupled(edge)
    D[edge + 1] = 2 * D[edge]  # the rows of the second node depend on each other
    M = least_squares(D, edge)
    if structure is None:
        M = (M + M.T) / 2
    here = slice(edge, 2 * edge)
    M[here, here] = np.diag(np.diag(D)[here] / (D[here] ** 2).sum(1))
    # Steps this short are left as they are.
    assert np.abs(np.linalg.eigvals(M @ D)).max() < 1.4
    np.testing.assert_allclose(
        smoothed(D, edge, structure), 2 * M - M @ D @ M, rtol=1e-9, atol=1e-11
    )


def test_dependent_rows_without_a_diagonal_are_refused() -> None:
    D = coupled(2)
    D[2] = 0.0
    D[2, [0, 3]] = 0.1, 1.0
    D[3] = 2 * D[2]
    with pytest.raises(SolveError, match="row 1 is zero or singular") as caught:
        smoothed(D, 2, None)
    assert caught.value.result is Result.BREAKDOWN


@pytest.mark.parametrize("within", [[[1.0, 0.95], [0.95, 1.0]], [[1.0, 5.0], [-5.0, 1.0]]])
@pytest.mark.parametrize("peclet", [0.3, 10.0])
@pytest.mark.parametrize("adjoint", [False, True])
def test_convection_of_coupled_unknowns(
    within: list[list[float]], peclet: float, adjoint: bool
) -> None:
    first = sp.diags_array([np.ones(20), -np.ones(19)], offsets=[0, -1])
    flow = sp.kron(sp.eye_array(20), first) + sp.kron(first, sp.eye_array(20))
    A = sp.csr_array(sp.kron(poisson(20, 20) + peclet * flow, np.array(within)))
    pattern, values = split(A)
    options = AMG(block=2, smoother="spai0", coarse_size=20)
    hierarchy = Hierarchy(pattern, values, options, structure=UNSYMMETRIC)
    matrix = pattern, values
    if adjoint:
        matrix = pattern.transposed, pattern.transpose_values(values)
    out = hierarchy.krylov(
        "gmres", matrix, rhs(800), adjoint=adjoint, options=KrylovOptions(rtol=1e-8, maxiter=100)
    )
    assert out.result is Result.CONVERGED
    assert out.iterations <= 33
