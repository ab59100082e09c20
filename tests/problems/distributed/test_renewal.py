"""Loops over values keep what was chosen for the first; what they return is that of one solve after the other."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import torch_sla as sla
from torch_sla.linalg.distributed.precond import renewal as module
from torch_sla.linalg.distributed.precond.renewal import Renewal
from torch_sla.problems.distributed.problem import distribute


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Renewal]:
    """Every memory that is made."""
    made: list[Renewal] = []
    before = Renewal.__init__

    def begin(self: Renewal, *args: Any, **options: Any) -> None:
        before(self, *args, **options)
        made.append(self)

    monkeypatch.setattr(module.Renewal, "__init__", begin)
    return made


def disk(**changes: Any) -> sla.PoissonProblem:
    fields: dict[str, Any] = {
        "mesh": sla.DiskMesh(cells=18),
        "diffusivity": sla.Parameter("k", on="cells", default=1.0),
        "source": 1.0,
        "boundary": [sla.Dirichlet("rim", 0.0)],
        "outputs": [sla.Integral("heat", "u")],
    }
    return sla.PoissonProblem(**{**fields, **changes})


def counts(made: list[Renewal]) -> list[tuple[int, int]]:
    return [(m.set_ups, m.renewals) for m in made if m.set_ups]


def test_steps_of_newton(counted: list[Renewal]) -> None:
    problem = disk(diffusivity=1.0, source="30 - u**3")
    found = distribute(problem, 3).solve()
    assert float(found["heat"]) == pytest.approx(float(problem.solve()["heat"]), rel=1e-9)
    ((set_ups, renewals),) = counts(counted)
    assert set_ups == 1
    assert renewals >= 3


def test_cases_of_a_sweep(counted: list[Renewal]) -> None:
    body = disk(diffusivity="1 + a*x**2", parameters=[sla.Parameter("a")])
    sweep = sla.SweepProblem(of=body, cases={"a": [0.0, 0.5, 1.0, 2.0]})
    heat = distribute(sweep, 4).solve()["heat"]
    torch.testing.assert_close(heat, sweep.solve()["heat"], rtol=1e-8, atol=0)
    assert counts(counted) == [(1, 3)]


def test_a_march_whose_operator_changes(counted: list[Renewal]) -> None:
    body = disk(diffusivity="1 + t", capacity=1.0)
    march = sla.TransientProblem(of=body, end=0.2, steps=4)
    heat = distribute(march, 3).solve()["heat"]
    torch.testing.assert_close(heat, march.solve()["heat"], rtol=1e-7, atol=1e-10)
    assert counts(counted) == [(1, 3)]


def test_a_search(counted: list[Renewal]) -> None:
    search = sla.DesignProblem(
        of=disk(),
        variables=[sla.Variable("k", bounds=(0.5, 2.0))],
        objective="heat",
        optimizer=sla.LBFGS(max_iterations=2),
    )
    found = distribute(search, 3).solve()
    ((set_ups, renewals),) = counts(counted)
    assert set_ups == 1
    assert renewals >= 2
    again = distribute(search, 3).solve()
    assert float(again.objective) == float(found.objective)


def test_a_solve_alone_remembers_nothing(counted: list[Renewal]) -> None:
    shared = distribute(disk(), 3)
    k = torch.ones(shared.counts["cells"], dtype=torch.float64)
    first = shared.solve(k=1 + k)["heat"]
    shared.solve(k=3 * k)
    assert not counted
    torch.testing.assert_close(shared.solve(k=1 + k)["heat"], first, rtol=0, atol=0)


def test_what_has_become_too_weak_is_set_up_again() -> None:
    memory = Renewal()
    A = sla.distribute(disk(), 2).model
    values = A.loaded(A.scene({"k": torch.ones(A.counts["cells"], dtype=torch.float64)})).values
    held = A.compiled.constraint.matrix(values)
    for iterations in (10, 18, 19, 10, 10):
        memory.made("multigrid", "multigrid", A.sharding, held, None)
        memory.judge("multigrid", iterations, 1e-10)
    # 1.5 times 10 and 3 are 18: after 19 the next one starts from nothing.
    assert (memory.set_ups, memory.renewals) == (2, 3)


def test_flows_keep_their_fields(counted: list[Renewal]) -> None:
    flow = sla.StokesProblem(
        mesh=sla.RectangleMesh(cells=(8, 8)),
        viscosity="1 + a*y",
        parameters=[sla.Parameter("a")],
        body_force=("y", "0"),
        boundary=[sla.Dirichlet(["bottom", "top", "left"], 0.0)],
        outputs=[sla.Energy("energy")],
    )
    sweep = sla.SweepProblem(of=flow, cases={"a": [0.0, 1.0, 3.0]})
    energy = distribute(sweep, 3).solve()["energy"]
    torch.testing.assert_close(energy, sweep.solve()["energy"], rtol=1e-8, atol=0)
    assert counts(counted) == [(1, 2)]
