"""Batches of parameters that outputs alone see: every output has them, member by member."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from torch_sla import (
    Dirichlet,
    Field,
    Integral,
    IntervalMesh,
    Line,
    Maximum,
    Parameter,
    PoissonProblem,
    Probe,
    SweepProblem,
    TransientProblem,
)
from torch_sla.problems.design.aggregates import p_norm

OUTPUTS = [
    Integral("sum", "u + q"),
    Integral("cost", "q*u**2"),
    Integral("end", "q*u", on="right"),
    Integral("plain", "u"),
    Probe("at", at=[(0.3,), (0.7,)], quantity="q*u"),
    Line("along", at=[(0.1,), (0.9,)], n=3, quantity="q + u"),
    Maximum("most", "q*u"),
    Maximum("mean", "q*u", p=3.0),
    Field("nodes", "q*u", on="nodes"),
    Field("cells", "q*x", on="cells"),
]
Q = torch.tensor([1.0, 2.0, 3.5], dtype=torch.float64)


def rod(**more: Any) -> PoissonProblem:
    given = {"mesh": IntervalMesh(cells=4), "source": 1.0, "boundary": [Dirichlet("left", 0.0)]}
    return PoissonProblem(**{**given, "outputs": OUTPUTS, "parameters": [Parameter("q")], **more})


PROBLEMS = {
    "linear": rod(),
    "nonlinear": rod(diffusivity="1 + u**2"),
    "loads of its own": rod(
        source=Parameter("f", default=2.0), parameters=[Parameter("q"), Parameter("f", default=2.0)]
    ),
    "march": TransientProblem(of=rod(), initial="x*x", end=1.0, steps=3),
    "march of phases": TransientProblem(of=rod(source="sin(t)*x"), end=1.0, steps=3, save=["u"]),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_members(case: str) -> None:
    problem, q = PROBLEMS[case], Q.clone().requires_grad_()
    together = problem.solve(q=q)
    each = [problem.solve(q=x) for x in q]
    loss = alone = torch.zeros((), dtype=torch.float64)
    torch.testing.assert_close(together.u, torch.stack([s.u for s in each]))
    for output in OUTPUTS:
        wanted = torch.stack([s[output.name] for s in each])
        torch.testing.assert_close(together[output.name], wanted)
        loss, alone = loss + together[output.name].square().sum(), alone + wanted.square().sum()
    torch.testing.assert_close(*(torch.autograd.grad(x, q)[0] for x in (loss, alone)))
    if case == "march of phases":
        torch.testing.assert_close(
            together.history["u"], torch.stack([s.history["u"] for s in each])
        )


def test_a_sweep() -> None:
    swept = SweepProblem(of=rod(), cases={"q": Q.tolist()}).solve()
    wanted = [float(rod().solve(q=x)["cost"]) for x in Q]
    assert swept["cost"].tolist() == pytest.approx(wanted)


def test_the_mean_of_a_field_that_is_zero_has_the_derivative_zero() -> None:
    q = torch.zeros((), dtype=torch.float64, requires_grad=True)
    cold = rod(source="q*x", outputs=[Maximum("mean", "u", p=3.0)])
    (slope,) = torch.autograd.grad(cold.solve(q=q)["mean"], q)
    assert slope == 0
    assert torch.autograd.grad(p_norm(q * Q), q)[0] == 0


def test_values_in_time_and_laws_that_outputs_see() -> None:
    q = torch.stack([Q, 2.0 * Q])  # a value for each time
    watched = rod(parameters=[Parameter("q", time="steps")], outputs=OUTPUTS[:2])
    march = TransientProblem(of=watched, initial="x", end=1.0, steps=2)
    together, each = march.solve(q=q), [march.solve(q=x) for x in q]
    for name in ("sum", "cost"):
        torch.testing.assert_close(together[name], torch.stack([s[name] for s in each]))
    law = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Softplus()).double()
    flow = Probe("flow", at=[(0.3,)], quantity="k*grad(u)")
    given = Parameter("k", on="quadrature", of=("u",))
    learned = rod(diffusivity=given, outputs=[flow], parameters=[])
    assert learned.solve(k=law)["flow"].shape == (1, 1)
