"""`eigsh` with a singular mass: finite pairs against dense Schur complements, gradients against differences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy.linalg
import torch

from torch_sla.errors import ArgumentError, GradientError, SolveError
from torch_sla.linalg import SparseTensor

if TYPE_CHECKING:
    from torch_sla.linalg.sparse.pattern import Pattern

# Rows, and rows with mass: condensed small, condensed large, by Lanczos.
SIZES = [(40, 25), (260, 9), (320, 230)]


def chain(n: int, heavy: int, *, free: bool = False, cplx: bool = False) -> tuple[Any, ...]:
    """Return springs between n nodes, held at both ends or free, and masses at some: patterns with values."""
    g = torch.Generator().manual_seed(3)
    k = 1.0 + torch.rand(n + 1, generator=g, dtype=torch.float64)
    if free:
        k[0] = k[-1] = 0.0
    turn = torch.exp(1j * k[1:-1]) if cplx else torch.ones(n - 1)
    i = torch.arange(n)
    row = torch.cat([i, i[:-1], i[1:]])
    column = torch.cat([i, i[1:], i[:-1]])
    values = torch.cat([k[:-1] + k[1:], -k[1:-1] * turn, -k[1:-1] * turn.conj()])
    rows_first = (row * n + column).argsort()
    row, column, values = row[rows_first], column[rows_first], values[rows_first]
    A = SparseTensor(values, row, column, (n, n))
    at = torch.randperm(n, generator=g)[:heavy].sort().values
    mass = 0.5 + torch.rand(heavy, generator=g, dtype=torch.float64)
    diagonal = torch.zeros(n, dtype=torch.float64).index_copy(0, at, mass)
    return A.pattern, A.values, SparseTensor.eye(n, dtype=torch.float64).pattern, diagonal


def matrix(pattern: Pattern, values: torch.Tensor) -> SparseTensor:
    return SparseTensor.from_pattern(pattern, values)


def truth(K: np.ndarray, M: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finite pairs of a diagonal mass, the nodes without it eliminated."""
    heavy = np.diag(M) > 0
    light = ~heavy
    follow = -np.linalg.solve(K[np.ix_(light, light)], K[np.ix_(light, heavy)])
    S = K[np.ix_(heavy, heavy)] + K[np.ix_(heavy, light)] @ follow
    w, x = scipy.linalg.eigh(S, M[np.ix_(heavy, heavy)])
    v = np.zeros((len(K), len(w)), dtype=x.dtype)
    v[heavy], v[light] = x, follow @ x
    return w, v


@pytest.mark.parametrize("cplx", [False, True])
@pytest.mark.parametrize(("n", "heavy"), SIZES)
def test_finite_pairs(n: int, heavy: int, cplx: bool) -> None:
    p, a, q, m = chain(n, heavy, cplx=cplx)
    A, M = matrix(p, a), matrix(q, m)
    exact, vectors = truth(A.to_dense().numpy(), M.to_dense().numpy())
    for ask in ({"which": "SM"}, {"sigma": 1.01 * float(exact[3])}):
        w, V = A.eigsh(k=4, M=M, **ask)
        near = np.abs(exact - ask.get("sigma", 0.0)).argsort()[:4]
        near.sort()
        np.testing.assert_allclose(w, exact[near], rtol=1e-10)
        gram = V.mH @ (m[:, None] * V)
        torch.testing.assert_close(gram, torch.eye(4).to(gram), rtol=0, atol=1e-12)
        # The same vectors up to a phase, also where there is no mass.
        same = np.abs(vectors[:, near].conj().T @ (m[:, None] * V).numpy())
        np.testing.assert_allclose(same, np.eye(4), atol=1e-8)
        size = np.abs(vectors[:, near])
        np.testing.assert_allclose(V.abs(), size, atol=1e-7 * size.max())


@pytest.mark.parametrize(("n", "heavy"), SIZES)
def test_derivatives_in_both_matrices(n: int, heavy: int) -> None:
    p, a, q, m = chain(n, heavy)
    weight = torch.cos(torch.arange(3 * n, dtype=torch.float64)).reshape(n, 3)

    def loss(a: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
        w, V = matrix(p, a).eigsh(k=3, which="SM", M=matrix(q, m))
        return (w * torch.tensor([1.0, -2.0, 0.5])).sum() + (weight * V**2).sum()

    def dense(a: torch.Tensor, m: torch.Tensor) -> float:
        w, v = truth(matrix(p, a).to_dense().numpy(), np.diag(m.numpy()))
        return float(w[:3] @ np.array([1.0, -2.0, 0.5]) + (weight.numpy() * v[:, :3] ** 2).sum())

    row, column = p.csr_row.long(), p.ccol.long()
    of_a, of_m = a * (1.2 + torch.cos(row + column)), m * torch.cos(torch.arange(n))
    a, m = a.requires_grad_(), m.requires_grad_()
    ga, gm = torch.autograd.grad(loss(a, m), (a, m))
    a, m, h = a.detach(), m.detach(), 1e-5
    for found, da, dm in (((ga * of_a).sum(), of_a, 0 * m), ((gm * of_m).sum(), 0 * a, of_m)):
        slope = (dense(a + h * da, m + h * dm) - dense(a - h * da, m - h * dm)) / (2 * h)
        assert float(found) == pytest.approx(slope, rel=1e-6, abs=1e-8)


def test_second_derivatives_and_tangents() -> None:
    p, a, q, m = chain(30, 12)

    def values(a: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
        return matrix(p, a).eigsh(k=2, which="SM", M=matrix(q, m), return_eigenvectors=False)

    def total(s: torch.Tensor) -> torch.Tensor:
        return (values(a * (1 + s[0] * torch.cos(a)), m * (1 + s[1] * torch.sin(m))) ** 2).sum()

    s = torch.tensor([0.1, -0.2], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(total, s)
    assert torch.autograd.gradgradcheck(total, s)
    tangent = torch.func.jvp(values, (a, m), (a.cos(), m))[1]
    h = 1e-6
    slope = (values(a + h * a.cos(), m * (1 + h)) - values(a - h * a.cos(), m * (1 - h))) / (2 * h)
    torch.testing.assert_close(tangent, slope, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("n", "heavy"), SIZES)
def test_rigid_motions_stay(n: int, heavy: int) -> None:
    p, a, q, m = chain(n, heavy, free=True)
    A, M = matrix(p, a), matrix(q, m)
    w, V = A.eigsh(k=3, which="SM", M=M)
    exact, _ = truth(A.to_dense().numpy(), M.to_dense().numpy())
    assert abs(float(w[0])) < 1e-9 * float(w[1])
    np.testing.assert_allclose(w[1:], exact[1:3], rtol=1e-9)
    assert float((V[:, 0] - V[0, 0]).abs().max()) < 1e-8


def test_equal_eigenvalues_share_a_gradient() -> None:
    """Two copies of a body: each eigenvalue comes twice, and one of three is cut."""
    p, a, q, m = chain(12, 5)
    a = a.requires_grad_()
    A, M = matrix(p, a).to_dense(), torch.diag(m)
    K = SparseTensor.from_dense(torch.block_diag(A, A))
    w, _ = K.eigsh(k=3, which="SM", M=SparseTensor.from_dense(torch.block_diag(M, M)))
    (both,) = torch.autograd.grad(w[:2].sum(), a, retain_graph=True)
    (one,) = torch.autograd.grad(matrix(p, a).eigsh(k=1, which="SM", M=matrix(q, m))[0].sum(), a)
    torch.testing.assert_close(both, 2 * one)
    with pytest.raises(GradientError, match="not asked for"):
        w[2].backward()


@pytest.mark.parametrize(("n", "rank"), [(20, 7), (300, 210)])
def test_a_mass_that_is_singular_without_a_zero(n: int, rank: int) -> None:
    """M is a projection: every diagonal entry is positive, and the rank is less."""
    g = torch.Generator().manual_seed(1)
    Q = torch.linalg.qr(torch.randn(n, n, generator=g, dtype=torch.float64)).Q
    A = Q @ torch.diag(torch.linspace(1.0, 9.0, n).double()) @ Q.T
    M = Q[:, :rank] @ Q[:, :rank].T
    A, M = SparseTensor.from_dense((A + A.T) / 2), SparseTensor.from_dense((M + M.T) / 2)
    w, V = A.eigsh(k=3, which="SM", M=M)
    torch.testing.assert_close(w, torch.linspace(1.0, 9.0, n).double()[:3])
    with pytest.raises(ArgumentError, match="`M` is singular, so the largest eigenvalues"):
        A.eigsh(k=3, which="LA", M=M)
    if n < 200:
        with pytest.raises(ArgumentError, match="leaves 7 finite eigenvalues, got k=8"):
            A.eigsh(k=8, which="SM", M=M)
    torch.testing.assert_close(V.T @ M.to_dense() @ V, torch.eye(3).double())


def test_constraints_have_no_mass() -> None:
    """Rows of multipliers: the modes are those of the bodies that meet them."""
    g = torch.Generator().manual_seed(5)
    n, c = 20, 4
    K = torch.randn(n, n, generator=g, dtype=torch.float64)
    K = K @ K.T + torch.eye(n)
    C = torch.randn(c, n, generator=g, dtype=torch.float64)
    A = torch.cat([torch.cat([K, C.T], 1), torch.cat([C, torch.zeros(c, c)], 1)])
    m = torch.cat([torch.linspace(0.5, 1.5, n), torch.zeros(c)]).double()
    Z = torch.linalg.qr(C.T, mode="complete").Q[:, c:].numpy()
    exact = scipy.linalg.eigvalsh(Z.T @ K.numpy() @ Z, Z.T @ (m[:n, None].numpy() * Z))
    A, M = SparseTensor.from_dense(A), SparseTensor.diag(m)
    w, V = A.eigsh(k=n - c, which="SM", M=M)
    np.testing.assert_allclose(w, exact, rtol=1e-9)
    assert float((C @ V[:n]).abs().max()) < 1e-10
    with pytest.raises(ArgumentError, match=f"leaves {n - c} finite eigenvalues"):
        A.eigsh(k=n - c + 1, which="SM", M=M)


@pytest.mark.parametrize(("n", "heavy"), [(40, 6), (300, 6)])
def test_what_is_refused(n: int, heavy: int) -> None:
    p, a, q, m = chain(n, heavy)
    A, M = matrix(p, a), matrix(q, m)
    assert A.eigsh(k=6, which="SM", M=M)[0].shape == (6,)
    with pytest.raises(ArgumentError, match="`M` is singular and leaves 6 finite"):
        A.eigsh(k=7, which="SM", M=M)
    with pytest.raises(ArgumentError, match="leaves 0 finite"):
        A.eigsh(k=1, which="SM", M=M * 0.0)
    for which in ("LM", "LA", "SA"):
        with pytest.raises(ArgumentError, match="the largest eigenvalues are infinite"):
            A.eigsh(k=1, which=which, M=M)
    with pytest.raises(ArgumentError, match="the largest eigenvalues are infinite"):
        A.eigsh(k=1, which="SA", method="lobpcg", M=M)
    with pytest.raises(SolveError, match="not positive semidefinite"):
        A.eigsh(k=1, which="SM", M=matrix(q, torch.where(m > 1.0, -m, m)))
    with pytest.raises(SolveError, match="not positive semidefinite: row"):
        A.eigsh(k=1, which="SM", M=M + A * 0.1 - SparseTensor.diag(0.1 * A.to_dense().diagonal()))
    # A node without mass that nothing holds belongs to every eigenvalue.
    loose = torch.nonzero(m == 0)[3, 0]
    row, column = p.csr_row.long(), p.ccol.long()
    nothing = torch.where((row == loose) | (column == loose), 0.0, a)
    for ask in ({"which": "SM"}, {"sigma": 0.3}):
        with pytest.raises(SolveError, match="common null vector"):
            matrix(p, nothing).eigsh(k=2, M=M, **ask)


def test_batches_and_single_precision() -> None:
    p, a, q, m = chain(40, 9)
    many = matrix(p, torch.stack([a, 2 * a]))
    w, _ = many.eigsh(k=2, which="SM", M=matrix(q, torch.stack([m, 3 * m])))
    one = matrix(p, a).eigsh(k=2, which="SM", M=matrix(q, m))[0]
    torch.testing.assert_close(w, torch.stack([one, one * 2 / 3]))
    coarse, _ = matrix(p, a.float()).eigsh(k=2, which="SM", M=matrix(q, m.float()))
    torch.testing.assert_close(coarse.double(), one, rtol=1e-5, atol=0)


@pytest.mark.parametrize("seed", range(6))
def test_a_shift_may_be_an_eigenvalue(seed: int) -> None:
    """Springs of very different stiffness: beside a hit, rounding is larger than the other pairs."""
    g, n = torch.Generator().manual_seed(seed), 40
    springs = 10.0 ** (4 * torch.rand(n + 1, generator=g).double() - 2)
    masses = 10.0 ** (3 * torch.rand(n, generator=g).double()) * (torch.arange(n) % 4 > 0)
    K = torch.diag(springs[:-1] + springs[1:])
    K = K - torch.diag(springs[1:-1], 1) - torch.diag(springs[1:-1], -1)
    exact, _ = truth(K.numpy(), np.diag(masses.numpy()))
    A, M = SparseTensor.from_dense(K), SparseTensor.diag(masses)
    w, _ = A.eigsh(k=4, sigma=float(exact[0]), M=M)
    np.testing.assert_allclose(w, exact[:4], rtol=1e-5)
