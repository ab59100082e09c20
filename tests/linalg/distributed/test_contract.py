"""Matrices in parts solve the zoo as serial methods do, by every method that may."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.helpers.zoo import CASES, Case, residual_limit, rhs
from torch_sla.errors import ArgumentError, DTypeError, GradientError, SolveError
from torch_sla.linalg import DSparseTensor, SparseTensor

SQUARE = [c for c in CASES if c.square and c.name != "batch" and c.nullspace is None]
DTYPES = [torch.float64, torch.float32, torch.complex128, torch.complex64]
METHODS = ["auto", "cg", "minres", "gmres", "bicgstab"]


def may(case: Case, method: str) -> bool:
    if method == "cg":
        return case.definite
    return case.hermitian if method == "minres" else True


@pytest.mark.parametrize(
    ("case", "dtype"),
    [(c, d) for c in SQUARE for d in DTYPES if d in c.dtypes],
    ids=lambda x: x.name if isinstance(x, Case) else str(x),
)
def test_solves(case: Case, dtype: torch.dtype) -> None:
    A = case.sparse(dtype)
    b = rhs(A, 2)
    dense = case.dense(dtype)
    limit = residual_limit(dtype)
    for method in METHODS:
        if not may(case, method):
            continue
        for parts in (1, 3, 5):
            D = A.partition(parts)
            try:
                x, info = D.solve(b, method=method, rtol=limit, info=True)
            except SolveError:
                # Said, not hidden; which methods may give up is written in the zoo.
                assert case.hard or method == "bicgstab"
                continue
            assert info.converged
            left = torch.linalg.vector_norm(b - dense @ x, dim=0)
            rounding = torch.linalg.vector_norm(dense.abs() @ x.abs(), dim=0)
            allowed = max(info.residual, limit) * 1.01 * torch.linalg.vector_norm(b, dim=0)
            assert bool((left <= allowed + 50 * torch.finfo(dtype).eps * rounding).all())


@pytest.mark.parametrize(
    ("name", "dtype"), [("poisson", torch.float64), ("convection", torch.complex128)]
)
def test_derivatives_of_every_order(name: str, dtype: torch.dtype) -> None:
    (case,) = (c for c in CASES if c.name == name)
    A = case.sparse(dtype)
    row, col, shape = A.row_indices, A.col_indices, tuple(A.shape)
    part = torch.arange(shape[0]) % 3

    def solve(values: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        D = DSparseTensor(values, row, col, shape, 3, partition_ids=part)
        return D.solve(b, method="gmres", rtol=1e-13, preconditioner="jacobi")

    def product(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        D = DSparseTensor(values, row, col, shape, 3, partition_ids=part)
        return D.T() @ (D @ x)

    values = A.values.detach().clone().requires_grad_()
    b = rhs(A, None).requires_grad_()
    # Symmetry is looked for at each point; an unsymmetric method takes what the differences make of it.
    torch.autograd.gradcheck(solve, (values, b), atol=1e-6, rtol=1e-4, fast_mode=True)
    torch.autograd.gradcheck(product, (values, b), fast_mode=True)
    torch.autograd.gradgradcheck(product, (values, b), fast_mode=True)
    torch.autograd.gradgradcheck(solve, (values, b), atol=1e-5, rtol=1e-3, fast_mode=True)


def nodes(x: torch.Tensor) -> int:
    seen, todo = set(), [x.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        todo += [after for after, _ in node.next_functions]
    return len(seen)


def test_one_node_whatever_the_iterations() -> None:
    counts = []
    for rtol in (1e-1, 1e-12):
        (case,) = (c for c in CASES if c.name == "definite")
        A = case.sparse(torch.float64)
        A.requires_grad_()
        x, info = A.partition(3).solve(rhs(A, None), rtol=rtol, info=True)
        counts.append((nodes(x), info.iterations))
    assert counts[0][0] == counts[1][0]
    assert counts[0][1] < counts[1][1]


def test_forward_mode() -> None:
    from torch.autograd import forward_ad

    (case,) = (c for c in CASES if c.name == "general")
    A = case.sparse(torch.float64)
    b, change, turn = rhs(A, None), torch.cos(A.values), rhs(A, None, seed=52)
    out = []
    for parts in (0, 3):
        with forward_ad.dual_level():
            B = SparseTensor.from_pattern(A.pattern, forward_ad.make_dual(A.values, change))
            rhs_ = forward_ad.make_dual(b, turn)
            x = B.partition(parts).solve(rhs_, rtol=1e-13) if parts else B.solve(rhs_)
            out.append(forward_ad.unpack_dual(x).tangent)
    torch.testing.assert_close(*out, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("method", ["auto", "cg", "minres"])
def test_declared_nullspaces(method: str) -> None:
    (case,) = (c for c in CASES if c.name == "neumann")
    A = case.sparse(torch.float64)
    b = rhs(A, 2)
    out = []
    for parts in (0, 3):
        values = A.values.detach().clone().requires_grad_()
        B = SparseTensor(values, A.row_indices, A.col_indices, tuple(A.shape))
        if parts:
            D = B.partition(parts)
            x, info = D.solve(b, method=method, nullspace=case.nullspace, rtol=1e-13, info=True)
            assert info.inconsistency > 0.01
        else:
            x = B.solve(b, nullspace=case.nullspace)
        (x**3).sum().backward()
        out.append((x.detach(), values.grad))
    for found, expected in zip(*out, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9)
    with pytest.raises(ArgumentError, match="is not one of this matrix"):
        A.partition(2).solve(b, nullspace=torch.arange(10.0, dtype=torch.float64))
    with pytest.raises(ArgumentError, match="linearly dependent"):
        A.partition(2).solve(b, nullspace=torch.ones(10, 2, dtype=torch.float64))


def test_a_start_is_used_and_values_are_watched() -> None:
    (case,) = (c for c in CASES if c.name == "definite")
    A = case.sparse(torch.float64)
    D, b = A.partition(3), rhs(A, None)
    x = D.solve(b, rtol=1e-13)
    _, info = D.solve(b, x0=x, rtol=1e-9, info=True)
    assert info.iterations == 0
    values = A.values.clone().requires_grad_()
    y = DSparseTensor(values, A.row_indices, A.col_indices, (10, 10), 1).solve(b)
    with torch.no_grad():
        values.data.mul_(2)  # not seen by torch's own counters
    with pytest.raises(RuntimeError, match="modified in place"):
        y.sum().backward()


@pytest.mark.parametrize("size", [1e-250, 1e-20, 1e200])
def test_units_do_not_matter(size: float) -> None:
    (case,) = (c for c in CASES if c.name == "definite")
    A = case.sparse(torch.float64)
    b = rhs(A, 2)
    b[:, 1] *= 1e-3
    plain, info = A.partition(3).solve(b, info=True)
    start = size * torch.ones_like(b)
    x, scaled = A.partition(3).solve(size * b, x0=start, info=True)
    assert scaled.converged
    assert abs(scaled.iterations - info.iterations) <= 2
    torch.testing.assert_close(x / size, plain, rtol=1e-8, atol=1e-9)


def test_failures_are_reported_or_raised() -> None:
    A = CASES[1].sparse(torch.float64)
    D, b = A.partition(3), torch.ones(10, dtype=torch.float64)
    b[3] = float("nan")
    with pytest.raises(SolveError, match="right-hand side"):
        D.solve(b)
    x, info = D.solve(b, throw=False)
    assert not info.converged
    assert x.isnan().all()
    ones = torch.ones(2, 2, dtype=torch.float64)
    singular = SparseTensor.from_dense(ones).partition(2)
    with pytest.raises(SolveError, match=r"stagnation|singular"):
        singular.solve(torch.tensor([1.0, 0.0], dtype=torch.float64))


def test_what_did_not_converge_has_no_derivative() -> None:
    from torch.autograd import forward_ad

    A = CASES[1].sparse(torch.float64)
    D, b = A.partition(3), torch.ones(10, dtype=torch.float64)

    def stopped(b: torch.Tensor) -> Any:
        return D.solve(b, method="cg", preconditioner="none", maxiter=1, throw=False)

    with pytest.raises(GradientError, match="did not converge"), forward_ad.dual_level():
        stopped(forward_ad.make_dual(b, b))
    x, info = stopped(b.requires_grad_())
    assert not info.converged
    with pytest.raises(GradientError, match="did not converge"):
        x.sum().backward()


def test_zero_and_empty_right_hand_sides() -> None:
    A = CASES[1].sparse(torch.float64)
    D = A.partition(4)
    assert not D.solve(torch.zeros(10, dtype=torch.float64)).any()
    assert D.solve(torch.zeros(10, 0, dtype=torch.float64)).shape == (10, 0)


def test_input_that_does_not_fit() -> None:
    i = torch.arange(3)
    ones = torch.ones(3)
    with pytest.raises(ArgumentError, match=r"`shape` of a matrix in parts must be \(n, n\)"):
        DSparseTensor(ones, i, i, (3, 4))
    with pytest.raises(DTypeError, match="`values`"):
        DSparseTensor(i, i, i, (3, 3))
    with pytest.raises(ArgumentError, match=r"`col` must lie in \[0, 3\)"):
        DSparseTensor(ones, i, i + 1, (3, 3))
    with pytest.raises(ArgumentError, match="vectors of one length"):
        DSparseTensor(ones, i, i[:2], (3, 3))
    with pytest.raises(ArgumentError, match="`num_partitions`"):
        DSparseTensor(ones, i, i, (3, 3), 0)
    with pytest.raises(ArgumentError, match=r"`partition_ids` must be \[3\]"):
        DSparseTensor(ones, i, i, (3, 3), 2, partition_ids=i[:2])
    with pytest.raises(ArgumentError, match=r"`partition_ids` must lie in \[0, 2\)"):
        DSparseTensor(ones, i, i, (3, 3), 2, partition_ids=i)
    with pytest.raises(ArgumentError, match="no batch"):
        SparseTensor(torch.ones(2, 3), i, i, (2, 3, 3)).partition(2)
    D = DSparseTensor(ones, i, i, (3, 3), 2)
    with pytest.raises(ArgumentError, match="`b` must be"):
        D.solve(torch.ones(4))
    with pytest.raises(SolveError, match="NaN or infinity"):
        D.with_values(ones * float("nan")).solve(ones, method="gmres")


def test_small_derivatives_are_not_within_the_absolute_tolerance() -> None:
    (case,) = (c for c in CASES if c.name == "poisson")
    A = case.sparse(torch.float64)
    b, weights = 1e3 * rhs(A, None), rhs(A, None, seed=52)
    found = []
    for parts in (0, 3):
        values = A.values.detach().clone().requires_grad_()
        M = SparseTensor.from_pattern(A.pattern, values)
        x = M.partition(parts).solve(b, method="cg", atol=1e-5) if parts else M.solve(b)
        found.append(torch.autograd.grad(1e-9 * (weights * x).sum(), values)[0])
    exact, small = found
    assert torch.linalg.vector_norm(small - exact) < 1e-5 * torch.linalg.vector_norm(exact)


def test_a_start_for_one_right_hand_side_of_zeros_among_others() -> None:
    (case,) = (c for c in CASES if c.name == "poisson")
    A = case.sparse(torch.float64)
    b, x0 = rhs(A, 3), rhs(A, 3, seed=52)
    b[:, 1] = 0
    x = A.partition(3).solve(b, method="cg", x0=x0)
    assert not x[:, 1].any()
    torch.testing.assert_close(A @ x, b, rtol=0, atol=1e-8)
