"""Parts of multigrid and Schwarz on matrices in parts, against dense definitions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from tests.helpers.grids import diffusion
from torch_sla.linalg import AMG, SparseTensor
from torch_sla.linalg.distributed.precond.chebyshev import Chebyshev, PartChebyshev
from torch_sla.linalg.distributed.precond.coarse import GatheredInverse
from torch_sla.linalg.distributed.precond.multigrid import PartMultigrid
from torch_sla.linalg.distributed.sharding import Product

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg import DSparseTensor


def dense(D: DSparseTensor) -> Tensor:
    """In the order in which the parts hold the rows."""
    eye = torch.eye(D.shape[-1], dtype=D.slot_values().dtype)
    return Product(D.sharding, D.slot_values())(eye)


def normal(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("hermitian", [True, False])
@pytest.mark.parametrize("rank", [9, 8, 6])
@pytest.mark.parametrize("spread", [1.0, 1e16])
def test_the_coarsest_matrix_has_a_generalised_inverse(
    spread: float, rank: int, hermitian: bool, dtype: torch.dtype
) -> None:
    """Whatever the units of its unknowns: small ones are no null space."""
    X = normal(9, rank, seed=1, dtype=dtype)
    Y = X if hermitian else normal(9, rank, seed=2, dtype=dtype)
    size = spread ** torch.linspace(0, 0.5, 9, dtype=torch.float64)
    plain = X @ Y.mH
    D = SparseTensor.from_dense(plain * size * size[:, None]).partition(3)
    A, eye = dense(D), torch.eye(9, dtype=dtype)
    found = GatheredInverse(D.sharding, D.slot_values())
    B = found.apply(eye)
    torch.testing.assert_close(found.apply(eye, adjoint=True), B.mH)
    d = A.diagonal().abs().sqrt()
    A, B = A / d / d[:, None], B * d * d[:, None]
    torch.testing.assert_close(A @ B @ A, A, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(B @ A @ B, B, rtol=1e-7, atol=1e-7 * float(B.abs().max()))
    assert int(torch.linalg.matrix_rank(B, rtol=1e-10)) == rank
    if rank == 9:
        singular = torch.linalg.svdvals(A)
        assert found.pivot == pytest.approx(float(singular[-1] / singular[0]), rel=1e-6)


@pytest.mark.parametrize("jump", [1e6, 1e14])
def test_iterations_do_not_depend_on_a_jump(jump: float) -> None:
    """The coarsest matrix has rows of both sizes."""
    k = np.ones((40, 40))
    k[:20] = jump
    M = diffusion(k).tocoo()
    row, col = (torch.from_numpy(i.astype(np.int64)) for i in (M.row, M.col))
    A = SparseTensor(torch.from_numpy(M.data), row, col, M.shape)
    b = torch.linspace(-1, 1, 1600, dtype=torch.float64)
    exact, info = A.declare(positive_definite=True).solve(
        b, method="cg", backend="pytorch", preconditioner=AMG(), info=True
    )
    most = info.iterations + 2
    for parts in (1, 4):
        options = PartMultigrid(method="smoothed_aggregation")
        x, info = A.partition(parts).solve(b, preconditioner=options, info=True)
        torch.testing.assert_close(x, exact, rtol=1e-6, atol=1e-9)
        assert info.iterations <= most


def polynomial(degree: int, x: Tensor) -> Tensor:
    before, now = torch.ones_like(x), x
    for _ in range(degree - 1):
        before, now = now, 2 * x * now - before
    return now


@pytest.mark.parametrize("degree", [1, 2, 5])
def test_chebyshev_polynomials(degree: int) -> None:
    """``I - B A`` is ``T_k`` of the interval in ``D⁻¹ A``, over its value at zero; the adjoint is that of ``Aᴴ``."""
    X = normal(8, 8, seed=3)
    D = SparseTensor.from_dense(X @ X.T + 8 * torch.eye(8, dtype=torch.float64)).partition(3)
    A, eye = dense(D), torch.eye(8, dtype=torch.float64)
    made = Chebyshev(D.sharding, D.slot_values(), degree, 0.2)
    half = A.diagonal().rsqrt()
    w, V = torch.linalg.eigh(A * half * half[:, None])
    assert 0.8 * float(w[-1]) <= made.radius <= 1.0501 * float(w[-1])
    middle, width = 0.6 * made.radius, 0.4 * made.radius
    left = polynomial(degree, (middle - w) / width)
    left = left / polynomial(degree, torch.tensor([1.5], dtype=torch.float64))
    wanted = half[:, None] * ((V * left) @ V.T) / half
    torch.testing.assert_close(eye - made.apply(eye) @ A, wanted)
    torch.testing.assert_close(made.apply_adjoint(eye), made.apply(eye).T)
    x, b = normal(8, 2, seed=4), normal(8, 2, seed=5)
    exact = torch.linalg.solve(A, b)
    torch.testing.assert_close(made.smooth(b, x) - exact, wanted @ (x - exact))


def test_masses_are_inverted_within_the_bounds_of_their_elements() -> None:
    """Bilinear quadrilaterals: eigenvalues over the diagonal from 1/4 to 9/4, and a definite inverse."""
    one = torch.diag(torch.full((7,), 4.0)) + torch.diag(torch.ones(6), 1)
    one = (one + one.T - torch.diag(torch.full((7,), 4.0))).double()
    one[0, 0] = one[-1, -1] = 2.0
    D = SparseTensor.from_dense(torch.kron(one, one)).partition(4)
    B = PartChebyshev(degree=5, ratio=9.0).build_parts(D.sharding, D.slot_values(), None)
    assert B.radius == pytest.approx(9 / 4)
    eye = torch.eye(49, dtype=torch.float64)
    spectrum = torch.linalg.eigvals(B.apply(eye) @ dense(D))
    assert float(spectrum.imag.abs().max()) < 1e-12
    bound = 1 / float(polynomial(5, torch.tensor([1.25], dtype=torch.float64)))
    assert float((spectrum.real - 1).abs().max()) == pytest.approx(bound, rel=0.05)
    assert float((spectrum.real - 1).abs().max()) <= bound * (1 + 1e-9)
