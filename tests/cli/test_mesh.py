from __future__ import annotations

import json
from pathlib import Path

import meshio
import pytest

from tests.helpers.shell import run
from torch_sla import (
    Dirichlet,
    MeshFile,
    PoissonProblem,
    RectangleMesh,
    TransientProblem,
    load_problem,
)
from torch_sla.assembly import read_mesh, rectangle_mesh, write_mesh

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_a_mesh_file_is_shown_and_written(tmp_path: Path) -> None:
    done = run("mesh", EXAMPLES / "two_materials.msh", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    for word in ("cells", "quality", "boundary", "wrote"):
        assert word in done.output
    mesh = read_mesh(EXAMPLES / "two_materials.msh")
    assert read_mesh(tmp_path / "out" / "two_materials.npz").key == mesh.key
    seen = meshio.read(tmp_path / "out" / "two_materials.vtu")
    assert set(seen.cell_data) == {"quality", *mesh.cell_tags}
    for name, cells in mesh.cell_tags.items():
        assert seen.cell_data[name][0].sum() == len(cells)
        assert name in done.output


def test_the_mesh_of_a_problem_tells_numbers(tmp_path: Path) -> None:
    mesh = RectangleMesh(cells=(3, 2), size=(3.0, 2.0))
    problem = PoissonProblem(mesh=mesh, source=1.0, boundary=[Dirichlet("left", 0.0)])
    problem.to_yaml(tmp_path / "p.yaml")
    done = run("mesh", tmp_path / "p.yaml", "--set", "mesh.cells=[6, 4]", "--json")
    told = json.loads(done.stdout)
    assert (told["n_cells"], told["n_bodies"], told["files"]) == (48, 1, [])
    assert told["measure"] == pytest.approx(6.0)
    assert told["facet_tags"]["top"] == {"count": 6, "measure": pytest.approx(3.0)}


def test_a_mesh_file_may_have_other_units(tmp_path: Path) -> None:
    write_mesh(tmp_path / "mm.msh", rectangle_mesh((2, 2), (30.0, 20.0)))
    done = run("mesh", tmp_path / "mm.msh", "--scale", "1e-3", "-o", tmp_path / "out", "--json")
    assert json.loads(done.stdout)["measure"] == pytest.approx(6e-4)
    for name in ("mm.npz", "mm.vtu"):
        high = read_mesh(tmp_path / "out" / name).points.amax(0)
        assert high.tolist() == pytest.approx([0.03, 0.02])
    problem = PoissonProblem(
        mesh=MeshFile(str(tmp_path / "mm.msh"), scale=0.1), boundary=[Dirichlet("x < 1e-9", 0.0)]
    )
    problem.to_yaml(tmp_path / "p.yaml")
    told = json.loads(run("mesh", tmp_path / "p.yaml", "--json").stdout)
    assert told["measure"] == pytest.approx(6.0)


def test_an_analysis_has_the_mesh_of_its_physics() -> None:
    done = run("mesh", EXAMPLES / "quenched_plate.yaml")
    assert isinstance(load_problem(EXAMPLES / "quenched_plate.yaml"), TransientProblem)
    assert done.exit_code == 0, done.output
    assert "points" in done.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{folder}/nothing.msh"], "there is no file"),
        (["{folder}/a.yaml"], "has no mesh of its own"),
        ([str(EXAMPLES / "two_materials.msh"), "--set", "mesh.cells=3"], "is read as a mesh"),
        (["{folder}/a.yaml", "--scale", "2"], "use --set mesh.scale=2"),
        ([str(EXAMPLES / "two_materials.msh"), "--scale", "0"], "scale: got 0"),
    ],
)
def test_what_is_no_mesh_is_bad_input(arguments: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text((EXAMPLES / "chain.yaml").read_text())
    done = run("mesh", *(a.format(folder=tmp_path) for a in arguments))
    assert done.exit_code == 2, done.output
    assert said in done.output
