"""Files of every kind of result hold what the result holds."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING
from urllib.parse import unquote

import meshio
import numpy as np
import pytest
import torch

from torch_sla import (
    LBFGS,
    BoxMesh,
    DesignProblem,
    Dirichlet,
    EigenProblem,
    ElasticityProblem,
    Field,
    Integral,
    IntervalMesh,
    LinearProblem,
    Newton,
    Parameter,
    PoissonProblem,
    RectangleMesh,
    Solver,
    StokesProblem,
    SweepProblem,
    TransientProblem,
    Variable,
)
from torch_sla.errors import ArgumentError
from torch_sla.problems.report.frames import frames_of

if TYPE_CHECKING:
    from pathlib import Path


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


def test_folders_that_do_not_exist_are_made(tmp_path) -> None:
    march = TransientProblem(of=plate(), end=1.0, steps=2, save=["u"])
    found, steady = march.solve(), march.of.solve()
    steady.save(tmp_path / "one" / "a.vtu")
    for i, ending in enumerate((".pvd", ".xdmf", ".npz", ".json", ".csv")):
        found.save(tmp_path / f"series-{i}" / "run" / f"a{ending}")
    steady.plot(tmp_path / "plot" / "a.png")
    found.animate(tmp_path / "film" / "a.html")
    found.report(tmp_path / "report" / "a.html")
    march.to_yaml(tmp_path / "declared" / "a.yaml")
    ends = " ".join(sorted({file.suffix for file in tmp_path.rglob("a.*")}))
    assert ends == ".bin .csv .html .json .npz .png .pvd .vtu .xdmf .yaml"
    times, meshes = read(tmp_path / "series-0" / "run" / "a.pvd")
    assert (len(times), len(meshes)) == (3, 3)


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


def test_modes_of_all_cases_one_after_another(tmp_path) -> None:
    body = ElasticityProblem(
        mesh=RectangleMesh(cells=(4, 1), size=(4.0, 1.0)),
        model="plane_stress",
        young_modulus=Parameter("E", default=1.0),
        boundary=[Dirichlet("left", 0.0)],
    )
    cases = SweepProblem(of=EigenProblem(of=body, k=2), cases={"E": [1.0, 4.0]}).solve()
    cases.save(tmp_path / "cases.pvd")
    _, states = read(tmp_path / "cases.pvd")
    assert len(states) == 4
    for state, mode in zip(states, cases.fields["modes"].flatten(0, 1), strict=True):
        assert np.array_equal(state.point_data["u"][:, :2], mode)


def test_cases_on_moved_points_are_written_there(tmp_path) -> None:
    problem = SweepProblem(of=plate(), cases={"f": [1.0, 2.0]})
    points = 2.0 * problem.mesh_data().points
    for run in ({}, {"folder": tmp_path / "run"}):
        problem.solve(points=points, **run).save(tmp_path / "cases.pvd")
        for state in read(tmp_path / "cases.pvd")[1]:
            assert np.array_equal(state.points[:, :2], points)
    shapes = problem.solve(points=torch.stack([points, 2.0 * points, 3.0 * points]))
    ends = [frames_of(shapes).points_of(i).max().item() for i in range(6)]
    assert ends == [2.0, 2.0, 4.0, 4.0, 6.0, 6.0]


def test_fields_over_time_are_not_taken_for_those_of_cases(tmp_path) -> None:
    steps = plate().mesh_data().n_points - 1  # as many times as there are points
    march = TransientProblem(of=plate(), end=1.0, steps=steps)
    cases = SweepProblem(of=march, cases={"f": [1.0, 2.0]}).solve()
    assert cases["twice"].shape == (2, steps + 1, steps + 1)
    cases.save(tmp_path / "cases.pvd")
    _, states = read(tmp_path / "cases.pvd")
    assert [set(state.point_data) for state in states] == [{"u"}, {"u"}]


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


# Edges, faces and the middle of each cell by its corners, in the order of VTK's node numbers (VTK User's Guide,
# cells of second order).
MIDDLES = {
    "line3": [(0, 1)],
    "triangle6": [(0, 1), (1, 2), (2, 0)],
    "quad9": [(0, 1), (1, 2), (2, 3), (3, 0), (0, 1, 2, 3)],
    "tetra10": [(0, 1), (1, 2), (2, 0), (0, 3), (1, 3), (2, 3)],
    "hexahedron27": [
        *[
            (0, 1),
            (1, 2),
            (2, 3),
            (3, 0),
            (4, 5),
            (5, 6),
            (6, 7),
            (7, 4),
            (0, 4),
            (1, 5),
            (2, 6),
            (3, 7),
        ],
        *[(0, 3, 7, 4), (1, 2, 6, 5), (0, 1, 5, 4), (3, 2, 6, 7), (0, 1, 2, 3), (4, 5, 6, 7)],
        (0, 1, 2, 3, 4, 5, 6, 7),
    ],
}


@pytest.mark.parametrize(
    ("mesh", "cell"),
    [
        (IntervalMesh(cells=3), "line3"),
        (RectangleMesh(cells=(2, 2)), "triangle6"),
        (RectangleMesh(cells=(2, 2), cell="quad"), "quad9"),
        (BoxMesh(cells=(1, 1, 2), cell="tetra"), "tetra10"),
        (BoxMesh(cells=(1, 2, 1), cell="hexahedron"), "hexahedron27"),
    ],
)
def test_fields_of_order_two_are_written_on_cells_of_order_two(tmp_path, mesh, cell) -> None:
    problem = PoissonProblem(
        mesh=mesh,
        order=2,
        source=-2.0,
        boundary=[Dirichlet(["left", "right"], "x**2")],
        outputs=[Field("place", "x", on="nodes"), Field("slope", "grad(u)", on="cells")],
    )
    solution = problem.solve()
    solution.save(tmp_path / "u.vtu")
    solution.save(tmp_path / "u.pvd")
    for found in (meshio.read(tmp_path / "u.vtu"), read(tmp_path / "u.pvd")[1][0]):
        assert list(found.cells_dict) == [cell]
        cells, x = found.cells_dict[cell], found.points
        corners = problem.mesh_data().reference.n_vertices
        assert cells.shape[1] == corners + len(MIDDLES[cell])
        for k, around in enumerate(MIDDLES[cell]):
            middle = x[cells[:, list(around)]].mean(1)
            np.testing.assert_allclose(x[cells[:, corners + k]], middle, atol=1e-14)
        np.testing.assert_allclose(found.point_data["u"], x[:, 0] ** 2, atol=1e-9)
        np.testing.assert_allclose(found.point_data["place"], x[:, 0], atol=1e-14)
        assert len(found.cell_data["slope"][0]) == len(cells)


def test_unknowns_of_lower_order_modes_and_moved_points_are_written_with_the_others(
    tmp_path,
) -> None:
    flow = StokesProblem(
        mesh=RectangleMesh(cells=(3, 3)),
        viscosity=1.0,
        boundary=[
            Dirichlet(["bottom", "top"], (0.0, 0.0), unknown="u"),
            Dirichlet(["left", "right"], ("4*y*(1 - y)", "0"), unknown="u"),
        ],
    )
    solution = flow.solve()
    solution.save(tmp_path / "flow.vtu")
    found = meshio.read(tmp_path / "flow.vtu")
    x = found.points
    assert set(found.cells_dict) == {"triangle6"}
    np.testing.assert_allclose(found.point_data["u"][:, 0], 4 * x[:, 1] * (1 - x[:, 1]), atol=1e-8)
    level = found.point_data["p"] + 8 * x[:, 0]
    np.testing.assert_allclose(level, level[0], atol=1e-7)
    plate = PoissonProblem(
        mesh=RectangleMesh(cells=(2, 2)),
        order=2,
        diffusivity=Parameter("k", on="nodes"),
        source=1.0,
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Integral("mean", "u")],
    )
    search = DesignProblem(
        of=plate,
        variables=[Variable("k", bounds=(0.5, 3.0), initial="1 + x")],
        objective="mean",
        optimizer=LBFGS(max_iterations=1),
    )
    found = search.solve()
    found.save(tmp_path / "design.vtu")
    written = meshio.read(tmp_path / "design.vtu")
    assert len(written.points) == len(written.point_data["k"]) == 25
    np.testing.assert_allclose(written.point_data["k"][:9], found.design["k"])
    drum = PoissonProblem(
        mesh=RectangleMesh(cells=(3, 3)),
        order=2,
        boundary=[Dirichlet(["left", "right", "bottom", "top"], 0.0)],
    )
    points = 2.0 * drum.mesh_data().points
    modes = EigenProblem(of=drum, k=2).solve(points=points)
    modes.save(tmp_path / "drum.vtu")
    found = meshio.read(tmp_path / "drum.vtu")
    assert found.points[:, :2].max() == 2.0
    assert len(found.points) == len(found.point_data["mode_1"]) == 49
    assert found.point_data["mode_1"].max() == pytest.approx(float(modes.modes[0].max()))


@pytest.mark.parametrize("ending", ["vtu", "vtk", "pvd", "xdmf"])
def test_a_state_that_did_not_converge_says_so(tmp_path: Path, ending: str) -> None:
    problem = plate(reaction="u**2", solver=Solver(nonlinear=Newton(maxiter=1))).updated(
        outputs=[Field("slope", "grad(u)", on="cells")]
    )
    whole = problem.updated(solver=Solver()).solve()
    failed = problem.solve(throw=False)
    assert not failed.info.converged
    names = {}
    for name, solution in (("good", whole), ("bad", failed)):
        solution.save(tmp_path / f"{name}.{ending}")
        names[name] = _names(tmp_path / f"{name}.{ending}")
    assert names["good"] == {"u", "slope"}
    assert names["bad"] == {"u (did not converge)", "slope (did not converge)"}


@pytest.mark.parametrize("ending", ["pvd", "xdmf"])
def test_failed_cases_of_a_sweep_say_so(tmp_path: Path, ending: str) -> None:
    plain = plate(reaction="u**2", solver=Solver(nonlinear=Newton(maxiter=2))).updated(outputs=[])
    cases = SweepProblem(of=plain, cases={"f": [0.0, 50.0]}).solve(throw=False)
    assert cases.info.solved.tolist() == [True, False]
    cases.save(tmp_path / f"cases.{ending}")
    assert _names(tmp_path / f"cases.{ending}") == {"u", "u (did not converge)"}
    if ending == "pvd":
        first, second = sorted((tmp_path / "cases").glob("*.vtu"))
        assert set(meshio.read(first).point_data) == {"u"}
        assert set(meshio.read(second).point_data) == {"u (did not converge)"}


def _names(path: Path) -> set[str]:
    """Return what the fields in a file, or in those that it names, are called."""
    if path.suffix == ".pvd":
        files = [path.parent / e.attrib["file"] for e in ET.parse(path).iter("DataSet")]
        return set().union(*map(_names, files))
    if path.suffix == ".xdmf":
        return {e.attrib["Name"] for e in ET.parse(path).iter("Attribute")}
    found = meshio.read(path)
    return {*map(unquote, found.point_data), *map(unquote, found.cell_data)}
