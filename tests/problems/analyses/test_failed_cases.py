"""Cases that did not converge, with ``throw=False``: named, and no number of theirs is shown as a result."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
import torch

from torch_sla import (
    Dirichlet,
    IntervalMesh,
    Maximum,
    Newton,
    NonlinearProblem,
    Parameter,
    PoissonProblem,
    Root,
    Solver,
    SweepProblem,
)
from torch_sla.errors import ArgumentError, GradientError, Result, SolveError
from torch_sla.linalg.nonlinear.forcing import Forcing
from torch_sla.problems.analyses import sweep as sweeps
from torch_sla.problems.lowering import newton as newtons

HELD = [Dirichlet("left", 0.0), Dirichlet("right", 0.0)]


def rod() -> PoissonProblem:
    """With `r` near 9600, 6 / h², the matrix is all but diagonal, and 12 iterations are enough; with 0 they are not."""
    return PoissonProblem(
        mesh=IntervalMesh(cells=40),
        diffusivity=Parameter("k", default=1.0),
        reaction=Parameter("r", default=0.0),
        source=Parameter("f", default=1.0),
        boundary=HELD,
        outputs=[Maximum("most", "u")],
        solver=Solver(backend="pytorch", method="cg", maxiter=12, preconditioner="none"),
    )


def bratu(solver: Solver) -> PoissonProblem:
    """No solution where `lam` exceeds 3.51."""
    return PoissonProblem(
        mesh=IntervalMesh(cells=8),
        source="lam*exp(u)",
        parameters=[Parameter("lam")],
        boundary=HELD,
        outputs=[Maximum("most", "u")],
        solver=solver,
    )


def test_failed_cases_are_named_and_their_numbers_are_shown_nowhere(tmp_path) -> None:
    cases = {"r": [0.0, 9600.0, 1.0, 9700.0]}
    found = SweepProblem(of=rod(), cases=cases).solve(throw=False)
    truth = SweepProblem(of=rod().updated(solver=Solver()), cases=cases).solve()
    assert not found.info.converged
    assert found.failed == [0, 2]
    assert found.info.notes[-1] == "cases that did not converge, counted from 0: 0, 2"
    for k in (1, 3):
        assert found.table[k]["most"] == pytest.approx(truth.table[k]["most"], rel=1e-8)
    assert [math.isnan(row["most"]) for row in found.table] == [True, False, True, False]
    found.save(tmp_path / "s.csv")
    rows = list(csv.DictReader((tmp_path / "s.csv").read_text().splitlines()))
    assert [row["most"] == "nan" for row in rows] == [True, False, True, False]
    assert [float(row["r"]) for row in rows] == cases["r"]
    found.save(tmp_path / "s.json")
    told = json.loads((tmp_path / "s.json").read_text())
    assert [row["most"] is None for row in told["table"]] == [True, False, True, False]
    assert [x is None for x in told["outputs"]["most"]] == [True, False, True, False]
    found.save(tmp_path / "s.npz")
    with np.load(tmp_path / "s.npz") as arrays:
        assert arrays["solved"].tolist() == [False, True, False, True]
    found.report(tmp_path / "s.html")
    page = (tmp_path / "s.html").read_text(encoding="utf-8")
    assert "did not converge, counted from 0: 0, 2" in page
    assert f"{float(found['most'][0]):.4g}" not in page
    assert page.count("r = 0 (did not converge)") == 1
    assert "r = 9600 (did not converge)" not in page
    assert truth.info.solved is None
    assert truth.failed == []


def test_good_cases_of_a_linear_problem_have_derivatives() -> None:
    k = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    found = SweepProblem(of=rod(), cases={"r": [0.0, 9700.0]}).solve(k=k, throw=False)
    (slope,) = torch.autograd.grad(found["most"][1], k, retain_graph=True)
    h, exact = 1e-4, rod().updated(solver=Solver())
    ends = [float(exact.solve(k=1.0 + s * h, r=9700.0)["most"]) for s in (1, -1)]
    assert float(slope) == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-5)
    with pytest.raises(GradientError, match="leave what did not converge out of the loss"):
        found["most"].sum().backward()


@pytest.mark.parametrize(
    "newton",
    [
        Newton(),
        Newton(maxiter=4),
        Newton(reuse=0.3),
        Newton(inexact=True),
        Newton(line_search=False),
    ],
)
def test_failed_cases_of_a_nonlinear_problem(newton: Newton) -> None:
    """They do not hinder the others."""
    solver = Solver(nonlinear=newton)
    every = [0.1, 3.4, 0.2, 50.0, 20.0]
    lam = torch.tensor(every, dtype=torch.float64, requires_grad=True)
    found = SweepProblem(of=bratu(solver), cases={"lam": every}).solve(throw=False)
    alone = [bratu(solver).solve(lam=value, throw=False) for value in every]
    assert found.failed == [i for i, one in enumerate(alone) if not one.info.converged]
    assert {3, 4} <= set(found.failed)
    assert newton.maxiter == 4 or found.failed == [3, 4]
    for i, one in enumerate(alone):
        if one.info.converged:
            assert float(found["most"][i]) == pytest.approx(float(one["most"]), rel=1e-8)
    batch = bratu(solver).solve(lam=lam, throw=False)
    with pytest.raises(GradientError, match="as a whole or not at all; solve without them"):
        batch["most"][0].backward()
    names = ", ".join(map(str, found.failed))
    with pytest.raises(SolveError, match=f"members that did not converge, counted from 0: {names}"):
        bratu(solver).solve(lam=lam)


def test_members_that_are_done_earlier_are_no_news() -> None:
    """Nothing is asked of their tangents any more, as if their loads were zero; none is."""
    solver = Solver(backend="pytorch", method="cg")
    given = torch.tensor([0.001, 3.4], dtype=torch.float64)
    assert bratu(solver).solve(lam=given).info.notes == []


def test_tolerances_of_inexact_steps_follow_from_steps_whatever_solves_they_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = []

    class Seen(Forcing):
        def __call__(self, size: float) -> float:
            sizes.append(size)
            return super().__call__(size)

    monkeypatch.setattr(newtons, "Forcing", Seen)
    given = torch.tensor([1.0, 0.0, 4.0], dtype=torch.float64)
    c = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    problem = insulated().updated(solver=Solver(nonlinear=Newton(inexact=True)))
    found = problem.solve(r=given, c=c, throw=False)
    assert found.info.solved is not None
    assert found.info.solved.tolist() == [True, False, True]
    assert len(sizes) == found.info.iterations


def insulated() -> PoissonProblem:
    """A reaction r u + c u³ = f, everywhere alike, and a conductivity 1 - d u, which does not matter."""
    return PoissonProblem(
        mesh=IntervalMesh(cells=4),
        diffusivity="1 - d*u",
        reaction="r",
        source="2 - c*u**3",
        parameters=[Parameter("r"), Parameter("c", default=0.0), Parameter("d", default=0.0)],
        outputs=[Maximum("most", "u")],
    )


def test_a_tangent_that_is_singular_fails_its_own_case_alone() -> None:
    """There nothing reacts."""
    r = torch.tensor([1.0, 0.0, 1.0, 4.0], dtype=torch.float64)
    c = torch.tensor([0.0, 0.0, 1.0, 0.0], dtype=torch.float64)
    found = insulated().solve(r=r, c=c, throw=False)
    assert found.info.result is Result.SINGULAR
    assert found.info.solved is not None
    assert found.info.solved.tolist() == [True, False, True, True]
    assert found["most"][[0, 2, 3]].tolist() == pytest.approx([2.0, 1.0, 0.5], rel=1e-8)
    with pytest.raises(SolveError, match="from 0: 1"):
        insulated().solve(r=r, c=c)


def test_laws_hold_for_cases_that_converged_beside_those_that_failed() -> None:
    """Where u = 2 and d = 1 the conductivity is -1: an error alone, and no result beside a case that failed."""
    r = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    for d, good in (([0.0, 0.25, 0.0], [True, True, False]), ([0.0, 1.0, 0.0], [False] * 3)):
        given = torch.tensor(d, dtype=torch.float64)
        found = insulated().solve(r=r, d=given, throw=False)
        assert found.info.solved is not None
        assert found.info.solved.tolist() == good
    with pytest.raises(ArgumentError, match="diffusivity"):
        insulated().solve(r=r[:2], d=given[:2], throw=False)


def test_failed_cases_of_parts_on_disk(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "_MOST", 2)
    problem = SweepProblem(of=bratu(Solver()), cases={"lam": [0.1, 3.4, 50.0, 0.2, 60.0]})
    for place in ({"folder": tmp_path / "r"}, {"resume": tmp_path / "r"}):
        found = problem.solve(throw=False, **place)
        assert found.failed == [2, 4]
        assert found.info.notes.count("cases that did not converge, counted from 0: 2, 4") == 1


@pytest.mark.parametrize("size", [None, 60])
def test_failed_roots_and_members_of_other_batches(size: int | None) -> None:
    """Few unknowns go through all at once, many root after root."""
    problem = NonlinearProblem(
        residual=["x**2 + c + d"],
        unknowns=[Root("x", start=1.0, size=size)],
        parameters=[Parameter("c"), Parameter("d", default=0.0)],
    )
    d = torch.tensor([0.0, 8.0], dtype=torch.float64)
    found = SweepProblem(of=problem, cases={"c": [-1.0, 1.0, -9.0]}).solve(d=d, throw=False)
    solved = found.info.solved
    assert solved is not None
    assert solved.tolist() == [[True, False, True], [False, False, True]]
    assert found.failed == [0, 1]
    squares = torch.tensor([[1.0, torch.nan, 9.0], [torch.nan, torch.nan, 1.0]], dtype=d.dtype)
    x = found.fields["x"].reshape(2, 3, -1)[..., 0]
    assert torch.allclose(x[solved] ** 2, squares[solved])
