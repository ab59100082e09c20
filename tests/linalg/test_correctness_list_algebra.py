"""Things seen wrong in a released library of this kind, right here: algebra, spectra, nonlinear."""

from __future__ import annotations

import warnings

import pytest
import torch

from torch_sla.errors import (
    ArgumentError,
    DTypeError,
    GradientError,
    Result,
    SolveError,
    TorchSlaError,
)
from torch_sla.linalg import SparseTensor, nonlinear_solve

F64 = torch.float64


def dense(n: int, seed: int = 13) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, n, dtype=F64, generator=g)


def poisson(n: int) -> SparseTensor:
    off = torch.tensor(-1.0, dtype=F64)
    T = SparseTensor.tridiagonal(off, torch.full((n,), 2.0, dtype=F64), off).to_dense()
    eye = torch.eye(n, dtype=F64)
    return SparseTensor.from_dense(torch.kron(T, eye) + torch.kron(eye, T))


def test_batched_right_hand_sides_of_products_and_factors() -> None:
    A = SparseTensor.from_dense(torch.stack([dense(4, s) for s in (1, 2, 3)]))
    X = torch.randn(3, 4, 5, dtype=F64)
    torch.testing.assert_close(A @ X, A.to_dense() @ X)
    torch.testing.assert_close(A.to_dense() @ A.lu().solve(X), X)


def test_no_batch_entry_is_dropped() -> None:
    A = SparseTensor.from_dense(torch.stack([dense(4, s) for s in (1, 2, 3)]))
    D = A.to_dense()
    torch.testing.assert_close(A.det(), torch.linalg.det(D))
    torch.testing.assert_close(A.norm("fro"), torch.linalg.matrix_norm(D))
    torch.testing.assert_close(
        (A + A.T()).eigsh(2, "SA")[0], torch.linalg.eigvalsh(D + D.mT)[:, :2]
    )
    with pytest.raises(ArgumentError):
        A @ torch.randn(2, 4, 5, dtype=F64)


def test_eigsh_gives_the_end_that_was_asked_for() -> None:
    S = dense(8) + dense(8).T
    exact = torch.linalg.eigvalsh(S)
    A = SparseTensor.from_dense(S)
    by_size = exact[exact.abs().argsort()]
    found = {
        which: A.eigsh(2, which, return_eigenvectors=False) for which in ("LM", "SM", "LA", "SA")
    }
    torch.testing.assert_close(found["LM"], by_size[-2:].sort().values)
    torch.testing.assert_close(found["SM"], by_size[:2].sort().values)
    torch.testing.assert_close(found["LA"], exact[-2:])
    torch.testing.assert_close(found["SA"], exact[:2])
    near = exact[(exact - 1.3).abs().argsort()[:2]].sort().values
    torch.testing.assert_close(A.eigsh(2, sigma=1.3)[0], near)


def test_unsymmetric_eigenvalues_are_complex_and_unsymmetric_matrices_refused_by_eigsh() -> None:
    A = SparseTensor.from_dense(dense(8))
    w = A.eigs(8, return_eigenvectors=False)
    exact = torch.linalg.eigvals(dense(8))
    assert w.imag.abs().max() > 0.1
    assert all(float((exact - z).abs().min()) < 1e-12 for z in w)
    with pytest.raises(ArgumentError, match="Hermitian"):
        A.eigsh()


def test_gradients_of_eigenvectors_are_not_silently_zero() -> None:
    S = (dense(6) + dense(6).T).requires_grad_()
    _, V = SparseTensor.from_dense(S).eigsh(2, "SA")
    (g,) = torch.autograd.grad((V**4).sum(), S)
    T = S.detach().clone().requires_grad_()
    (h,) = torch.autograd.grad((torch.linalg.eigh(T).eigenvectors[:, :2] ** 4).sum(), T)
    torch.testing.assert_close(g, (h + h.T) / 2)
    assert g.abs().max() > 1e-3


def test_the_condition_number_uses_both_ends() -> None:
    D = dense(7)
    torch.testing.assert_close(
        SparseTensor.from_dense(D).condition_number(), torch.linalg.cond(D), rtol=1e-9, atol=0
    )


def test_logdet_is_exact_where_the_determinant_overflows() -> None:
    n = 2000
    d = torch.linspace(1, 50, n, dtype=F64)
    A = SparseTensor.diag(d)
    assert torch.isinf(A.det())
    assert float(A.logdet()) == pytest.approx(float(d.log().sum()), rel=1e-13)


@pytest.mark.parametrize("ord", ["fro", 1, 2, float("inf")])
def test_norms_are_attached(ord: float | str) -> None:
    D = dense(5).requires_grad_()
    (g,) = torch.autograd.grad(SparseTensor.from_dense(D).norm(ord), D)
    (h,) = torch.autograd.grad(torch.linalg.matrix_norm(D, ord), D)
    torch.testing.assert_close(g, h)


def test_solving_with_a_factor_is_attached() -> None:
    D = dense(5).requires_grad_()
    b = torch.ones(5, dtype=F64)
    (g,) = torch.autograd.grad((SparseTensor.from_dense(D).lu().solve(b) ** 3).sum(), D)
    (h,) = torch.autograd.grad((torch.linalg.solve(D, b) ** 3).sum(), D)
    torch.testing.assert_close(g, h)


def test_the_gradient_of_a_small_determinant() -> None:
    D = (1e-8 * dense(4)).requires_grad_()
    (g,) = torch.autograd.grad(SparseTensor.from_dense(D).det(), D)
    (h,) = torch.autograd.grad(torch.linalg.det(D), D)
    assert g.abs().max() > 0
    torch.testing.assert_close(g, h, rtol=1e-10, atol=0)


def test_second_derivatives_are_right_or_refused() -> None:
    S = dense(5) + dense(5).T

    def loss(t: torch.Tensor) -> torch.Tensor:
        A = SparseTensor.from_dense(S + t * torch.eye(5, dtype=F64) + t**2 * (S @ S))
        return A.logdet().exp() + A.eigsh(1, "LA")[0].sum() + A.norm(2) ** 2

    def reference(t: torch.Tensor) -> torch.Tensor:
        D = S + t * torch.eye(5, dtype=F64) + t**2 * (S @ S)
        w = torch.linalg.eigvalsh(D)
        return torch.logdet(D).exp() + w[-1] + torch.linalg.matrix_norm(D, 2) ** 2

    t = torch.tensor(0.7, dtype=F64, requires_grad=True)
    second = []
    for function in (loss, reference):
        (g,) = torch.autograd.grad(function(t), t, create_graph=True)
        second.append(torch.autograd.grad(g, t)[0])
    torch.testing.assert_close(second[0], second[1])
    D = S.clone().requires_grad_()
    _, V = SparseTensor.from_dense(D).eigsh(1, "LA")
    (first,) = torch.autograd.grad((V**4).sum(), D, create_graph=True)
    with pytest.raises(GradientError, match="second"):
        torch.autograd.grad(first.sum(), D)


def test_integer_matrices_are_refused() -> None:
    i = torch.arange(2)
    with pytest.raises(DTypeError):
        SparseTensor(torch.tensor([1, 2]), i, i, (2, 2))


def test_duplicates_in_norms_and_elementwise_functions() -> None:
    i = torch.tensor([0, 0, 1])
    A = SparseTensor(torch.tensor([2.0, -2.0, 3.0]), i, i, (2, 2))
    assert A.norm() == 3
    assert A.norm(1) == 3
    assert A.abs().sum() == 3
    assert A.square().sum() == 9


def test_the_poisson_matrix_is_positive_definite() -> None:
    A = poisson(8)
    assert A.structure.positive_definite
    assert A.is_positive_definite()
    assert A.factorize().method == "cholesky"


def test_different_patterns_add() -> None:
    A, B = SparseTensor.eye(3), SparseTensor.diag(torch.ones(2), 1)
    assert torch.equal((A + B).to_dense(), torch.eye(3) + torch.diag(torch.ones(2), 1))


def test_a_nan_residual_is_reported() -> None:
    with pytest.raises(SolveError) as failure:
        nonlinear_solve(lambda u: torch.sqrt(u - 2), torch.zeros(3, dtype=F64))
    assert failure.value.result is Result.NONFINITE


def test_non_convergence_of_an_eigenvalue_iteration_is_an_error() -> None:
    with pytest.raises(SolveError) as failure:
        poisson(20).eigsh(4, "LA", maxiter=1)
    assert failure.value.result is Result.MAXITER


def test_no_warnings_and_the_same_bits_every_time() -> None:
    A = poisson(18)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runs = [(*A.eigsh(3, "SM"), *A.svd(2), (A @ A).values, A.logdet()) for _ in range(2)]
    assert all(torch.equal(x, y) for x, y in zip(*runs, strict=True))


def test_construction_checks_what_it_is_given() -> None:
    v, i = torch.ones(2), torch.tensor([0, 1])
    for row, col, shape in (
        (i, torch.tensor([0, 2]), (2, 2)),
        (torch.tensor([0, -1]), i, (2, 2)),
        (i.float(), i, (2, 2)),
        (i, i[:1], (2, 2)),
        (i, i, (2,)),
        (i, i, (3, 2, 2)),
    ):
        with pytest.raises(ArgumentError):
            SparseTensor(v, row, col, shape)


FUNCTIONS = {
    "solve": lambda A: A.solve(torch.ones(6, dtype=F64)).sum(),
    "logdet": lambda A: A.logdet(),
    "det": lambda A: A.det(),
    "eigsh": lambda A: A.eigsh(2)[0].sum() + (A.eigsh(2)[1] ** 4).sum(),
    "eigs": lambda A: A.eigs(2)[0].real.sum(),
    "svd": lambda A: A.svd(2)[1].sum(),
    "lu": lambda A: A.lu().solve(torch.ones(6, dtype=F64)).sum(),
    "product": lambda A: (A @ A).norm(),
    "sum": lambda A: (A + SparseTensor.eye(6, dtype=F64)).norm(2),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_torch_func_grad_agrees_with_backward(name: str) -> None:
    off = torch.tensor(-1.0, dtype=F64)

    def loss(d: torch.Tensor) -> torch.Tensor:
        return FUNCTIONS[name](SparseTensor.tridiagonal(off, d, off))

    d = torch.linspace(2, 3, 6, dtype=F64).requires_grad_()
    (g,) = torch.autograd.grad(loss(d), d)
    torch.testing.assert_close(torch.func.grad(loss)(d.detach()), g)


def test_odd_shapes_give_an_answer_or_a_clear_error() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    cases = [
        SparseTensor(torch.zeros(0, dtype=F64), none, none, (0, 0)),
        SparseTensor(torch.zeros(0, dtype=F64), none, none, (3, 3)),
        SparseTensor(torch.zeros(0, dtype=F64), none, none, (0, 3)),
        SparseTensor.from_dense(torch.ones(0, 3, 3, dtype=F64)),
        SparseTensor.eye(1),
        SparseTensor.eye(3).half(),
        SparseTensor.eye(3, 5),
        SparseTensor.diag(torch.tensor([1.0, float("nan")])),
        SparseTensor.eye(4).unflatten_blocks(2),
    ]
    names = (
        "det slogdet logdet factorize T H to_dense to_csr sum mean max min prod norm abs "
        "is_symmetric is_positive_definite connected_components flatten_blocks condition_number"
    )
    calls = [lambda A, n=n: getattr(A, n)() for n in names.split()]
    calls += [lambda A: A.eigsh(1), lambda A: A.eigs(1), lambda A: A.svd(1), lambda A: A.norm(2)]
    calls += [lambda A: A @ A, lambda A: A + A, lambda A: A * A, lambda A: A.sum(-1)]
    calls += [lambda A: A @ torch.ones(A.flat_shape[1], dtype=A.dtype)]
    answers = 0
    for A in cases:
        for call in calls:
            try:
                call(A)
                answers += 1
            except TorchSlaError:
                continue
    assert answers > len(cases) * len(calls) / 2
