from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.helpers.grids import poisson, rhs
from torch_sla.errors import ArgumentError
from torch_sla.linalg import SparseTensor
from torch_sla.linalg.kernels import unavailable
from torch_sla.linalg.plan.facts import Facts
from torch_sla.linalg.plan.plan import make_plan
from torch_sla.linalg.precond.of_matrix import OfMatrix, shifted_laplacian

needs_multigrid = pytest.mark.skipif(unavailable() is not None, reason="needs the extension")
N = 40


def waves(k2: float, loss: float = 0.0) -> tuple[SparseTensor, SparseTensor, SparseTensor]:
    """``K - k² M`` with a share of loss, ``K``, and ``k² M``."""
    K = SparseTensor.from_scipy(poisson(N, N))
    mass = SparseTensor.eye(N * N, dtype=torch.float64) * k2
    A = K - (mass * (1 - 1j * loss) if loss else mass)
    return A, K, mass


@needs_multigrid
@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_shifted_laplacian_for_waves(loss: float) -> None:
    A, K, mass = waves(0.02, loss)
    b = rhs(N * N)[:, 0].to(A.dtype)
    options = {"method": "gmres", "rtol": 1e-8, "info": True, "throw": False, "maxiter": 400}
    x, info = A.solve(b, preconditioner=shifted_laplacian(K, mass), **options)
    _, plain = A.solve(b, preconditioner="jacobi", **options)
    assert info.converged
    assert info.iterations <= 60
    assert not plain.converged or plain.iterations > 2 * info.iterations
    torch.testing.assert_close(
        x, A.solve(b, backend="scipy", method="superlu"), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_plans_leave_waves_to_factorisations(dtype: torch.dtype) -> None:
    facts = {"rows": 400_000, "columns": 400_000, "nnz": 2_000_000, "dtype": dtype}
    real = not dtype.is_complex
    plan = make_plan(Facts(**facts, hermitian=real, positive_definite=False))
    assert plan.preconditioner is None
    reasons = [v.reason for v in plan.verdicts if v.candidate.preconditioner == "multigrid"]
    assert any("shifted" in reason for reason in reasons)
    asked = Facts(**facts, hermitian=real, positive_definite=False, preconditioner="multigrid")
    assert make_plan(asked).preconditioner == "multigrid"


def test_bad_input_is_named() -> None:
    A = SparseTensor.eye(4, dtype=torch.float64)
    b = torch.ones(4, dtype=torch.float64)

    def solve(options: object) -> None:
        A.solve(b, method="gmres", preconditioner=options)

    with pytest.raises(ArgumentError, match=r"`matrix` must be \[4, 4\]"):
        solve(OfMatrix(SparseTensor.eye(3, dtype=torch.float64), "jacobi"))
    with pytest.raises(ArgumentError, match="the system is real"):
        solve(OfMatrix(SparseTensor.eye(4, dtype=torch.complex128), "jacobi"))
    with pytest.raises(ArgumentError, match="`by` must name"):
        solve(OfMatrix(A, "none"))
    with pytest.raises(ArgumentError, match="`shift`"):
        shifted_laplacian(A, A, shift=-1.0)


def test_adjoints_of_complex_systems_use_it_too() -> None:
    rng = np.random.default_rng(8)
    dense = torch.from_numpy(np.eye(9) * 5 + rng.standard_normal((9, 9, 2)).view(complex)[..., 0])
    A = SparseTensor.from_dense(dense)
    near = OfMatrix(SparseTensor.eye(9, dtype=torch.float64) * 5, "jacobi")
    b = torch.ones(9, dtype=torch.complex128, requires_grad=True)
    A.solve(b, method="gmres", preconditioner=near, rtol=1e-12).abs().square().sum().backward()
    same = b.detach().clone().requires_grad_()
    torch.linalg.solve(dense, same).abs().square().sum().backward()
    torch.testing.assert_close(b.grad, same.grad, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_a_shifted_laplacian_is_that_of_its_name(shift: float) -> None:
    """``K + shift k² M``, real parts of both."""
    loss = 1 + 0.3j
    K, M = (loss * torch.from_numpy(poisson(*shape).toarray()) for shape in ((3, 4), (2, 6)))
    made = shifted_laplacian(SparseTensor.from_dense(K), SparseTensor.from_dense(M), shift=shift)
    torch.testing.assert_close(made.matrix.to_dense(), K.real + shift * M.real)
