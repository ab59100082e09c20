"""The adjoint solve: first and second order, forward mode, vmap, and factors that stay with their values."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import forward_ad, gradcheck, gradgradcheck

from torch_sla.errors import ArgumentError, GradientError
from torch_sla.linalg import SparseTensor, cache_counters, clear_factor_cache

ROW = torch.tensor([0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 0, 0])
COL = torch.tensor([0, 1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 0, 3])
N = 6


def matrix(values: torch.Tensor) -> SparseTensor:
    """Unsymmetric, with the coordinate (0, 0) given twice."""
    return SparseTensor(values, ROW, COL, (*values.shape[:-1], N, N))


def sample(
    dtype: torch.dtype, *batch: int, columns: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7 + len(batch))
    values = torch.randn(*batch, len(ROW), dtype=dtype, generator=generator)
    values[..., :N] += 4
    shape = (N,) if columns is None else (N, columns)
    return values, torch.randn(*shape, dtype=dtype, generator=generator)


@pytest.mark.parametrize("columns", [None, 3])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("operation", ["solve", "matmul"])
def test_derivatives(operation: str, dtype: torch.dtype, columns: int | None) -> None:
    values, b = (t.requires_grad_() for t in sample(dtype, columns=columns))

    def function(v: torch.Tensor, rhs: torch.Tensor) -> torch.Tensor:
        A = matrix(v)
        return A.solve(rhs) if operation == "solve" else A @ rhs

    assert gradcheck(function, (values, b), check_forward_ad=True)
    assert gradgradcheck(function, (values, b), check_fwd_over_rev=True)


def test_vmap_of_grad_equals_a_loop() -> None:
    values, b = sample(torch.float64, 4)

    def loss(v: torch.Tensor, rhs: torch.Tensor) -> torch.Tensor:
        return (matrix(v).solve(rhs) ** 3).sum()

    both = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1)), in_dims=(0, None))(values, b)
    one = [torch.func.grad(loss, argnums=(0, 1))(v, b) for v in values]
    for k in range(2):
        torch.testing.assert_close(both[k], torch.stack([g[k] for g in one]))


def test_starting_values_within_transforms() -> None:
    values, b = sample(torch.float64)
    options = {"backend": "pytorch", "method": "gmres", "rtol": 1e-13}

    def loss(v: torch.Tensor, near: bool) -> torch.Tensor:
        A = matrix(v)
        start = 1.1 * A.solve(b) if near else torch.ones_like(b)
        return (A.solve(b, x0=start, **options) ** 3).sum()

    expected = torch.func.grad(lambda v: (matrix(v).solve(b) ** 3).sum())(values)
    for near in (False, True):
        torch.testing.assert_close(torch.func.grad(loss)(values, near), expected)
    many = torch.func.vmap(torch.func.grad(loss), in_dims=(0, None))
    torch.testing.assert_close(many(torch.stack([values] * 2), False)[1], expected)
    with pytest.raises(ArgumentError, match="starting values"):
        many(torch.stack([values] * 2), True)


@pytest.mark.parametrize("create_graph", [False, True])
def test_cotangents_by_the_old_vmap_are_refused_and_by_the_new_one_solved(
    create_graph: bool,
) -> None:
    values, b = sample(torch.float64)
    values.requires_grad_()
    x, G = matrix(values).solve(b), torch.eye(len(b), dtype=torch.float64)
    again = {"retain_graph": True, "create_graph": create_graph}
    with pytest.raises(GradientError, match=r"is_grads_batched.*torch\.func\.vmap"):
        torch.autograd.grad(x, values, G, is_grads_batched=True, **again)
    (found,) = torch.func.vmap(lambda g: torch.autograd.grad(x, values, g, **again))(G)
    one = [torch.autograd.grad(x, values, g, retain_graph=True)[0] for g in G]
    torch.testing.assert_close(found, torch.stack(one))


def test_vmap_over_right_hand_sides_keeps_one_matrix() -> None:
    values, b = sample(torch.float64, columns=5)
    A = matrix(values)
    before = cache_counters()["factorize"]
    out = torch.func.vmap(A.solve, in_dims=1, out_dims=1)(b)
    assert cache_counters()["factorize"] <= before + 1
    torch.testing.assert_close(A @ out, b)


def test_hessian_is_symmetric_and_right() -> None:
    values, b = sample(torch.float64)

    def loss(v: torch.Tensor) -> torch.Tensor:
        return (matrix(v).solve(b) ** 3).sum()

    dense = torch.func.hessian(lambda v: (torch.linalg.solve(matrix(v).to_dense(), b) ** 3).sum())
    torch.testing.assert_close(torch.func.hessian(loss)(values), dense(values))


def test_forward_mode_against_difference() -> None:
    values, b = sample(torch.float64)
    tangent = torch.randn(len(ROW), dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    with forward_ad.dual_level():
        x = matrix(forward_ad.make_dual(values, tangent)).solve(b)
        change = forward_ad.unpack_dual(x).tangent
    h = 1e-6
    difference = (matrix(values + h * tangent).solve(b) - matrix(values - h * tangent).solve(b)) / (
        2 * h
    )
    torch.testing.assert_close(change, difference, rtol=1e-7, atol=1e-8)


def test_batches_of_values_and_of_loads() -> None:
    values, b = sample(torch.float64, 2, 3, columns=4)
    values.requires_grad_()
    x = matrix(values).solve(b.expand(2, 3, N, 4))
    assert x.shape == (2, 3, N, 4)
    (x**3).sum().backward()
    again = values.detach().clone().requires_grad_()
    (torch.linalg.solve(matrix(again).to_dense(), b) ** 3).sum().backward()
    torch.testing.assert_close(values.grad, again.grad)


def test_two_solves_one_backward_use_their_own_factors() -> None:
    values, b = sample(torch.float64)
    first, second = (values * s for s in (1.0, 2.5))
    first.requires_grad_(), second.requires_grad_()
    loss = (matrix(first).solve(b) ** 3).sum() + (matrix(second).solve(b) ** 3).sum()
    loss.backward()
    for v in (first, second):
        alone = v.detach().clone().requires_grad_()
        (torch.linalg.solve(matrix(alone).to_dense(), b) ** 3).sum().backward()
        torch.testing.assert_close(v.grad, alone.grad)


def test_an_evicted_factor_is_made_again() -> None:
    values, b = sample(torch.float64)
    values.requires_grad_()
    x = matrix(values).solve(b)
    clear_factor_cache()
    (gradient,) = torch.autograd.grad((x**3).sum(), values)
    alone = values.detach().clone().requires_grad_()
    (torch.linalg.solve(matrix(alone).to_dense(), b) ** 3).sum().backward()
    torch.testing.assert_close(gradient, alone.grad)


def test_two_backward_passes_reuse_the_factor() -> None:
    values, b = sample(torch.float64)
    values.requires_grad_()
    x = matrix(values).solve(b)
    before = cache_counters()["factorize"]
    one = torch.autograd.grad((x**3).sum(), values, retain_graph=True)[0]
    two = torch.autograd.grad((x**3).sum(), values)[0]
    assert cache_counters()["factorize"] == before
    assert torch.equal(one, two)


def test_values_changed_behind_autograd_are_noticed() -> None:
    values, b = sample(torch.float64)
    row, col = torch.arange(N), torch.arange(N)
    d = values[:N].clone().requires_grad_()
    x = SparseTensor(d, row, col, (N, N)).solve(b)
    d.data.mul_(2)
    with pytest.raises(GradientError, match="modified in place"):
        x.sum().backward()


def test_an_edit_in_place_is_seen_by_the_next_solve() -> None:
    values, b = sample(torch.float64)
    A = matrix(values)
    x = A.solve(b)
    values.mul_(2)
    torch.testing.assert_close(A.solve(b), x / 2)


def test_graph_size_does_not_depend_on_iterations() -> None:
    n = 2000
    i = torch.arange(n)
    row, col = torch.cat([i, i[1:], i[:-1]]), torch.cat([i, i[:-1], i[1:]])
    values = torch.cat([torch.full((n,), 2.0), torch.full((2 * n - 2,), -1.0)]).double()
    values.requires_grad_()
    b = torch.ones(n, dtype=torch.float64)

    def nodes(maxiter: int) -> int:
        x, info = SparseTensor(values, row, col, (n, n)).solve(
            b,
            backend="pytorch",
            method="cg",
            preconditioner="jacobi",
            maxiter=maxiter,
            throw=False,
        )
        assert info.iterations == maxiter
        seen, stack = set(), [x.grad_fn]
        while stack:
            node = stack.pop()
            if node is not None and node not in seen:
                seen.add(node)
                stack += [parent for parent, _ in node.next_functions]
        return len(seen)

    assert nodes(10) == nodes(1000)


@pytest.mark.parametrize("method", ["cg", "gmres", "cholesky"])
def test_no_columns(method: str) -> None:
    A = SparseTensor.eye(3, dtype=torch.float64)
    b = torch.ones(3, 0, dtype=torch.float64, requires_grad=True)
    A.solve(b, method=method).sum().backward()
    assert b.grad is not None
    assert b.grad.shape == (3, 0)


@pytest.mark.parametrize("rtol", [None, 0.0])
@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("method", ["cg", "gmres", "bicgstab", "minres"])
def test_small_derivatives_are_not_within_the_absolute_tolerance(
    method: str, batch: tuple[int, ...], rtol: float | None
) -> None:
    generator = torch.Generator().manual_seed(3)
    off = torch.full((*batch, 29), -1.0, dtype=torch.float64)
    main = 2.5 + torch.rand(*batch, 30, dtype=torch.float64, generator=generator)
    A = SparseTensor.tridiagonal(off, main, off)
    b, weights = torch.randn(2, *batch, 30, dtype=torch.float64, generator=generator)

    def loss(values: torch.Tensor, rhs: torch.Tensor, **options) -> torch.Tensor:
        M = SparseTensor.from_pattern(A.pattern, values)
        return 1e-9 * (weights * M.solve(1e3 * rhs, **options)).sum()

    options = {"backend": "pytorch", "method": method, "preconditioner": "jacobi"}
    options |= {"atol": 1e-5, "rtol": rtol}
    given = [t.clone().requires_grad_() for t in (A.values, b)]
    found = torch.autograd.grad(loss(*given, **options), given)
    exact = torch.autograd.grad(loss(*given, backend="scipy", method="superlu"), given)
    for g, e in zip(found, exact, strict=True):
        assert torch.linalg.vector_norm(g - e) < 1e-5 * torch.linalg.vector_norm(e)
    with forward_ad.dual_level():
        change = 1e-9 * torch.cos(A.values)
        along = loss(forward_ad.make_dual(A.values, change), b, **options)
        tangent = forward_ad.unpack_dual(along).tangent
    expected = (exact[0] * change).sum()
    torch.testing.assert_close(tangent, expected, rtol=1e-5, atol=0)
