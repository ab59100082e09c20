"""Cases of a problem."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from torch_sla import (
    Dirichlet,
    EigenProblem,
    Flux,
    HelmholtzProblem,
    Integral,
    IntervalMesh,
    LinearProblem,
    LogNormal,
    Normal,
    Parameter,
    PoissonProblem,
    Probe,
    Samples,
    SweepProblem,
    TransientProblem,
    Uniform,
    clear_cache,
    load_problem,
)
from torch_sla.errors import ArgumentError, SpecError
from torch_sla.linalg import cache_counters

if TYPE_CHECKING:
    from pathlib import Path


def rod() -> PoissonProblem:
    return PoissonProblem(
        mesh=IntervalMesh(cells=8),
        diffusivity=Parameter("k", on="cells", default=1.0),
        source=Parameter("f", default=1.0),
        boundary=[Dirichlet("left", Parameter("g", default=0.0))],
        outputs=[Probe("p", at=[(0.5,), (1.0,)]), Flux("out", "left")],
    )


def test_loads_share_one_factor() -> None:
    clear_cache()
    before = cache_counters()
    s = SweepProblem(of=rod(), cases={"f": [0.1 * i for i in range(100)]}).solve(k=2.0)
    counts = {name: cache_counters()[name] - before[name] for name in before}
    assert counts == {"analyze": 1, "factorize": 1, "solve": 1}
    assert torch.allclose(s["out"], 0.1 * torch.arange(100, dtype=torch.float64))


def test_a_grid_is_all_combinations_and_each_is_the_case_alone() -> None:
    s = SweepProblem(of=rod(), cases={"k": [1.0, 2.0], "f": [1.0, 3.0, 5.0]}).solve(g=0.5)
    assert [tuple(case.values()) for case in s.cases[:4]] == [(1, 1), (1, 3), (1, 5), (2, 1)]
    for i, case in enumerate(s.cases):
        alone = rod().solve(**case, g=0.5)
        assert torch.allclose(s["p"][i], alone["p"], rtol=1e-10)
        assert torch.allclose(s.u[i], alone.u, rtol=1e-10)


def test_gradients_and_batches_go_through() -> None:
    problem = SweepProblem(of=rod(), cases=[{"f": 1.0}, {"f": 2.0}])
    k = torch.linspace(1.0, 2.0, 8, dtype=torch.float64)
    assert problem.check_gradients({"k": k}, output=lambda s: s["p"].square().sum()).passed
    together = problem.solve(k=torch.stack([k, 2 * k, 3 * k]))
    assert together["p"].shape == (3, 2, 2)
    assert torch.allclose(together["p"][2], problem.solve(k=3 * k)["p"])


def test_tables(tmp_path) -> None:
    problem = SweepProblem(of=rod(), cases=[{"f": 1.0, "k": 1.0}, {"f": 2.0, "k": 0.5}])
    problem.to_yaml(tmp_path / "cases.yaml")
    s = load_problem(tmp_path / "cases.yaml").solve()
    s.save(tmp_path / "cases.csv")
    s.save(tmp_path / "cases.json")
    with (tmp_path / "cases.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["f", "k", "p[0]", "p[1]", "out"]
    assert [float(row["p[1]"]) for row in rows] == s["p"][:, 1].tolist()
    assert json.loads((tmp_path / "cases.json").read_text())["table"] == s.table


def test_outputs_called_like_other_columns_are_in_tables_too(tmp_path) -> None:
    inner = rod().updated(capacity=1.0, outputs=[Integral("f", "u"), Integral("t", "u**2")])
    s = SweepProblem(of=inner, cases={"f": [1.0, 2.0]}).solve()
    assert [row["f"] for row in s.table] == [1.0, 2.0]
    assert [row["f (output)"] for row in s.table] == s["f"].tolist()
    march = TransientProblem(of=inner, end=1.0, steps=2).solve()
    march.save(tmp_path / "run.csv")
    with (tmp_path / "run.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["t"]) for row in rows] == [0.0, 0.5, 1.0]
    assert [float(row["t (output)"]) for row in rows] == march["t"].tolist()
    assert [float(row["f"]) for row in rows] == march["f"].tolist()


def test_tables_have_the_cases_as_they_were_given(tmp_path) -> None:
    s = SweepProblem(of=rod(), cases={"f": [0.1, 1, 1e-300]}).solve()
    assert [row["f"] for row in s.table] == [0.1, 1.0, 1e-300]
    s.save(tmp_path / "cases.csv")
    with (tmp_path / "cases.csv").open() as file:
        assert [row["f"] for row in csv.DictReader(file)] == ["0.1", "1.0", "1e-300"]


def test_of_every_analysis() -> None:
    heated = TransientProblem(
        of=rod().updated(source=Parameter("f", default=1.0, time="steps")), end=1.0, steps=3
    )
    s = SweepProblem(of=heated, cases={"f": [1.0, 2.0]}).solve()
    assert s["p"].shape == (2, 4, 2)
    assert torch.allclose(s["p"][1], 2 * s["p"][0])
    s = SweepProblem(of=EigenProblem(of=rod(), k=2), cases={"k": [1.0, 4.0]}).solve()
    assert torch.allclose(s["frequencies"][1], 2 * s["frequencies"][0])
    system = LinearProblem(
        matrix=[[2.0, 0.0], [0.0, 4.0]], rhs=Parameter("b", shape=(2,), default=[1.0, 1.0])
    )
    s = SweepProblem(of=system, cases=[{"b": [2.0, 4.0]}, {"b": [4.0, 4.0]}]).solve()
    exact = torch.tensor([[1.0, 1.0], [2.0, 1.0]], dtype=torch.float64)
    assert torch.allclose(s.u, exact, rtol=1e-12)


def test_cases_that_make_no_sense_are_refused() -> None:
    with pytest.raises(SpecError, match=r"'kk' is no parameter.*did you mean"):
        SweepProblem(of=rod(), cases={"kk": [1.0]})
    with pytest.raises(SpecError, match=r"cases\.1: all cases name the same"):
        SweepProblem(of=rod(), cases=[{"f": 1.0}, {"k": 1.0}])
    with pytest.raises(SpecError, match="received 2 numbers"):
        SweepProblem(of=rod(), cases=[{"f": [1.0, 2.0]}])
    with pytest.raises(ArgumentError, match="what the cases vary"):
        SweepProblem(of=rod(), cases={"f": [1.0]}).solve(f=2.0)
    for wrong, message in (
        (3, r"cases: should be a list of cases .*, a grid .* or samples; received 3"),
        ({"f": 3}, r"cases\.f: should be a list; received 3"),
        ({"f": ["a"]}, r"cases\.f\.0: should be a valid number; received 'a'"),
        ([1.0], r"cases\.0: should be a mapping of names; received 1\.0"),
    ):
        with pytest.raises(SpecError, match=message) as caught:
            SweepProblem(of=rod(), cases=wrong)
        assert "tuple" not in str(caught.value)
        assert "\n" not in str(caught.value)
    once = SweepProblem(of=rod(), cases={"f": [1.0]})
    with pytest.raises(SpecError, match="cannot be of a sweep problem"):
        SweepProblem(of=once, cases={"k": [1.0]})


def fin() -> PoissonProblem:
    return PoissonProblem(
        mesh=IntervalMesh(cells=20, size=0.05),
        diffusivity=0.4,
        reaction="2*h",
        parameters=[Parameter("h"), Parameter("T")],
        boundary=[Dirichlet("left", "T")],
        outputs=[Flux("heat", "left")],
    )


def test_random_samples(tmp_path: Path) -> None:
    samples = Samples(
        of={"h": Uniform(5.0, 15.0), "T": Normal(60.0, 4.0), "k": LogNormal(0.4, 0.1)},
        count=128,
        seed=3,
    )
    of = fin().updated(diffusivity=Parameter("k"))
    problem = SweepProblem(of=of, cases=samples)
    s = problem.solve()
    assert s["heat"].shape == (128,)
    drawn = {n: torch.tensor([case[n] for case in s.cases]) for n in ("h", "T", "k")}
    # One in each slice of every axis, so that means are near.
    assert drawn["h"].sort().values.sub(5.0).div(10.0 / 128).floor().tolist() == list(range(128))
    assert abs(float(drawn["T"].mean()) - 60.0) < 0.1
    assert abs(float(drawn["T"].std()) - 4.0) < 0.2
    assert abs(float(drawn["k"].log().std()) - 0.1) < 0.01
    first = s.cases[0]
    assert float(of.solve(first)["heat"]) == pytest.approx(float(s["heat"][0]), rel=1e-10)
    assert problem.updated().solve().cases == s.cases
    assert SweepProblem(of=of, cases=samples.updated(seed=4)).every != problem.every
    problem.to_yaml(tmp_path / "cases.yaml")
    again = load_problem(tmp_path / "cases.yaml")
    assert again.every == problem.every
    assert again.spec_hash == problem.spec_hash


@pytest.mark.parametrize("method", ["random", "latin_hypercube", "sobol"])
def test_samples_of_vectors(method: str) -> None:
    rod = PoissonProblem(
        mesh=IntervalMesh(cells=4),
        source=Parameter("f"),
        parameters=[Parameter("v", shape=(2,))],
        boundary=[Dirichlet("left", "v[0]"), Dirichlet("right", "v[1]")],
        outputs=[Integral("mean", "u")],
    )
    of = {"v": Uniform(0.0, 1.0), "f": Uniform(-1.0, 0.0)}
    s = SweepProblem(of=rod, cases=Samples(of=of, count=8, method=method)).solve()
    expected = [sum(c["v"]) / 2 + c["f"] / 12 for c in s.cases]
    assert torch.allclose(s["mean"], torch.tensor(expected, dtype=torch.float64), atol=2e-2)
    assert len({c["f"] for c in s.cases}) == 8


def test_samples_that_make_no_sense() -> None:
    with pytest.raises(SpecError, match=r"cases\.of: 'g' is no parameter"):
        SweepProblem(of=fin(), cases=Samples(of={"g": Uniform(0.0, 1.0)}, count=2))
    with pytest.raises(SpecError, match=r"count: a Sobol sequence"):
        Samples(of={"h": Uniform(0.0, 1.0)}, count=3, method="sobol")
    with pytest.raises(SpecError, match=r"high: it exceeds low"):
        Uniform(1.0, 1.0)


def test_complex_columns_say_which_part_they_are() -> None:
    wave = HelmholtzProblem(
        mesh=IntervalMesh(cells=8),
        wavenumber=Parameter("k"),
        boundary=[Dirichlet("left", 1.0), Dirichlet("right", "1j")],
        outputs=[Probe("end", at=[(1.0,)]), Probe("both", at=[(0.0,), (1.0,)])],
    )
    (row,) = SweepProblem(of=wave, cases={"k": [2.0]}).solve().table
    assert list(row)[1:] == [
        *("end.real", "end.imag"),
        *("both[0].real", "both[0].imag", "both[1].real", "both[1].imag"),
    ]
    assert row["end.imag"] == pytest.approx(1.0)
    assert row["both[0].real"] == pytest.approx(1.0)


def test_grids_of_endless_cases_are_refused_before_they_are_listed() -> None:
    values = [float(i) for i in range(1001)]
    with pytest.raises(SpecError, match="cases: a grid of 1002001 cases; at most 1000000"):
        SweepProblem(of=rod(), cases={"f": values, "g": values})
    with pytest.raises(SpecError, match="count: should be less than"):
        SweepProblem(of=rod(), cases=Samples(of={"f": Uniform(0.0, 1.0)}, count=10**12))


def test_cases_are_taken_from_ranges_arrays_and_tensors() -> None:
    said = {"f": [0.0, 1.0, 2.0]}
    every: list[Any] = [
        range(3),
        np.arange(3.0),
        np.arange(3),
        torch.arange(3.0),
        [np.float64(0.0), torch.tensor(1.0), 2],
    ]
    for numbers in every:
        sweep = SweepProblem(of=rod(), cases={"f": numbers})
        assert sweep == SweepProblem(of=rod(), cases=said)
        assert sweep.spec_hash == SweepProblem(of=rod(), cases=said).spec_hash
    listed = SweepProblem(of=rod(), cases=[{"f": torch.tensor(1.5)}, {"f": np.float32(2.5)}])
    assert listed.every == [{"f": 1.5}, {"f": 2.5}]
    wanting = torch.ones(2, requires_grad=True)
    with pytest.raises(SpecError, match=r"cases\.f: .* requires grad: detach it, or give solve"):
        SweepProblem(of=rod(), cases={"f": wanting})
    with pytest.raises(SpecError, match=r"cases\.f: should be a finite number"):
        SweepProblem(of=rod(), cases={"f": np.array([1.0, np.nan])})
