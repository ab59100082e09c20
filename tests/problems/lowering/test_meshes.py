"""Shapes as declarations."""

from __future__ import annotations

import math

import pytest

from torch_sla import (
    AnnulusMesh,
    BoxMesh,
    Dirichlet,
    DiskMesh,
    EigenProblem,
    ElasticityProblem,
    Energy,
    Integral,
    LShapeMesh,
    Maximum,
    MeshArrays,
    MeshFile,
    Neumann,
    PoissonProblem,
    Probe,
    Problem,
    Reaction,
    RectangleMesh,
    SpecError,
)
from torch_sla.assembly import box_mesh, write_mesh
from torch_sla.problems.specs.hashing import spec_hash


@pytest.mark.parametrize("cell", ["triangle", "quad"])
@pytest.mark.parametrize(
    ("order", "curved", "tolerance"), [(1, False, 3e-2), (2, True, 2e-5), (1, True, 2e-2)]
)
def test_a_disk_with_a_known_solution(cell, order, curved, tolerance, tmp_path):
    problem = PoissonProblem(
        mesh=DiskMesh(cells=6, radius=2.0, origin=(1.0, 0.0), cell=cell, curved=curved),
        order=order,
        source=1.0,
        boundary=[Dirichlet("rim", 0.0)],
        outputs=[Probe("middle", at=[(1.0, 0.0)]), Integral("total", "u")],
    )
    problem.to_yaml(tmp_path / "disk.yaml")
    s = Problem.from_yaml(tmp_path / "disk.yaml").solve()
    assert s["middle"].item() == pytest.approx(1.0, rel=tolerance)
    assert s["total"].item() == pytest.approx(6.283185307, rel=2 * tolerance)


def test_a_pipe_wall():
    problem = PoissonProblem(
        mesh=AnnulusMesh(cells=(6, 48), inner=1.0, outer=2.0, curved=True),
        order=2,
        boundary=[Dirichlet("inner", 1.0), Dirichlet("outer", 0.0)],
        outputs=[Probe("half", at=[(1.5, 0.0)])],
    )
    assert problem.solve()["half"].item() == pytest.approx(0.415037499, rel=3e-5)


def test_a_corner_and_a_graded_rectangle():
    sides = ["left", "right", "bottom", "top", "notch"]
    corner = PoissonProblem(mesh=LShapeMesh(cells=10), source=1.0, boundary=[Dirichlet(sides, 0.0)])
    assert corner.mesh_data().n_cells == 600
    assert corner.solve().u.max().item() == pytest.approx(0.1497, rel=0.03)
    graded = PoissonProblem(
        mesh=RectangleMesh(cells=(4, 4), grading=(4.0, 1.0), cell="quad"),
        boundary=[Dirichlet("left", 0.0), Dirichlet("right", 1.0)],
    )
    x = graded.mesh_data().points[:, 0]
    assert x.max() == 1.0
    assert graded.solve().u == pytest.approx(x, abs=1e-12)


def test_radii_that_do_not_fit():
    problem = PoissonProblem(
        mesh=AnnulusMesh(cells=(1, 8), inner=2.0), boundary=[Dirichlet("inner", 0.0)]
    )
    with pytest.raises(SpecError, match="the inner radius lies between 0 and outer"):
        problem.solve()


def test_bodies_that_only_touch_are_allowed_on_request():
    points = [[0.0, 0.0], [2.0, 0.0], [2.0, 1.0], [0.0, 1.0], [1.0, 1.0], [1.0, 2.0], [0.0, 2.0]]
    cells = [[0, 1, 2, 3], [3, 4, 5, 6]]

    def problem(**options):
        mesh = MeshArrays(points=points, cells=cells, cell="quad", **options)
        return PoissonProblem(mesh=mesh, source=1.0, boundary=[Dirichlet("x < 1e-9", 0.0)])

    with pytest.raises(SpecError, match=r"hangs on the facet .* pass hanging_nodes='allow'"):
        problem().solve()
    assert problem(hanging_nodes="allow").mesh_data().n_cells == 2


def test_curved_arrays():
    points = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.5, -0.1], [0.6, 0.6], [0.0, 0.5]]
    mesh = MeshArrays(points=points, cells=[[0, 1, 2, 3, 4, 5]], cell="triangle6")
    problem = PoissonProblem(
        mesh=mesh,
        order=2,
        source=1.0,
        boundary=[Dirichlet("x < 1e-9", 0.0)],
        outputs=[Integral("area", "1 + 0*u")],
    )
    assert problem.solve()["area"].item() == pytest.approx(0.7, rel=1e-12)


def test_meshes_that_no_memory_holds_are_refused() -> None:
    with pytest.raises(SpecError, match=r"cells: .*1000000000000000000 cells; at most"):
        BoxMesh(cells=(10**6, 10**6, 10**6))
    with pytest.raises(SpecError, match=r"cells: .*1000000000000 cells; at most"):
        RectangleMesh(cells=(10**6, 10**6))


def test_a_file_in_millimetres_with_data_in_si(tmp_path):
    """A bar under tension, as in metres: u = tl/E, V = lbh; what is declared differs, and is written and read."""
    write_mesh(tmp_path / "bar.npz", box_mesh((4, 2, 2), (80.0, 20.0, 5.0)))

    def bar(**scale):
        fixed = [Dirichlet(f"{'xyz'[i]} < 1e-9", 0.0, component=i) for i in range(3)]
        return ElasticityProblem(
            mesh=MeshFile(str(tmp_path / "bar.npz"), **scale),
            model="solid",
            young_modulus=210e9,
            poisson_ratio=0.3,
            boundary=[*fixed, Neumann("right", traction=[1e8, 0.0, 0.0])],
            outputs=[
                Integral("volume", "1"),
                Probe("end", at=[(0.08, 0.01, 0.0025)], quantity="u[0]"),
                Reaction("held", "x < 1e-9"),
            ],
        )

    metres = bar(scale=1e-3)
    found = metres.solve()
    assert found["volume"].item() == pytest.approx(0.08 * 0.02 * 0.005, rel=1e-12)
    assert found["end"].item() == pytest.approx(1e8 * 0.08 / 210e9, rel=1e-8)
    assert found["held"][0].item() == pytest.approx(-1e8 * 0.02 * 0.005, rel=1e-8)
    assert spec_hash(bar()) == spec_hash(bar(scale=1.0)) != spec_hash(metres)
    metres.to_yaml(tmp_path / "bar.yaml")
    again = Problem.from_yaml(tmp_path / "bar.yaml")
    assert spec_hash(again) == spec_hash(metres)
    assert again.mesh.scale == 1e-3
    for wrong in (0.0, -1e-3, float("inf")):
        with pytest.raises(SpecError, match=r"scale"):
            bar(scale=wrong)


BAR = """$MeshFormat
2.2 0 8
$EndMeshFormat
$PhysicalNames
3
1 1 "wall"
1 2 "end"
2 3 "steel"
$EndPhysicalNames
$Nodes
6
1 0 0 0
2 50 0 0
3 100 0 0
4 0 10 0
5 50 10 0
6 100 10 0
$EndNodes
$Elements
4
1 1 2 1 1 1 4
2 1 2 2 2 3 6
3 3 2 3 1 1 2 5 4
4 3 2 3 1 2 3 6 5
$EndElements
"""


@pytest.mark.parametrize(
    ("length", "stress", "mass", "energy"),
    [(1.0, 1.0, 1.0, 1.0), (1e-3, 1e6, 1e3, 1e-3)],
    ids=["mm N t", "m N kg"],
)
def test_units_that_agree(length, stress, mass, energy, tmp_path):
    """One bar of steel of a file of gmsh in the units of the page on elasticity: a beam 10 mm high, on two cells."""
    (tmp_path / "bar.msh").write_text(BAR)
    held = [Dirichlet("wall", 0.0)]
    bar = ElasticityProblem(
        mesh=MeshFile(str(tmp_path / "bar.msh"), scale=length),
        model="plane_stress",
        thickness=5.0 * length,
        young_modulus={"steel": 210e3 * stress},
        poisson_ratio=0.0,
        density=7.85e-9 * mass / length**3,
        order=2,
        boundary=[*held, Neumann("end", traction=[100.0 * stress, 0.0])],
        outputs=[
            Probe("tip", at=[(100.0 * length, 5.0 * length)], quantity="u[0]"),
            Reaction("force", "wall"),
            Maximum("worst", "von_mises(stress)"),
            Energy("energy"),
        ],
    )
    found = bar.solve()
    assert found["tip"].item() == pytest.approx(100.0 * 100.0 / 210e3 * length, rel=1e-8)
    assert found["force"][0].item() == pytest.approx(-5000.0, rel=1e-8)
    assert found["worst"].item() == pytest.approx(100.0 * stress, rel=1e-8)
    strained = 100.0**2 / (2 * 210e3) * 100 * 10 * 5
    assert found["energy"].item() == pytest.approx(strained * energy, rel=1e-8)
    modes = EigenProblem(of=bar.model_copy(update={"boundary": held, "outputs": ()}), k=1).solve()
    beam = 1.8751**2 / (2 * math.pi) * math.sqrt(210e9 * 0.01**2 / (12 * 7850 * 0.1**4))
    assert modes["frequencies"].item() == pytest.approx(beam, rel=0.05)
