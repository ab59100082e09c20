"""Spectra that are hard for Krylov methods: shifts that hit an eigenvalue, clusters, circles, many equal ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, Result, SolveError
from torch_sla.linalg import SparseTensor

# Beside 1 these are nearer to 0 than the shift is moved where it hits the eigenvalue 0.
NEAR = torch.tensor([0.0, 3e-9, 5e-9, -2e-8, -2.5e-8, -3e-8, -3.5e-8], dtype=torch.float64)


def spread(n: int) -> Tensor:
    return torch.cat([NEAR, torch.linspace(0.5, 1.0, n - len(NEAR), dtype=torch.float64)])


def hermitian(w: Tensor, *, cplx: bool) -> SparseTensor:
    """A dense matrix with these eigenvalues."""
    g = torch.Generator().manual_seed(3)
    dtype = torch.complex128 if cplx else torch.float64
    Q = torch.linalg.qr(torch.randn(len(w), len(w), generator=g, dtype=dtype)).Q
    A = (Q * w) @ Q.mH
    return SparseTensor.from_dense((A + A.mH) / 2)


@pytest.mark.parametrize("request_", [{"which": "SM"}, {"sigma": 0.0}])
@pytest.mark.parametrize("k", [2, 3])
def test_what_is_near_to_a_shift_that_hits_an_eigenvalue(
    request_: dict[str, object], k: int
) -> None:
    A = SparseTensor.diag(spread(40))
    w = A.eigsh(k=k, method="arpack", return_eigenvectors=False, **request_)
    torch.testing.assert_close(w, NEAR[:k], rtol=0, atol=1e-13)


@pytest.mark.parametrize("request_", [{"which": "SM"}, {"sigma": 0.0}])
def test_the_same_without_symmetry(request_: dict[str, object]) -> None:
    d = spread(220)
    off = torch.zeros(219, dtype=torch.float64)
    off[20::7] = 0.01  # triangular: the eigenvalues are the diagonal
    A = SparseTensor.tridiagonal(0.0, d, off)
    w, _ = A.eigs(k=3, **request_)
    torch.testing.assert_close(w.real, NEAR[:3], rtol=0, atol=1e-13)


@pytest.mark.parametrize("cplx", [False, True])
def test_clusters_at_the_end_of_a_spectrum(cplx: bool) -> None:
    g = torch.Generator().manual_seed(1)
    w = torch.randn(77, generator=g, dtype=torch.float64).repeat_interleave(3)
    w = w + 1e-9 * torch.randn(len(w), generator=g, dtype=torch.float64)
    found = hermitian(w, cplx=cplx).eigsh(k=1, which="LA", return_eigenvectors=False)
    torch.testing.assert_close(found, w.max().reshape(1), rtol=0, atol=1e-12)


def test_equal_eigenvalues_of_a_complex_matrix() -> None:
    w = torch.linspace(-1, 1, 77, dtype=torch.float64).repeat_interleave(3)
    found = hermitian(w, cplx=True).eigsh(k=1, which="LM", return_eigenvectors=False)
    torch.testing.assert_close(found.abs(), torch.ones(1).double(), rtol=0, atol=1e-12)


def test_eigenvalues_on_a_circle() -> None:
    n = 220
    i = torch.arange(n)
    turn = SparseTensor(torch.ones(n, dtype=torch.float64), i, (i + 1) % n, (n, n))
    w, V = turn.eigs(k=4, which="LR")
    exact = np.exp(2j * np.pi * np.array([0, 1, -1, 2]) / n)
    np.testing.assert_allclose(w.numpy(), exact, rtol=0, atol=1e-11)
    assert float((turn.to_dense().to(V.dtype) @ V - V * w).abs().max()) < 1e-11


def test_limits_that_are_asked_for_still_fail() -> None:
    w = torch.linspace(0, 1, 210, dtype=torch.float64)
    with pytest.raises(SolveError) as caught:
        hermitian(w, cplx=False).eigsh(k=2, which="LA", maxiter=1)
    assert caught.value.result is Result.MAXITER


def test_a_mass_that_is_not_positive_is_named() -> None:
    d = torch.arange(1, 211, dtype=torch.float64)
    mass = torch.ones(210, dtype=torch.float64)
    mass[5] = -1
    with pytest.raises(SolveError, match="`M` is not positive semidefinite: row 5"):
        SparseTensor.diag(d).eigsh(k=3, which="SA", M=SparseTensor.diag(mass))


@pytest.mark.parametrize(("rows", "columns"), [(210, 40), (40, 210)])
def test_the_smallest_singular_values_of_a_rectangle(rows: int, columns: int) -> None:
    g = torch.Generator().manual_seed(0)
    dense = torch.randn(rows, columns, generator=g, dtype=torch.float64)
    _, S, _ = SparseTensor.from_dense(dense).svd(k=3, which="SM")
    torch.testing.assert_close(S, torch.linalg.svdvals(dense)[-3:], rtol=1e-12, atol=0)


def test_a_real_shift_may_be_given_as_a_complex_number() -> None:
    d = torch.linspace(0, 1, 220, dtype=torch.float64)
    off = torch.zeros(219, dtype=torch.float64)
    off[::9] = 0.001
    w, _ = SparseTensor.tridiagonal(0.0, d, off).eigs(k=2, sigma=0.1004 + 0j)
    near = d[(d - 0.1004).abs().argsort()[:2]]
    torch.testing.assert_close(w.real, near, rtol=0, atol=1e-13)


def test_requests_beyond_arpack_are_refused() -> None:
    few = hermitian(torch.linspace(1, 2, 5, dtype=torch.float64), cplx=True)
    with pytest.raises(ArgumentError, match="up to 2 of 5 pairs, got k=3"):
        few.eigsh(k=3, method="arpack")
    assert few.eigsh(k=2, method="arpack")[0].tolist() == pytest.approx([1.75, 2.0])


def test_few_different_eigenvalues_of_a_small_matrix() -> None:
    w = torch.linspace(-1, 1, 10, dtype=torch.float64).repeat_interleave(3)
    found = hermitian(w, cplx=True).eigsh(k=4, which="LA", method="arpack")[0]
    torch.testing.assert_close(found, w[-4:], rtol=0, atol=1e-12)


SIZES = [2.0**-665, 2.0**-400, 2.0**665]


def _chain(n: int) -> SparseTensor:
    off = torch.tensor(-1.0, dtype=torch.float64)
    return SparseTensor.tridiagonal(off, torch.linspace(2, 5, n, dtype=torch.float64), off)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "request_",
    [{"which": "LA"}, {"which": "SM"}, {"sigma": 3.0}, {"which": "SA", "method": "lobpcg"}],
)
def test_hermitian_matrices_whose_squares_are_out_of_range(
    request_: dict[str, Any], size: float
) -> None:
    A = _chain(210)
    dense = torch.linalg.eigvalsh(A.to_dense())
    ends = {"LA": dense[-2:], "SM": dense[:2], "SA": dense[:2]}
    truth = ends.get(request_.get("which", ""), dense[(dense - 3).abs().argsort()[:2]].sort()[0])
    asked = {**request_, **({"sigma": 3.0 * size} if "sigma" in request_ else {})}
    w, V = (A * size).eigsh(k=2, **asked)
    torch.testing.assert_close(w / size, truth, rtol=1e-9, atol=0)
    torch.testing.assert_close(A @ V, V * truth, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_other_matrices_whose_squares_are_out_of_range(size: float) -> None:
    off = torch.tensor(-1.0, dtype=torch.float64)
    A = SparseTensor.tridiagonal(off, torch.linspace(2, 5, 210, dtype=torch.float64), 0.9 * off)
    dense = A.to_dense()
    truth = torch.linalg.eigvals(dense).real.sort()[0]
    w = (A * size).eigs(k=2, return_eigenvectors=False)
    torch.testing.assert_close(w.real / size, truth[-2:].flip(0), rtol=1e-9, atol=0)
    w = (A * size).eigs(k=2, sigma=2.0 * size, return_eigenvectors=False)
    near = truth[(truth - 2).abs().argsort()[:2]]
    torch.testing.assert_close((w.real / size).sort()[0], near.sort()[0], rtol=1e-9, atol=0)
    singular = torch.linalg.svdvals(dense)
    for which, sizes in (("LM", singular[:2]), ("SM", singular[-2:])):
        _, S, _ = (A * size).svd(k=2, which=which)
        torch.testing.assert_close(S / size, sizes, rtol=1e-9, atol=0)


def test_members_of_very_different_size_and_their_derivatives() -> None:
    A = SparseTensor.from_dense(_chain(12).to_dense())
    sizes = torch.tensor([1.0, 2.0**-665, 2.0**665], dtype=torch.float64)
    values = (A.values * sizes[:, None]).requires_grad_()
    w = SparseTensor.from_pattern(A.pattern, values).eigsh(k=2, return_eigenvectors=False)
    dense = A.to_dense().requires_grad_()
    truth = torch.linalg.eigvalsh(dense)[-2:]
    torch.testing.assert_close(w / sizes[:, None], truth.expand(3, -1), rtol=1e-12, atol=0)
    w.sum().backward()
    truth.sum().backward()
    row, col = A.pattern.csr_row.long(), A.pattern.ccol.long()
    torch.testing.assert_close(values.grad, dense.grad[row, col].expand(3, -1), rtol=1e-9, atol=0)
