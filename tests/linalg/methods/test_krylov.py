"""Each method on its own: columns stop separately, restarts, breakdown, stagnation, least squares."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.helpers.zoo import case
from torch_sla.errors import ArgumentError, Result, SolveError
from torch_sla.linalg import SparseTensor
from torch_sla.linalg.methods.bicgstab import bicgstab
from torch_sla.linalg.methods.cg import cg
from torch_sla.linalg.methods.gmres import gmres
from torch_sla.linalg.methods.lsmr import lsmr
from torch_sla.linalg.methods.lsqr import lsqr
from torch_sla.linalg.methods.merged_cg import merged_cg
from torch_sla.linalg.methods.minres import minres
from torch_sla.linalg.methods.outcome import KrylovOptions

WHERE: dict[str, tuple[Any, str]] = {
    "cg": (cg, "definite"),
    "merged_cg": (merged_cg, "definite"),
    "bicgstab": (bicgstab, "convection"),
    "gmres": (gmres, "general"),
    "minres": (minres, "saddle"),
}
OPTIONS = KrylovOptions(rtol=1e-10)


def normal(*shape: int, seed: int = 71, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("preconditioned", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("name", WHERE)
def test_columns_do_not_disturb_each_other(
    name: str, dtype: torch.dtype, preconditioned: bool
) -> None:
    method, zoo = WHERE[name]
    A = case(zoo).dense(dtype)
    n = len(A)
    B = normal(n, 4, dtype=dtype)
    B[:, 1] = 0
    B[:, 2] *= 1e-12
    B[:, 3] *= 1e12
    d = torch.linspace(0.5, 2, n, dtype=torch.float64).unsqueeze(1)
    M = (lambda r: d * r) if preconditioned else None
    out = method(lambda v: A @ v, B, M=M, options=OPTIONS)
    assert out.result is Result.CONVERGED
    assert 0 < out.iterations == len(out.history)
    left = (B - A @ out.x).norm(dim=0)
    assert bool((left <= 2e-10 * B.norm(dim=0)).all())
    assert not out.x[:, 1].any()
    alone = method(lambda v: A @ v, B[:, :1], M=M, options=OPTIONS)
    torch.testing.assert_close(out.x[:, :1], alone.x, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("matrix", "rhs"), [(1.0, 1e30), (1e-20, 1.0), (1e20, 1e-20)])
@pytest.mark.parametrize("name", WHERE)
def test_units_do_not_matter(name: str, matrix: float, rhs: float) -> None:
    method, zoo = WHERE[name]
    A = case(zoo).dense(torch.float64)
    b = normal(len(A), 2)
    plain = method(lambda v: A @ v, b, options=OPTIONS)
    out = method(lambda v: matrix * (A @ v), rhs * b, options=OPTIONS)
    assert out.result is Result.CONVERGED
    assert abs(out.iterations - plain.iterations) <= 2
    torch.testing.assert_close(out.x * (matrix / rhs), plain.x, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", WHERE)
def test_a_good_start_is_kept(name: str) -> None:
    method, zoo = WHERE[name]
    A = case(zoo).dense(torch.float64)
    x = normal(len(A), 2)
    out = method(lambda v: A @ v, A @ x, x0=x, options=OPTIONS)
    assert out.iterations == 0
    torch.testing.assert_close(out.x, x)


def test_gmres_restarts() -> None:
    A = torch.eye(40).double() * 3 + 0.3 * normal(40, 40)
    b = normal(40, 2)
    full = gmres(lambda v: A @ v, b, options=OPTIONS)
    short = gmres(lambda v: A @ v, b, options=replace(OPTIONS, restart=5))
    assert full.iterations < short.iterations
    for out in (full, short):
        assert out.result is Result.CONVERGED
        assert float((b - A @ out.x).norm()) <= 1e-9 * float(b.norm())


def test_gmres_stagnates_in_so_many_words() -> None:
    shift = torch.eye(12).double().roll(1, 0)
    b = torch.zeros(12, 1).double()
    b[0] = 1
    assert (
        gmres(lambda v: shift @ v, b, options=replace(OPTIONS, restart=5)).result
        is Result.STAGNATION
    )
    out = gmres(lambda v: shift @ v, b, options=OPTIONS)
    assert out.result is Result.CONVERGED
    assert out.iterations == 12


def test_cg_says_that_a_matrix_is_indefinite() -> None:
    d = torch.tensor([[1.0], [-1.0], [2.0]]).double()
    assert cg(lambda v: d * v, torch.ones(3, 1).double()).result is Result.BREAKDOWN


def test_minres_says_that_a_preconditioner_is_indefinite() -> None:
    d = torch.tensor([[1.0], [-1.0], [2.0]]).double()
    b = torch.tensor([[0.1], [1.0], [0.1]]).double()
    assert minres(lambda v: 1 / d * v, b, M=lambda r: d * r).result is Result.BREAKDOWN


@pytest.mark.parametrize("name", ["gmres", "minres"])
def test_an_inconsistent_system_is_not_solved(name: str) -> None:
    d = torch.tensor([[1.0], [0.0], [2.0]]).double()
    out = WHERE[name][0](lambda v: d * v, torch.ones(3, 1).double(), options=OPTIONS)
    assert out.result is Result.STAGNATION
    assert out.iterations < 20


@pytest.mark.parametrize("name", WHERE)
def test_the_limit_is_kept(name: str) -> None:
    method, _ = WHERE[name]
    A = case("poisson").dense(torch.float64)
    out = method(lambda v: A @ v, normal(12, 1), options=replace(OPTIONS, maxiter=2))
    assert out.result is Result.MAXITER
    assert out.iterations == 2


@pytest.mark.parametrize("shape", [(12, 7), (7, 12), (9, 9)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("method", [lsqr, lsmr])
def test_least_squares(method: Any, dtype: torch.dtype, shape: tuple[int, int]) -> None:
    A = normal(*shape, dtype=dtype)
    b = normal(shape[0], 3, dtype=dtype)
    b[:, 1] = 0
    out = method(lambda v: A @ v, b, adjoint=lambda u: A.mH @ u, options=KrylovOptions(1e-13))
    assert out.result is Result.CONVERGED
    torch.testing.assert_close(out.x, torch.linalg.pinv(A) @ b, rtol=1e-8, atol=1e-8)
    left = float(((b - A @ out.x).norm(dim=0) / b.norm(dim=0).clamp(min=1e-300)).max())
    assert out.history[-1] == pytest.approx(left, rel=1e-6, abs=1e-11)


@pytest.mark.parametrize(("matrix", "rhs"), [(1.0, 1e30), (1.0, 1e-30), (1e-20, 1.0)])
@pytest.mark.parametrize("method", [lsqr, lsmr])
def test_units_of_least_squares_do_not_matter(method: Any, matrix: float, rhs: float) -> None:
    A = matrix * normal(7, 12)
    b = rhs * normal(7, 1, seed=5)
    out = method(lambda v: A @ v, b, adjoint=lambda u: A.T @ u, options=KrylovOptions(1e-10))
    assert out.result is Result.CONVERGED
    exact = torch.linalg.pinv(A) @ b
    torch.testing.assert_close(out.x * (matrix / rhs), exact * (matrix / rhs))


@pytest.mark.parametrize("method", [lsqr, lsmr])
def test_inconsistent_systems_take_as_many_steps_in_any_units(method: Any) -> None:
    """Until what is left is orthogonal to the columns, as far as was asked."""
    A, b = normal(20, 12), normal(20, 1, seed=5)
    options, counts = KrylovOptions(rtol=1e-6), []
    for unit in (1e-6, 1.0, 1e6):
        M = unit * A
        out = method(lambda v, M=M: M @ v, b, adjoint=lambda u, M=M: M.T @ u, options=options)
        assert out.result is Result.CONVERGED
        r = b - M @ out.x
        assert float((M.T @ r).norm()) <= 1e-6 * float(M.norm() * r.norm())
        counts.append(out.iterations)
    assert len(set(counts)) == 1


@pytest.mark.parametrize("method", [lsqr, lsmr])
def test_least_squares_of_any_rank(method: Any) -> None:
    A = normal(10, 3) @ normal(3, 8, seed=72)
    b = normal(10, 1, seed=73)
    out = method(lambda v: A @ v, b, adjoint=lambda u: A.T @ u, options=KrylovOptions(1e-13))
    torch.testing.assert_close(out.x, torch.linalg.pinv(A) @ b, rtol=1e-8, atol=1e-9)
    exact = replace(OPTIONS, least_squares=False)
    out = method(lambda v: A @ v, b, adjoint=lambda u: A.T @ u, options=exact)
    assert not out.result.ok


@pytest.mark.parametrize(
    "wrong", [{"rtol": -1.0}, {"rtol": float("nan")}, {"maxiter": 0}, {"restart": 0}]
)
def test_options_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        KrylovOptions(**wrong)


@pytest.mark.parametrize("name", WHERE)
def test_nan_is_reported(name: str) -> None:
    out = WHERE[name][0](lambda v: v * float("nan"), torch.ones(3, 1).double())
    assert out.result is not Result.CONVERGED


@pytest.mark.parametrize("method", [*(method for method, _ in WHERE.values()), lsqr, lsmr])
@pytest.mark.parametrize("where", ["b", "x0"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_start_that_is_not_finite_is_no_solution(method: Any, where: str, bad: float) -> None:
    d = torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64)
    given = {"b": torch.ones(3, 2).double(), "x0": torch.ones(3, 2).double()}
    given[where][1, 1] = bad
    more = {"adjoint": lambda v: d * v} if method in (lsqr, lsmr) else {}
    out = method(lambda v: d * v, given["b"], x0=given["x0"], options=OPTIONS, **more)
    assert out.result is Result.NONFINITE
    assert out.iterations == 0


@pytest.mark.parametrize("backend", ["pytorch", "scipy", "eigen"])
def test_the_start_is_named_where_it_is_not_finite(backend: str) -> None:
    A, b = SparseTensor.diag(torch.tensor([1.0, 2.0]).double()), torch.ones(2).double()
    x0 = torch.tensor([1.0, float("nan")]).double()
    way = {"backend": backend, "method": "bicgstab"}
    with pytest.raises(SolveError, match="NaN or infinity in `x0`"):
        A.solve(b, x0=x0, **way)
    with pytest.raises(SolveError, match="NaN or infinity in `x0`"):
        A.solve_batch(torch.stack([A.values, 2 * A.values]), b, x0=torch.stack([b, x0]), **way)
