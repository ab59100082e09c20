"""Mistakes that solvers of this kind are known for; none may be made here. The part about solves."""

from __future__ import annotations

import warnings

import pytest
import torch

from tests.helpers.zoo import case, rhs, sparse
from torch_sla.errors import ArgumentError, DTypeError, GradientError, Result, SolveError
from torch_sla.linalg import SparseTensor, cache_counters


def general(dtype: torch.dtype = torch.float64) -> SparseTensor:
    return case("general").sparse(dtype)


def test_batched_right_hand_sides() -> None:
    A = case("batch").sparse(torch.float64)
    b = rhs(A, 4)
    torch.testing.assert_close(A.solve(b), torch.linalg.solve(A.to_dense(), b))


def test_no_batch_entry_is_dropped() -> None:
    D = case("general").dense(torch.float64)
    many = sparse(torch.stack([D * (k + 1) for k in range(5)]))
    x = many.solve(torch.ones(5, 10, dtype=torch.float64))
    assert x.shape == (5, 10)
    torch.testing.assert_close(x[4] * 5, x[0])
    with pytest.raises(ArgumentError, match="batch"):
        many.solve(torch.ones(4, 10, dtype=torch.float64))


def test_second_derivatives() -> None:
    A = general()
    b = rhs(A, None)

    def loss(v: torch.Tensor) -> torch.Tensor:
        return (A.from_pattern(A.pattern, v).solve(b) ** 3).sum()

    def dense(v: torch.Tensor) -> torch.Tensor:
        return (torch.linalg.solve(A.from_pattern(A.pattern, v).to_dense(), b) ** 3).sum()

    v, t = A.values, torch.linspace(-1, 1, A.nnz, dtype=torch.float64)
    hvp = torch.func.jvp(torch.func.grad(loss), (v,), (t,))[1]
    torch.testing.assert_close(hvp, torch.func.jvp(torch.func.grad(dense), (v,), (t,))[1])


def test_least_squares_gradient() -> None:
    A = case("tall").sparse(torch.float64)
    b, v = rhs(A, None), A.values.clone().requires_grad_()
    (found,) = torch.autograd.grad((A.from_pattern(A.pattern, v).solve(b) ** 3).sum(), v)
    D = A.from_pattern(A.pattern, v).to_dense()
    (exact,) = torch.autograd.grad((torch.linalg.lstsq(D, b.unsqueeze(1)).solution ** 3).sum(), v)
    torch.testing.assert_close(found, exact)


@pytest.mark.parametrize("backend", ["pytorch", "scipy"])
def test_tolerances_are_obeyed(backend: str) -> None:
    A = case("poisson").sparse(torch.float64)
    b = rhs(A, None)
    counts = []
    for rtol in (1e-2, 1e-12):
        how = {"backend": backend, "method": "cg", "preconditioner": "jacobi"}
        _, info = A.solve(b, **how, rtol=rtol, info=True)
        assert info.residual <= rtol
        counts.append(info.iterations)
    assert 0 < counts[0] < counts[1]
    assert torch.equal(A.solve(b, tol=1e-9), A.solve(b, rtol=1e-9))
    x, info = A.solve(b, backend=backend, method="cg", rtol=0.0, atol=0.1, info=True)
    assert 1e-9 < float((A @ x - b).norm()) <= 0.1


@pytest.mark.parametrize("size", [1e-30, 1e-200, 1e200])
@pytest.mark.parametrize("method", ["lu", "cg", "minres", "gmres"])
def test_a_small_right_hand_side_has_a_small_solution(method: str, size: float) -> None:
    A = case("poisson").sparse(torch.float64)
    b = rhs(A, None)
    backend = "auto" if method == "lu" else "pytorch"
    x = A.solve(size * b, method=method, backend=backend)
    torch.testing.assert_close(x / size, A.solve(b), rtol=1e-7, atol=1e-9)


def test_integers_are_refused_not_solved_to_zero() -> None:
    i = torch.arange(3)
    with pytest.raises(DTypeError, match="double"):
        SparseTensor(torch.ones(3, dtype=torch.int64), i, i, (3, 3))
    A = SparseTensor(torch.ones(3), i, i, (3, 3))
    with pytest.raises(DTypeError, match="int64"):
        A.solve(torch.ones(3, dtype=torch.int64))
    with pytest.raises(DTypeError, match="float16"):
        A.half().solve(torch.ones(3, dtype=torch.float16))


def test_poisson_is_recognised() -> None:
    A = case("poisson").sparse(torch.float64)
    assert A.structure.positive_definite
    assert A.plan().choice.method in ("cholesky", "cg", "ldlt")


def test_singular_is_an_error_and_no_warning() -> None:
    D = torch.tensor([[1.0, 2.0], [2.0, 4.0]], dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for method in ("auto", "superlu", "lu", "gmres"):
            with pytest.raises(SolveError) as caught:
                SparseTensor.from_dense(D).solve(torch.tensor([1.0, 0.0]).double(), method=method)
            assert caught.value.remedy


def test_failure_is_a_code_not_a_warning() -> None:
    A = case("poisson").sparse(torch.float64)
    b = rhs(A, None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x, info = A.solve(b, backend="pytorch", method="cg", maxiter=2, throw=False)
        assert A.solve(b).isfinite().all()
    assert (info.result, info.iterations, info.converged) == (Result.MAXITER, 2, False)
    assert info.residual == pytest.approx(float((A @ x - b).norm() / b.norm()))
    assert len(info.history) == 2
    with pytest.raises(SolveError, match="maxiter"):
        A.solve(b, backend="pytorch", method="cg", maxiter=2)


def test_construction_is_checked() -> None:
    one, i = torch.ones(2), torch.tensor([0, 1])
    for values, row, col, shape in (
        (one, torch.tensor([0, 2]), i, (2, 2)),
        (one, i, torch.tensor([0, -1]), (2, 2)),
        (one, i, torch.tensor([0]), (2, 2)),
        (one, i.double(), i, (2, 2)),
        (torch.ones(3), i, i, (2, 2)),
        (one, i, i, (2, -2)),
    ):
        with pytest.raises(ArgumentError):
            SparseTensor(values, row, col, shape)


@pytest.mark.parametrize("method", ["lu", "superlu", "gmres", "lsmr"])
def test_results_repeat_to_the_last_bit(method: str) -> None:
    A, v = general(), general().values
    b = rhs(A, 2)
    first = A.solve(b, method=method)
    from torch_sla.linalg import clear_factor_cache

    for _ in range(3):
        clear_factor_cache()
        assert torch.equal(A.from_pattern(A.pattern, v.clone()).solve(b, method=method), first)


def test_two_solves_in_one_graph() -> None:
    A, b = general(), rhs(general(), None)
    v = A.values.clone().requires_grad_()
    both = sum((A.from_pattern(A.pattern, s * v).solve(b) ** 3).sum() for s in (1.0, 2.0))
    (found,) = torch.autograd.grad(both, v)
    D = A.from_pattern(A.pattern, v).to_dense()
    exact = sum((torch.linalg.solve(s * D, b) ** 3).sum() for s in (1.0, 2.0))
    torch.testing.assert_close(found, torch.autograd.grad(exact, v)[0])


def test_an_edit_in_place_does_not_go_unnoticed() -> None:
    A, b = general(), rhs(general(), None)
    v = A.values.clone().requires_grad_()
    x = A.from_pattern(A.pattern, v).solve(b)
    v.data[0] += 1
    with pytest.raises(GradientError, match="modified in place"):
        x.sum().backward()
    D = A.from_pattern(A.pattern, v).to_dense()
    torch.testing.assert_close(A.from_pattern(A.pattern, v).solve(b), torch.linalg.solve(D, b))


def test_values_that_change_cost_one_factorisation_each() -> None:
    A, b = general(), rhs(general(), None)
    before = cache_counters()["factorize"]
    for s in (3.0, 5.0, 3.0):
        A.from_pattern(A.pattern, s * A.values).solve(b, method="superlu")
    assert cache_counters()["factorize"] == before + 2


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nonfinite_input_is_named(bad: float) -> None:
    A, b = general(), rhs(general(), None)
    v = A.values.clone()
    v[3] = bad
    for matrix, load in ((A.from_pattern(A.pattern, v), b), (A, b * bad)):
        for method in ("auto", "gmres"):
            with pytest.raises(SolveError) as caught:
                matrix.solve(load, method=method)
            assert caught.value.result is Result.NONFINITE
