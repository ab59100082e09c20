"""Cases of what the solution does not see: the same in all, yet one for each."""

from __future__ import annotations

import torch

from torch_sla import (
    DesignProblem,
    Dirichlet,
    EigenProblem,
    IntervalMesh,
    Parameter,
    PoissonProblem,
    SweepProblem,
    TransientProblem,
    Variable,
)

CASES = {"f": [1.0, 2.0, 3.0]}


def rod() -> PoissonProblem:
    return PoissonProblem(
        mesh=IntervalMesh(cells=5),
        diffusivity=Parameter("k", on="cells", default=1.0),
        capacity=Parameter("c", default=1.0),
        source=Parameter("f", default=1.0),
        boundary=[Dirichlet("left", 0.0)],
    )


def test_modes_do_not_see_loads(tmp_path) -> None:
    """As many values as cases were a table of the first value for the first case, and so on."""
    one = EigenProblem(of=rod(), k=3)
    sweep = SweepProblem(of=one, cases=CASES)
    found, alone = sweep.solve(), one.solve()
    assert torch.equal(found.fields["eigenvalues"], alone.eigenvalues.expand(3, 3))
    assert found.fields["modes"].shape == (3, *alone.modes.shape)
    assert [row["frequencies[0]"] for row in found.table] == [float(alone.frequencies[0])] * 3
    kept = sweep.solve(folder=tmp_path / "run")
    assert torch.equal(kept["frequencies"], found["frequencies"])


def test_other_batches_stay_before_the_cases() -> None:
    k = 1.0 + torch.rand(2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = SweepProblem(of=EigenProblem(of=rod(), k=2), cases=CASES).solve(k=k)
    alone = EigenProblem(of=rod(), k=2).solve(k=k)
    assert found.batch == (2,)
    assert torch.allclose(found.fields["eigenvalues"], alone.eigenvalues[:, None].expand(2, 3, 2))


def test_a_steady_state_does_not_see_the_capacity() -> None:
    found = SweepProblem(of=rod(), cases={"c": [1.0, 2.0]}).solve()
    assert torch.equal(found.u, rod().solve().u.expand(2, -1))


def test_fields_vary_in_searches_of_cases_of_analyses() -> None:
    """It ended in a TypeError: where they live was asked of the analysis in words that it did not know."""
    march = TransientProblem(of=rod(), initial=0.0, end=1.0, steps=2)
    sweep = SweepProblem(of=march, cases=CASES)
    problem = DesignProblem(of=sweep, variables=[Variable("k")], objective="sum(u**2)")
    oracle = problem.oracle()
    x, way, h = oracle.start, torch.linspace(-1, 1, 5, dtype=torch.float64), 1e-5
    slope = oracle.value_and_grad(x + h * way).value - oracle.value_and_grad(x - h * way).value
    assert abs(slope / (2 * h) - float(oracle.value_and_grad(x).gradient @ way)) < 1e-8
