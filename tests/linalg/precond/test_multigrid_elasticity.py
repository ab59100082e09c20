from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from torch_sla.errors import Result
from torch_sla.linalg.kernels import unavailable
from torch_sla.linalg.methods.outcome import KrylovOptions
from torch_sla.linalg.precond.multigrid import AMG, Hierarchy, rigid_body_modes
from torch_sla.linalg.sparse.pattern import Pattern
from torch_sla.linalg.sparse.structure import Structure

pytestmark = pytest.mark.skipif(unavailable() is not None, reason="needs the extension")


def element_stiffness(dim: int, nu: float) -> np.ndarray:
    """Unit square or cube with multilinear shape functions and modulus 1 (plane strain in 2D)."""
    corners = np.array(list(itertools.product((0, 1), repeat=dim)))
    lame, shear = nu / ((1 + nu) * (1 - 2 * nu)), 0.5 / (1 + nu)
    nb = len(corners)
    K = np.zeros((nb, dim, nb, dim))
    gauss = (0.5 - 0.5 / np.sqrt(3), 0.5 + 0.5 / np.sqrt(3))
    for point in itertools.product(gauss, repeat=dim):
        factor = np.where(corners == 1, point, 1 - np.array(point))
        slope = np.where(corners == 1, 1.0, -1.0)
        grad = np.empty((nb, dim))
        for d in range(dim):
            grad[:, d] = slope[:, d] * np.prod(np.delete(factor, d, axis=1), axis=1)
        K += lame * np.einsum("ai,bj->aibj", grad, grad) / 2**dim
        K += shear * np.einsum("aj,bi->aibj", grad, grad) / 2**dim
        K += shear * np.einsum("ak,bk,ij->aibj", grad, grad, np.eye(dim)) / 2**dim
    return K.reshape(nb * dim, nb * dim)


def block_of_cells(
    shape: tuple[int, ...], nu: float, modulus: np.ndarray | None = None, clamp: bool = True
) -> tuple[sp.csr_array, torch.Tensor, np.ndarray]:
    """Matrix, clamped at the first face with its rows in place, node coordinates, free mask."""
    dim = len(shape)
    nodes = np.arange(np.prod([s + 1 for s in shape])).reshape([s + 1 for s in shape])
    local = [
        nodes[tuple(slice(c, c + s) for c, s in zip(corner, shape, strict=True))].ravel()
        for corner in itertools.product((0, 1), repeat=dim)
    ]
    dofs = (np.stack(local, 1)[:, :, None] * dim + np.arange(dim)).reshape(len(local[0]), -1)
    scale = np.ones(len(dofs)) if modulus is None else modulus.ravel()
    values = scale[:, None, None] * element_stiffness(dim, nu)
    row = np.repeat(dofs, dofs.shape[1], axis=1).ravel()
    col = np.tile(dofs, (1, dofs.shape[1])).ravel()
    n = nodes.size * dim
    A = sp.csr_array(sp.coo_array((values.ravel(), (row, col)), (n, n)))
    A.sum_duplicates()
    free = np.ones(n)
    if clamp:
        free[(nodes[0].ravel()[:, None] * dim + np.arange(dim)).ravel()] = 0
    rows = np.repeat(np.arange(n), np.diff(A.indptr))
    diagonal = rows == A.indices
    A.data[~diagonal & (free[rows] * free[A.indices] == 0)] = 0.0
    points = np.stack(np.unravel_index(np.arange(nodes.size), nodes.shape), 1).astype(float)
    return A, torch.from_numpy(points), free


def solve(
    A: sp.csr_array, points: torch.Tensor, free: np.ndarray, options: AMG
) -> tuple[int, Hierarchy]:
    crow, ccol = (torch.from_numpy(i.astype(np.int32)) for i in (A.indptr, A.indices))
    pattern, values = Pattern.from_csr(crow, ccol, A.shape), torch.from_numpy(A.data)
    hierarchy = options.build(pattern, values, Structure(coordinates=points))
    b = torch.from_numpy(np.random.default_rng(59).standard_normal(len(free)) * free).unsqueeze(1)
    out = hierarchy.cg(values, b, options=KrylovOptions(rtol=1e-8, maxiter=200))
    assert out.result is Result.CONVERGED
    residual = np.linalg.norm(A @ out.x[:, 0].numpy() - b[:, 0].numpy())
    assert residual <= 1.001e-8 * float(b.norm())
    return out.iterations, hierarchy


@pytest.mark.parametrize(("shape", "bound"), [((60, 30), 16), ((12, 12, 12), 14), ((24, 8, 8), 18)])
@pytest.mark.parametrize("nu", [0.0, 0.3, 0.4])
def test_few_iterations_with_rigid_body_modes(
    shape: tuple[int, ...], bound: int, nu: float
) -> None:
    iterations, hierarchy = solve(*block_of_cells(shape, nu), AMG())
    dim = len(shape)
    assert iterations <= bound + (6 if nu == 0.4 else 0)
    assert hierarchy.levels[0].block == dim
    assert hierarchy.levels[1].block == (3 if dim == 2 else 6)
    assert hierarchy.operator_complexity < 1.7


@pytest.mark.parametrize("smoother", ["spai0", "jacobi", "l1_jacobi", "chebyshev", "gauss_seidel"])
def test_block_smoothers(smoother: str) -> None:
    assert solve(*block_of_cells((8, 8, 8), 0.3), AMG(smoother=smoother))[0] <= 30


def test_spread_moduli() -> None:
    modulus = np.where(np.random.default_rng(17).random((16, 10, 10)) < 0.5, 1 / 762.0, 1.0)
    assert solve(*block_of_cells((16, 10, 10), 0.3, modulus), AMG())[0] <= 30


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_update_of_blocks(dtype: str) -> None:
    A, points, free = block_of_cells((7, 6, 6), 0.3)
    _, hierarchy = solve(A, points, free, AMG(dtype=dtype))
    r = torch.from_numpy(np.random.default_rng(5).standard_normal(len(free)))
    before = hierarchy.apply(r)
    hierarchy.update(4.0 * torch.from_numpy(A.data))
    torch.testing.assert_close(hierarchy.apply(r), before / 4, rtol=1e-5, atol=1e-6)


def test_floating_body_has_six_modes() -> None:
    A, points, _ = block_of_cells((6, 5, 7), 0.3, clamp=False)
    n = A.shape[0]
    modes = rigid_body_modes(points)
    np.testing.assert_allclose(A @ modes.numpy(), 0.0, atol=1e-12)
    crow, ccol = (torch.from_numpy(i.astype(np.int32)) for i in (A.indptr, A.indices))
    pattern, data = Pattern.from_csr(crow, ccol, A.shape), torch.from_numpy(A.data)
    hierarchy = Hierarchy(pattern, data, AMG(near_nullspace=modes))
    assert hierarchy.coarse_nullity == 6
    b = torch.from_numpy(np.random.default_rng(6).standard_normal((n, 1)))
    out = hierarchy.cg(data, b, options=KrylovOptions(rtol=1e-8, maxiter=100), nullspace=modes)
    assert out.result is Result.CONVERGED
    assert out.iterations <= 25
    np.testing.assert_allclose(modes.numpy().T @ out.x.numpy(), 0.0, atol=1e-7)
