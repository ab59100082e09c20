"""Equilibration, refinement, componentwise accuracy and the estimated condition number."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from tests.helpers.zoo import CASES, case, rhs, sparse
from torch_sla.errors import ArgumentError, PlanError, Result, SolveError
from torch_sla.linalg import SparseTensor
from torch_sla.linalg.rcond import inverse_norm
from torch_sla.linalg.scaling import equilibrate


@pytest.mark.parametrize("zoo", [c.name for c in CASES if c.square and c.nullspace is None])
def test_rcond_is_near_the_truth(zoo: str) -> None:
    A = case(zoo).sparse(torch.complex128)
    _, info = A.solve(rhs(A, None), method="superlu", info=True)
    D = A.to_dense().reshape(-1, *A.flat_shape)[-1]
    found = equilibrate(*_flat(A), hermitian=case(zoo).hermitian)
    if found is not None:
        D = found[0][:, None] * D * found[1]
    exact = 1 / float(torch.linalg.cond(D, p=1))
    assert info.rcond is not None
    assert exact * (1 - 1e-9) <= info.rcond <= 3 * exact
    assert pickle.loads(pickle.dumps(info)).rcond is None
    assert copy.deepcopy(info).residual == info.residual


def _flat(A: SparseTensor) -> tuple[object, torch.Tensor]:
    pattern, values = A.flat_slots()
    return pattern, values.reshape(-1, values.shape[-1])[-1]


def test_rcond_is_not_that_of_other_values() -> None:
    A = case("general").sparse(torch.float64)
    _, info = A.solve(rhs(A, None), method="superlu", info=True)
    A.values.mul_(torch.linspace(1, 2, A.nnz))
    assert info.rcond is None
    assert (
        A.solve(rhs(A, None), method="cg", backend="pytorch", throw=False, maxiter=1)[1].rcond
        is None
        if A.structure.hermitian
        else True
    )


def test_the_estimate_survives_its_known_counterexample_direction() -> None:
    d = torch.tensor([[1.0], [1e-3], [2.0]]).double()
    assert inverse_norm(lambda v: v / d, lambda v: v / d, d) == pytest.approx(1e3)


@pytest.mark.parametrize("hermitian", [False, True])
def test_wild_rows_cost_no_accuracy(hermitian: bool) -> None:
    D = case("definite" if hermitian else "general").dense(torch.float64)
    s = 10.0 ** torch.linspace(-9, 9, len(D), dtype=torch.float64).roll(4)
    x = torch.linspace(1, 2, len(D), dtype=torch.float64)
    if hermitian:
        D, x = D * s[:, None] * s, x / s
    else:
        D = D * s[:, None]
    A = sparse(D)
    b = D.to(torch.float64) @ x
    for method in ("superlu", "lu", *(("ldlt", "cholesky") if hermitian else ())):
        y, info = A.solve(b, method=method, info=True)
        assert float(((y - x) / x).abs().max()) < 1e-12
        assert info.backward_error <= 50 * torch.finfo(x.dtype).eps
        assert any("equilibrated" in note for note in info.notes)


def test_scales_are_powers_of_two() -> None:
    A = case("scaled").sparse(torch.float64)
    found = equilibrate(*_flat(A), hermitian=False)
    assert found is not None
    for s in found:
        assert torch.equal(torch.frexp(s).mantissa, torch.full_like(s, 0.5))
    assert equilibrate(*_flat(case("general").sparse(torch.float64)), hermitian=False) is None


def hilbert(n: int, dtype: torch.dtype) -> torch.Tensor:
    i = torch.arange(n, dtype=torch.float64)
    return (1 / (i[:, None] + i + 1)).to(dtype)


def test_hilbert_is_solved_until_it_is_singular_to_working_precision() -> None:
    for n in (4, 8, 10):
        A = SparseTensor.from_dense(hilbert(n, torch.float64))
        _, info = A.solve(torch.ones(n, dtype=torch.float64), method="superlu", info=True)
        assert info.backward_error <= 50 * torch.finfo(torch.float64).eps
    A = SparseTensor.from_dense(hilbert(14, torch.float64))
    _, info = A.solve(torch.ones(14, dtype=torch.float64), method="superlu", throw=False)
    assert info.result is Result.SINGULAR


def test_a_zero_pivot_hidden_by_rounding_is_found() -> None:
    g = torch.Generator().manual_seed(17)
    for n in (5, 30, 80):
        B = torch.randn(n, n - 1, dtype=torch.float64, generator=g)
        D = B @ torch.randn(n - 1, n, dtype=torch.float64, generator=g)
        A = SparseTensor.from_dense(D)
        for b in (D @ torch.ones(n, dtype=torch.float64), torch.ones(n, dtype=torch.float64)):
            for method in ("superlu", "lu"):
                with pytest.raises(SolveError) as caught:
                    A.solve(b, method=method)
                assert caught.value.result is Result.SINGULAR


@pytest.mark.parametrize(
    "way",
    [
        {"method": "cg", "backend": "pytorch"},
        {"method": "cg", "backend": "eigen"},
        {"method": "cg", "backend": "scipy"},
        {"method": "minres"},
        {"method": "gmres"},
    ],
    ids=lambda w: "-".join(w.values()),
)
def test_rcond_of_iterative_methods(way: dict[str, str]) -> None:
    A = case("poisson").sparse(torch.float64)
    _, info = A.solve(rhs(A, None), info=True, **way)
    exact = 1 / float(torch.linalg.cond(A.to_dense(), 1))
    assert exact * 0.99 <= info.rcond <= 3 * exact
    assert pickle.loads(pickle.dumps(info)).rcond is None


def test_rcond_is_unknown_where_a_rough_solve_fails_and_for_least_squares() -> None:
    A = case("tall").sparse(torch.float64)
    assert A.solve(rhs(A, None), method="lsmr", info=True)[1].rcond is None
    B = case("poisson").sparse(torch.float64)
    _, info = B.solve(rhs(B, None), method="cg", backend="pytorch", info=True)
    B.values.mul_(2)
    assert info.rcond is None


@pytest.mark.parametrize("method", ["gmres", "minres", "bicgstab"])
def test_zeros_on_the_diagonal_leave_the_diagonal_alone(method: str) -> None:
    n = 12
    D = torch.zeros(n, n, dtype=torch.float64)
    i = torch.arange(0, n, 2)
    D[i, i + 1] = D[i + 1, i] = torch.linspace(1, 2, n // 2, dtype=torch.float64)
    A = SparseTensor.from_dense(D)
    plan = A.plan(method=method)
    assert not plan.facts.diagonal
    assert plan.preconditioner == "none"
    b = torch.ones(n, dtype=torch.float64)
    torch.testing.assert_close(D @ A.solve(b, method=method), b)
    assert "multigrid" not in str(A.plan().choice)
    with pytest.raises(SolveError, match="row 0"):
        A.solve(b, method=method, backend="pytorch", preconditioner="jacobi")


def test_complex_symmetric_matrices_have_an_ldlt() -> None:
    A = case("absorbing").sparse(torch.complex128)
    D, b = A.to_dense(), rhs(A, 2)
    assert A.plan().facts.describe().count("complex symmetric") == 1
    x, info = A.solve(b, method="ldlt", info=True)
    assert (info.backend, info.method) == ("native", "ldlt")
    torch.testing.assert_close(x, torch.linalg.solve(D, b))
    F = A.ldlt()
    torch.testing.assert_close(F.solve_transposed(b), torch.linalg.solve(D.mT, b))
    torch.testing.assert_close(F.det(), torch.linalg.det(D))
    with pytest.raises(ArgumentError, match="inertia"):
        F.inertia()
    with pytest.raises(PlanError, match="symmetric"):
        case("general").sparse(torch.complex128).ldlt()
