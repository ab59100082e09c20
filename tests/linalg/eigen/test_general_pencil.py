"""`eigs` of pencils ``A v = λ M v``: any mass, real and complex, singular ones, derivatives in both matrices."""

from __future__ import annotations

import pytest
import scipy.linalg
import torch
from torch.autograd import gradcheck, gradgradcheck

from torch_sla.errors import ArgumentError, GradientError, SolveError
from torch_sla.linalg import SparseTensor

N = 9


def sparse(seed: int, dtype: torch.dtype, diagonal: float = 0.0) -> SparseTensor:
    g = torch.Generator().manual_seed(seed)
    D = torch.randn(N, N, dtype=dtype, generator=g) * (torch.rand(N, N, generator=g) < 0.4)
    return SparseTensor.from_dense(D + diagonal * torch.eye(N, dtype=dtype))


pytestmark = pytest.mark.usefixtures("path")


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("which", ["LM", "SM"])
def test_against_lapack(which: str, dtype: torch.dtype) -> None:
    A, M = sparse(1, dtype), sparse(2, dtype, 4.0)
    w, V = A.eigs(4, which, M=M)
    every = torch.from_numpy(scipy.linalg.eigvals(A.to_dense().numpy(), M.to_dense().numpy()))
    order = every.abs().argsort(descending=which == "LM")
    torch.testing.assert_close(w.abs(), every.abs()[order[:4]])
    D, B = A.to_dense().to(w.dtype), M.to_dense().to(w.dtype)
    torch.testing.assert_close(D @ V, B @ V * w)
    torch.testing.assert_close(torch.linalg.vector_norm(V, dim=0), torch.ones(4).double())


def test_nearest_to_a_complex_shift() -> None:
    A, M = sparse(1, torch.float64), sparse(2, torch.float64, 4.0)
    every = torch.from_numpy(scipy.linalg.eigvals(A.to_dense().numpy(), M.to_dense().numpy()))
    sigma = complex(every[3]) + 0.01
    near = every[(every - sigma).abs().argsort()[:2]]
    torch.testing.assert_close(A.eigs(2, sigma=sigma, M=M)[0], near)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_derivatives_in_both(dtype: torch.dtype) -> None:
    A, M = sparse(1, dtype), sparse(2, dtype, 4.0)

    def pairs(a: torch.Tensor, m: torch.Tensor) -> tuple[torch.Tensor, ...]:
        mass = SparseTensor.from_pattern(M.pattern, m)
        w, V = SparseTensor.from_pattern(A.pattern, a).eigs(3, "SM", M=mass)
        return w, V[:2].abs() ** 2

    given = (A.values.clone().requires_grad_(), M.values.clone().requires_grad_())
    assert gradcheck(pairs, given)

    def eigenvalues(a: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
        return pairs(a, m)[0]

    assert gradgradcheck(eigenvalues, given)


def test_the_mass_alone_has_a_gradient() -> None:
    A, M = sparse(1, torch.float64), sparse(2, torch.float64, 4.0)
    m = M.values.clone().requires_grad_()
    w, _ = A.eigs(2, "SM", M=SparseTensor.from_pattern(M.pattern, m))
    (g,) = torch.autograd.grad(w.abs().sum(), m)
    # λ of A against s M is λ / s.
    torch.testing.assert_close((g * m).sum(), -w.abs().sum())


def test_scales_of_the_mass_do_not_matter() -> None:
    A, M = sparse(1, torch.float64), sparse(2, torch.float64, 4.0)
    a = A.values.clone().requires_grad_()
    for scale in (1e-9, 1e9):
        w, _ = SparseTensor.from_pattern(A.pattern, a).eigs(2, "SM", M=M * scale)
        (g,) = torch.autograd.grad(w.abs().sum(), a)
        torch.testing.assert_close((g * a).sum(), w.abs().sum())


def test_a_singular_mass_leaves_the_finite_ones(path: str) -> None:
    A = sparse(1, torch.float64, 3.0)
    light = torch.ones(N, dtype=torch.float64)
    light[4:] = 0
    M = SparseTensor.diag(light)
    w, V = A.eigs(3, "SM", M=M)
    torch.testing.assert_close(A.to_dense().to(w.dtype) @ V, (light[:, None] * V) * w)
    if path == "dense":
        with pytest.raises(ArgumentError, match="leaves 4 finite"):
            A.eigs(5, "SM", M=M)
    else:
        with pytest.raises(ArgumentError, match="the largest eigenvalues are infinite"):
            A.eigs(3, "LM", M=M)


def test_batches_and_what_is_refused() -> None:
    A, M = sparse(1, torch.float64), sparse(2, torch.float64, 4.0)
    many = SparseTensor.from_pattern(A.pattern, torch.stack([A.values, 2 * A.values]))
    w, V = many.eigs(2, "SM", M=M)
    assert w.shape == (2, 2)
    assert V.shape == (2, N, 2)
    torch.testing.assert_close(w[1], 2 * w[0])
    masses = SparseTensor.from_pattern(M.pattern, torch.stack([M.values, 2 * M.values]))
    torch.testing.assert_close(many.eigs(2, "SM", M=masses)[0][1], w[0])
    with pytest.raises(ArgumentError, match="shape"):
        A.eigs(2, M=SparseTensor.eye(3, dtype=torch.float64))
    with pytest.raises(ArgumentError, match="batch dimensions"):
        A.eigs(2, M=masses)
    with pytest.raises(SolveError, match="NaN or infinity in `M`"):
        A.eigs(2, M=M * float("nan"))


def test_multiple_eigenvalues_have_no_derivative() -> None:
    M = SparseTensor.diag(torch.arange(1.0, N + 1, dtype=torch.float64))
    m = M.values.clone().requires_grad_()
    w, _ = SparseTensor.from_pattern(M.pattern, m).eigs(2, "SM", M=M)
    with pytest.raises(GradientError, match="multiple"):
        w.real.sum().backward()


def test_simple_eigenvalues_beside_multiple_ones_have_derivatives() -> None:
    M = SparseTensor.diag(torch.ones(N, dtype=torch.float64))
    every = [1.0, 2.0, 2.0, 5.0, 11.0, 12.0, 13.0, 14.0, 15.0]
    d = torch.tensor(every, dtype=torch.float64, requires_grad=True)
    w, V = SparseTensor.from_pattern(M.pattern, d).eigs(4, "SM", M=M)
    for place in (0, 3):
        (slope,) = torch.autograd.grad(w[place].real ** 2, d, retain_graph=True)
        torch.testing.assert_close(slope, 2.0 * d.detach() * torch.eye(N).to(d)[place])
    (still,) = torch.autograd.grad(V[:, 0].abs().pow(4).sum(), d, retain_graph=True)
    assert float(still.abs().max()) < 1e-12
    for loss in (w[1].real, V[:, 2].abs().pow(4).sum()):
        with pytest.raises(GradientError, match="multiple"):
            torch.autograd.grad(loss, d, retain_graph=True)
    (slope,) = torch.autograd.grad(w[0].real, d, create_graph=True)
    (bend,) = torch.autograd.grad(slope[0], d, retain_graph=True)
    assert float(bend.abs().max()) < 1e-12
    # A slope that is zero there may have a slope itself.
    with pytest.raises(GradientError, match="multiple"):
        torch.autograd.grad((w.real - w.real.detach()).square().sum(), d, create_graph=True)


def test_gradients_by_transforms_in_both() -> None:
    A, M = sparse(1, torch.float64), sparse(2, torch.float64, 4.0)

    def loss(a: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
        w, V = A.from_pattern(A.pattern, a).eigs(3, M=M.from_pattern(M.pattern, m))
        return w.abs().pow(3).sum() + V.abs().pow(4).sum()

    given = (A.values.requires_grad_(), M.values.requires_grad_())
    found = torch.func.grad(loss, argnums=(0, 1))(A.values.detach(), M.values.detach())
    torch.testing.assert_close(found, torch.autograd.grad(loss(*given), given))
