"""Steps with an older tangent: fewer tangents, the same root, and no trust in one that does not serve."""

from __future__ import annotations

import torch
from torch import Tensor

from torch_sla.linalg.nonlinear.batched import newton_batch
from torch_sla.linalg.nonlinear.lagged import LaggedStep
from torch_sla.linalg.nonlinear.options import NonlinearInfo, NonlinearOptions

C = torch.tensor([[4.0], [9.0]], dtype=torch.float64)


def cube_roots(contraction: float, start: float) -> tuple[Tensor, NonlinearInfo, LaggedStep]:
    step = LaggedStep(lambda u: 3 * u**2, lambda J, F: F / J, contraction)
    u, info = newton_batch(
        lambda u: u**3 - C, step, torch.full_like(C, start), NonlinearOptions(rtol=1e-12)
    )
    return u, info, step


def test_fewer_tangents_and_the_same_root() -> None:
    plain, info, fresh = cube_roots(0.0, 2.0)
    u, lagged_info, lagged = cube_roots(0.5, 2.0)
    assert info.converged
    assert lagged_info.converged
    torch.testing.assert_close(u, plain, rtol=1e-11, atol=0)
    assert fresh.made == info.iterations
    assert fresh.aged == 0
    assert lagged.made + lagged.aged == lagged_info.iterations
    assert lagged.made < fresh.made


def test_every_old_step_contracts_and_a_poor_tangent_is_replaced() -> None:
    # Far from the root the first tangent is too steep for the second step.
    u, info, step = cube_roots(0.2, 30.0)
    assert info.converged
    torch.testing.assert_close(u, C ** (1 / 3), rtol=1e-8, atol=0)
    assert step.made > 3
    assert all(b < a for a, b in zip(info.history, info.history[1:], strict=False))


def test_a_tangent_that_cannot_be_solved_with_is_forgotten() -> None:
    made = []

    def tangent(u: Tensor) -> Tensor:
        made.append(u)
        return u

    def solve(J: Tensor, F: Tensor) -> Tensor:
        if len(made) == 1:
            raise ArithmeticError
        return F / J

    step = LaggedStep(tangent, solve, 0.5)
    u = torch.ones(1)
    for _ in range(2):
        try:
            step(u, u)
        except ArithmeticError:
            continue
    assert len(made) == 2
