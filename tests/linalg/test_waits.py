"""How often a solve makes the host wait for the device, counted without one."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.waits import Waits, on_a_device
from torch_sla.errors import Result
from torch_sla.linalg import SparseTensor
from torch_sla.linalg.backends.base import SolveOptions
from torch_sla.linalg.methods.cg import cg
from torch_sla.linalg.methods.outcome import KrylovOptions
from torch_sla.linalg.residual import Residual, judge

# Detection of structure has its own kernels and is done once per matrix.
DETECTION = ("linalg/sparse/structure.py", "linalg/sparse/growth.py")


def grid(n: int) -> SparseTensor:
    i = torch.arange(n * n)
    x, y = i % n, i // n
    inside = torch.stack([y > 0, x > 0, torch.ones_like(x) > 0, x < n - 1, y < n - 1], 1)
    col = (i[:, None] + torch.tensor([-n, -1, 0, 1, n]))[inside]
    row = i[:, None].expand(-1, 5)[inside]
    stencil = torch.tensor([-1.0, -1, 4, -1, -1], dtype=torch.float64)
    return SparseTensor(stencil.expand(n * n, 5)[inside], row, col, (n * n, n * n))


def waits_of_a_solve(A: SparseTensor, **request: object) -> tuple[int, int]:
    """Waits of one solve with new values on a pattern that was seen, and its iterations."""
    b = torch.ones(A.shape[0], dtype=torch.float64)
    A.solve(b, **request)
    with Waits() as waits:
        other = SparseTensor.from_pattern(A.pattern, 1.5 * A.values)
        _, info = other.solve(b, info=True, **request)
    seen = {k: v for k, v in waits.places.items() if not k.startswith(DETECTION)}
    return sum(seen.values()), info.iterations


def test_waits_of_cg_do_not_grow_with_its_iterations(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_device(monkeypatch)
    request = {"backend": "pytorch", "method": "cg", "preconditioner": "jacobi"}
    few, short = waits_of_a_solve(grid(6), **request)
    many, long = waits_of_a_solve(grid(40), **request)
    assert long > 4 * short
    assert few <= 16
    assert many <= few + 6


def test_reading_every_step_or_none_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    A = grid(20)
    D = A.to_dense()
    b = torch.stack([torch.ones(400), torch.linspace(-1, 1, 400)], 1).double()
    known = cg(lambda v: D @ v, b)
    on_a_device(monkeypatch)
    later = cg(lambda v: D @ v, b)
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
    on_a_device(monkeypatch)
    later = cg(lambda v: D @ v, b, options=options)
    assert known.result is later.result is expected
    assert (known.iterations, known.history) == (later.iterations, later.history)


def test_residuals_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_device(monkeypatch)
    A = grid(6)
    pattern = A.pattern
    pattern.sum_rows(A.csr_values)  # what the pattern keeps is made once
    b = torch.ones(36, 2, dtype=torch.float64)
    x = torch.linalg.solve(A.to_dense(), b)
    with Waits() as waits:
        check = Residual(pattern, A.csr_values, b, "n")
        error = check(x)
        result = judge(check, error, SolveOptions(), Result.CONVERGED, True)
    assert result is Result.CONVERGED
    assert waits.total == 1, waits.places
