"""Goals as text: the grammar, what they may call, and how a sum of squares is told."""

from __future__ import annotations

import pytest
import torch

from torch_sla.errors import ExpressionError
from torch_sla.problems.design.goal import Goal
from torch_sla.problems.design.limit import Limit
from torch_sla.problems.design.transforms import Place


class Results:
    """Results by name, on no mesh."""

    def __init__(self, **values: object) -> None:
        self.values = {
            n: v if isinstance(v, torch.Tensor) else torch.tensor(v, dtype=torch.float64)
            for n, v in values.items()
        }

    def value(self, name: str) -> torch.Tensor:
        return self.values[name]

    def place(self, name: str) -> Place:
        return Place("constant")

    def residual(self, data: str, found: torch.Tensor) -> torch.Tensor:
        return (found - {"T": 1.0, "other": 2.0}[data]).reshape(-1) / 0.5


HERE = Results(
    T=[1.0, 2.0, 4.0], k=3.0, M=[[1.0, 2.0], [3.0, 5.0]], z=torch.tensor([3.0 + 4.0j], dtype=torch.complex128)
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("sum(T)", 7.0),
        ("mean(T**2)/k", 7.0 / 3),
        ("max(T) - min(T) + max(k, 5)", 8.0),
        ("T[2] + M[1, 0]", 7.0),
        ("sum(M[1])", 7.0),  # the last index: of each row
        ("sum(where(T > 1.5 and not T > 3, T, 0))", 2.0),
        ("p_norm(T, 2)", 21.0**0.5),
        ("misfit(T)", 0.5 * (0 + 4 + 36)),
        ("misfit(log(T)/log(2), other)", 0.5 * (16 + 4 + 0)),
        ("tikhonov(k, 1.0)", 2.0),
        ("abs(z)[0]", 5.0),
        ("-sum(T)*pi", -7.0 * torch.pi),
    ],
)
def test_values(text: str, value: float) -> None:
    assert float(Goal(text).evaluate(HERE)) == pytest.approx(value, rel=1e-14)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("T", r"an objective is one real number, and this is of shape \[3\]"),
        ("sum(z)", "this is complex"),
        ("sum(T + M)", r"shapes \[3\] and \[2, 2\] do not go together"),
        ("T[5]", "index 5 is out of range; there are 3"),
        ("T[0, 0]", "it has 1 indices, but 2 are given"),
        ("sum(where(T, 1, 2))", "this is a number, where a condition is needed"),
        ("sum(where(not T, 1, 2))", "this is a number, where a condition is needed"),
        ("max(z)", "max: "),
        ("ks(T, k)", "ks takes a plain number here"),
    ],
)
def test_refused_values(text: str, message: str) -> None:
    with pytest.raises(ExpressionError, match=message):
        Goal(text).evaluate(HERE)


@pytest.mark.parametrize(
    "text", ["grad(T)", "T.x", "sum(T", "import os", "sum()", "misfit(a, b, c)"]
)
def test_what_does_not_parse(text: str) -> None:
    with pytest.raises(ExpressionError):
        Goal(text)


def test_sums_of_squares() -> None:
    goal = Goal("2*misfit(T)/4 + 0.5*tikhonov(k, 1.0) - 3*mean(T) + smoothness(k)*k")
    assert [(call.function, weight) for call, weight in goal.squares] == [
        ("misfit", 0.5),
        ("tikhonov", 0.5),
    ]
    assert len(goal.others) == 2
    plain = Goal("2*misfit(T)/4 + 0.5*tikhonov(k, 1.0) - 3*mean(T)")
    r, rest = plain.parts(HERE)
    assert float(0.5 * r.square().sum() + rest) == pytest.approx(float(plain.evaluate(HERE)))
    # A negative square is none, and neither is the square of one.
    assert not Goal("-misfit(T) + misfit(T)**2").squares
    assert not Goal("misfit(T)/0").squares


def test_limits() -> None:
    limit = Limit("1 <= k <= 2*max(T)")
    assert [float(v) for v in limit.evaluate(HERE)] == [-2.0, -5.0]
    assert limit.equalities == [False, False]
    assert [float(v) for v in Limit("k == 4").evaluate(HERE)] == [-0.25]
    assert Limit("k == 4").equalities == [True]
    assert [float(v) for v in Limit("k >= 12").evaluate(HERE)] == [0.75]
    assert [float(v) for v in Limit("k <= 0").evaluate(HERE)] == [3.0]


@pytest.mark.parametrize(
    "bound", ["(pi - pi)**-1", "1/(pi - pi)", "2**(1000*pi)", "(2 - pi)**0.5", "1j"]
)
def test_a_bound_is_a_finite_real_number(bound: str) -> None:
    with pytest.raises(ExpressionError, match=r"divides by zero|too large|not real|no real number"):
        Limit(f"k <= {bound}")
