"""Adaptive steps and their gradients, times of outputs, events."""

from __future__ import annotations

import json
import math
import re
from io import StringIO
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import torch
from rich.console import Console

from tests.helpers.marches import cooling, rod
from torch_sla import (
    Adaptive,
    Dirichlet,
    Event,
    Flux,
    Integral,
    IntervalMesh,
    Parameter,
    PoissonProblem,
    Probe,
    RectangleMesh,
    Robin,
    SpecError,
    SweepProblem,
    TransientProblem,
    clear_cache,
)
from torch_sla.cli.console import results
from torch_sla.linalg import cache_counters

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("scheme", ["backward_euler", "crank_nicolson", "bdf2"])
def test_the_tolerance_says_the_error(scheme: str) -> None:
    exact = torch.exp(-(math.pi**2) * torch.linspace(0.0, 0.4, 5, dtype=torch.float64))
    errors, counts = [], []
    for rtol in (1e-3, 1e-4):
        s = cooling(scheme=scheme, adaptive=Adaptive(rtol=rtol)).solve()
        assert s["m"].shape == (5, 1)
        errors.append(float((s["m"][:, 0] - exact).abs().max()))
        counts.append(len(s.step_times) - 1)
    assert errors[0] < 0.05
    assert errors[1] < 0.5 * errors[0]
    assert counts[1] > 1.3 * counts[0] > 5


def test_adaptive_steps_are_long_where_nothing_happens() -> None:
    s = cooling(end=4.0, adaptive=Adaptive(rtol=1e-3)).solve()
    lengths = s.step_times.diff()
    assert float(lengths[-1]) == 1.0
    assert float(lengths[:5].max()) < 0.02
    assert "adaptive" in " ".join(s.info.notes)


@pytest.mark.parametrize("scheme", ["newmark", "generalized_alpha"])
def test_adaptive_steps_of_a_string(scheme: str) -> None:
    string = rod(mesh=IntervalMesh(cells=16))
    problem = TransientProblem(
        of=string,
        initial="sin(pi*x)",
        end=2.0,
        steps=4,
        scheme=scheme,
        adaptive=Adaptive(rtol=1e-5),
    )
    s = problem.solve()
    exact = torch.cos(math.pi * s.times)
    assert float((s["m"][:, 0] - exact).abs().max()) < 5e-3
    assert len(s.step_times) > 40


@pytest.mark.parametrize("scheme", ["backward_euler", "crank_nicolson", "bdf2"])
def test_gradients_hold_the_steps(scheme: str) -> None:
    """The derivative is that of the scheme with the steps that were chosen, compared with those steps prescribed."""
    problem = cooling(scheme=scheme, adaptive=Adaptive(rtol=3e-3), checkpoints=4)
    k = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    s = problem.solve(k=k)
    (gradient,) = torch.autograd.grad(s["m"].square().sum(), k)
    times = s.step_times.tolist()[1:]
    frozen = cooling(scheme=scheme, steps=1, times=times)

    def value(k: float) -> float:
        taken = frozen.solve(k=k)["m"][:, 0]
        kept = [times.index(t) for t in s.times.tolist()[1:]]
        return float(taken[kept].square().sum()) + 1.0

    assert value(1.0) == pytest.approx(float(s["m"].detach().square().sum()), rel=1e-12)
    h = 1e-5
    assert float(gradient) == pytest.approx((value(1 + h) - value(1 - h)) / (2 * h), rel=1e-7)


def test_the_steps_of_the_backward_run_are_those_of_the_forward_run() -> None:
    problem = cooling(adaptive=Adaptive(rtol=1e-3), checkpoints=3)
    k = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    first = torch.autograd.grad(problem.solve(k=k)["m"].sum(), k)
    second = torch.autograd.grad(problem.solve(k=k)["m"].sum(), k)
    assert torch.equal(*first, *second)


def test_gradients_through_a_thousand_steps() -> None:
    """The remainder of Taylor's formula falls with the square of the step."""
    problem = cooling(of=rod(mesh=IntervalMesh(cells=4), order=1), steps=1000, scheme="bdf2")

    def value(k: torch.Tensor) -> torch.Tensor:
        return problem.solve(k=k)["m"].square().sum()

    k = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    start = value(k)
    (slope,) = torch.autograd.grad(start, k)
    rest = [float((value(k.detach() + h) - start - h * slope).detach()) for h in (0.02, 0.01)]
    assert math.log2(rest[0] / rest[1]) == pytest.approx(2.0, abs=0.05)


def test_gradients_reach_everything_through_kept_states() -> None:
    """Values on cells and nodes, for each time, at the start, and the points, with few states kept."""
    plate = PoissonProblem(
        mesh=RectangleMesh(cells=(2, 2)),
        diffusivity=Parameter("k", on="cells"),
        capacity=Parameter("c", on="nodes"),
        source=Parameter("q", time="steps"),
        boundary=[Dirichlet("left", Parameter("g")), Robin("right", 2.0, ambient="t")],
        outputs=[Integral("m", "u**2"), Flux("f", "left")],
    )
    problem = TransientProblem(
        of=plate,
        initial=Parameter("u0", on="nodes"),
        end=1.0,
        steps=11,
        checkpoints=3,
        adaptive=Adaptive(rtol=5e-2),
    )
    draw = torch.Generator().manual_seed(1)
    values = {
        name: 0.5 + torch.rand(n, generator=draw, dtype=torch.float64)
        for name, n in {"k": 8, "c": 9, "q": 12, "u0": 9}.items()
    }
    check = problem.check_gradients(
        {**values, "g": 0.3, "points": plate.mesh_data().points},
        output=lambda s: s["m"].sum() + s["f"].square().sum() + s.u.square().sum(),
        second=False,
    )
    assert check.passed, str(check)


def test_gradients_of_the_weights_of_a_law() -> None:
    torch.manual_seed(2)
    law = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Softplus()).double()
    rod = PoissonProblem(
        mesh=IntervalMesh(cells=3),
        diffusivity=Parameter("k", on="quadrature", of=("u",)),
        boundary=[Dirichlet("left", 0.0), Dirichlet("right", 1.0)],
        outputs=[Integral("m", "u")],
    )
    problem = TransientProblem(of=rod, end=1.0, steps=7, checkpoints=3)
    problem.solve(k=law)["m"].sum().backward()
    weight, h = law[0].weight, 1e-5
    ends = []
    for step in (h, -h):
        with torch.no_grad():
            weight += step
            ends.append(float(problem.solve(k=law)["m"].sum()))
            weight -= step
    assert float(weight.grad) == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-6)


def test_derivatives_of_second_order() -> None:
    problem = cooling(of=rod(mesh=IntervalMesh(cells=4), order=1), steps=6, checkpoints=2)
    k = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda k: problem.solve(k=k)["m"][-1], (k,))


def test_forward_mode_agrees() -> None:
    problem = cooling(of=rod(mesh=IntervalMesh(cells=4), order=1), steps=6)
    k = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    (backward,) = torch.autograd.grad(problem.solve(k=k)["m"].sum(), k)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(k.detach(), torch.ones_like(k))
        found = problem.solve(k=dual)["m"].sum()
        tangent = torch.autograd.forward_ad.unpack_dual(found).tangent.detach()
    assert float(tangent) == pytest.approx(float(backward), rel=1e-10)


def test_outputs_at_given_times() -> None:
    every = cooling(steps=8, scheme="crank_nicolson").solve()
    some = cooling(steps=8, scheme="crank_nicolson", times=[0.1, 0.4]).solve()
    assert some.times.tolist() == [0.1, 0.4]
    assert torch.equal(some["m"], every["m"][[2, 8]])
    between = cooling(steps=40, scheme="crank_nicolson", times=[0.0, 0.123, 0.4]).solve()
    assert between.times.tolist() == [0.0, 0.123, 0.4]
    exact = torch.exp(-(math.pi**2) * between.times)
    assert torch.allclose(between["m"][:, 0], exact, atol=5e-3)
    with pytest.raises(SpecError, match=r"times\.1: times ascend"):
        cooling(times=[0.2, 0.1])
    with pytest.raises(SpecError, match=r"the last time is 0\.4"):
        cooling(times=[0.5])


def test_only_loads_are_made_again_where_only_loads_depend_on_time() -> None:
    heated = rod(source="sin(t)", boundary=[Dirichlet("left", "t"), Dirichlet("right", 0.0)])
    clear_cache()
    before = cache_counters()
    problem = TransientProblem(of=heated, end=1.0, steps=20, scheme="crank_nicolson")
    model = problem.compile().model
    made = []
    matrix = model.matrix
    model.matrix = lambda scene: made.append(1) or matrix(scene)
    problem.solve()
    assert len(made) == 1
    assert cache_counters()["factorize"] - before["factorize"] == 1
    model.matrix = matrix
    changing = rod(diffusivity="1 + t")
    assert changing.compile().timed_matrix
    assert not heated.compile().timed_matrix
    with pytest.raises(SpecError, match=r"of\.capacity.*the mass is made once"):
        TransientProblem(of=rod(capacity="1 + t"), end=1.0, steps=2).solve()


def test_values_between_the_times_of_a_series_are_on_lines() -> None:
    heated = rod(source=Parameter("q", time="steps"), boundary=[Dirichlet("left", 0.0)])
    q = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    law = rod(source="1 - abs(t - 1)", boundary=[Dirichlet("left", 0.0)])
    more = {"end": 2.0, "steps": 2, "adaptive": Adaptive(rtol=1e-3)}
    here = TransientProblem(of=heated, **more).solve(q=q)["m"]
    assert torch.allclose(here, TransientProblem(of=law, **more).solve()["m"], atol=1e-12)


def test_events() -> None:
    half = Event("half", of="m", level=0.5, direction="down")
    problem = cooling(steps=400, scheme="crank_nicolson", events=[half])
    k = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    s = problem.solve(k=k)
    assert s["m"].shape == (401, 1)
    when = math.log(2) / math.pi**2
    assert float(s.events["half"].detach()) == pytest.approx(when, rel=1e-5)
    (gradient,) = torch.autograd.grad(s.events["half"], k)
    assert float(gradient) == pytest.approx(-when, rel=1e-5)
    ends = cooling(steps=400, events=[half.updated(stop=True), Event("never", of="m", level=2.0)])
    s = ends.solve(k=torch.tensor([1.0, 2.0], dtype=torch.float64))
    assert float(s.times[-1]) == pytest.approx(when, abs=2e-3)
    assert s["m"].shape == (2, len(s.times), 1)
    assert torch.isinf(s.events["never"]).all()
    assert float(s.events["half"][0] / s.events["half"][1]) == pytest.approx(2.0, rel=1e-2)
    with pytest.raises(SpecError, match=r"events\.0\.of: 'n' is no output.*outputs: m"):
        cooling(events=[Event("e", of="n")])
    two = rod(outputs=[Probe("m", at=[(0.5,), (0.6,)])])
    with pytest.raises(SpecError, match=r"events\.0\.of: 'm' has the shape \[2\]"):
        cooling(of=two, events=[Event("e", of="m")]).solve()


@pytest.mark.parametrize("scheme", ["crank_nicolson", "bdf2"])
def test_times_of_events_and_their_gradients_are_of_the_order_of_the_scheme(scheme: str) -> None:
    half, when = Event("half", of="m", level=0.5), math.log(2) / math.pi**2
    errors = []
    for steps in (50, 100, 200):
        k = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
        found = cooling(steps=steps, scheme=scheme, events=[half]).solve(k=k).events["half"]
        (gradient,) = torch.autograd.grad(found, k)
        errors.append((abs(found.item() / when - 1.0), abs(gradient.item() / -when - 1.0)))
    for coarse, fine in pairwise(errors):
        for a, b in zip(coarse, fine, strict=True):
            assert math.log2(a / b) == pytest.approx(2.0, abs=0.15)
    assert max(errors[-1]) < 4e-4


def test_events_are_found_between_the_times_that_are_asked_for(tmp_path: Path) -> None:
    half = Event("half", of="m", level=0.5)
    more = {"steps": 200, "scheme": "crank_nicolson"}
    every = cooling(events=[half], **more).solve()
    some = cooling(events=[half], times=[0.15, 0.2], **more).solve()
    assert float(some.events["half"]) == float(every.events["half"]) < 0.15
    assert some.times.tolist() == pytest.approx([0.15, 0.2])
    assert torch.equal(some["m"], every["m"][[75, 100]])
    stopped = cooling(events=[half.updated(stop=True)], times=[0.01, 0.2], **more).solve()
    assert len(stopped["m"]) == len(stopped.times) == 2
    assert float(stopped.times[1]) == pytest.approx(float(every.events["half"]), abs=2e-3)
    with pytest.raises(SpecError, match=r"events\.0\.name: 'm' is a field or an output"):
        cooling(events=[Event("m", of="m")])
    # In tables of sweeps an event is one number for each case; JSON has no number for never.
    cases = SweepProblem(
        of=cooling(events=[half, Event("never", of="m", level=2.0)], steps=40),
        cases={"k": [1.0, 4.0]},
    ).solve()
    assert [row["half"] for row in cases.table] == cases["half"].tolist()
    assert cases.table[0]["half"] > 3 * cases.table[1]["half"]
    cases.save(tmp_path / "cases.json")
    table = json.loads((tmp_path / "cases.json").read_text())["table"]
    assert [row["never"] for row in table] == [None, None]
    cases.report(tmp_path / "r.html")
    assert "half" in (tmp_path / "r.html").read_text()
    # The shell shows them beside the outputs.
    shown = Console(width=90, record=True, file=StringIO())
    shown.print(results(every))
    assert re.search(r"half +at t = 0\.07", shown.export_text())


def test_each_member_of_a_batch_is_judged_by_its_own_size():
    """A quick member of small amplitude beside a slow one of large amplitude is as accurate as alone."""
    rod = PoissonProblem(
        mesh=IntervalMesh(cells=4),
        source="q*sin(20*w*t)",
        parameters=[Parameter("q", default=1.0), Parameter("w", default=1.0)],
        boundary=[Dirichlet("left", 0.0)],
    )
    q, w = (torch.tensor(v, dtype=torch.float64) for v in ([1.0, 1e-6, 0.0], [0.1, 1.0, 1.0]))
    fine = TransientProblem(of=rod, end=1.0, steps=800).solve(q=q, w=w).u
    march = TransientProblem(of=rod, end=1.0, steps=4, adaptive=Adaptive(rtol=1e-3))
    error = (march.solve(q=q, w=w).u - fine).norm(dim=-1)
    assert bool((error[:2] < 0.02 * fine[:2].norm(dim=-1)).all())
    assert float(error[2]) == 0.0
