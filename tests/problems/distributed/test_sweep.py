"""Sweeps in parts: where each of their cases begins."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from torch_sla import (
    Dirichlet,
    Event,
    HyperelasticityProblem,
    IntervalMesh,
    Maximum,
    Neumann,
    NonlinearProblem,
    Parameter,
    PoissonProblem,
    RectangleMesh,
    Root,
    SweepProblem,
    TransientProblem,
    distribute,
)
from torch_sla.errors import ArgumentError


def bratu() -> SweepProblem:
    """-u'' = lam exp(u), which has a low solution and a high one."""
    sides = [Dirichlet("left", 0.0), Dirichlet("right", 0.0)]
    source = "lam*exp(u)"
    line = PoissonProblem(
        mesh=IntervalMesh(cells=16), source=source, boundary=sides, parameters=[Parameter("lam")]
    )
    return SweepProblem(of=line, cases={"lam": [1.0, 1.0, 2.0]})


@pytest.mark.parametrize("parts", [1, 2])
def test_each_case_begins_at_its_own_start(parts: int) -> None:
    sweep = bratu()
    x = torch.linspace(0, 1, 17, dtype=torch.float64)
    high = 16 * x * (1 - x)
    starts = torch.stack([0 * x, high, high])
    known = sweep.solve(start=starts).u
    assert float(known[1].max()) > 3 * float(known[0].max())
    shared = distribute(sweep, parts)
    mine = shared.solve().numbers["u"]
    torch.testing.assert_close(shared.solve(start=starts[:, mine]).u, known[:, mine])
    one = shared.solve(start=high[mine]).u
    torch.testing.assert_close(one[1:], known[1:, mine])
    torch.testing.assert_close(shared.solve(start=high[mine][None]).u, one)
    with pytest.raises(ArgumentError, match=r"start has the batch dimensions \[2\]; .* are 3"):
        shared.solve(start=starts[:2, mine])


def test_fields_of_vectors_and_vectors_of_roots() -> None:
    body = HyperelasticityProblem(
        mesh=RectangleMesh(cells=(2, 2)),
        law="neo_hookean",
        constants={"mu": 1.0, "lam": 1.0},
        boundary=[Dirichlet("left", 0.0), Neumann("right", traction=[Parameter("p"), 0.0])],
    )
    shared = distribute(SweepProblem(of=body, cases={"p": [0.1, 0.2]}), 2)
    found = shared.solve()
    again = shared.solve(start=found.u)
    torch.testing.assert_close(again.u, found.u)
    assert again.info.iterations < found.info.iterations
    roots = NonlinearProblem(
        residual=["x**2 - f"], unknowns=[Root("x", size=6)], parameters=[Parameter("f")]
    )
    starts = torch.tensor([1.0, -1.0], dtype=torch.float64)[:, None].expand(2, 6)
    two = distribute(SweepProblem(of=roots, cases={"f": [4.0, 9.0]}), 1).solve(start=starts)
    torch.testing.assert_close(
        two.u, torch.tensor([2.0, -3.0], dtype=torch.float64)[:, None].expand(2, 6)
    )


def test_cases_that_fail_are_named_and_no_numbers_of_the_table() -> None:
    line = bratu().of.updated(outputs=[Maximum("most", "u")])
    sweep = SweepProblem(of=line, cases={"lam": [1.0, 50.0, 2.0]})
    found = distribute(sweep, 2).solve(throw=False)
    assert found.failed == [1]
    assert found.info.notes[-1] == "cases that did not converge, counted from 0: 1"
    truth = SweepProblem(of=line, cases={"lam": [1.0, 2.0]}).solve()
    nan = torch.tensor(torch.nan, dtype=torch.float64)
    first, last = truth["most"]
    shown = torch.tensor([row["most"] for row in found.table], dtype=torch.float64)
    expected = torch.stack([first, nan, last])
    torch.testing.assert_close(shown, expected, equal_nan=True, rtol=1e-8, atol=0.0)


def test_what_is_no_number_is_null_in_json(tmp_path) -> None:
    """NaN of what failed, and infinity of what never happened, are no JSON."""

    def told(result: Any) -> Any:
        result.save(tmp_path / "out.json")
        text = (tmp_path / "out.json").read_text()
        return json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))

    line = bratu().of.updated(outputs=[Maximum("most", "u")], capacity=1.0)
    failed = told(distribute(line, 2).solve(lam=50.0, throw=False))
    assert failed["outputs"]["most"] is None
    assert failed["u"] == {"min": None, "max": None}
    events = [Event("hot", of="most", level=100.0)]
    march = TransientProblem(of=line, initial=0.0, end=0.1, steps=2, events=events)
    sweep = SweepProblem(of=march, cases={"lam": [1.0, 2.0]})
    assert told(distribute(sweep, 2).solve())["outputs"]["hot"] == [None, None]
