"""How often a solve makes the host wait for its device, and that looking seldom changes nothing."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.helpers.devices import SIMULATION
from tests.helpers.fake_cudss import FakeCuDSS
from tests.helpers.simulated import counted
from torch_sla.errors import GradientError, Result, SolveError
from torch_sla.linalg import SparseTensor, clear_factor_cache
from torch_sla.linalg.backends import cudss_handle, cudss_library
from torch_sla.linalg.backends.base import SolveOptions
from torch_sla.linalg.checks import require
from torch_sla.linalg.kernels import triton
from torch_sla.linalg.methods import cg as cg_module
from torch_sla.linalg.methods.bicgstab import bicgstab
from torch_sla.linalg.methods.cg import cg
from torch_sla.linalg.methods.outcome import KrylovOptions, Outcome
from torch_sla.linalg.residual import Residual, judge
from torch_sla.linalg.sparse.pattern import Pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at iterations as seldom as where a device does them."""
    rounds = cg_module.Watch.rounds
    monkeypatch.setattr(
        cg_module.Watch, "rounds", lambda self, limit, _: rounds(self, limit, "cuda")
    )


def grid(n: int, shift: float = 0.0) -> SparseTensor:
    """The five-point stencil; with a shift what flows along x, which leaves no symmetry."""
    i = torch.arange(n * n)
    x, y = i % n, i // n
    inside = torch.stack([y > 0, x > 0, torch.ones_like(x) > 0, x < n - 1, y < n - 1], 1)
    col = (i[:, None] + torch.tensor([-n, -1, 0, 1, n]))[inside]
    row = i[:, None].expand(-1, 5)[inside]
    stencil = torch.tensor([-1.0, -1 - shift, 4 + shift, -1, -1], dtype=torch.float64)
    return SparseTensor(stencil.expand(n * n, 5)[inside], row, col, (n * n, n * n))


@pytest.mark.parametrize("shift", [0.0, 1.0], ids=["cg", "bicgstab"])
@SIMULATION[0]
@SIMULATION[1]
def test_waits_do_not_grow_with_iterations(shift: float) -> None:
    found = {}
    for n in (6, 40):
        A = grid(n, shift).cuda()
        method = "bicgstab" if shift else "cg"
        request = {"backend": "pytorch", "method": method, "preconditioner": "jacobi"}
        b = torch.ones(n * n, dtype=torch.float64, device="cuda")
        A.solve(b, **request)
        other = SparseTensor.from_pattern(A.pattern, 1.5 * A.values)
        # Kernels in torch wait where those of Triton do not, detection of structure among them.
        with counted("linalg/kernels/", "linalg/sparse/structure.py") as seen:
            _, info = other.solve(b, info=True, **request)
        found[n] = seen.total(), info.iterations
    (few, short), (many, long) = found[6], found[40]
    assert long > 3 * short
    assert few <= 12
    assert many <= few + 8


@pytest.mark.parametrize("method", [cg, bicgstab])
def test_a_slow_start_makes_no_long_run(
    method: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three eigenvalues take three steps, of which the first tells nothing."""
    seldom(monkeypatch)
    d = torch.tensor([[1.0], [1e2], [1e4]], dtype=torch.float64)
    products = []

    def times(v: torch.Tensor) -> torch.Tensor:
        products.append(None)
        return d * v

    b = torch.ones(3, 1, dtype=torch.float64)
    out = method(times, b, options=KrylovOptions(rtol=1e-8))
    assert out.result is Result.CONVERGED
    each = 1 if method is cg else 2
    assert len(products) <= each * (2 * out.iterations + 4)


@pytest.mark.parametrize(
    ("method", "most"), [("gmres", 1), ("minres", 2), ("lsqr", 1), ("lsmr", 1)]
)
@SIMULATION[0]
@SIMULATION[1]
def test_others_wait_once_or_twice_in_an_iteration(method: str, most: int) -> None:
    A = grid(12).cuda()
    b = torch.ones(144, dtype=torch.float64, device="cuda")
    A.solve(b, backend="pytorch", method=method)
    with counted("linalg/kernels/") as seen:
        _, info = A.solve(b, backend="pytorch", method=method, info=True)
    inside = sum(n for place, n in seen.items() if "checks.py" in place or "methods/" in place)
    assert inside <= most * info.iterations + 13, seen  # one of them for what is left over


@pytest.mark.parametrize("method", [cg, bicgstab])
def test_reading_every_step_or_none_gives_the_same_bits(
    method: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    D = grid(20, shift=0.0 if method is cg else 1.0).to_dense()
    b = torch.stack([torch.ones(400), torch.linspace(-1, 1, 400)], 1).double()
    known = method(lambda v: D @ v, b)
    seldom(monkeypatch)
    later = method(lambda v: D @ v, b)
    assert torch.equal(known.x, later.x)
    assert (known.iterations, known.history, known.result) == (
        later.iterations,
        later.history,
        later.result,
    )


@pytest.mark.parametrize(
    ("options", "shift", "spread", "expected"),
    [
        (KrylovOptions(), 3.0, 0.0, Result.BREAKDOWN),
        (KrylovOptions(maxiter=7), 0.0, 0.0, Result.MAXITER),
        (KrylovOptions(stagnation=2), 0.0, 1e6, Result.STAGNATION),
        (KrylovOptions(), float("nan"), 0.0, Result.NONFINITE),
    ],
    ids=str,
)
def test_failures_are_told_alike(
    monkeypatch: pytest.MonkeyPatch,
    options: KrylovOptions,
    shift: float,
    spread: float,
    expected: Result,
) -> None:
    D = grid(12).to_dense() - shift * torch.eye(144)
    D += spread * torch.diag(torch.linspace(0, 1, 144, dtype=torch.float64) ** 9)
    b = torch.linspace(0.1, 1.0, 144, dtype=torch.float64)[:, None]
    known = cg(lambda v: D @ v, b, options=options)
    seldom(monkeypatch)
    later = cg(lambda v: D @ v, b, options=options)
    assert known.result is later.result is expected
    assert (known.iterations, known.history) == (later.iterations, later.history)


@SIMULATION[0]
@SIMULATION[1]
def test_residuals_are_read_once() -> None:
    A = grid(6).cuda()
    pattern = A.pattern
    pattern.sum_rows(A.csr_values)  # what the pattern keeps is made once
    b = torch.ones(36, 2, dtype=torch.float64, device="cuda")
    x = torch.linalg.solve(A.to_dense(), b)
    with counted("linalg/kernels/") as seen:
        check = Residual(pattern, A.csr_values, b, "n")
        error = check(x)
        result = judge(check, error, SolveOptions(), Result.CONVERGED, True)
    assert result is Result.CONVERGED
    assert seen.total() == 1, seen


class OnADevice(FakeCuDSS):
    """The stand-in for cuDSS, with the calls of a device."""

    def set_stream(self, handle: int, stream: int) -> None:
        del handle, stream

    def set_device_mem_handler(self, handle: int, handler: int) -> None:
        del handle, handler


class Refused(torch.autograd.Function):
    """Asks for what does not hold on the way back."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        del ctx
        return x.clone()

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        del ctx
        require(torch.tensor(False).cuda(), lambda: SolveError(Result.SINGULAR, "mine"))
        return g


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    lib = OnADevice()
    monkeypatch.setattr(cudss_library, "bindings", lambda: lib)
    monkeypatch.setattr(cudss_library, "threading_layer", lambda: None)
    monkeypatch.setattr(cudss_library, "unavailable", lambda: None)
    monkeypatch.setattr(cudss_handle, "_handles", {})
    clear_factor_cache()
    yield {"backend": "cudss", "method": "cholesky"}
    clear_factor_cache()
    gc.collect()


@SIMULATION[0]
@SIMULATION[1]
class TestKnownFactors:
    def test_a_gradient_waits_once(self, direct: dict[str, str]) -> None:
        A, b = grid(6).cuda(), torch.ones(36, dtype=torch.float64, device="cuda")
        values = A.values.clone().requires_grad_()
        x = SparseTensor.from_pattern(A.pattern, values).solve(b, **direct)
        with counted() as seen:
            (x * x).sum().backward()
        assert seen.total() == 1, seen
        wanted = A.to_dense().cpu().requires_grad_()
        (torch.linalg.solve(wanted, b.cpu()) ** 2).sum().backward()
        row, col = A.pattern.csr_row.cpu().long(), A.pattern.ccol.cpu().long()
        assert values.grad is not None
        torch.testing.assert_close(values.grad.cpu(), wanted.grad[row, col])

    def test_the_same_matrix_waits_twice(self, direct: dict[str, str]) -> None:
        A, b = grid(6).cuda(), torch.ones(36, dtype=torch.float64, device="cuda")
        A.solve(b, **direct)
        with counted() as seen:
            _, info = A.solve(2 * b, info=True, **direct)
        assert seen.total() == 2, seen
        assert (info.backend, info.method) == ("cudss", "cholesky")

    @pytest.mark.parametrize(
        ("number", "result"),
        [(0.0, Result.CONVERGED), (float("nan"), Result.NONFINITE), (1e-200, Result.CONVERGED)],
    )
    def test_what_is_no_ordinary_right_hand_side_is_looked_at(
        self, number: float, result: Result, direct: dict[str, str]
    ) -> None:
        A, b = grid(6).cuda(), torch.ones(36, dtype=torch.float64, device="cuda")
        x = A.solve(b, **direct)
        found, info = A.solve(number * b, info=True, throw=False, **direct)
        assert info.result is result
        torch.testing.assert_close(found, number * x, rtol=1e-12, atol=0.0, equal_nan=True)
        assert any("zero" in note for note in info.notes) == (number == 0.0)

    def test_values_that_were_written_to_have_no_gradient(self, direct: dict[str, str]) -> None:
        A, b = grid(6).cuda(), torch.ones(36, dtype=torch.float64, device="cuda")
        values = A.values.clone().requires_grad_()
        x = SparseTensor.from_pattern(A.pattern, values).solve(b, **direct)
        values.data[7] *= 2.0
        with pytest.raises(GradientError, match="modified in place"):
            x.sum().backward()
        values.data[7] /= 2.0
        y = SparseTensor.from_pattern(A.pattern, values).solve(b, **direct)
        y.sum().backward()  # and nothing wrong was kept

    def test_what_was_asked_before_is_not_taken_for_a_failed_solve(
        self, direct: dict[str, str]
    ) -> None:
        A, b = grid(6).cuda(), torch.ones(36, dtype=torch.float64, device="cuda")
        values = A.values.clone().requires_grad_()
        x = SparseTensor.from_pattern(A.pattern, values).solve(b, **direct)
        with pytest.raises(SolveError, match="mine"):
            Refused.apply(x).sum().backward()


@SIMULATION[0]
@SIMULATION[1]
@pytest.mark.parametrize("cached", [True, False])
def test_values_that_are_right_again_have_a_gradient(cached: bool, direct: dict[str, str]) -> None:
    """Nothing of what they were meanwhile is kept under their name."""
    A, b = grid(6).cuda(), torch.ones(36, dtype=torch.float64, device="cuda")
    for request in (direct, {"backend": "pytorch", "method": "cg", "preconditioner": "jacobi"}):
        values = A.values.clone().requires_grad_()
        loss = SparseTensor.from_pattern(A.pattern, values).solve(b, **request).square().sum()
        known = values.data[7].clone()
        values.data[7] = float("nan")
        if not cached:
            clear_factor_cache()
        with pytest.raises(GradientError, match="modified in place"):
            loss.backward(retain_graph=True)
        values.data[7] = known
        loss.backward()
        assert values.grad is not None
        assert bool(values.grad.isfinite().all())


@SIMULATION[0]
@SIMULATION[1]
def test_solves_read_together_what_they_ask() -> None:
    A = grid(30).cuda()
    b = torch.ones(900, dtype=torch.float64, device="cuda")
    request = {"method": "cg", "preconditioner": "multigrid", "rtol": 1e-8}
    A.solve(b, **request)
    # Of values and right-hand side, of the iteration, and of what is left over.
    with counted("linalg/kernels/") as again:
        _, info = A.solve(2 * b, info=True, **request)
    assert info.iterations > 3
    assert again.total() == 3, again
    clear_factor_cache()
    pattern = Pattern.from_csr(A.pattern.crow, A.pattern.ccol, (900, 900))
    fresh = SparseTensor.from_pattern(pattern, A.csr_values)
    fresh = fresh.declare(hermitian=True, positive_definite=True)
    with counted("linalg/kernels/") as first:
        fresh.solve(b, **request)
    # And of the levels; sums along rows want to know of the pattern where no kernel makes them.
    assert first.total() == 4 + (not triton.runs(b)), first


@SIMULATION[0]
@SIMULATION[1]
@pytest.mark.skipif(not triton.installed(), reason="needs triton and TRITON_INTERPRET=1")
def test_a_pattern_is_turned_with_one_wait() -> None:
    """As the first gradient asks for, which checks what is left over with the adjoint itself."""
    pattern = grid(10).cuda().pattern
    with counted() as seen:
        assert pattern.symmetric
    assert seen.total() == 1, seen
    permutation = pattern.transpose_permutation.cpu().long()
    row, col = pattern.csr_row.cpu(), pattern.ccol.cpu()
    assert torch.equal(row[permutation], col)
    assert torch.equal(col[permutation], row)


@SIMULATION[0]
@SIMULATION[1]
@pytest.mark.skipif(not triton.installed(), reason="needs triton and TRITON_INTERPRET=1")
def test_a_first_solve_asks_of_the_matrix_once() -> None:
    A, b = grid(10).cuda(), torch.ones(100, dtype=torch.float64, device="cuda")
    request = {"method": "cg", "preconditioner": "multigrid", "rtol": 1e-8}
    A.solve(b, **request)
    clear_factor_cache()
    pattern = Pattern.from_csr(A.pattern.crow, A.pattern.ccol, (100, 100))
    with counted() as first:
        SparseTensor.from_pattern(pattern, A.csr_values).solve(b, **request)
    # Of matrix, pattern and right-hand side, of the lattice, of the levels, of the iteration, of what is left over.
    assert first.total() == 5, first
