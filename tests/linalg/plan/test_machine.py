"""The table of speeds: shipped, measured on request, used only where somebody says so."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from torch_sla.cli.app import app
from torch_sla.errors import ArgumentError, PlanError
from torch_sla.linalg import MachineModel, load_machine, machine, save_machine, use_machine
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
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
