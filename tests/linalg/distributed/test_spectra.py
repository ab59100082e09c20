"""Eigenpairs, singular triplets and nonlinear systems in parts are those of the whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.helpers import rank_programs as programs
from torch_sla.errors import ArgumentError, DTypeError, GradientError, SolveError
from torch_sla.linalg import DSparseTensor, SparseTensor

if TYPE_CHECKING:
    from torch import Tensor

    from tests.helpers.ranks import Ranks


def lattice(cells: int = 13) -> SparseTensor:
    """A definite matrix of 169 rows with simple eigenvalues, above where all of space is the basis."""
    A = programs.poisson(cells)
    d = torch.rand(A.shape[-1], generator=torch.Generator().manual_seed(3)).double()
    bent = torch.where(A.row_indices == A.col_indices, A.values + d[A.row_indices], A.values)
    return SparseTensor(bent, A.row_indices, A.col_indices, tuple(A.shape))


def both(A: SparseTensor, loss: Any, parts: int = 4) -> tuple[Any, Any]:
    out = []
    for cut in (False, True):
        values = A.values.detach().clone().requires_grad_()
        B: Any = SparseTensor(values, A.row_indices, A.col_indices, tuple(A.shape))
        value, *rest = loss(B.partition(parts) if cut else B)
        value.backward()
        out.append((value.detach(), values.grad, *(t.detach() for t in rest)))
    return out[0], out[1]


def agree(A: SparseTensor, loss: Any, parts: int = 4, scale: float = 1e-7) -> None:
    for x, y in zip(*both(A, loss, parts), strict=True):
        torch.testing.assert_close(x, y, rtol=scale, atol=scale * float(x.abs().max()))


@pytest.mark.parametrize("size", [1e-36, 1e36])
def test_sizes_that_single_precision_does_not_have(size: float) -> None:
    """Levels of the preconditioner are float32, and so are the residuals it is given."""
    A = programs.lattice((30, 21), (1.0, 1.0))
    exact = A.eigsh(3, "SA")[0]
    checks = (
        torch.arange(630) // 21 // 7 + torch.arange(630) % 21 // 5
    ) % 3  # no boxes: aggregates
    for how in ({"partition_method": "lattice"}, {"partition_ids": checks}):
        D = DSparseTensor(A.values, A.row_indices, A.col_indices, A.shape, 3, **how)
        w, _ = D.with_values(size * D.values).eigsh(3, "SA")
        torch.testing.assert_close(w / size, exact, rtol=1e-9, atol=0)


def weights(n: int) -> Tensor:
    return torch.linspace(1, 2, n, dtype=torch.float64).unsqueeze(1)


@pytest.mark.parametrize(
    ("which", "sigma"), [("SA", None), ("LA", None), ("LM", None), ("SM", None), ("LM", 0.95)]
)
def test_hermitian(which: str, sigma: float | None) -> None:
    A = lattice()

    def loss(B: Any) -> tuple[Tensor, ...]:
        w, V = B.eigsh(3 if sigma is None else 1, which, sigma)
        return (w**2).sum() + (weights(len(V)) * V**4).sum(), w, V

    agree(A, loss)


def test_small_matrices_and_indefinite_ones() -> None:
    A, _ = programs.matrix("indefinite")
    for which in ("LM", "SM", "SA"):
        agree(A, lambda B, which=which: (B.eigsh(2, which, return_eigenvectors=False).sum(),))
    wave, _ = programs.matrix("blobs", torch.complex128)
    agree(wave, lambda B: (B.eigsh(2, "LA", return_eigenvectors=False).sum(),), parts=9)


def test_indefinite_interior() -> None:
    A = lattice()
    n = A.shape[-1]
    shifted = A - SparseTensor.eye(n, dtype=torch.float64) * 0.95
    agree(shifted, lambda B: (B.eigsh(1, "SM", return_eigenvectors=False).sum(),))


def test_pencils() -> None:
    A = lattice()
    n = A.shape[-1]
    off = torch.full((), 0.2, dtype=torch.float64)
    M = SparseTensor.tridiagonal(off, 1 + weights(n)[:, 0], off)
    out = []
    for cut in (False, True):
        a, m = (x.values.detach().clone().requires_grad_() for x in (A, M))
        B: Any = SparseTensor(a, A.row_indices, A.col_indices, tuple(A.shape))
        C: Any = SparseTensor(m, M.row_indices, M.col_indices, tuple(M.shape))
        if cut:
            B = B.partition(3)
            part = torch.empty(n, dtype=torch.int64)
            for piece in B:
                part[piece.owned_nodes] = piece.partition_id
            C = C.partition(3, partition_ids=part)
        w, V = B.eigsh(2, "SA" if cut else "SM", M=C)
        ((w**2).sum() + (weights(n) * V**4).sum()).backward()
        out.append((w.detach(), V.detach(), a.grad, m.grad))
    for x, y in zip(*out, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-7, atol=1e-7 * float(x.abs().max()))
    with pytest.raises(ArgumentError, match="same parts"):
        A.partition(3).eigsh(2, M=M.partition(3, partition_ids=torch.arange(n) % 3))
    light = SparseTensor.diag((torch.arange(n) % 7 > 0).double())
    with pytest.raises(ArgumentError, match=f"in parts, and {-(-n // 7)} of its rows"):
        A.partition(3).eigsh(2, "SM", M=light.partition(3, partition_ids=part))


def unsymmetric(cells: int = 13) -> SparseTensor:
    A = lattice(cells)
    twist = 1 + 0.4 * torch.cos(1.1 * A.row_indices + 2.3 * A.col_indices).double()
    return SparseTensor(A.values * twist, A.row_indices, A.col_indices, tuple(A.shape))


@pytest.mark.parametrize("which", ["LM", "SR"])
def test_general(which: str) -> None:
    def loss(B: Any) -> tuple[Tensor, ...]:
        w, V = B.eigs(2, which)
        return (w.abs() ** 2).sum() + (weights(len(V)) * V.abs() ** 4).sum(), w

    agree(unsymmetric(), loss)


@pytest.mark.parametrize("which", ["LM", "SM"])
def test_singular(which: str) -> None:
    def loss(B: Any) -> tuple[Tensor, ...]:
        U, S, W = B.svd(2, which)
        return (S**3).sum() + (weights(len(U)) * U**4).sum() + (W**4 * weights(len(U)).T).sum(), S

    # Inverse iteration on both sides takes long: small enough for the whole space there.
    agree(unsymmetric(13 if which == "LM" else 8), loss)


def test_refusals() -> None:
    D = unsymmetric().partition(3)
    with pytest.raises(ArgumentError, match="Hermitian"):
        D.eigsh(2)
    with pytest.raises(ArgumentError, match="`k`"):
        D.eigs(0)
    with pytest.raises(ArgumentError, match="`which`"):
        D.svd(2, "LA")
    with pytest.raises(SolveError, match="maxiter"):
        lattice().partition(2).eigsh(2, "LA", maxiter=2)
    A = programs.poisson(14)  # its second and third eigenvalues are one
    values = A.values.clone().requires_grad_()
    _, V = (
        SparseTensor(values, A.row_indices, A.col_indices, (196, 196)).partition(3).eigsh(2, "SA")
    )
    with pytest.raises(GradientError, match="too close"):
        (weights(196) * V**4).sum().backward()


@pytest.mark.distributed
def test_processes(ranks: Ranks) -> None:
    expected = programs.spectral(None, 1)
    for found in ranks.run(3, programs.spectral):
        assert found.pop("gathered") < 200  # how many entries go where when the transpose is made
        for key, value in found.items():
            scale = float(expected[key].abs().max())
            torch.testing.assert_close(value, expected[key], rtol=1e-7, atol=1e-7 * scale)


def serial_newton() -> dict[str, Any]:
    A, _ = programs.matrix("irregular")
    values = A.values.clone().requires_grad_()
    q = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    f = programs.rhs(A.shape[-1], A.dtype).requires_grad_()
    u = SparseTensor.from_pattern(A.pattern, values).nonlinear_solve(
        lambda u, A, q, f: A @ u + q * u**3 + torch.tanh(u) - f,
        torch.zeros_like(f),
        q,
        f,
        rtol=1e-12,
    )
    (u**3).sum().backward()
    return {"u": u.detach(), "values": values.grad, "q": q.grad, "f": f.grad}


@pytest.mark.distributed
@pytest.mark.parametrize("method", ["newton", "anderson"])
def test_nonlinear_systems(ranks: Ranks, method: str) -> None:
    expected = serial_newton()
    answers = [programs.newton(None, method, 5), *ranks.run(4, programs.newton, method)]
    for found in answers:
        # Anderson brings together a triangle of at most six columns for each step; no vectors.
        assert found["gathered"] <= (0 if method == "newton" else 200 * 6 * 6 * 8)
        for key, value in expected.items():
            scale = float(value.abs().max())
            torch.testing.assert_close(found[key], value, rtol=1e-7, atol=1e-8 * scale)


def test_nonlinear_refusals() -> None:
    A, _ = programs.matrix("tiny")
    D = A.partition(2)
    with pytest.raises(ArgumentError, match="must return a DVector"):
        D.nonlinear_solve(lambda u, A: u.local, D.zeros())
    with pytest.raises(SolveError, match="nonlinear solve by newton"):
        D.nonlinear_solve(lambda u, A: u * u + 1, D.zeros(), maxiter=5)
    q = torch.tensor(2.0, dtype=A.dtype, requires_grad=True)
    with pytest.raises(ArgumentError, match="requires a gradient and is no parameter"):
        D.nonlinear_solve(lambda u, A: A @ u + u * u * u - q, D.zeros())
    with pytest.raises(DTypeError, match="float16; convert it first"):
        D.nonlinear_solve(lambda u, A: u - 1.0, torch.ones(A.shape[-1], dtype=torch.float16))
    one = D.zeros() + 1.0
    with pytest.raises(SolveError, match="does not depend on u"):
        D.nonlinear_solve(lambda u, A: A @ one, D.zeros())


@pytest.mark.parametrize(
    ("diagonal", "k"),
    [
        ([0.0, 2.0, 2.0, 1.0], 2),
        ([0.0, 2.0, 2.0, 1.0], 3),
        ([1.0] * 40, 3),
        ([5.0, 1.0, 1.0, 3.0] * 15, 20),
    ],
)
def test_all_copies_of_multiple_eigenvalues_are_found(diagonal: list[float], k: int) -> None:
    d = torch.tensor(diagonal, dtype=torch.float64)
    w, V = SparseTensor.diag(d).partition(3).eigs(k)
    torch.testing.assert_close(w.real, d.sort(descending=True).values[:k])
    assert torch.linalg.matrix_rank(V) == k


def test_the_same_block_several_times() -> None:
    g = torch.Generator().manual_seed(5)
    block = torch.randn(15, 15, dtype=torch.float64, generator=g)
    A = SparseTensor.from_dense(torch.block_diag(block, block, block))
    w, V = A.partition(3).eigs(6)
    top = torch.linalg.eigvals(block).abs().sort(descending=True).values[:2]
    torch.testing.assert_close(w.abs(), top.repeat_interleave(3))
    assert torch.linalg.matrix_rank(V) == 6


@pytest.mark.distributed
def test_second_derivatives_through_sums_over_processes(ranks: Ranks) -> None:
    A, _ = programs.matrix("irregular")
    x = programs.rhs(A.shape[-1], A.dtype).requires_grad_()
    loss = (A @ x).norm() ** 3 + x.dot(x) ** 2 + (x * x.norm())[:9].prod()
    (g,) = torch.autograd.grad(loss, x, create_graph=True)
    (h,) = torch.autograd.grad((g**3).sum(), x)
    alone = programs.curved(None, 3)
    for found in (alone, *ranks.run(3, programs.curved)):
        scale = float(h.abs().max())
        torch.testing.assert_close(found["h"] / scale, h / scale, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(found["u"], alone["u"], rtol=1e-9, atol=1e-12)
        # A direction that misses what other processes add would cost Newton's method its rate.
        assert found["iterations"] == alone["iterations"] < 12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex128])
def test_the_derivative_of_a_single_unknown(dtype: torch.dtype) -> None:
    v, zero = torch.full((1,), 3.0, dtype=dtype, requires_grad=True), torch.zeros(1).long()
    (w, _) = SparseTensor(v, zero, zero, (1, 1)).partition(1).eigs(k=1)
    (slope,) = torch.autograd.grad(w.abs().square().sum(), v)
    torch.testing.assert_close(slope, torch.full_like(v, 6.0), rtol=1e-5, atol=0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_defective_eigenvalues_have_no_derivative_in_any_precision(dtype: torch.dtype) -> None:
    v = torch.tensor([1.0, 1.0, 1.0, 0.2], dtype=dtype, requires_grad=True)
    row, col = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 1, 2])
    (w, _) = SparseTensor(v, row, col, (3, 3)).partition(2).eigs(k=1)
    with pytest.raises(GradientError):
        torch.autograd.grad(w.real.sum(), v)


@pytest.mark.parametrize("cells", [9, 14])
@pytest.mark.parametrize("which", ["SA", "SM", "LA"])
def test_a_group_that_k_cuts_has_no_gradient(cells: int, which: str) -> None:
    """A square membrane: the second and third eigenvalue of either end coincide."""
    A = programs.poisson(cells)
    values = A.values.detach().clone().requires_grad_()
    D = SparseTensor(values, A.row_indices, A.col_indices, tuple(A.shape)).partition(3)
    w, _ = D.eigsh(2, which)
    alone, cut = (0, 1) if which != "LA" else (1, 0)
    w[alone].backward(retain_graph=True)
    with pytest.raises(GradientError, match="ask for the whole group"):
        w[cut].backward()
    D.eigsh(3, which)[0].sum().backward()


def swirling(pairs: int) -> SparseTensor:
    """Real eigenvalues between 1 and 5, and some complex pairs."""
    n = 200
    d, i = torch.linspace(1, 5, n, dtype=torch.float64), torch.arange(n)
    at = 3 + 7 * torch.arange(pairs)
    below = -20.0 - 5 * torch.arange(pairs, dtype=torch.float64)
    v = torch.cat([d, torch.full((n - 1,), 0.01, dtype=torch.float64), below])
    return SparseTensor(v, torch.cat([i, i[:-1], at + 1]), torch.cat([i, i[1:], at]), (n, n))


def test_the_few_that_are_not_real() -> None:
    A = swirling(2)
    w, _ = A.partition(3).eigs(4, "LI")
    exact = torch.linalg.eigvals(A.to_dense())
    exact = exact[exact.imag.abs().argsort(descending=True)[:4]]
    torch.testing.assert_close(w.imag.abs(), exact.imag.abs(), rtol=1e-9, atol=0)
    torch.testing.assert_close(w.real.sort().values, exact.real.sort().values, rtol=1e-9, atol=0)
    # Of the real ones no six are better than others: those in the middle of a spectrum are not found by products.
    with pytest.raises(
        SolveError, match=r"found 4 of 10 pairs; where many .* equally good"
    ) as told:
        A.partition(3).eigs(10, "LI", maxiter=40)
    assert 0 < told.value.residual < 1


def test_the_smallest_imaginary_parts_of_a_real_matrix() -> None:
    g = torch.Generator().manual_seed(1)
    for n in (20, 60):
        turn = torch.randn(2, n - 1, dtype=torch.float64, generator=g)
        A = SparseTensor.tridiagonal(turn[0], torch.linspace(1, 3, n, dtype=torch.float64), turn[1])
        if n == 60:
            with pytest.raises(ArgumentError, match="sigma"):
                A.partition(2).eigs(4, "SI")
            continue
        every = torch.linalg.eigvals(A.to_dense()).imag.abs().sort().values
        w, _ = A.partition(2).eigs(4, "SI")
        torch.testing.assert_close(w.imag.abs(), every[:4], atol=1e-9, rtol=0)


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("k", [1, 3])
def test_multiple_eigenvalues_of_a_general_matrix_have_no_gradient_in_parts(
    parts: int, k: int
) -> None:
    """Each copy has many left vectors, and any of them would be taken; a simple one beside them has its own."""
    n = 8
    generator = torch.Generator().manual_seed(2)
    R = torch.eye(n, dtype=torch.float64)
    R += 0.2 * torch.randn(n, n, dtype=torch.float64, generator=generator)
    L = torch.linalg.inv(R)
    w = torch.tensor([5.0, 5.0, 3.0, 1.0, 0.5, 0.4, 0.3, 0.2], dtype=torch.float64)
    i, j = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    values = (R * w @ L).flatten().requires_grad_()
    part = torch.arange(n) % parts
    D = DSparseTensor(values, i.flatten(), j.flatten(), (n, n), parts, partition_ids=part)
    found, _ = D.eigs(k=k)
    copies = (found.detach().real - 5.0).abs() < 1e-6
    with pytest.raises(GradientError, match="is multiple"):
        torch.autograd.grad(found[copies].sum().real, values, retain_graph=True)
    if k == 3:
        (grad,) = torch.autograd.grad(found[~copies].sum().real, values)
        torch.testing.assert_close(grad.reshape(n, n), torch.outer(L[2], R[:, 2]))
