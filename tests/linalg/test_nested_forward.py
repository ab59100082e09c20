"""Second derivatives by every order of the two modes are one number, also forward mode within forward mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import grad, hessian, jacfwd, jacrev, jvp

from torch_sla.errors import ArgumentError, GradientError
from torch_sla.linalg import SparseTensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

N = 5
ROW, COL = torch.ones(N, N).nonzero(as_tuple=True)
BATCHED = (2, N, N)


def dense(shape: tuple[int, ...] = (N, N), seed: int = 3) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=g) + 3 * torch.eye(*shape)


def sparse(M: Tensor) -> SparseTensor:
    return SparseTensor(M.reshape(-1), ROW, COL, (N, N))


def twice(M: Tensor) -> SparseTensor:
    """Every coordinate given twice."""
    values = torch.cat([M.reshape(-1) ** 2, M.reshape(-1)])
    return SparseTensor(values, ROW.repeat(2), COL.repeat(2), (N, N))


def both(M: Tensor) -> SparseTensor:
    return SparseTensor(torch.stack([M.reshape(-1), M.reshape(-1) ** 2]), ROW, COL, BATCHED)


def laplacian(M: Tensor) -> SparseTensor:
    B = M**2 + M.T**2
    return sparse(torch.diag(B.sum(1)) - B)


def tall(M: Tensor) -> SparseTensor:
    row, col = torch.ones(N, 3).nonzero(as_tuple=True)
    return SparseTensor(M[:, :3].reshape(-1), row, col, (N, 3))


ONES = torch.ones(N, dtype=torch.float64)
RAMP = torch.arange(N, dtype=torch.float64) - (N - 1) / 2
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "product": lambda M: (twice(M) @ M.sum(1)) ** 3,
    "matrix product": lambda M: (sparse(M) @ sparse(M)).to_dense() ** 3,
    "solve": lambda M: twice(M).solve(M.pow(2).sum(1)) ** 3,
    "batch": lambda M: both(M).solve(ONES) ** 3,
    "complex": lambda M: (sparse(torch.complex(M, M**2)).solve(M.sum(1) + 0j)).abs() ** 2,
    "least squares": lambda M: tall(M).solve(ONES) ** 3,
    "nullspace": lambda M: laplacian(M).solve(RAMP, nullspace=ONES) ** 3,
    "factors": lambda M: sparse(M).lu().solve_transposed(ONES) ** 3,
    "det": lambda M: sparse(M).det() ** 2,
    "dets": lambda M: both(M).det() ** 2,
    "logdet": lambda M: sparse(M).slogdet()[1] ** 2,
    "selected inverse": lambda M: sparse(M).factorize().selected_inverse().values ** 3,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_second_derivatives(name: str) -> None:
    def f(M: Tensor) -> Tensor:
        return FUNCTIONS[name](M).sum()

    M, t = dense(), dense(seed=4)
    x = M.clone().requires_grad_()
    (g,) = torch.autograd.grad(f(x), x, create_graph=True)
    (expected,) = torch.autograd.grad(g, x, t)
    with forward_ad.dual_level():
        (g,) = torch.autograd.grad(f(forward_ad.make_dual(x, t)), x)
        found = {"forward over backward": forward_ad.unpack_dual(g).tangent}
    found["forward over reverse"] = jvp(grad(f), (M,), (t,))[1]
    found["reverse over forward"] = grad(lambda y: jvp(f, (y,), (t,))[1])(M)
    for order, value in found.items():
        torch.testing.assert_close(value, expected, msg=lambda m, o=order: f"{o}: {m}")
    along = jvp(lambda y: jvp(f, (y,), (t,))[1], (M,), (t,))[1]
    torch.testing.assert_close(along, (expected * t).sum())


def test_transforms_of_transforms() -> None:
    def f(v: Tensor) -> Tensor:
        return (SparseTensor(v, ROW, COL, (N, N)).solve(ONES) ** 3).sum()

    v = dense().reshape(-1)
    expected = jacrev(jacrev(f))(v)
    for found in (jacfwd(jacfwd(f)), hessian(f), jacrev(jacfwd(f))):
        torch.testing.assert_close(found(v), expected)
    third = jvp(lambda y: jacfwd(jacfwd(f))(y), (v,), (v,))[1]
    torch.testing.assert_close(third, jvp(lambda y: jacrev(jacrev(f))(y), (v,), (v,))[1])


@pytest.mark.parametrize("which", [0, 1])
def test_what_has_one_derivative_says_so(which: int) -> None:
    def f(M: Tensor) -> Tensor:
        return (sparse(M + M.T).eigsh(k=2, which="SA")[which] ** 4).sum()

    M = dense()
    jvp(f, (M,), (M,))
    with pytest.raises(GradientError, match="second derivatives"):
        jvp(lambda y: jvp(f, (y,), (M,))[1], (M,), (M,))


def test_mapped_derivatives_of_eigenvalues_say_so() -> None:
    def f(M: Tensor) -> Tensor:
        return sparse(M + M.T).eigsh(k=2, which="SA")[0]

    for transform in (jacfwd, jacrev, hessian):
        with pytest.raises(ArgumentError, match="loop"):
            transform(f)(dense())


def test_mapped_derivatives_of_general_eigenvectors_say_so() -> None:
    """Second derivatives of eigenvalues are those of vectors."""
    values = jacrev(lambda M: sparse(M).eigs(k=2)[0].abs())
    vectors = jacrev(lambda M: sparse(M).eigs(k=2)[1].abs())
    for mapped in (jacrev(values), vectors):
        with pytest.raises(ArgumentError, match="does not go through derivatives of eigenvectors"):
            mapped(dense())
