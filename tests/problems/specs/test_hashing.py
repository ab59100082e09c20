"""Hashes of declarations, and what has none."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.tours import tour
from torch_sla import (
    Dirichlet,
    IntervalMesh,
    Parameter,
    PoissonProblem,
    RectangleMesh,
    Samples,
    Solver,
    SweepProblem,
    Uniform,
)
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


def test_the_order_of_what_is_combined_and_drawn_counts() -> None:
    """Grids and samples list other cases where their names change places; elsewhere order has no meaning."""
    steps, spans = {"a": [1.0, 2.0], "b": [3.0, 4.0]}, {"a": Uniform(0, 1), "b": Uniform(2, 3)}
    of = rod().updated(source="a + b", parameters=[Parameter("a"), Parameter("b")])
    for one in (steps, Samples(of=spans, count=4)):
        names = one if isinstance(one, dict) else one.of
        turned = dict(reversed(names.items()))
        other = turned if isinstance(one, dict) else one.updated(of=turned)
        first, then = SweepProblem(of=of, cases=one), SweepProblem(of=of, cases=other)
        assert first.every != then.every
        assert first.spec_hash != then.spec_hash
        assert first.spec_hash == SweepProblem(of=of, cases=one).spec_hash
    rows = [SweepProblem(of=of, cases=[case]) for case in ({"a": 1, "b": 2}, {"b": 2, "a": 1})]
    assert rows[0].spec_hash == rows[1].spec_hash


def test_hash_ignores_spelling_and_defaults() -> None:
    base = tour()
    assert base.spec_hash == tour(source=" sin( pi*x )*sin(pi * y)").spec_hash
    assert base.spec_hash == tour(order=1, solver=Solver()).spec_hash
    assert tour(source=1).spec_hash == tour(source=1.0).spec_hash
    assert tour(source=0.0).spec_hash == tour(source=-0.0).spec_hash


@pytest.mark.parametrize(
    "changes",
    [
        {"source": 2.0},
        {"order": 2},
        {"name": "plate"},
        {"diffusivity": Parameter("kappa", on="cells", default=2.0)},
        {"mesh": RectangleMesh(cells=(4, 5))},
        {"outputs": []},
        {"solver": Solver(rtol=1e-9)},
        {"boundary": [Dirichlet("left", 0.0)]},
    ],
)
def test_hash_sees_every_difference(changes: dict[str, object]) -> None:
    assert tour(**changes).spec_hash != tour().spec_hash


def test_hash_covers_the_content_of_files(tmp_path) -> None:
    np.save(tmp_path / "a.npy", np.ones(32))
    np.save(tmp_path / "b.npy", np.ones(32))
    first = tour(diffusivity={"file": str(tmp_path / "a.npy")})
    second = tour(diffusivity={"file": str(tmp_path / "b.npy")})
    assert first.spec_hash == second.spec_hash
    np.save(tmp_path / "b.npy", 2 * np.ones(32))
    assert tour(diffusivity={"file": str(tmp_path / "b.npy")}).spec_hash != first.spec_hash


def test_hash_of_a_solution_is_that_of_the_content_it_was_solved_with(tmp_path) -> None:
    np.save(tmp_path / "a.npy", np.ones(32))
    problem = tour(diffusivity={"file": str(tmp_path / "a.npy")})
    expected = tour(diffusivity={"file": str(tmp_path / "a.npy")}).spec_hash
    solution = problem.solve()
    np.save(tmp_path / "a.npy", 2 * np.ones(32))
    assert solution.identity["spec_hash"] == problem.solve().spec_hash == expected
    assert tour(diffusivity={"file": str(tmp_path / "a.npy")}).solve().spec_hash != expected
