"""Direct solves of matrices of the sizes and kinds that come up: machine precision, and no fallback."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from torch_sla.errors import Result, SolveError
from torch_sla.linalg import SparseTensor
from torch_sla.linalg.kernels import unavailable

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=f"{unavailable()}")


def grid(*cells: int) -> sp.csr_array:
    A = sp.csr_array((1, 1))
    for n in cells:
        ones = np.ones(n - 1)
        path = sp.diags_array([-ones, 2 * np.ones(n), -ones], offsets=[-1, 0, 1])
        A = sp.kron(A, sp.eye_array(n)) + sp.kron(sp.eye_array(A.shape[0]), path)
    return sp.csr_array(A)


def shifted(shift: complex, *cells: int) -> sp.csr_array:
    A = grid(*cells)
    return sp.csr_array(A + shift * sp.eye_array(A.shape[0]))


def stokes(n: int) -> sp.csr_array:
    K = grid(n, n)
    step = sp.diags_array([-np.ones(n), np.ones(n - 1)], offsets=[0, 1])
    D = sp.hstack([sp.kron(step, sp.eye_array(n)), sp.kron(sp.eye_array(n), step)])
    D = sp.csr_array(D)[: n * n - 1]
    return sp.csr_array(sp.block_array([[sp.block_diag([K, K]), D.T], [D, None]]))


def interior_point(n: int, spread: float) -> sp.csr_array:
    random = np.random.default_rng(31)
    m = n // 3
    H = sp.diags_array(10 ** random.uniform(-spread, spread, n))
    own = sp.csr_array((np.ones(m), (np.arange(m), np.arange(m))), shape=(m, n))
    C = sp.random_array((m, n), density=4 / n, random_state=random) + own
    return sp.csr_array(sp.block_array([[H, C.T], [C, -1e-8 * sp.eye_array(m)]]))


ZOO = {
    "surface": ("cholesky", lambda: grid(31, 29)),
    "solid": ("cholesky", lambda: grid(11, 10, 9)),
    "anisotropic": ("cholesky", lambda: grid(40, 1, 1) + 1e6 * sp.eye_array(40)),
    "helmholtz on a surface": ("ldlt", lambda: shifted(-0.71, 31, 29)),
    "helmholtz in a solid": ("ldlt", lambda: shifted(-2.3, 11, 10, 9)),
    "helmholtz, zero diagonal": ("ldlt", lambda: shifted(-4.0, 20, 18)),
    "damped helmholtz": ("ldlt", lambda: shifted(-0.7 + 0.05j, 31, 29)),
    "stokes": ("ldlt", lambda: stokes(13)),
    "interior point": ("ldlt", lambda: interior_point(300, 5.0)),
}


@pytest.mark.parametrize("name", ZOO)
def test_residuals_at_machine_precision(name: str) -> None:
    method, make = ZOO[name]
    A = SparseTensor.from_scipy(sp.csr_array(make()))
    b = torch.randn(A.shape[0], 2, dtype=A.dtype, generator=torch.Generator().manual_seed(31))
    _, info = A.solve(b, backend="native", method=method, info=True)
    assert info.converged
    assert info.backward_error < 8 * torch.finfo(torch.float64).eps
    assert not any("native" in note for note in info.notes)  # nothing had to take over


@pytest.mark.parametrize("name", [n for n in ZOO if n != "anisotropic"])
def test_left_to_itself_the_plan_solves_it_too(name: str) -> None:
    A = SparseTensor.from_scipy(sp.csr_array(ZOO[name][1]()))
    b = torch.randn(A.shape[0], dtype=A.dtype, generator=torch.Generator().manual_seed(31))
    _, info = A.solve(b, info=True)
    assert info.converged
    assert info.backward_error < 1e-10


def test_what_cannot_be_solved_says_why() -> None:
    b = torch.ones(900, dtype=torch.float64)
    singular = shifted(-float(2 * (1 - np.cos(np.pi / 31)) * 2), 30, 30)
    with pytest.raises(SolveError) as caught:
        SparseTensor.from_scipy(singular).solve(b, backend="native", method="ldlt")
    assert caught.value.result is Result.SINGULAR
    indefinite = grid(30, 30)
    indefinite.setdiag(np.where(np.arange(900) == 417, -3.0, 4.0))
    with pytest.raises(SolveError, match="pivot is not positive in row") as caught:
        SparseTensor.from_scipy(indefinite).solve(b, backend="native", method="cholesky")
    assert caught.value.result is Result.NOT_POSITIVE_DEFINITE
    # The choice left to the plan, the matrix said to be definite: what took over is told.
    A = SparseTensor.from_scipy(indefinite)
    plan = A.declare(hermitian=True, positive_definite=True).plan(backend="native")
    x, info = A.declare(hermitian=True, positive_definite=True).solve(b, plan=plan, info=True)
    assert info.method == "ldlt"
    assert any("not_positive_definite" in note for note in info.notes)
    torch.testing.assert_close(A @ x, b)
