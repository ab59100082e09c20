"""Multiple eigenvalues of general pencils: derivatives of sums over all copies, refused for anything less."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from torch_sla.errors import GradientError
from torch_sla.linalg import SparseTensor, quadratic_eigs

if TYPE_CHECKING:
    from collections.abc import Callable

N = 12
DOUBLE, COMPLEX = torch.float64, torch.complex128


def random(seed: int, dtype: torch.dtype = DOUBLE) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(N, N, dtype=dtype, generator=generator)


def well(seed: int, dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.eye(N, dtype=dtype) + 0.15 * random(seed, dtype)


def with_values(w: Tensor, seed: int) -> Tensor:
    X = well(seed, w.dtype)
    return X @ torch.diag(w) @ torch.linalg.inv(X)


def spectrum(dtype: torch.dtype = DOUBLE) -> Tensor:
    w = torch.tensor([2.0, 2.0, 2.0, *range(4, N + 1)], dtype=dtype)
    return w * (1.0 + 0.5j) if dtype.is_complex else w


def check(lowest: Callable[[Tensor], Tensor], x: Tensor, rtol: float = 1e-6) -> None:
    """Compare with central differences along two directions; sums are smooth where their parts are not."""
    (slope,) = torch.autograd.grad(lowest(x.requires_grad_()), x)
    for seed in (5, 6):
        t = random(seed, x.dtype).flatten()[: x.numel()].reshape(x.shape)
        h = 1e-5
        differences = (lowest(x.detach() + h * t) - lowest(x.detach() - h * t)) / (2 * h)
        along = (slope.conj() * t).sum().real
        torch.testing.assert_close(along, differences.real, rtol=rtol, atol=1e-7)


@pytest.mark.parametrize("dtype", [DOUBLE, COMPLEX])
@pytest.mark.parametrize("massive", [False, True])
def test_sums_over_all_copies_have_derivatives(dtype: torch.dtype, massive: bool) -> None:
    M = well(2, dtype) if massive else torch.eye(N, dtype=dtype)
    A = M @ with_values(spectrum(dtype), 1)

    def of(matrix: Tensor, mass: Tensor) -> Tensor:
        known = SparseTensor.from_dense(mass) if massive else None
        w, _ = SparseTensor.from_dense(matrix).eigs(5, "SM", M=known)
        return w[:3].sum().real + 2 * w[:3].sum().imag + w[4].real

    check(lambda x: of(x, M), A.clone())
    if massive:
        check(lambda x: of(A, x), M.clone())


def test_pairs_of_complex_copies_of_a_real_matrix() -> None:
    """A turn and a stretch, twice: 1 ± 2i, both double."""
    turn = torch.tensor([[1.0, -2.0], [2.0, 1.0]], dtype=DOUBLE)
    X = well(3)
    blocks = torch.block_diag(turn, turn, torch.diag(torch.arange(5.0, 13.0, dtype=DOUBLE)))
    A = X @ blocks @ torch.linalg.inv(X)

    def upper(matrix: Tensor) -> Tensor:
        w, _ = SparseTensor.from_dense(matrix).eigs(4, "SM")
        above = w.detach().imag > 0
        assert int(above.sum()) == 2
        return (w[above].imag + 3 * w[above].real).sum()

    check(upper, A.clone())


def test_damped_copies() -> None:
    K = torch.kron(torch.diag(torch.arange(4.0, 10.0, dtype=DOUBLE)), torch.eye(2, dtype=DOUBLE))
    S = well(4)
    K, M = S @ K @ S.T, S @ S.T
    C = 0.1 * K + 0.2 * M

    def of(K: Tensor, C: Tensor, M: Tensor) -> Tensor:
        w, _ = quadratic_eigs(*(SparseTensor.from_dense(x) for x in (K, C, M)), k=4)
        return (w[w.detach().imag > 0].imag.sum() + w.real.sum()) * 1.0

    check(lambda x: of(x, C, M), K.clone())
    check(lambda x: of(K, x, M), C.clone())
    check(lambda x: of(K, C, x), M.clone())


def test_large_ones_are_found_by_iterations() -> None:
    n = 240
    d = torch.arange(1.0, n + 1, dtype=DOUBLE)
    d[1] = 1.0
    above = torch.linspace(0.1, 0.9, n - 2, dtype=DOUBLE)
    rows = torch.arange(n)
    index = torch.stack([torch.cat([rows, rows[1:-1]]), torch.cat([rows, rows[2:]])])
    x = torch.cat([d, above]).requires_grad_()

    def of(x: Tensor) -> Tensor:
        w, _ = SparseTensor(x, *index, (n, n)).eigs(3, "SM")
        return w[:2].sum().real

    (slope,) = torch.autograd.grad(of(x), x)
    t, h = torch.cos(torch.arange(len(x), dtype=DOUBLE)), 1e-6
    differences = (of(x.detach() + h * t) - of(x.detach() - h * t)) / (2 * h)
    torch.testing.assert_close((slope * t).sum(), differences, rtol=1e-6, atol=1e-7)


def test_what_tells_copies_apart_is_refused() -> None:
    A = with_values(spectrum(), 1).requires_grad_()

    def found(k: int) -> tuple[Tensor, Tensor]:
        pairs: tuple[Tensor, Tensor] = SparseTensor.from_dense(A).eigs(k, "SM")
        return pairs

    w, V = found(4)
    for loss in (w[0].real, w[:2].sum().real, (w[0] - w[1]).real, w[:3].sum().real + w[0].imag):
        with pytest.raises(GradientError, match="one multiple eigenvalue"):
            torch.autograd.grad(loss, A, retain_graph=True)
    with pytest.raises(GradientError, match="eigenvalue 0 is multiple, so its vector"):
        torch.autograd.grad(V[:, 0].abs().pow(4).sum(), A, retain_graph=True)
    with pytest.raises(GradientError, match="its equal was not asked for"):
        torch.autograd.grad(found(2)[0].sum().real, A)
    with pytest.raises(GradientError, match="second derivatives of multiple"):
        torch.autograd.grad(w[:3].sum().real, A, create_graph=True)


def test_defective_eigenvalues_are_refused() -> None:
    block = torch.diag(spectrum())
    block[0, 1] = 1.0
    for X in (torch.eye(N, dtype=DOUBLE), well(1)):
        A = (X @ block @ torch.linalg.inv(X)).requires_grad_()
        w, _ = SparseTensor.from_dense(A).eigs(4, "SM")
        with pytest.raises(GradientError, match="multiple"):
            torch.autograd.grad(w[:3].sum().real, A)
