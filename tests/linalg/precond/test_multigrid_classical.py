from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from tests.helpers.grids import diffusion, poisson, rhs, split
from torch_sla.errors import Result, SolveError
from torch_sla.linalg.kernels import unavailable
from torch_sla.linalg.methods.outcome import KrylovOptions
from torch_sla.linalg.precond.multigrid import AMG, Hierarchy

pytestmark = pytest.mark.skipif(unavailable() is not None, reason="needs the extension")

CLASSICAL = AMG(method="classical")
LINES = AMG(method="lattice", smoother="line")


def iterations(A: sp.csr_array, options: AMG) -> tuple[int, Hierarchy]:
    pattern, values = split(A)
    hierarchy = Hierarchy(pattern, values, options)
    b = rhs(A.shape[0])
    out = hierarchy.cg(values, b, options=KrylovOptions(rtol=1e-8, maxiter=200))
    assert out.result is Result.CONVERGED
    left = np.linalg.norm(b[:, 0].numpy() - A @ out.x[:, 0].numpy())
    assert left <= 1.001e-8 * np.linalg.norm(b.numpy())
    return out.iterations, hierarchy


@pytest.mark.parametrize("options", [CLASSICAL, LINES], ids=["classical", "lines"])
@pytest.mark.parametrize("shape", [(60, 60), (200, 200), (24, 24, 24)])
def test_iterations_do_not_grow(shape: tuple[int, ...], options: AMG) -> None:
    assert iterations(poisson(*shape), options)[0] <= 12


@pytest.mark.parametrize("shape", [(120, 120), (24, 24, 24)])
@pytest.mark.parametrize("kind", ["logarithmic", "two"])
def test_jumps_from_cell_to_cell(shape: tuple[int, ...], kind: str) -> None:
    """Six orders of magnitude, independent in every cell: an automatic choice keeps points."""
    rng = np.random.default_rng(5)
    k = 10 ** rng.uniform(-3, 3, shape)
    if kind == "two":
        k = np.where(rng.random(shape) < 0.5, 1e6, 1.0)
    found, hierarchy = iterations(diffusion(k), AMG())
    assert hierarchy.method == "classical"
    assert found <= 20


def test_a_smooth_field_of_many_magnitudes_stays_on_its_lattice() -> None:
    k = np.exp(6 * np.sin(np.mgrid[:100, :100].sum(0) / 40))
    found, hierarchy = iterations(diffusion(k), AMG())
    assert hierarchy.method == "lattice"
    assert found <= 15


def test_diagonal_stripes() -> None:
    k = np.where((np.mgrid[:120, :120].sum(0) // 20) % 2, 1e6, 1.0)
    assert iterations(diffusion(k), AMG())[0] <= 20


def clustered(n: int) -> sp.csr_array:
    """A tensor-product grid whose cells are stretched along x near two walls, along y near the others."""
    h = np.diff(np.sinh(np.linspace(-4, 4, n + 1)))
    between = 2 / (h[:-1] + h[1:])
    sides = np.concatenate([[2 / h[0]], between]) + np.concatenate([between, [2 / h[-1]]])
    K = sp.diags_array([-between, sides, -between], offsets=[-1, 0, 1])
    A = sp.csr_array(sp.kron(K, sp.diags_array(h)) + sp.kron(sp.diags_array(h), K))
    A.sort_indices()
    return A


def test_lines_where_the_stretching_turns() -> None:
    A = clustered(120)
    found, hierarchy = iterations(A, LINES)
    assert hierarchy.method == "lattice"
    assert found <= 15
    assert iterations(A, AMG(method="lattice"))[0] >= 3 * found
    assert iterations(A, AMG())[0] <= 25


@pytest.mark.parametrize("method", ["lattice", "smoothed_aggregation", "classical"])
def test_k_cycles(method: str) -> None:
    assert iterations(poisson(90, 90), AMG(method=method, cycle="K"))[0] <= 14


@pytest.mark.parametrize("options", [CLASSICAL, LINES], ids=["classical", "lines"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_adjoint_is_the_transpose(options: AMG, symmetric: bool) -> None:
    A = poisson(11, 13)
    if not symmetric:
        upwind = sp.diags_array([np.ones(13), -np.ones(12)], offsets=[0, -1])
        A = sp.csr_array(A + sp.kron(sp.eye_array(11), 2 * upwind))
        A.sort_indices()
    small = AMG(method=options.method, smoother=options.smoother, dtype="float64", coarse_size=20)
    hierarchy = Hierarchy(*split(A), small)
    eye = torch.eye(143, dtype=torch.float64)
    B, turned = hierarchy.apply(eye), hierarchy.apply_adjoint(eye)
    torch.testing.assert_close(turned, B.T, rtol=1e-10, atol=1e-12)
    if symmetric:
        torch.testing.assert_close(B, B.T, rtol=1e-10, atol=1e-12)
        assert torch.linalg.eigvalsh(B).min() > 0


def test_kept_points_reproduce_constants() -> None:
    A = poisson(20, 20)
    hierarchy = Hierarchy(*split(A), AMG(method="classical", dtype="float64"))
    P = hierarchy.prolongation(0)
    dense = sp.csr_array((P.values.flatten(), P.ccol, P.crow), shape=(400, P.columns))
    inner = np.abs(A @ np.ones(400)) < 1e-12
    np.testing.assert_allclose((dense @ np.ones(P.columns))[inner], 1.0)
    # Every kept point is interpolated from itself alone.
    assert (dense.max(axis=0).toarray() == 1.0).all()


def test_same_class_as_pyamg() -> None:
    pyamg = pytest.importorskip("pyamg")
    A = diffusion(10 ** np.random.default_rng(2).uniform(-3, 3, (80, 80)))
    history: list[float] = []
    solver = pyamg.ruge_stuben_solver(sp.csr_matrix(A))
    solver.solve(rhs(6400)[:, 0].numpy(), tol=1e-8, accel="cg", residuals=history)
    assert iterations(A, CLASSICAL)[0] <= 1.6 * (len(history) - 1)


def test_failures_have_reasons() -> None:
    pattern, values = split(poisson(20, 20))
    hole = values.clone()
    hole[pattern.diagonal_slots[37]] = 0.0
    for options in (CLASSICAL, LINES):
        with pytest.raises(SolveError, match="row 37 is zero"):
            Hierarchy(pattern, hole, options)
        hierarchy = Hierarchy(pattern, values, options)
        assert hierarchy.cg(-values, rhs(400)).result is Result.BREAKDOWN
    parts = [poisson(25, 25), 1e5 * poisson(20, 20), sp.csr_array([[7.0]]), sp.csr_array([[1e-4]])]
    assert iterations(sp.csr_array(sp.block_diag(parts)), CLASSICAL)[0] <= 14
    assert iterations(sp.csr_array([[3.0]]), CLASSICAL)[0] <= 2


def test_singular_with_constants() -> None:
    A = poisson(40, 44)
    A = sp.csr_array(A - sp.diags_array(A @ np.ones(A.shape[0])))
    A.sort_indices()
    pattern, values = split(A)
    ones = torch.ones(A.shape[0], 1, dtype=torch.float64)
    for options in (CLASSICAL, LINES):
        hierarchy = Hierarchy(pattern, values, options)
        assert hierarchy.coarse_nullity == 1
        out = hierarchy.cg(
            values, rhs(A.shape[0]), options=KrylovOptions(rtol=1e-8), nullspace=ones
        )
        assert out.result is Result.CONVERGED
        assert out.iterations <= 15
