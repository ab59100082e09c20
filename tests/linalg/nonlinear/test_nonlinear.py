"""Nonlinear systems: every method, derivatives to second order, and failures that are reported."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import forward_ad, gradcheck, gradgradcheck

from torch_sla.errors import ArgumentError, DTypeError, GradientError, Result, SolveError
from torch_sla.linalg import SparseTensor, adjoint_solve, nonlinear_solve
from torch_sla.linalg.kernels import colouring
from torch_sla.linalg.nonlinear.jacobian import Colouring, with_diagonal

N = 5
OFF = torch.tensor(-1.0, dtype=torch.float64)


def chain(n: int = N) -> SparseTensor:
    return SparseTensor.tridiagonal(OFF, torch.full((n,), 2.5, dtype=torch.float64), OFF)


def reaction(u: torch.Tensor, A: SparseTensor, c: torch.Tensor) -> torch.Tensor:
    """A u + u³ = c: mildly nonlinear, one root."""
    return A @ u + u**3 - c


C = torch.linspace(-0.2, 0.6, N, dtype=torch.float64)
U0 = torch.zeros(N, dtype=torch.float64)


@pytest.mark.parametrize("method", ["newton", "picard", "anderson"])
def test_methods_of_a_sparse_tensor(method: str) -> None:
    A = chain()
    u, info = A.nonlinear_solve(reaction, U0, C, method=method, damping=0.7, info=True)
    assert info.converged
    assert info.method == method
    assert len(info.history) == info.iterations + 1
    torch.testing.assert_close(reaction(u, A, C), U0, atol=1e-9, rtol=0)


@pytest.mark.parametrize("how", ["pattern", "krylov", "jacobian_fn", "anderson"])
def test_derivatives(how: str) -> None:
    A = chain()
    options = {
        "pattern": {"pattern": A.pattern},
        "krylov": {},
        "jacobian_fn": {
            "jacobian_fn": lambda u, A, c: A + SparseTensor.diag(3 * u**2),
        },
        "anderson": {"method": "anderson", "precondition": A.lu().solve, "damping": 0.7},
    }[how]

    change = torch.cos(torch.arange(A.nnz, dtype=torch.float64))

    def root(t: torch.Tensor) -> torch.Tensor:
        B = SparseTensor.from_pattern(A.pattern, A.values + t[0] * change)
        return nonlinear_solve(reaction, U0, B, C * (1 + t[1]), rtol=1e-13, **options)

    t = torch.tensor([0.1, 0.2], dtype=torch.float64, requires_grad=True)
    assert gradcheck(root, (t,))
    if how != "anderson":
        assert gradgradcheck(lambda s: root(s)[1], (t,))


def test_any_shape_and_scalar_parameters() -> None:
    a = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    u0 = torch.ones(2, 3, dtype=torch.float64)
    assert gradcheck(lambda p: nonlinear_solve(lambda u, q, n: u**n - q, u0, p, 3), (a,))


def test_one_node_whatever_the_iterations() -> None:
    c = C.clone().requires_grad_()
    u = chain().nonlinear_solve(reaction, U0, c)
    names, stack = [], [u.grad_fn]
    while stack:
        node = stack.pop()
        names.append(type(node).__name__)
        stack += [n for n, _ in node.next_functions if n is not None]
    assert len(names) <= 3


def test_the_adjoint_equation() -> None:
    A = chain()
    u = A.nonlinear_solve(reaction, U0, C)
    g = torch.linspace(1, 2, N, dtype=torch.float64)
    J = A.to_dense() + torch.diag(3 * u**2)
    expected = torch.linalg.solve(J.T, g)
    for options in ({}, {"pattern": A.pattern}, {"pattern": A}):
        lam = adjoint_solve(reaction, u, g, A, C, **options)
        torch.testing.assert_close(lam, expected, rtol=1e-8, atol=1e-10)


def test_line_search_saves_newton() -> None:
    # Undamped Newton for atan diverges from here.
    start = torch.tensor([3.0], dtype=torch.float64)
    u = nonlinear_solve(lambda u: torch.atan(u), start, atol=1e-12)
    assert abs(float(u)) < 1e-10
    with pytest.raises(SolveError):
        nonlinear_solve(lambda u: torch.atan(u), start, line_search=False)


def test_failures_are_reported() -> None:
    one = torch.ones(2, dtype=torch.float64)
    with pytest.raises(SolveError) as failure:
        nonlinear_solve(lambda u: u**2 + 1, 3 * one)
    assert not failure.value.result.ok
    u, info = nonlinear_solve(lambda u: u**2 + 1, 3 * one, throw=False)
    assert not info.converged
    assert u.shape == one.shape
    for bad in (lambda u: u * float("nan"), lambda u: torch.log(u - 5)):
        with pytest.raises(SolveError) as failure:
            nonlinear_solve(bad, one)
        assert failure.value.result is Result.NONFINITE
    u, info = nonlinear_solve(lambda u: u**3 - 8, one, maxiter=1, throw=False)
    assert info.result is Result.MAXITER
    assert info.residual == pytest.approx(float((u**3 - 8).norm()) / (7 * 2**0.5))
    with pytest.raises(SolveError, match="without bound"):
        nonlinear_solve(lambda u: 3 * u - 1, one, method="picard")
    with pytest.raises(SolveError):
        nonlinear_solve(lambda u: u * 0 + 1, one)


def test_a_result_that_did_not_converge_has_no_gradient() -> None:
    c = torch.ones(2, dtype=torch.float64, requires_grad=True)

    def solved(c: torch.Tensor) -> torch.Tensor:
        one = torch.ones(2, dtype=torch.float64)
        return nonlinear_solve(lambda u, c: u**3 - 8 * c, one, c, maxiter=1, throw=False)[0]

    # The loss depends on `c` besides: what is left of its gradient is none.
    with pytest.raises(GradientError, match="did not converge"):
        (solved(c) + c).sum().backward()
    with forward_ad.dual_level(), pytest.raises(GradientError, match="did not converge"):
        solved(forward_ad.make_dual(c.detach(), c.detach()))


def test_hidden_dependence_and_wrong_shapes_are_refused() -> None:
    hidden = torch.ones(2, dtype=torch.float64, requires_grad=True)
    with pytest.raises(ArgumentError, match="no parameter"):
        nonlinear_solve(lambda u: u - hidden, torch.zeros(2, dtype=torch.float64))
    with pytest.raises(ArgumentError, match="shape"):
        nonlinear_solve(lambda u: u[:1], torch.zeros(2, dtype=torch.float64))
    with pytest.raises(DTypeError, match="u0"):
        nonlinear_solve(lambda u: u, torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ArgumentError, match="method"):
        nonlinear_solve(lambda u: u, torch.zeros(2), method="bfgs")


@pytest.mark.parametrize("linear", ["scipy", ["lu"], 3, {1: "lu"}])
def test_options_of_the_steps_are_a_mapping(linear: object) -> None:
    one = torch.ones(2, dtype=torch.float64)
    with pytest.raises(ArgumentError, match="`linear` must be a mapping"):
        nonlinear_solve(lambda u: u**2 - 4, one, linear=linear)
    with pytest.raises(ArgumentError, match="`linear` must be a mapping"):
        adjoint_solve(lambda u: u**2, one, one, linear=linear)


def test_a_pattern_that_misses_entries() -> None:
    A = chain()
    wrong = SparseTensor.eye(N, dtype=torch.float64)
    with pytest.raises(ArgumentError, match="cover"):
        nonlinear_solve(reaction, U0, A, C, pattern=wrong.pattern)

    def mean_field(u: torch.Tensor, A: SparseTensor, c: torch.Tensor) -> torch.Tensor:
        return A @ u + u.mean() ** 3 - c

    u, info = A.nonlinear_solve(mean_field, U0, C, info=True)
    assert any("GMRES" in note for note in info.notes)
    torch.testing.assert_close(mean_field(u, A, C), U0, atol=1e-9, rtol=0)


def test_a_wrong_jacobian_never_gives_a_wrong_gradient() -> None:
    A = chain()
    c = C.clone().requires_grad_()
    u = nonlinear_solve(reaction, U0, A, c, jacobian_fn=lambda u, A, c: A, maxiter=400)
    with pytest.raises(GradientError, match="jacobian_fn"):
        u.sum().backward()


@pytest.mark.parametrize("coarse", [{"atol": 1e-6}, {"rtol": 1e-3}, {"tol": 1e-3, "atol": 1e-6}])
def test_steps_may_be_coarse_and_derivatives_are_not(coarse: dict[str, float]) -> None:
    A, c = chain(), C.clone().requires_grad_()

    def root(c: torch.Tensor) -> torch.Tensor:
        return nonlinear_solve(
            *(reaction, U0, A, c),
            jacobian_fn=lambda u, A, c: A + SparseTensor.diag(3 * u**2),
            linear={"method": "cg", **coarse},
        )

    u = root(c)
    (g,) = torch.autograd.grad(1e-9 * u.sum(), c, create_graph=True)
    (h,) = torch.autograd.grad(g.sum(), c)
    u = u.detach()
    J = A.to_dense() + torch.diag(3 * u**2)
    e = torch.linalg.solve(J, torch.ones_like(u))
    torch.testing.assert_close(g.detach(), 1e-9 * e, rtol=1e-8, atol=0)
    second = -6e-9 * torch.linalg.solve(J, u * e**2)
    torch.testing.assert_close(h, second, rtol=1e-7, atol=1e-16)
    with forward_ad.dual_level():
        at = forward_ad.make_dual(C, torch.full_like(C, 1e-9))
        tangent = forward_ad.unpack_dual(root(at)).tangent
    torch.testing.assert_close(tangent, 1e-9 * e, rtol=1e-8, atol=0)


def test_a_jacobian_without_a_record_has_second_derivatives() -> None:
    c = torch.linspace(1, 2, N, dtype=torch.float64, requires_grad=True)

    def root(c: torch.Tensor) -> torch.Tensor:
        return nonlinear_solve(
            lambda u, c: u**3 - c,
            torch.ones(N, dtype=torch.float64),
            c,
            jacobian_fn=lambda u, c: SparseTensor.diag(3 * u.detach() ** 2),
        )

    (g,) = torch.autograd.grad(root(c).sum(), c, create_graph=True)
    (h,) = torch.autograd.grad(g.sum(), c, create_graph=True)
    (third,) = torch.autograd.grad(h.sum(), c)
    z = c.detach()
    torch.testing.assert_close(g, z ** (-2 / 3) / 3)
    torch.testing.assert_close(h, -2 / 9 * z ** (-5 / 3))
    torch.testing.assert_close(third, 10 / 27 * z ** (-8 / 3))


def test_second_derivatives_in_a_coupling_that_vanishes() -> None:
    A, k = chain(), torch.zeros((), dtype=torch.float64, requires_grad=True)

    def loss(k: torch.Tensor) -> torch.Tensor:
        return A.nonlinear_solve(lambda u, A, k: A @ u + k * u.sum() - C, U0, k).sum()

    (g,) = torch.autograd.grad(loss(k), k, create_graph=True)
    (h,) = torch.autograd.grad(g, k)
    # Σ u = s / (1 + k e) with s = 1ᵀ A⁻¹ c, e = 1ᵀ A⁻¹ 1.
    inverse = A.to_dense().inverse()
    s, e = (inverse @ C).sum(), inverse.sum()
    torch.testing.assert_close(g.detach(), -s * e)
    torch.testing.assert_close(h, 2 * s * e**2)


def test_a_recorded_gradient_is_as_accurate_as_one_that_is_not() -> None:
    c = torch.linspace(1, 2, N, dtype=torch.float64, requires_grad=True)
    near = c.detach() ** (1 / 3) + 1e-12 * torch.arange(N)
    u = nonlinear_solve(lambda u, c: u**3 - c, near, c, rtol=0.5)
    w = torch.linspace(1, 3, N, dtype=torch.float64)
    (g,) = torch.autograd.grad(u @ w, c, create_graph=True)
    torch.testing.assert_close(g.detach(), w * c.detach() ** (-2 / 3) / 3, rtol=1e-8, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("create_graph", [False, True])
def test_a_gradient_by_products_ends_at_the_floor_of_the_dtype(
    dtype: torch.dtype, create_graph: bool
) -> None:
    n = 500
    off = torch.tensor(-1.0, dtype=dtype)
    A = SparseTensor.tridiagonal(off, torch.full((n,), 2.01, dtype=dtype), off)
    c = torch.linspace(1, 2, n, dtype=dtype, requires_grad=True)
    rtol = 1e-5 if dtype == torch.float32 else 1e-16
    start = torch.full((n,), 1.5, dtype=dtype)
    u = nonlinear_solve(lambda u, c: A @ u + 0.1 * u**3 - c, start, c, rtol=rtol)
    (g,) = torch.autograd.grad(u.sum(), c, create_graph=create_graph)
    J = A.to_dense().double() + torch.diag(0.3 * u.detach().double() ** 2)
    exact = torch.linalg.solve(J.T, torch.ones(n, dtype=torch.float64))
    assert float((g.detach().double() - exact).norm() / exact.norm()) < 1e4 * torch.finfo(dtype).eps


@pytest.mark.parametrize("compiled", [True, False])
def test_colouring(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiled:
        monkeypatch.setattr(colouring, "_compiled", None)
    pattern = with_diagonal(chain(50).pattern)
    made = Colouring(pattern)
    assert made.count == 3
    u = torch.linspace(0, 1, 50, dtype=torch.float64, requires_grad=True)
    J = made.jacobian(torch.sin(u) * u.roll(1), u)
    dense = torch.autograd.functional.jacobian(lambda x: torch.sin(x) * x.roll(1), u.detach())
    kept = J.to_dense() != 0
    torch.testing.assert_close(J.to_dense(), dense * kept)


def test_large_and_sparse() -> None:
    n = 20_000
    A = chain(n)
    c = torch.linspace(0, 1, n, dtype=torch.float64, requires_grad=True)
    u = A.nonlinear_solve(reaction, torch.zeros(n, dtype=torch.float64), c)
    u.sum().backward()
    J = A + SparseTensor.diag(3 * u.detach() ** 2)
    torch.testing.assert_close(J @ c.grad, torch.ones(n, dtype=torch.float64))


def test_a_tangent_has_no_derivative_in_reverse_mode() -> None:
    A, t = chain(), torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    with torch.autograd.forward_ad.dual_level():
        s = torch.autograd.forward_ad.make_dual(t, torch.ones_like(t))
        u = A.nonlinear_solve(reaction, U0, s * C)
        tangent = torch.autograd.forward_ad.unpack_dual(u).tangent
        with pytest.raises(GradientError, match=r"nonlinear solution .* no derivative in reverse"):
            torch.autograd.grad(tangent.sum(), t)


@pytest.mark.parametrize("what", ["parameter", "solution"])
@pytest.mark.parametrize("sparse", [False, True])
def test_what_was_written_behind_the_back_of_torch_is_noticed(what: str, sparse: bool) -> None:
    c = torch.full((3,), 4.0, dtype=torch.float64, requires_grad=True)
    jacobian = (lambda u, c: SparseTensor.diag(c)) if sparse else None
    u = nonlinear_solve(
        lambda u, c: u * c - 1, torch.ones_like(c).detach(), c, jacobian_fn=jacobian
    )
    (c if what == "parameter" else u).data.mul_(2)
    for create in (False, True):
        with pytest.raises(GradientError, match="modified in place"):
            torch.autograd.grad(u.sum(), c, create_graph=create, retain_graph=True)


def test_no_iterations_and_cotangents_of_another_shape_are_refused() -> None:
    with pytest.raises(ArgumentError, match="`maxiter` must be an integer of at least 1"):
        chain().nonlinear_solve(reaction, U0, C, maxiter=0)
    with pytest.raises(ArgumentError, match="`cotangent`"):
        adjoint_solve(lambda u: u**3, U0 + 1, torch.ones(N + 1, dtype=torch.float64))


@pytest.mark.parametrize("name", ["info", "throw"])
def test_reports_of_linear_solves_are_refused(name: str) -> None:
    with pytest.raises(ArgumentError, match=f"`linear` .* give {name} to the nonlinear solve"):
        chain().nonlinear_solve(reaction, U0, C, linear={name: name == "info"})


def test_where_no_step_helps_the_error_says_to_start_nearer() -> None:
    with pytest.raises(SolveError, match=r"start nearer to a solution"):
        nonlinear_solve(lambda u: u**2 + 1, torch.tensor([0.5], dtype=torch.float64))


@pytest.mark.parametrize("method", ["newton", "picard", "anderson"])
def test_inference_mode(method: str) -> None:
    options = {"method": method, "damping": 0.7}
    expected = chain().nonlinear_solve(reaction, U0, C, **options)
    with torch.inference_mode():
        A, c = chain(), 1 * C
        inside = A.nonlinear_solve(reaction, 1 * U0, c, **options)
        lam = adjoint_solve(reaction, inside, c, A, c)
    assert torch.equal(inside, expected)
    assert not inside.requires_grad
    assert torch.equal(lam, adjoint_solve(reaction, expected, C, chain(), C))
    parameter = C.clone().requires_grad_()
    after = A.nonlinear_solve(reaction, U0, parameter, **options)  # what it made serves afterwards
    after.sum().backward()
    assert torch.equal(after, expected)
    with torch.inference_mode():
        assert not A.nonlinear_solve(reaction, U0, parameter, **options).requires_grad


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_cotangents_that_are_not_finite_give_no_gradient_of_zeros(bad: float) -> None:
    p = torch.tensor([4.0, 9.0], dtype=torch.float64).requires_grad_()
    u = nonlinear_solve(lambda u, p: u**2 - p, torch.ones(2, dtype=torch.float64), p)
    with pytest.raises(SolveError, match="nonfinite"):
        (u * bad).sum().backward()
    with pytest.raises(SolveError, match="nonfinite"):
        adjoint_solve(lambda u, p: u**2 - p, u.detach(), torch.full_like(u, bad).detach(), p)


def test_cotangents_of_another_dtype_are_refused() -> None:
    u = torch.tensor([2.0, 3.0], dtype=torch.float64)
    with pytest.raises(DTypeError, match="`cotangent` must have the dtype of `u`"):
        adjoint_solve(lambda u: u**2, u, u.float())
    with pytest.raises(DTypeError, match="`u` must be a tensor of float32 or float64"):
        adjoint_solve(lambda u: u**2, u.long(), u)


@pytest.mark.parametrize("method", ["newton", "picard", "anderson"])
def test_a_complex_residual_of_real_unknowns_is_refused(method: str) -> None:
    # Anderson's method found a complex root of it, from a real start.
    u = torch.ones(3, dtype=torch.float64)
    with pytest.raises(DTypeError, match="`residual` must return real numbers"):
        nonlinear_solve(lambda u: u**2 - 2 + 1j, u, method=method)
    A = SparseTensor.eye(3, dtype=torch.float64)
    with pytest.raises(DTypeError, match="`residual` must return real numbers"):
        A.nonlinear_solve(lambda u, A: A @ u - 1j, u, method=method)


def test_options_of_linear_solves_that_there_are_not() -> None:
    u = torch.ones(3, dtype=torch.float64)
    with pytest.raises(ArgumentError, match=r"`linear` has no option 'precond'; .* preconditioner"):
        nonlinear_solve(lambda u: u**2 - 2, u, linear={"precond": "ilu"})
    with pytest.raises(ArgumentError, match="give throw to the nonlinear solve"):
        nonlinear_solve(lambda u: u**2 - 2, u, linear={"throw": False})


@pytest.mark.parametrize("method", ["newton", "picard", "anderson"])
def test_options_of_linear_solves_without_a_sparse_jacobian_are_refused(method: str) -> None:
    u = torch.ones(3, dtype=torch.float64)
    with pytest.raises(ArgumentError, match=r"`linear` is for .* {'method': 'lu'}; give `pattern`"):
        nonlinear_solve(lambda u: u**2 - 2, u, method=method, linear={"method": "lu"})
    with pytest.raises(ArgumentError, match="`linear` is for solves with a sparse Jacobian"):
        adjoint_solve(lambda u: u**2 - 2, u, u, linear={"method": "lu"})


def test_a_pattern_given_up_says_that_options_of_linear_solves_are_not_used() -> None:
    A = SparseTensor.eye(3, dtype=torch.float64)

    def residual(u: torch.Tensor, A: SparseTensor) -> torch.Tensor:
        return A @ u + u.flip(0) ** 3 / 10 - 1

    u = torch.zeros(3, dtype=torch.float64)
    x, info = A.nonlinear_solve(residual, u, linear={"method": "lu"}, info=True)
    assert float(residual(x, A).abs().max()) < 1e-9
    assert any("without the options of `linear`" in note for note in info.notes)
