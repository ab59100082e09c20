"""Hashes of declarations, and what has none."""

from __future__ import annotations

import pytest

from torch_sla import Dirichlet, IntervalMesh, PoissonProblem
from torch_sla.linalg.precond.multigrid.lagged import LaggedMultigrid
from torch_sla.problems.specs import problem as problems
from torch_sla.problems.specs.hashing import LiveObjectError, canonical


def rod() -> PoissonProblem:
    return PoissonProblem(mesh=IntervalMesh(cells=4), source=1.0, boundary=[Dirichlet("left", 0.0)])


def test_what_is_no_data_has_no_form() -> None:
    assert canonical({"a": [1, 2.0, None, True, "b"]}) == {
        "map": {"a": [1, "2.0", None, True, "b"]}
    }
    for live in (LaggedMultigrid(keep="hierarchy"), object(), 1j):
        with pytest.raises(LiveObjectError, match=type(live).__name__):
            canonical({"a": [live]})


def test_a_fault_of_a_hash_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> str:
        raise TypeError("a fault")

    monkeypatch.setattr(problems, "spec_hash", broken)
    with pytest.raises(TypeError, match="a fault"):
        rod().solve()
