"""Files of every kind of result hold what the result holds."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import meshio
import numpy as np
import pytest
import torch

from torch_sla import (
    Dirichlet,
    EigenProblem,
    ElasticityProblem,
    Field,
    Integral,
    LinearProblem,
    Parameter,
    PoissonProblem,
    RectangleMesh,
    SweepProblem,
    TransientProblem,
)
from torch_sla.errors import ArgumentError


def plate(**more: object) -> PoissonProblem:
    return PoissonProblem(
        mesh=RectangleMesh(cells=(3, 2)),
        source=Parameter("f", default=1.0),
        boundary=[Dirichlet("left", 0.0)],
        outputs=[
            Integral("heat", "u"),
            Field("flow", "-grad(u)", on="cells"),
            Field("twice", "2*u", on="nodes"),
        ],
        **more,
    )


def read(path) -> tuple[list[float], list[meshio.Mesh]]:
    sets = ET.parse(path).getroot().findall("Collection/DataSet")
    found = [meshio.read(path.parent / entry.get("file")) for entry in sets]
    return [float(entry.get("timestep")) for entry in sets], found


def test_all_times_that_were_saved(tmp_path) -> None:
    solution = TransientProblem(of=plate(), end=1.0, steps=4, save=["u"]).solve()
    solution.save(tmp_path / "run.pvd")
    times, states = read(tmp_path / "run.pvd")
    assert times == solution.times.tolist()
    for i, state in enumerate(states):
        assert np.array_equal(state.point_data["u"], solution.history["u"][i])
        assert np.array_equal(state.point_data["twice"], solution["twice"][i])
        assert np.array_equal(state.cell_data["flow"][0][:, :2], solution["flow"][i])
    solution.save(tmp_path / "end.vtu")
    end = meshio.read(tmp_path / "end.vtu")
    assert np.array_equal(end.point_data["u"], solution.u)
    assert np.array_equal(end.point_data["twice"], solution["twice"][-1])
    assert ".xdmf" in solution.endings


def test_fields_over_time_without_the_unknown(tmp_path) -> None:
    solution = TransientProblem(of=plate(), end=1.0, steps=3).solve()
    solution.save(tmp_path / "run.pvd")
    times, states = read(tmp_path / "run.pvd")
    assert len(times) == 4
    assert set(states[0].point_data) == {"twice"}
    solution.save(tmp_path / "end.vtu")
    assert set(meshio.read(tmp_path / "end.vtu").point_data) == {"u", "twice"}


def test_rates_that_were_saved_are_in_the_series(tmp_path) -> None:
    solution = TransientProblem(of=plate(), end=1.0, steps=3, save=["velocity"]).solve()
    assert ".xdmf" in solution.endings
    solution.save(tmp_path / "run.pvd")
    states = read(tmp_path / "run.pvd")[1]
    assert set(states[0].point_data) == {"velocity", "twice"}
    for state, velocity in zip(states, solution.history["velocity"], strict=True):
        assert np.array_equal(state.point_data["velocity"], velocity)


def test_modes_one_after_another(tmp_path) -> None:
    body = ElasticityProblem(
        mesh=RectangleMesh(cells=(4, 1), size=(4.0, 1.0)),
        model="plane_stress",
        boundary=[Dirichlet("left", 0.0)],
    )
    modes = EigenProblem(of=body, k=3).solve()
    modes.save(tmp_path / "modes.pvd")
    numbers, states = read(tmp_path / "modes.pvd")
    assert numbers == [1.0, 2.0, 3.0]
    assert np.array_equal(states[2].point_data["u"][:, :2], modes.modes[2])


def test_cases_and_members_one_after_another(tmp_path) -> None:
    cases = SweepProblem(of=plate(), cases={"f": [1.0, 2.0]}).solve()
    cases.save(tmp_path / "cases.pvd")
    _, states = read(tmp_path / "cases.pvd")
    assert np.array_equal(states[1].point_data["u"], cases.u[1])
    batch = plate().solve(f=torch.tensor([[1.0], [3.0]]))
    batch.save(tmp_path / "batch.xdmf")
    batch.save(tmp_path / "batch.pvd")
    _, states = read(tmp_path / "batch.pvd")
    assert np.array_equal(states[1].point_data["u"], batch.u[1, 0])
    assert np.array_equal(states[1].cell_data["flow"][0][:, :2], batch["flow"][1, 0])
    with pytest.raises(ArgumentError, match="holds one member"):
        batch.save(tmp_path / "batch.vtu")


def test_a_table_of_cases_says_what_it_is(tmp_path) -> None:
    cases = SweepProblem(of=plate(), cases={"f": [1.0, 2.0]}).solve()
    cases.save(tmp_path / "cases.json")
    told = json.loads((tmp_path / "cases.json").read_text())
    assert [row["f"] for row in told["table"]] == [1.0, 2.0]
    assert told["spec_hash"] == cases.spec_hash


def test_without_a_mesh_there_is_no_series(tmp_path) -> None:
    with pytest.raises(ArgumentError):
        LinearProblem(matrix=[[2.0]], rhs=[1.0]).solve().save(tmp_path / "x.pvd")
    cases = SweepProblem(
        of=LinearProblem(matrix=[[2.0]], rhs=Parameter("b", shape=(1,))),
        cases=[{"b": [1.0]}, {"b": [2.0]}],
    )
    with pytest.raises(ArgumentError, match="no fields on a mesh"):
        cases.solve().save(tmp_path / "x.pvd")
