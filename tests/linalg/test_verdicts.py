"""What counts as solved: singular, perturbed and falsely declared matrices are never let through."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.helpers.grids import poisson, split
from tests.helpers.lattices import checkerboard
from tests.helpers.passes import Passes
from tests.helpers.zoo import case, rhs
from torch_sla.errors import GradientError, Result, SolveError
from torch_sla.linalg import SparseTensor, Structure, clear_factor_cache
from torch_sla.linalg.backends.pytorch import PyTorch
from torch_sla.linalg.backends.registry import backends
from torch_sla.linalg.rcond import mixed_probe, probe
from torch_sla.linalg.residual import Residual

D = torch.float64


def path_laplacian(n: int) -> SparseTensor:
    """Singular: constants are its null space."""
    i = torch.arange(n - 1)
    A = torch.zeros(n, n, dtype=D)
    A[i, i] += 1
    A[i + 1, i + 1] += 1
    A[i, i + 1] -= 1
    A[i + 1, i] -= 1
    return SparseTensor.from_dense(A)


def _chain(n: int) -> SparseTensor:
    off = torch.tensor(-1.0, dtype=D)
    return SparseTensor.tridiagonal(off, torch.full((n,), 2.5, dtype=D), off)


def test_no_probe_is_orthogonal_to_constants() -> None:
    like = torch.zeros(1, dtype=D)
    for n in range(2, 3000):
        both = probe(n, like).sum(0).abs()
        assert both[0] > 0
        assert both[1] > 0.4 * n


@pytest.mark.parametrize("dtype", [torch.float32, D, torch.complex128])
def test_one_probe_is_a_sum_of_two(dtype: torch.dtype) -> None:
    like = torch.zeros(1, dtype=dtype)
    signed, plain = probe(1000, like).unbind(1)
    torch.testing.assert_close(mixed_probe(1000, like), (0.5 * signed + plain).unsqueeze(1))
    # Values of the mixing function itself, in whole numbers.
    assert round(float(plain[0].real * 0x100000)) - 0x80000 == _mixed_bits(1) & 0xFFFFF
    assert bool(signed[0].real < 0) == bool(_mixed_bits(1) >> 21 & 1)


@pytest.mark.parametrize("dtype", [D, torch.complex128])
def test_the_probe_is_kept_and_nobody_writes_to_it(dtype: torch.dtype) -> None:
    clear_factor_cache()
    kept = mixed_probe(60, torch.zeros(1, dtype=dtype))
    numbers = kept.clone()
    with Passes() as seen:
        assert mixed_probe(60, numbers) is kept
    assert seen.launches == 0
    A, solved = _chain(60).to(dtype), 0
    for each in backends():
        if "cpu" in each.capabilities.devices and each.unavailable() is None:
            direct = [m for m in each.capabilities.methods if m.kind == "direct"]
            for method in direct:
                if each.unavailable_method(method.name) is None and dtype in method.dtypes:
                    A.solve(torch.ones(60, dtype=dtype), backend=each.name, method=method.name)
                    solved += 1
    assert solved >= 5
    assert mixed_probe(60, kept) is kept
    assert torch.equal(kept, numbers)
    with torch.inference_mode():
        other = mixed_probe(61, torch.zeros(1, dtype=dtype))
    assert not other.is_inference()
    clear_factor_cache()
    assert mixed_probe(60, kept) is not kept


def _mixed_bits(i: int) -> int:
    mixed = i * 2654435761 & 0xFFFFFFFF
    return (mixed ^ (mixed >> 15)) * 2246822519 & 0xFFFFFFFF


@pytest.mark.parametrize("n", [8, 22, 28, 36, 42, 608])
@pytest.mark.parametrize(
    ("backend", "method"),
    [("auto", "auto"), ("eigen", "lu"), ("scipy", "superlu"), ("native", "ldlt"), ("eigen", "cg")],
)
def test_singular_matrices_are_refused(n: int, backend: str, method: str) -> None:
    b = torch.linspace(1, 2, n, dtype=D)
    with pytest.raises(SolveError):
        path_laplacian(n).solve(b, backend=backend, method=method)


@pytest.mark.parametrize("method", ["cholesky", "cg", "auto"])
def test_a_solve_for_zeros_tells_nothing_of_the_matrix_and_says_so(method: str) -> None:
    A = SparseTensor.eye(4, dtype=D) * torch.tensor(-1.0, dtype=D)
    for shape in ((4,), (4, 2)):
        x, info = A.solve(torch.zeros(shape, dtype=D), method=method, info=True)
        assert info.converged
        assert not x.any()
        assert any("nothing was factorised" in note for note in info.notes)
    _, info = A.solve(torch.ones(4, dtype=D), info=True)
    assert not any("nothing was factorised" in note for note in info.notes)


def test_a_huge_iterate_is_no_solution() -> None:
    A = SparseTensor.from_dense(torch.ones(2, 2, dtype=D))
    b = torch.tensor([1.0, 2.0], dtype=D)
    for backend in ("pytorch", "eigen"):
        with pytest.raises(SolveError):
            A.solve(b, backend=backend, method="cg")


def test_what_a_method_of_scipy_refuses_is_a_failed_solve() -> None:
    A, b = _chain(6), torch.ones(6, dtype=D)
    with pytest.raises(SolveError, match="breakdown"):
        A.solve(b, backend="scipy", method="minres", preconditioner=lambda r: -r)


def test_methods_of_scipy_take_systems_of_any_size() -> None:
    A = SparseTensor.diag(torch.tensor([3.1252191775476405e305], dtype=D))
    b = torch.tensor([0.018747423269561025], dtype=D)
    x = A.solve(b, backend="scipy", method="minres", preconditioner="jacobi")
    torch.testing.assert_close(x, b / A.values, rtol=1e-14, atol=0)


@pytest.mark.parametrize("power", [-640, 1000])
@pytest.mark.parametrize(
    ("backend", "method"),
    [
        *(("pytorch", m) for m in ("cg", "minres", "gmres", "bicgstab")),
        *(("scipy", m) for m in ("cg", "minres", "gmres", "bicgstab")),
        *(("eigen", m) for m in ("cg", "bicgstab")),
    ],
)
def test_iterations_with_matrices_whose_squares_are_out_of_range(
    backend: str, method: str, power: int
) -> None:
    A = _chain(6)
    b = torch.linspace(1, 2, 6, dtype=D)
    truth = torch.linalg.solve(A.to_dense(), b)
    way: dict[str, Any] = {"backend": backend, "method": method, "preconditioner": "jacobi"}
    whole = SparseTensor.from_pattern(A.pattern, A.values * 2.0**power)
    x, info = whole.solve(b, **way, x0=1.5 * truth * 2.0**-power, info=True)
    torch.testing.assert_close(x * 2.0**power, truth, rtol=1e-8, atol=0)
    assert info.rcond == pytest.approx(float(1 / torch.linalg.cond(A.to_dense(), 1)), rel=0.2)
    one = whole.solve(b * 2.0 ** (power // 4), **way)
    torch.testing.assert_close(one * 2.0 ** (power - power // 4), truth, rtol=1e-8, atol=0)


def test_iterations_whose_solution_overflows_have_failed() -> None:
    A = SparseTensor.diag(torch.full((3,), 2.0**-700, dtype=D))
    with pytest.raises(SolveError, match="the solution overflows"):
        A.solve(torch.full((3,), 2.0**400, dtype=D), backend="pytorch", method="cg")


@pytest.mark.parametrize("method", ["cg", "minres", "gmres", "bicgstab"])
def test_methods_of_scipy_stop_at_rounding(method: str) -> None:
    A = _chain(4)
    b = torch.linspace(1, 2, 4, dtype=D)
    x = A.solve(b, backend="scipy", method=method, rtol=0.0)
    torch.testing.assert_close(x, torch.linalg.solve(A.to_dense(), b), rtol=1e-13, atol=0)


def test_a_failed_solve_reports_no_small_residual() -> None:
    A = SparseTensor.from_dense(torch.ones(2, 2, dtype=D))
    _, info = A.solve(torch.tensor([1.0, 2.0], dtype=D), throw=False)
    assert not info.converged
    assert not info.residual < 1e-3
    assert not info.backward_error < 1e-3
    assert len(repr(info)) < 1000


def test_replaced_pivots_must_still_reach_the_floor() -> None:
    n = 8
    i = torch.arange(n, dtype=D)
    H = 1 / (i[:, None] + i + 1)
    x, info = SparseTensor.from_dense(H).solve(
        H.sum(1), throw=False, backend="native", method="ldlt"
    )
    if info.converged:
        # rcond is 3e-11: a backward stable solution is good to about 1e-5.
        assert float((x - 1).abs().max()) < 1e-3
    assert SparseTensor.from_dense(H).solve(H.sum(1)).sub(1).abs().max() < 1e-3


def test_nan_in_a_dense_matrix_is_kept_and_noticed() -> None:
    nan = float("nan")
    A = SparseTensor.from_dense(torch.tensor([[2.0, nan], [nan, 2.0]], dtype=D))
    assert A.nnz == 4
    with pytest.raises(SolveError) as caught:
        A.solve(torch.ones(2, dtype=D))
    assert caught.value.result is Result.NONFINITE


def test_a_false_declaration_of_symmetry_is_noticed_by_the_adjoint() -> None:
    generator = torch.Generator().manual_seed(77)
    A = torch.randn(6, 6, dtype=D, generator=generator) + 4 * torch.eye(6, dtype=D)
    given = SparseTensor.from_dense(A)
    values = given.values.clone().requires_grad_()
    false = SparseTensor.from_pattern(
        given.pattern, values, Structure(symmetric=True, hermitian=True)
    )
    x = false.solve(torch.ones(6, dtype=D), backend="pytorch", method="gmres")
    with pytest.raises(SolveError, match="adjoint"):
        x.pow(2).sum().backward()


def test_what_rounding_keeps_from_the_tolerance_is_not_solved_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    solves, solve = [], PyTorch.solve

    def counted(self: PyTorch, *args: Any, **options: Any) -> Any:
        solves.append(1)
        return solve(self, *args, **options)

    monkeypatch.setattr(PyTorch, "solve", counted)
    pattern, values = split(checkerboard(40, 1e6, 8))
    A = SparseTensor.from_pattern(pattern, values)
    request: dict[str, Any] = {"backend": "pytorch", "method": "cg", "preconditioner": "ichol"}
    b = torch.ones(1600, dtype=torch.float64)
    _, info = A.solve(b, rtol=1e-10, info=True, **request)
    assert info.result is Result.ROUNDOFF
    assert info.backward_error <= 8 * torch.finfo(torch.float64).eps
    assert len(solves) == 1


@pytest.mark.parametrize("backend", ["pytorch", "eigen", "parts"])
def test_what_did_not_converge_has_no_derivative(backend: str) -> None:
    A = case("general").sparse(torch.float64)
    values = A.values.clone().requires_grad_()
    A = A.from_pattern(A.pattern, values)
    options = {"method": "bicgstab", "preconditioner": "none", "maxiter": 1, "throw": False}
    if backend == "parts":
        x, info = A.partition(2).solve(rhs(A, None), **options)
    else:
        x, info = A.solve(rhs(A, None), backend=backend, adjoint_rtol=0.99, **options)
    assert not info.converged
    with pytest.raises(GradientError, match="did not converge"):
        x.sum().backward()


def test_members_that_converged_keep_their_derivatives() -> None:
    values = torch.tensor([[1.0, 2.0], [1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    i = torch.arange(2)
    A = SparseTensor(values, i, i, (2, 2, 2))
    b = torch.ones(2, 2, dtype=torch.float64, requires_grad=True)
    x, info = A.solve(b, throw=False)
    assert not info.converged
    with pytest.raises(GradientError, match="did not converge"):
        x.sum().backward(retain_graph=True)
    of_values, of_b = torch.autograd.grad(x[0].sum(), (values, b))
    assert of_values[0].tolist() == [-1.0, -0.25]
    assert of_b.tolist() == [[1.0, 0.5], [0.0, 0.0]]


@pytest.mark.parametrize("n", [40, 200])
@pytest.mark.parametrize("warm", [False, True])
def test_a_residual_that_the_method_formed_is_not_formed_again(
    monkeypatch: pytest.MonkeyPatch, n: int, warm: bool
) -> None:
    A = SparseTensor.from_scipy(poisson(n, n))
    b = torch.linspace(-1, 2, n * n, dtype=D)
    start = torch.linspace(0, 1, n * n, dtype=D) if warm else None
    wanted = {"method": "cg", "preconditioner": "multigrid", "x0": start, "info": True}
    formed = []
    measured = Residual._measured

    def counted(check: Residual, x: torch.Tensor) -> torch.Tensor:
        formed.append(x)
        return measured(check, x)

    monkeypatch.setattr(Residual, "_measured", counted)
    x, info = A.solve(b, **wanted)
    assert not formed
    pattern, values = A.flat_slots()
    check = Residual(pattern, values, b.unsqueeze(1), "n")
    relative, backward = check(x.unsqueeze(1))
    assert info.residual == pytest.approx(relative, rel=1e-9)
    assert info.backward_error == pytest.approx(backward, rel=1e-9)
    # What was left over is formed where somebody asks for it.
    sizes = torch.zeros(5, 1, dtype=D)
    lazy = Residual(pattern, values, b.unsqueeze(1), "n")
    lazy(x.unsqueeze(1), sizes)
    assert torch.equal(lazy.r, check.r)


@pytest.mark.parametrize("preconditioner", ["multigrid", "jacobi"])
def test_the_adjoint_of_a_matrix_declared_symmetric_is_checked_by_itself(
    preconditioner: str,
) -> None:
    # So nearly symmetric that conjugate gradients converge, and that A⁻¹ g is 1e-5 off A⁻ᵀ g.
    A = SparseTensor.from_scipy(poisson(40, 40))
    row, col = A.row_indices, A.col_indices
    lean = 1e-6 * ((col == row + 1).to(D) - (col + 1 == row).to(D))
    A = SparseTensor(A.values + lean, row, col, (1600, 1600))
    A = A.declare(symmetric=True, positive_definite=True)
    b = torch.linspace(-1, 2, 1600, dtype=D, requires_grad=True)
    g = torch.sin(torch.arange(1600, dtype=D))
    x = A.solve(b, method="cg", preconditioner=preconditioner, rtol=1e-8)
    (found,) = torch.autograd.grad(x, b, g)
    left = A.to_dense().T @ found - g
    assert left.norm() <= 2e-8 * g.norm()


@pytest.mark.parametrize(
    ("backend", "method"),
    [
        *[("pytorch", m) for m in ("cg", "minres", "gmres", "bicgstab", "lsqr", "lsmr")],
        *[("scipy", m) for m in ("cg", "minres", "gmres", "bicgstab")],
    ],
)
def test_a_start_for_one_right_hand_side_of_zeros_among_others(backend: str, method: str) -> None:
    A = SparseTensor.from_scipy(poisson(6, 5).tocoo())
    generator = torch.Generator().manual_seed(8)
    b, x0 = torch.randn(2, 30, 3, dtype=torch.float64, generator=generator)
    b[:, 1] = 0
    x = A.solve(b, backend=backend, method=method, x0=x0)
    assert not x[:, 1].any()
    torch.testing.assert_close(A @ x, b, rtol=0, atol=1e-8)
