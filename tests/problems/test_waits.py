"""How often a solve of a declared problem waits for its device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers.devices import SIMULATION
from tests.helpers.on_cuda import elasticity, march, nonlinear, poisson, weak_form
from tests.helpers.simulated import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.helpers.on_cuda import Case

pytestmark = SIMULATION


def waits(case: Case) -> tuple[Any, int, int]:
    """Waits of a later solve with new values that lie on the device, and of its backward pass."""
    problem, values = case
    for _ in range(2):
        given = {name: x.cuda().requires_grad_() for name, x in values().items()}
        with counted("linalg/kernels/") as forward:
            solution = problem.solve(given)
        loss = sum(solution[name].square().sum() for name in solution)
        with counted("linalg/kernels/") as backward:
            loss.backward()
    return solution, forward.total(), backward.total()


@pytest.mark.parametrize(
    ("case", "forward", "backward"),
    [(poisson, 6, 3), (elasticity, 8, 3), (weak_form, 11, 4)],
    ids=lambda x: getattr(x, "__name__", None),
)
def test_linear_problems(case: Callable[[], Case], forward: int, backward: int) -> None:
    _, there, back = waits(case())
    assert there <= forward
    assert back <= backward


def test_a_march_waits_three_times_for_each_step() -> None:
    """The matrix stays: sizes and checks, the end of the iteration, the residual; backward, each step twice."""
    (_, few, few_back), (_, many, many_back) = waits(march(8)), waits(march(16))
    assert many - few <= 3 * 8
    assert many_back - few_back <= 6 * 8


def test_newton_waits_a_few_times_for_each_step() -> None:
    """Of 15 waits in a step, 8 are those of BiCGSTAB, which is looked at as conjugate gradients are."""
    solution, there, back = waits(nonlinear())
    assert there <= 16 * solution.info.iterations
    assert back <= 12
