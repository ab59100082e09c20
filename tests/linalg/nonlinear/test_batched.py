"""Newton for a batch: each member has its own step length and verdict."""

from __future__ import annotations

import math

import torch

from torch_sla.errors import Result
from torch_sla.linalg.nonlinear.batched import newton_batch
from torch_sla.linalg.nonlinear.options import NonlinearOptions


def test_members_do_not_disturb_each_other() -> None:
    """Arctangent: full steps diverge from 3, and are right from 0.1."""
    u0 = torch.tensor([[3.0], [0.1], [0.0], [-20.0]], dtype=torch.float64)

    def step(u: torch.Tensor, F: torch.Tensor) -> torch.Tensor:
        return F * (1 + u**2)

    together, info = newton_batch(torch.atan, step, u0, NonlinearOptions(atol=1e-12))
    assert info.converged
    for start, found in zip(u0, together, strict=True):
        alone, _ = newton_batch(torch.atan, step, start, NonlinearOptions(atol=1e-12))
        assert float(found) == float(alone)


def test_what_fails_is_said() -> None:
    one = torch.ones(1, dtype=torch.float64)
    _, info = newton_batch(lambda u: u**2 + 1, lambda u, F: F / (2 * u), one, NonlinearOptions())
    assert info.result in (Result.STAGNATION, Result.MAXITER, Result.NONFINITE)
    _, info = newton_batch(lambda u: u * math.nan, lambda u, F: F, one, NonlinearOptions())
    assert info.result is Result.NONFINITE
    _, info = newton_batch(
        lambda u: u**3, lambda u, F: F / (3 * u**2), one, NonlinearOptions(maxiter=2)
    )
    assert info.result is Result.MAXITER


def test_without_a_search_steps_are_taken_as_they_are() -> None:
    u0 = torch.tensor([3.0], dtype=torch.float64)
    options = NonlinearOptions(line_search=False, maxiter=30)
    _, info = newton_batch(torch.atan, lambda u, F: F * (1 + u**2), u0, options)
    assert not info.converged


def test_a_root_to_start_from_takes_no_step() -> None:
    root = torch.zeros(2, 3, dtype=torch.float64)
    u, info = newton_batch(lambda u: u, lambda u, F: F, root, NonlinearOptions())
    assert info.iterations == 0
    assert torch.equal(u, root)
