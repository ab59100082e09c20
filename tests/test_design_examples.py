"""Every example of design: file and script are one declaration, its gradient is right, its result is pinned."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from tests.helpers.top88 import PUBLISHED, HalfBeam
from torch_sla import (
    ConeFilter,
    Dirichlet,
    OptimalityCriteria,
    PointLoad,
    RectangleMesh,
    SensitivityFilter,
    Variable,
    load_problem,
)

if TYPE_CHECKING:
    from types import ModuleType

DESIGN = Path(__file__).parents[1] / "examples" / "design"

# What main returns, and how near it must come.
NUMBERS: dict[str, tuple[object, float]] = {
    "conductivity": (0.0630, 0.02),
    "inclusion": ([0.1651, 0.2144], 0.02),
    "neural_conductivity": (0.073, 0.3),
    "warming_rod": ([15.2176, 3.59344e6, 76.705], 1e-3),
    "rubber": ([0.403853, 0.554927], 1e-3),
    "source": ([0.62, 0.37, 2.0, -1.0], 0.05),
    "mbb_beam": ([233.71, 233.71], 0.005),
    "cantilever_3d": (1.8901, 0.03),
    "cooling": ([1.5197, 1.5197], 0.01),
    "hole": ([1.5, 5.08], 0.03),
    "frequency": ([0.01235, 0.02384, 0.03943], 0.02),
}
OTHERS = {"draw", "make_data", "make_plate"}


def names() -> list[str]:
    return sorted(path.stem for path in DESIGN.glob("*.py") if path.stem not in OTHERS)


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"design_{name}", DESIGN / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _siblings(monkeypatch):
    """Examples import each other, as scripts in one folder do."""
    monkeypatch.syspath_prepend(str(DESIGN))
    yield
    for name in {*names(), *OTHERS}:
        sys.modules.pop(name, None)


def test_each_is_a_file_and_a_script() -> None:
    assert sorted(path.stem for path in DESIGN.glob("*.yaml")) == names() == sorted(NUMBERS)


@pytest.mark.parametrize("name", names())
def test_file_and_script_declare_the_same(name: str) -> None:
    written, built = load_problem(DESIGN / f"{name}.yaml"), example(name).declare()
    assert written == built
    assert written.spec_hash == built.spec_hash


@pytest.mark.parametrize("name", names())
def test_the_search_finds_what_is_pinned(name: str, capsys) -> None:
    value, tolerance = NUMBERS[name]
    assert example(name).main() == pytest.approx(value, rel=tolerance)
    assert capsys.readouterr().out


@pytest.mark.parametrize("name", names())
def test_gradients_converge_like_gradients(name: str) -> None:
    found = load_problem(DESIGN / f"{name}.yaml").check_gradients()
    assert found.passed, str(found)
    assert "Hessian" in str(found)


def test_the_beam_is_that_of_the_88_line_code() -> None:
    """Iteration by iteration the numbers of the published algorithm, written again by other means."""
    oracle = HalfBeam((60, 20), 2.4)
    problem = load_problem(DESIGN / "mbb_beam.yaml")
    few = problem.updated(optimizer=OptimalityCriteria(max_iterations=4)).solve()
    _, history = oracle.optimise(5)
    assert few.history["objective"][0] == pytest.approx(history[0], rel=1e-9)
    assert few.history["objective"] == pytest.approx(history, rel=2e-3)
    density = 0.2 + 0.6 * np.random.default_rng(0).random(1200)
    value, slope = oracle.compliance(density)
    rho = torch.tensor(density, requires_grad=True)
    ours = problem.of.solve(rho=rho)["compliance"]
    ours.backward()
    assert ours.item() == pytest.approx(value, rel=1e-9)
    assert torch.allclose(rho.grad, torch.tensor(slope), rtol=1e-8)


def test_the_data_are_what_the_script_makes(tmp_path) -> None:
    script = example("make_data")
    script.DATA = tmp_path
    names = ("conductivity", "inclusion", "warming_rod", "rubber", "source")
    for name in names:
        getattr(script, name)()
    for made in tmp_path.glob("*.npz"):
        with np.load(DESIGN / "data" / made.name) as kept, np.load(made) as new:
            assert sorted(kept) == sorted(new)
            for key in kept:
                assert new[key] == pytest.approx(kept[key], abs=1e-8), (made.name, key)


@pytest.mark.slow
def test_a_finer_beam_ends_where_the_published_one_does() -> None:
    problem = load_problem(DESIGN / "mbb_beam.yaml")
    beam = problem.of.updated(
        mesh=RectangleMesh(cells=(150, 50), size=(150.0, 50.0), cell="quad"),
        boundary=[
            Dirichlet("left", 0.0, component=0),
            Dirichlet(at=[(150.0, 0.0)], value=0.0, component=1),
            PointLoad(at=[(0.0, 50.0)], value=[0.0, -1.0]),
        ],
    )
    variable = Variable("rho", bounds=(0.0, 1.0), initial=0.5, transform=[ConeFilter(6.0)])
    fine = problem.updated(
        of=beam, variables=[variable], optimizer=OptimalityCriteria(max_iterations=1000)
    )
    assert fine.solve().objective == pytest.approx(PUBLISHED[(150, 50), 6.0, 2], rel=5e-4)


def test_the_oracle_gives_what_is_published() -> None:
    for kind in (1, 2):
        _, history = HalfBeam((60, 20), 2.4, kind).optimise()
        assert history[-1] == pytest.approx(PUBLISHED[(60, 20), 2.4, kind], abs=0.005)


def test_the_beam_with_filtered_sensitivities_too() -> None:
    variable = Variable("rho", bounds=(1e-9, 1.0), initial=0.5, transform=[SensitivityFilter(2.4)])
    problem = load_problem(DESIGN / "mbb_beam.yaml").updated(variables=[variable])
    found = problem.solve()
    assert found.objective == pytest.approx(PUBLISHED[(60, 20), 2.4, 1], rel=0.005)
