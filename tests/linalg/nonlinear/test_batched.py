"""Newton for a batch: each member has its own step length and verdict."""

from __future__ import annotations

import math

import pytest
import torch

from tests.helpers.devices import SIMULATION
from tests.helpers.simulated import counted
from torch_sla.errors import Result
from torch_sla.linalg.nonlinear.batched import newton_batch
from torch_sla.linalg.nonlinear.lagged import LaggedStep
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
    assert info.result is Result.SINGULAR  # at 0, where the first step leads
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


def test_a_step_that_hardly_lowers_the_residual_is_shortened() -> None:
    """Down by 5e-5 at full length, where 1e-4 is asked for; to 2.5e-5 of it at half the length."""
    one = torch.ones(1, dtype=torch.float64)
    options = NonlinearOptions(rtol=1e-3)
    _, info = newton_batch(lambda u: u, lambda u, F: F * (2 - 5e-5), one, options)
    assert info.iterations == 1
    assert math.isclose(info.history[1], 2.5e-5, rel_tol=1e-6)
    _, info = newton_batch(lambda u: u, lambda u, F: F * (2 - 2e-4), one, options)
    assert math.isclose(info.history[1], 1 - 2e-4, rel_tol=1e-9)


def test_what_u_is_added_to_lets_only_steps_of_its_rounding_pass() -> None:
    """Beside 1 a step of 10 is none of rounding, and full steps of the arctangent diverge from 3."""
    u0 = torch.tensor([3.0], dtype=torch.float64)
    options = NonlinearOptions(atol=1e-12)
    u, info = newton_batch(torch.atan, lambda u, F: F * (1 + u**2), u0, options, rest=1.0)
    assert info.result is Result.CONVERGED
    assert abs(float(u)) <= 1e-12


@pytest.mark.parametrize("line_search", [False, True])
@pytest.mark.parametrize("inside", [False, True])
def test_the_rounding_of_a_large_sum_ends_it(inside: bool, line_search: bool) -> None:
    """Positions near 1e10 are known to 2e-6: no u makes the residual nought."""
    at = 1e10
    rest, u0 = (at, 1e-3) if inside else (0.0, at + 1e-3)

    def residual(u: torch.Tensor) -> torch.Tensor:
        return ((at if inside else 0.0) + u) - at - 7e-7

    start = torch.tensor([u0], dtype=torch.float64)
    options = NonlinearOptions(line_search=line_search)
    u, info = newton_batch(residual, lambda u, F: F, start, options, rest=rest)
    assert info.result is Result.ROUNDOFF
    assert float(residual(u).abs()) < 2e-6
    assert bool(info.notes) == inside


@pytest.mark.parametrize(("floor", "result"), [(1e-13, "ROUNDOFF"), (1e-12, "STAGNATION")])
def test_a_residual_at_the_floor_of_its_first_value(floor: float, result: str) -> None:
    """At a root of zero the length of a step says nothing."""

    def residual(u: torch.Tensor) -> torch.Tensor:
        return torch.where(u.abs() < floor, torch.full_like(u, floor), u)

    options = NonlinearOptions(rtol=1e-14)
    _, info = newton_batch(residual, lambda u, F: F, torch.ones(1).double(), options)
    assert info.result is Result[result]


@pytest.mark.parametrize("line_search", [True, False])
def test_a_residual_of_nothing_but_rounding_ends_the_iteration(line_search: bool) -> None:
    # A rod at 300, heated a little: K u is a difference of numbers that are 5e4 times as large as the load.
    n = 40
    K = (2 * torch.eye(n) - torch.eye(n).roll(1, 0).tril() - torch.eye(n).roll(-1, 0).triu()) * n**2
    level = torch.full((n,), 300.0)

    def residual(u):
        beside = torch.cat([u.new_tensor([300.0]), u, u.new_tensor([300.0])])
        return n**2 * (2 * u - beside[:-2] - beside[2:]) - 10

    options = NonlinearOptions(rtol=1e-5, line_search=line_search)
    u, info = newton_batch(residual, lambda u, F: torch.linalg.solve(K, F), level, options)
    assert info.result is Result.ROUNDOFF
    right = torch.linalg.solve(K.double(), torch.full((n,), 10.0, dtype=torch.float64))
    torch.testing.assert_close(u.double() - 300, right, rtol=0.03, atol=1e-3)


@pytest.mark.parametrize("line_search", [True, False])
@pytest.mark.parametrize("reuse", [0.0, 0.5])
def test_members_that_fail_leave_the_others_their_roots(reuse: float, line_search: bool) -> None:
    """Roots of a negative number, of NaN, from a singular Jacobian, and from a start too far off for 50 steps."""
    c = torch.tensor([[4.0], [-1.0], [9.0], [math.nan], [0.25], [1e200]], dtype=torch.float64)
    u0 = torch.tensor([[1.0], [1.0], [0.1], [1.0], [0.0], [1e-3]], dtype=torch.float64)
    options = NonlinearOptions(line_search=line_search)
    step = LaggedStep(lambda u: 2 * u, lambda J, F: F / J, reuse)
    u, info = newton_batch(lambda u: u**2 - c, step, u0, options)
    assert info.solved is not None
    assert info.solved.tolist() == [True, False, True, False, False, False]
    assert u[[0, 2], 0].tolist() == pytest.approx([2.0, 3.0], rel=1e-9)
    assert not info.converged
    assert "counted from 0: 1, 3, 4, 5" in str(info.failure())
    for k in (0, 2):
        alone, _ = newton_batch(
            lambda u, k=k: u**2 - c[k], lambda u, F: F / (2 * u), u0[k], options
        )
        assert float(u[k]) == pytest.approx(float(alone), rel=1e-9)


def test_the_first_failure_gives_its_name_and_each_member_its_last_iterate() -> None:
    """The first step of one leads to a logarithm of a negative number, that of the other to a flat place."""

    def residual(u: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.log(u[0]) + 2, u[1] ** 2 + 1, u[2] - 5])

    def step(u: torch.Tensor, F: torch.Tensor) -> torch.Tensor:
        return torch.stack([F[0] * u[0], F[1] / (2 * u[1]), F[2]])

    u0 = torch.tensor([[3.0], [1.0], [0.0]], dtype=torch.float64)
    u, info = newton_batch(residual, step, u0, NonlinearOptions(line_search=False))
    assert info.result is Result.NONFINITE
    assert float(u[0]) < 0
    assert float(u[2]) == 5
    assert info.solved is not None
    assert info.solved.tolist() == [False, False, True]


def test_members_that_failed_before_are_left_alone() -> None:
    u0 = torch.tensor([[3.0], [0.1]], dtype=torch.float64)
    gone = torch.tensor([True, False])
    u, info = newton_batch(
        torch.atan,
        lambda u, F: F * (1 + u**2),
        u0,
        NonlinearOptions(line_search=False, atol=1e-12),
        without=gone,
    )
    assert info.converged
    assert info.solved is not None
    assert info.solved.tolist() == [False, True]
    assert float(u[0]) == 3.0
    assert abs(float(u[1])) < 1e-12


@SIMULATION[0]
@SIMULATION[1]
def test_a_step_waits_once_for_a_device_and_its_end_once_more() -> None:
    start = torch.zeros(3, 2, dtype=torch.float64, device="cuda")
    with counted() as seen:
        _, info = newton_batch(
            lambda u: u - 1, lambda u, F: F, start, NonlinearOptions(line_search=False)
        )
    assert info.result is Result.CONVERGED
    assert seen.total() == info.iterations + 2  # the first residual, and what is reported
