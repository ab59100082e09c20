from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.helpers.grids import poisson, rhs, split
from torch_sla.linalg import SparseTensor
from torch_sla.linalg.kernels import unavailable
from torch_sla.linalg.precond.multigrid import AMG
from torch_sla.linalg.precond.multigrid.rotated import RotatedHierarchy

pytestmark = pytest.mark.skipif(unavailable() is not None, reason="needs the extension")


def complex_rhs(n: int) -> torch.Tensor:
    return torch.view_as_complex(rhs(n, 2).contiguous())


@pytest.mark.parametrize("omega", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize("phase", [0.0, 2.0])
@pytest.mark.parametrize("n", [40, 100])
def test_iterations_of_damped_systems_are_bounded(n: int, omega: float, phase: float) -> None:
    K = SparseTensor.from_scipy(poisson(n, n))
    A = (K + SparseTensor.eye(n * n, dtype=torch.float64) * (1j * omega)) * np.exp(1j * phase)
    x, info = A.solve(
        complex_rhs(n * n), method="gmres", preconditioner="multigrid", rtol=1e-8, info=True
    )
    assert info.iterations <= 30
    torch.testing.assert_close(A @ x, complex_rhs(n * n), rtol=1e-6, atol=1e-6)


def test_hermitian_definite_matrices_under_cg() -> None:
    """A magnetic Laplacian: phases on the edges of a lattice."""
    pattern, values = split(poisson(50, 50))
    row, col = pattern.csr_row.long(), pattern.ccol.long()
    turn = 2e-3 * (row % 50) * (col - row).sign() * ((col - row).abs() == 50).double()
    A = SparseTensor.from_pattern(pattern, values * torch.polar(torch.ones_like(values), turn))
    assert A.known_structure().hermitian
    x, info = A.solve(
        complex_rhs(2500), method="cg", preconditioner="multigrid", rtol=1e-8, info=True
    )
    assert info.iterations <= 40
    torch.testing.assert_close(A @ x, complex_rhs(2500), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_adjoint_is_the_conjugate_transpose(dtype: torch.dtype) -> None:
    pattern, values = split(poisson(11, 12))
    A = (values + 0.3j * (pattern.csr_row == pattern.ccol)).to(dtype)
    B = RotatedHierarchy(pattern, A, AMG(dtype="float64", coarse_size=20))
    eye = torch.eye(132, dtype=dtype)
    tolerance = 1e-5 if dtype is torch.complex64 else 1e-11
    torch.testing.assert_close(
        B.apply_adjoint(eye), B.apply(eye).mH, rtol=tolerance, atol=tolerance
    )
    torch.testing.assert_close(B.apply(eye[:, 3]), B.apply(eye)[:, 3])
    assert "real part at phase" in str(B)
    assert len(B.levels) > 1
    assert B.nbytes > 0


def test_gradients() -> None:
    pattern, values = split(poisson(8, 9))
    values = (values + 0.2j * (pattern.csr_row == pattern.ccol)).requires_grad_()
    A = SparseTensor.from_pattern(pattern, values)
    b = complex_rhs(72)
    A.solve(b, method="gmres", preconditioner="multigrid", rtol=1e-12).abs().sum().backward()
    dense = A.to_dense().detach().requires_grad_()
    torch.linalg.solve(dense, b).abs().sum().backward()
    wanted = dense.grad[pattern.csr_row.long(), pattern.ccol.long()]
    torch.testing.assert_close(values.grad, wanted, rtol=1e-7, atol=1e-9)
