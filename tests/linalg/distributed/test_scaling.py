"""The scaling model: one iteration sends what its halos need, to the byte, and about what the model says."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from types import ModuleType

BENCHMARKS = Path(__file__).parents[3] / "benchmarks" / "distributed"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("parts", [2, 8])
def test_an_iteration_sends_what_the_halos_need(parts: int) -> None:
    found = load("measure").run(16, parts, torch.device("cpu"), "smoothed_aggregation")
    model = load("model")
    shares = model.levels(16, parts)
    sent = found["sent_per_iteration"]
    assert sent["bytes"] == found["needed_bytes"]
    assert sent["reductions"] == 1.0
    assert parts * model.sent(shares) == pytest.approx(sent["bytes"], rel=0.1)
    assert parts * model.messages(shares, parts) == pytest.approx(sent["messages"], rel=0.1)


@pytest.mark.parametrize("parts", [2, 8])
def test_of_a_lattice_the_model_knows_every_byte(parts: int) -> None:
    found = load("measure").run(20, parts, torch.device("cpu"), "lattice")
    model, sent = load("model"), found["sent_per_iteration"]
    assert sent["bytes"] == found["needed_bytes"]
    assert sent["reductions"] == 1.0
    assert parts * model.lattice_sent(20, parts) == pytest.approx(sent["bytes"], rel=1e-12)
    assert parts * model.lattice_messages(20, parts) == pytest.approx(sent["messages"], rel=1e-12)


def test_memory_of_an_unknown() -> None:
    """The setup's peak: a fifth of what it is when positions and products are kept whole in 64 bits."""
    script = [sys.executable, str(BENCHMARKS / "measure.py"), "40", "--memory"]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.strip().splitlines()[-1])
    # Some 500 bytes of it do not grow with the problem at this size.
    assert found["memory_per_unknown"] < 1400
    model = load("model")
    shares = {p: model.LATTICE_SHARED * 400e6 / p for p in (3, 8)}
    assert max(shares.values()) < model.H200.memory


def test_predictions() -> None:
    model = load("model")
    assert model.grid(8) == (2, 2, 2)
    assert model.grid(12) == (3, 2, 2)
    assert model.sent(model.levels(500, 1)) == 0
    # Twice the processes: less than half the bytes of each in all, but more in total.
    few, many = (model.levels(700, p) for p in (8, 64))
    assert 8 * model.sent(few) < 64 * model.sent(many)
    assert model.sent(many) < model.sent(few)
    for method in ("lattice", "smoothed_aggregation"):
        assert len(model.table(method).splitlines()) == 8
