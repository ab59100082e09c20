"""The table of speeds: shipped, measured on request, used only where somebody says so."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import pytest
import torch
from typer.testing import CliRunner

from tests.helpers.grids import poisson
from torch_sla.cli.app import app
from torch_sla.errors import ArgumentError, PlanError
from torch_sla.linalg import (
    MachineModel,
    SparseTensor,
    load_machine,
    machine,
    save_machine,
    use_machine,
)
from torch_sla.linalg.plan.facts import Facts
from torch_sla.linalg.plan.machine import SHIPPED, VARIABLE
from torch_sla.linalg.plan.plan import make_plan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BIG = Facts(10**6, 10**6, 7 * 10**6, hermitian=True, positive_definite=True, dimension=3.0)


@pytest.fixture(autouse=True)
def untouched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(VARIABLE, raising=False)
    use_machine(None)
    yield
    use_machine(None)


def test_other_speeds_make_other_plans() -> None:
    usual = make_plan(BIG)
    assert usual.preconditioner == "multigrid"
    slow = dataclasses.replace(SHIPPED["cpu"], name="slow levels", cycle=1.0, coarsening=1.0)
    use_machine(slow)
    plan = make_plan(BIG)
    assert plan.preconditioner != "multigrid"
    assert plan.machine == "slow levels"
    use_machine(None)
    assert make_plan(BIG) == usual
    assert make_plan(BIG, slow) == plan


def test_tables_are_saved_read_and_named_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "machine.json"
    model = MachineModel(name="here", bandwidth=3e10)
    save_machine(path, {"cpu": model})
    assert load_machine(path)["cpu"] == model
    assert machine("cpu") == SHIPPED["cpu"]
    monkeypatch.setenv(VARIABLE, str(path))
    assert machine("cpu") == model
    assert machine("cuda") == SHIPPED["cuda"]
    use_machine(MachineModel(name="said in so many words"))
    assert machine("cpu").name == "said in so many words"


def test_partial_tables_keep_the_shipped_figures(tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    path.write_text(json.dumps({"cpu": {"bandwidth": 5e9}}))
    assert load_machine(path)["cpu"] == dataclasses.replace(SHIPPED["cpu"], bandwidth=5e9)
    path.write_text(json.dumps({"cuda": {"bandwidth": 2e12}}))
    assert load_machine(path)["cuda"] == dataclasses.replace(SHIPPED["cuda"], bandwidth=2e12)
    assert load_machine(path)["cpu"] == SHIPPED["cpu"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ('{"cpu": {"stream": 1.0, "stream": 2.0}}', "the key 'stream' is there twice"),
        ("[3]", "no table of machine models"),
        ('{"cpu": 3}', "no table of machine models"),
        ('{"cpu": {"bandwith": 3}}', "has no 'bandwith'; it has name, bandwidth"),
        ('{"cpu": {"bandwidth": -3}}', "`bandwidth` .* must be a positive number, got -3"),
        ('{"cpu": {"flop": "fast"}}', "`flop` .* got 'fast'"),
    ],
)
def test_bad_tables(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    path.write_text(text)
    with pytest.raises((PlanError, ArgumentError), match=message):
        use_machine(path)
    with pytest.raises(PlanError, match="cannot be read"):
        use_machine(tmp_path / "absent.json")


def test_calibrate_measures_and_writes(tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    done = CliRunner().invoke(app, ["calibrate", "-o", str(path), "--rounds", "1"])
    assert done.exit_code == 0, done.output
    assert "it is used where TORCH_SLA_MACHINE=" in done.output
    found = load_machine(path)
    shipped = SHIPPED["cpu"].to_dict()
    for name, value in found["cpu"].to_dict().items():
        if name not in ("name", "memory", "cache", "entry", "front", "lu_flop", "scalar_flop"):
            # The same kind of machine, within two orders of magnitude.
            assert 0.01 < value / shipped[name] < 100, name
    assert machine("cpu") == SHIPPED["cpu"]
    use_machine(path)
    assert machine("cpu") == found["cpu"]
    assert make_plan(BIG).machine == found["cpu"].name


def test_what_lies_apart_or_is_touched_first_waits() -> None:
    model = MachineModel()
    # Measured: a million points on a lattice take 0.35 s to order, scattered ones 2.1 s.
    n, nnz = 1e6, 7e6
    near, apart = model.order(n, nnz, 400.0), model.order(n, nnz, 280_000.0)
    assert 0.2 < near < 0.7
    assert 1.2 < apart < 3.0
    # A factor of half a gigabyte; what is at hand costs nothing.
    assert 0.4 < model.touch(5e8) < 1.2
    assert model.touch(5e7) == 0.0
    # Between what fits and what does not lies what fits in part.
    steps = [model.slowdown(share * model.cache) for share in (0.5, 1.0, 2.0)]
    assert steps[0] == 1.0 < steps[1] < steps[2] == model.cached / model.bandwidth


def test_scattered_numbers_are_noticed() -> None:
    A = SparseTensor.from_scipy(poisson(60, 60))
    order = torch.randperm(3600, generator=torch.Generator().manual_seed(0)).numpy()
    mixed = SparseTensor.from_scipy(poisson(60, 60).tocsr()[order][:, order])
    assert A.pattern.spread < 100 < 800 < mixed.pattern.spread
    plan = mixed.plan((3600,))
    assert plan.facts.spread == mixed.pattern.spread


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"cpuu": {"bandwidth": 1e10}}', "a device 'cpuu'; there are cpu, cuda"),
        ('{"cpu": {"bandwidth": true}}', "`bandwidth` .* must be a positive number, got True"),
        ('{"cpu": {"bandwidth": 1' + 400 * "0" + "}}", "must be a positive number, got 1000"),
        ('{"cpu": {"name": 5}}', "`name` .* must be a word"),
        (100_000 * "[", "cannot be read"),
    ],
)
def test_tables_that_would_be_used_in_part_or_not_at_all_are_refused(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "machine.json"
    path.write_text(text)
    with pytest.raises((ArgumentError, PlanError), match=said):
        use_machine(path)
    assert machine() == SHIPPED["cpu"]


@pytest.mark.parametrize("wrong", [3, {"cpu": 3}, b"machine.json", {"gpu": MachineModel()}])
def test_what_is_no_table_is_refused(wrong: object) -> None:
    with pytest.raises(ArgumentError, match=r"table of machine models|a device 'gpu'"):
        use_machine(wrong)  # type: ignore[arg-type]
