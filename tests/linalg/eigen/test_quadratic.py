"""`quadratic_eigs`: against a dense companion, closed forms, derivatives in all three matrices."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from torch_sla.errors import ArgumentError
from torch_sla.linalg import SparseTensor, quadratic_eigs

N = 7


def chain(scale: float = 1.0) -> SparseTensor:
    off = torch.full((N - 1,), -1.0, dtype=torch.float64) * scale
    return SparseTensor.tridiagonal(off, torch.full((N,), 2.0).double() * scale, off)


def dashpots(dtype: torch.dtype = torch.float64) -> SparseTensor:
    size = torch.linspace(0.01, 0.3, N, dtype=torch.float64).to(dtype)
    return SparseTensor.diag(size)


def masses() -> SparseTensor:
    return SparseTensor.diag(torch.linspace(1.0, 2.0, N, dtype=torch.float64))


pytestmark = pytest.mark.usefixtures("path")


def dense(K: torch.Tensor, C: torch.Tensor, M: torch.Tensor) -> torch.Tensor:
    n, inverse = len(K), torch.linalg.inv(M)
    top = torch.cat([torch.zeros_like(K), torch.eye(n, dtype=K.dtype)], 1)
    return torch.linalg.eigvals(torch.cat([top, torch.cat([-inverse @ K, -inverse @ C], 1)]))


@pytest.mark.parametrize("scale", [1.0, 1e11])
def test_against_the_dense_companion(scale: float) -> None:
    K, C, M = chain(scale), dashpots() * scale**0.5, masses()
    w, V = quadratic_eigs(K, C, M, 6)
    every = dense(K.to_dense(), C.to_dense(), M.to_dense())
    every = every[every.abs().argsort()]
    torch.testing.assert_close(w.abs(), every.abs()[:6])
    torch.testing.assert_close(w.real, every.real[:6], rtol=1e-6, atol=0)
    D = [A.to_dense().to(w.dtype) for A in (K, C, M)]
    left = D[0] @ V + D[1] @ V * w + D[2] @ V * w**2
    assert float(left.abs().max()) < 1e-10 * scale
    torch.testing.assert_close(torch.linalg.vector_norm(V, dim=0), torch.ones(6).double())
    sigma = 1.02 * complex(every[7])
    near = quadratic_eigs(K, C, M, 3, sigma=sigma, return_eigenvectors=False)
    near, every = (x[(x - sigma).abs().argsort()] for x in (near, every))
    torch.testing.assert_close(near.abs(), every.abs()[:3])


def test_proportional_damping_has_a_closed_form() -> None:
    K, M = chain(), masses()
    squares, _ = K.eigsh(3, which="SM", M=M)
    w = quadratic_eigs(K, M * 0.1 + K * 0.05, M, 6, return_eigenvectors=False)
    half = 0.5 * (0.1 + 0.05 * squares)
    expected = torch.complex(-half, (squares - half**2).sqrt())
    torch.testing.assert_close(w[::2], expected)
    torch.testing.assert_close(w[1::2], expected.conj())


def test_derivatives_in_all_three() -> None:
    K, C, M = chain(), dashpots(), masses()

    def pairs(k: torch.Tensor, c: torch.Tensor, m: torch.Tensor) -> tuple[torch.Tensor, ...]:
        own = [
            SparseTensor.from_pattern(A.pattern, v)
            for A, v in zip((K, C, M), (k, c, m), strict=True)
        ]
        w, V = quadratic_eigs(*own, 3)
        return w, V[:2].abs() ** 2

    given = [A.values.clone().requires_grad_() for A in (K, C, M)]
    assert gradcheck(pairs, given)
    assert gradgradcheck(lambda *v: pairs(*v)[0], given)


def test_complex_damping_batches_and_refusals() -> None:
    K, C, M = chain(), dashpots(torch.complex128) * 1j, masses()
    many = SparseTensor.from_pattern(K.pattern, torch.stack([K.values, 4 * K.values]))
    w, V = quadratic_eigs(many, C, M, 2)
    assert w.shape == (2, 2)
    assert V.shape == (2, N, 2)
    alone, _ = quadratic_eigs(K * 4.0, C, M, 2)
    torch.testing.assert_close(w[1], alone)
    with pytest.raises(ArgumentError, match="`M` is zero"):
        quadratic_eigs(K, K, M * 0.0)
    with pytest.raises(ArgumentError, match="`C` has the shape"):
        quadratic_eigs(K, SparseTensor.eye(3, dtype=torch.float64), M)
    near, _ = quadratic_eigs(K, dashpots(), M, 1, sigma=1.4j)
    every = dense(K.to_dense(), dashpots().to_dense(), M.to_dense())
    torch.testing.assert_close(near[0], every[(every - 1.4j).abs().argmin()])


def test_what_is_no_matrix_is_named() -> None:
    A = SparseTensor.eye(2, dtype=torch.float64)
    for place, name in enumerate("KCM"):
        given: list[object] = [A, A, A]
        given[place] = torch.eye(2)
        with pytest.raises(ArgumentError, match=f"`{name}` must be a SparseTensor, got Tensor"):
            quadratic_eigs(*given)
