"""Files of problems in parts: pieces that fit together, and one file that names them."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest
import torch

from tests.helpers.shared_problems import problem_of
from torch_sla import (
    Dirichlet,
    EigenProblem,
    Parameter,
    PoissonProblem,
    RectangleMesh,
    SweepProblem,
    TransientProblem,
    distribute,
)
from torch_sla.errors import ArgumentError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("case", ["disk", "bracket", "corner", "bar"])
def test_pieces_hold_the_whole_solution(case: str, tmp_path: Path) -> None:
    meshio = pytest.importorskip("meshio")
    from scipy.spatial import cKDTree

    problem, values = problem_of(case)
    whole = problem.solve(values)
    at_points = problem.compile().at_points(whole.flat.detach()).numpy()
    solution = distribute(problem, 5).solve(values)
    written = solution.save(tmp_path / "out.pvtu")
    root = ET.parse(written[-1]).getroot()
    named = [piece.attrib["Source"] for piece in root.iter("Piece")]
    assert named == [path.name for path in written[:-1]]
    arrays = {a.attrib["Name"] for a in root.iter("PDataArray")}
    expected = {"Points", "u"} | {o.name for o in problem.outputs if o.type == "field"}
    assert arrays == expected
    points = whole.points.detach().numpy()
    tree, cells = cKDTree(points), 0
    for name in named:
        piece = meshio.read(tmp_path / name)
        distance, nearest = tree.query(piece.points[:, : points.shape[1]])
        assert distance.max() < 1e-12
        dim = at_points.shape[1:] and at_points.shape[1]
        u = piece.point_data["u"][..., :dim] if dim else piece.point_data["u"]
        assert abs(u - at_points[nearest]).max() < 1e-9
        cells += len(piece.cells[0].data)
        if case == "disk":
            slope = whole["slope"].detach().numpy()[nearest]
            assert abs(piece.point_data["slope"][:, :2] - slope).max() < 1e-9
    assert cells == problem.mesh_data().n_cells
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("analysis", ["none", "modes", "march", "sweep"])
def test_as_many_unknowns_are_told_as_by_one_process(analysis: str, tmp_path: Path) -> None:
    rod = PoissonProblem(
        mesh=RectangleMesh(cells=(5, 3)),
        source=Parameter("f", default=1.0),
        capacity=1.0,
        boundary=[Dirichlet("left", 0.0)],
    )
    problem = {
        "none": rod,
        "modes": EigenProblem(of=rod, k=2),
        "march": TransientProblem(of=rod, end=1.0, steps=2),
        "sweep": SweepProblem(of=rod, cases=[{"f": 1.0}, {"f": 2.0}]),
    }[analysis]
    problem.solve().save(tmp_path / "one.json")
    distribute(problem, 2).solve().save(tmp_path / "parts.json")
    told = [json.loads((tmp_path / f"{n}.json").read_text())["unknowns"] for n in ("one", "parts")]
    assert told == [24, 24]


def test_numbers(tmp_path: Path) -> None:
    problem, values = problem_of("disk")
    solution = distribute(problem, 3).solve(values)
    (path,) = solution.save(tmp_path / "out.json")
    said = json.loads(path.read_text())
    assert said["parts"] == 3
    assert said["unknowns"] == len(problem.dof_points())
    assert said["outputs"]["heat"] == pytest.approx(float(solution["heat"].detach()))
    assert "flow" not in said["outputs"]
    u = solution.whole().detach()
    assert (said["u"]["min"], said["u"]["max"]) == (float(u.min()), float(u.max()))
    with pytest.raises(ArgumentError, match=r"saved as .pvtu"):
        solution.save(tmp_path / "out.vtu")


def test_losses_of_fields() -> None:
    problem, values = problem_of("disk")
    kappa = values["kappa"].clone().requires_grad_()
    solution = distribute(problem, 4).solve({**values, "kappa": kappa})
    (solution.total((solution.u**2).sum())).backward()
    again = values["kappa"].clone().requires_grad_()
    (problem.solve({**values, "kappa": again}).u ** 2).sum().backward()
    assert kappa.grad is not None
    assert again.grad is not None
    assert torch.allclose(kappa.grad, again.grad, rtol=1e-9, atol=1e-12)
    with pytest.raises(ArgumentError, match="is no field"):
        solution.whole("heat")
