"""Times at which a number crosses a level, from values at some times."""

from __future__ import annotations

import math

import pytest
import torch

from torch_sla.problems.analyses.crossing import crossed, crossing


def _times(n: int, uneven: bool) -> torch.Tensor:
    t = torch.linspace(0.0, 1.0, n + 1, dtype=torch.float64)
    return 2.0 * (t**1.3 if uneven else t)


@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize("rate", [1.3, 0.47])
def test_the_error_is_of_fourth_order(uneven: bool, rate: float) -> None:
    wanted = math.log(2.0) / rate
    errors = []
    for n in (8, 64):
        t = _times(n, uneven)
        errors.append(abs(float(crossing(t, torch.exp(-rate * t), 0.5, "down")) - wanted))
    # Where in its interval the root lies changes the constant.
    assert errors[1] < 2e-7
    assert errors[1] < errors[0] * 8.0**-3.4


def test_a_cubic_is_met_exactly_in_every_interval() -> None:
    t = _times(7, uneven=True)
    for root in (0.05, 0.3, 0.9, 1.4, 1.95):
        found = crossing(t, (t - root) * (t**2 + 1.0), 0.0, "up")
        assert float(found) == pytest.approx(root, abs=1e-12)
    # So are values at two times, on a line, and at three, on a parabola.
    for n in (1, 2):
        t = _times(n, uneven=True)
        assert float(crossing(t, t**n, 0.7**n, "up")) == pytest.approx(0.7, abs=1e-12)


def test_three_derivatives() -> None:
    t = _times(12, uneven=True)
    k = torch.tensor([1.3, 0.9], dtype=torch.float64, requires_grad=True)

    def when(k: torch.Tensor) -> torch.Tensor:
        return crossing(t, torch.exp(-k * t[:, None]) * torch.cos(k), 0.2, "down")

    assert torch.autograd.gradcheck(when, k)
    assert torch.autograd.gradgradcheck(when, k)

    def slope(k: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(when(k).sum(), k, create_graph=True)[0]

    assert torch.autograd.gradgradcheck(slope, k)


def test_derivatives_are_those_of_the_time_itself() -> None:
    t = _times(64, uneven=False)
    k = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    found = crossing(t, torch.exp(-k * t), 0.5, "down")
    (first,) = torch.autograd.grad(found, k, create_graph=True)
    (second,) = torch.autograd.grad(first, k)
    log = math.log(2.0)
    assert float(first.detach()) == pytest.approx(-log / 1.3**2, rel=1e-5)
    assert float(second) == pytest.approx(2 * log / 1.3**3, rel=1e-4)


def test_members_cross_each_in_its_own_interval_or_never() -> None:
    t = torch.arange(6, dtype=torch.float64)
    values = torch.stack([2.5 - t, t - 4.5, torch.ones_like(t)], -1)
    assert crossing(t, values, 0.0, "both").tolist() == pytest.approx([2.5, 4.5, math.inf])
    assert crossing(t, values, 0.0, "up").tolist() == pytest.approx([math.inf, 4.5, math.inf])
    assert crossed(values, 0.0, "down").nonzero().tolist() == [[2, 0]]
    assert torch.isinf(crossing(t[:1], values[:1], 0.0, "both")).all()


def test_kinks_ends_and_values_that_are_not_finite() -> None:
    t = torch.arange(5, dtype=torch.float64)

    def when(*values: float, direction: str = "down") -> float:
        return float(crossing(t, torch.tensor(values, dtype=torch.float64), 0.0, direction))

    assert 1.0 <= when(1.0, 1.0, -1.0, -1.0, 5.0) <= 2.0
    assert when(1.0, 0.5, 0.0, 0.0, 0.0) == pytest.approx(2.0)
    assert when(-1.0, -1.0, -1.0, -1.0, 3.0, direction="up") < 4.0
    # On the level at a time: then, though the cubic through all four was there at 1.5 already.
    assert when(-3.0, -1.0, 0.0, -6.0, direction="up") == pytest.approx(2.0, rel=1e-15)
    # Next to a value that is not finite, or with a curve that is level at its root, it is a line.
    assert when(math.nan, 1.0, -3.0, -1.0, 5.0) == pytest.approx(1.25)
    assert math.isfinite(when(-1.0, 0.0, 1.0, 0.0, -1.0))


def test_what_is_not_finite_beside_the_interval_has_no_gradient() -> None:
    a = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    beside = torch.tensor(float("nan"), dtype=torch.float64)
    time = crossing(
        torch.arange(4.0, dtype=torch.float64), torch.stack([0 * a, a, 2 * a, beside]), 1.5, "up"
    )
    (gradient,) = torch.autograd.grad(time, a)
    assert time == 1.5
    assert gradient == -1.5
