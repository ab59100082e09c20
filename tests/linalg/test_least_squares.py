"""Rectangular systems: the pseudoinverse, its derivatives, and rank deficiency."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from tests.helpers.zoo import case, sparse
from torch_sla.errors import ArgumentError, GradientError, PlanError, Result, SolveError
from torch_sla.linalg import SparseTensor

WAYS = [{"method": "superlu"}, {"method": "lsmr"}, {"method": "lsqr"}]


def problem(zoo: str, dtype: torch.dtype, columns: int | None) -> tuple[SparseTensor, torch.Tensor]:
    A = case(zoo).sparse(dtype)
    shape = (A.shape[0],) if columns is None else (A.shape[0], columns)
    b = torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(81))
    return A, b.requires_grad_()


@pytest.mark.parametrize("way", WAYS, ids=lambda w: w["method"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("zoo", ["tall", "wide"])
def test_derivatives(zoo: str, dtype: torch.dtype, way: dict[str, Any]) -> None:
    if way["method"] == "lsqr" and dtype.is_complex:
        return  # shares everything that is differentiated with lsmr
    columns = 2 if way["method"] == "superlu" else None
    A, b = problem(zoo, dtype, columns)
    values = A.values.clone().requires_grad_()

    def function(v: torch.Tensor, rhs: torch.Tensor) -> torch.Tensor:
        return A.from_pattern(A.pattern, v).solve(rhs, rtol=1e-14, **way)

    direct = way["method"] == "superlu"
    assert gradcheck(function, (values, b), check_forward_ad=True, fast_mode=True)
    assert gradgradcheck(function, (values, b), check_fwd_over_rev=direct, fast_mode=True)


@pytest.mark.parametrize("zoo", ["tall", "wide"])
def test_vmap_of_grad(zoo: str) -> None:
    A, b = problem(zoo, torch.float64, None)
    many = torch.stack([A.values, 1.5 * A.values, A.values.flip(0)])

    def loss(v: torch.Tensor) -> torch.Tensor:
        return (A.from_pattern(A.pattern, v).solve(b.detach()) ** 3).sum()

    both = torch.func.vmap(torch.func.grad(loss))(many)
    torch.testing.assert_close(both, torch.stack([torch.func.grad(loss)(v) for v in many]))


@pytest.mark.parametrize("way", WAYS, ids=lambda w: w["method"])
@pytest.mark.parametrize("zoo", ["tall", "wide"])
def test_a_member_that_failed_leaves_the_gradients_of_the_others(
    zoo: str, way: dict[str, Any]
) -> None:
    A, _ = problem(zoo, torch.float64, None)
    b, c = torch.ones(2, A.shape[0], dtype=torch.float64), torch.tensor(1.5).double()
    b[1, 0] = float("nan")
    many = A.from_pattern(A.pattern, c.requires_grad_() * torch.stack([A.values, 2 * A.values]))
    x, info = many.solve(b, throw=False, **way)
    assert not info.converged
    x[0].sum().backward()
    torch.testing.assert_close(c.grad, -x.detach()[0].sum() / c.detach(), rtol=1e-7, atol=0)


@pytest.mark.parametrize("zoo", ["tall", "wide"])
def test_batches_and_shapes(zoo: str) -> None:
    D = torch.stack([case(zoo).dense(torch.float64), 2 * case(zoo).dense(torch.float64)])
    A = sparse(D)
    M, N = D.shape[1:]
    for b in (torch.ones(M), torch.ones(2, M), torch.ones(2, M, 3)):
        x = A.solve(b.double())
        full = b.double().expand(2, M) if b.ndim < 3 else b.double()
        assert x.shape == ((2, N) if b.ndim < 3 else (2, N, 3))
        columns = full.unsqueeze(-1) if b.ndim < 3 else full
        torch.testing.assert_close(x.reshape(2, N, -1), torch.linalg.pinv(D) @ columns)


def test_rank_deficiency_has_a_solution_and_no_derivative() -> None:
    D = case("tall").dense(torch.float64)
    D[:, 1] = D[:, 0]
    v = D.requires_grad_()
    b = torch.linspace(-1, 1, 12, dtype=torch.float64)
    x, info = SparseTensor.from_dense(v).solve(b, info=True)
    torch.testing.assert_close(x, torch.linalg.pinv(D) @ b)
    assert info.method in ("lsmr", "lsqr")
    with pytest.raises(GradientError, match="rank deficient"):
        (x**3).sum().backward()
    x = SparseTensor.from_dense(v).solve(b, method="lsmr")
    with pytest.raises(GradientError, match="rank deficient"):
        x[0].backward()  # reaches into the nullspace, which is all that lsmr can notice


@pytest.mark.parametrize("power", [-640, 1000])
@pytest.mark.parametrize("method", ["auto", "lsqr", "lsmr"])
@pytest.mark.parametrize("shape", [(9, 4), (4, 9)])
def test_matrices_whose_squares_are_out_of_range(
    shape: tuple[int, int], method: str, power: int
) -> None:
    g = torch.Generator().manual_seed(0)
    M = torch.randn(*shape, dtype=torch.float64, generator=g)
    b = torch.randn(shape[0], dtype=torch.float64, generator=g).requires_grad_()
    x = SparseTensor.from_dense(M * 2.0**power).solve(b, method=method)
    torch.testing.assert_close(x * 2.0**power, torch.linalg.pinv(M) @ b, rtol=1e-8, atol=1e-10)
    (x * 2.0**power).sum().backward()
    torch.testing.assert_close(b.grad, torch.linalg.pinv(M).sum(0), rtol=1e-8, atol=1e-10)


def test_what_makes_no_sense_is_refused() -> None:
    A, b = problem("wide", torch.float64, None)
    with pytest.raises(ArgumentError, match="x0"):
        A.solve(b, x0=torch.zeros(12, dtype=torch.float64))
    with pytest.raises(ArgumentError, match="nullspace"):
        A.solve(b, nullspace=torch.ones(12, dtype=torch.float64))
    with pytest.raises(PlanError, match="square"):
        A.solve(b, method="gmres")


def test_square_systems_are_not_solved_as_least_squares() -> None:
    D = torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    _, info = SparseTensor.from_dense(D).solve(
        torch.ones(2, dtype=torch.float64), method="lsmr", throw=False
    )
    assert not info.converged


@pytest.mark.parametrize("shape", [(30, 8), (8, 30)])
@pytest.mark.parametrize("power", [-20, 20])
def test_units_of_unknowns_and_of_exact_equations_do_not_matter(
    shape: tuple[int, int], power: int
) -> None:
    g = torch.Generator().manual_seed(0)
    a = torch.randn(shape, dtype=torch.float64, generator=g)
    b = torch.randn(shape[0], dtype=torch.float64, generator=g)
    w = torch.ones(min(shape), dtype=torch.float64)
    w[:3] = 10.0**power
    tall = shape[0] > shape[1]
    v = (a * w if tall else w[:, None] * a).requires_grad_()
    x, info = SparseTensor.from_dense(v).solve(b if tall else w * b, info=True)
    assert info.method == "superlu"
    y, z = (x * w if tall else x), a.clone().requires_grad_()
    exact = torch.linalg.pinv(z) @ b
    torch.testing.assert_close(y, exact, rtol=1e-12, atol=1e-12)
    (g,), (h,) = (torch.autograd.grad((s**2).sum(), t) for s, t in ((y, v), (exact, z)))
    torch.testing.assert_close(g * (w if tall else w[:, None]), h, rtol=1e-10, atol=1e-10)


def test_equations_that_are_lost_beside_heavy_ones_are_not_passed_over() -> None:
    # What LSMR makes of this satisfies the heavy equations alone, and its residual is small.
    g = torch.Generator().manual_seed(0)
    a = torch.randn(40, 12, dtype=torch.float64, generator=g)
    b = torch.randn(40, dtype=torch.float64, generator=g)
    for weight, lost in ((1e6, False), (1e20, True)):
        w = torch.ones(40, dtype=torch.float64)
        w[:3] = weight
        A = SparseTensor.from_dense(w[:, None] * a)
        if lost:
            with pytest.raises(SolveError, match="lost beside the heavy ones") as caught:
                A.solve(w * b)
            assert caught.value.result is Result.SINGULAR
            _, info = A.solve(w * b, method="lsmr", info=True)
            assert any("lost beside the heavy ones" in note for note in info.notes)
            continue
        # The heavy ones hold exactly, the others as well as they then can.
        x = A.solve(w * b)
        P = torch.linalg.svd(a[:3]).Vh[3:].T
        exact = torch.linalg.pinv(a[:3]) @ b[:3]
        exact = exact + P @ torch.linalg.lstsq(a[3:] @ P, b[3:] - a[3:] @ exact, driver="gelsd")[0]
        torch.testing.assert_close(x, exact, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("method", ["lsqr", "lsmr"])
def test_an_iteration_says_where_heavy_equations_alone_may_meet_its_test(method: str) -> None:
    g = torch.Generator().manual_seed(0)
    a = torch.randn(40, 12, dtype=torch.float64, generator=g)
    b = torch.randn(40, dtype=torch.float64, generator=g)
    for weight, hidden in ((1e2, False), (1e10, True), (1e14, True)):
        w = torch.ones(40, dtype=torch.float64)
        w[:3] = weight
        A = SparseTensor.from_dense(w[:, None] * a)
        exact = A.solve(w * b, method="superlu")  # which does not depend on them
        x, info = A.solve(w * b, method=method, info=True)
        assert (float((x - exact).norm() / exact.norm()) > 1e-2) == hidden
        assert any("heavy ones alone" in note for note in info.notes) == hidden


def test_heavy_equations_and_a_lost_rank_are_an_error_where_no_iteration_was_asked_for() -> None:
    g = torch.Generator().manual_seed(0)
    a = torch.randn(40, 12, dtype=torch.float64, generator=g)
    a[:, 1] = a[:, 0]
    b = torch.randn(40, dtype=torch.float64, generator=g)
    w = torch.ones(40, dtype=torch.float64)
    torch.testing.assert_close(SparseTensor.from_dense(a).solve(b), torch.linalg.pinv(a) @ b)
    w[:3] = 1e12
    with pytest.raises(SolveError, match="heavy ones alone"):
        SparseTensor.from_dense(w[:, None] * a).solve(w * b)


@pytest.mark.parametrize("method", ["lsqr", "lsmr"])
@pytest.mark.parametrize("shape", [(40, 12), (12, 40)])
def test_an_iteration_says_where_units_hide_unknowns_or_equations_from_it(
    shape: tuple[int, int], method: str
) -> None:
    g = torch.Generator().manual_seed(0)
    a = torch.randn(shape, dtype=torch.float64, generator=g)
    b = torch.randn(shape[0], dtype=torch.float64, generator=g)
    exact, tall = torch.linalg.pinv(a) @ b, shape[0] > shape[1]
    side = "columns" if tall else "rows"
    for decades, hidden in ((4, False), (11, True)):
        w = torch.logspace(0, decades, 12, dtype=torch.float64)
        A = SparseTensor.from_dense(a * w if tall else w[:, None] * a)
        x, info = A.solve(b if tall else w * b, method=method, info=True, throw=False)
        error = ((w * x if tall else x) / exact - 1).abs().max()
        assert (error > 1e-2) == hidden
        assert any(f"entries of {side}" in note for note in info.notes) == hidden
