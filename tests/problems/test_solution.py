from __future__ import annotations

import copy
import json
import pickle
import weakref

import numpy as np
import pytest
import torch

from torch_sla import (
    BoxMesh,
    Dirichlet,
    Field,
    Integral,
    IntervalMesh,
    Parameter,
    PoissonProblem,
    Probe,
    Reaction,
    RectangleMesh,
    Solution,
    TransientProblem,
)
from torch_sla.errors import ArgumentError
from torch_sla.problems.lowering import model


def solved(mesh: object = None, **values: object) -> Solution:
    problem = PoissonProblem(
        name="plate",
        mesh=mesh or RectangleMesh(cells=(5, 4)),
        source=Parameter("f", default=1.0),
        boundary=[Dirichlet("left", 0.0)],
        outputs=[
            Integral("total", "u"),
            Field("flow", "-grad(u)"),
            Field("twice", "2*u", on="nodes"),
        ],
    )
    return problem.solve(values)


def test_vtu(tmp_path) -> None:
    import meshio

    solution = solved()
    solution.save(tmp_path / "a.vtu")
    read = meshio.read(tmp_path / "a.vtu")
    np.testing.assert_allclose(read.point_data["u"], solution.u.numpy())
    np.testing.assert_allclose(read.point_data["twice"], 2 * solution.u.numpy())
    assert read.cell_data["flow"][0].shape == (40, 3)


def test_npz_and_json(tmp_path) -> None:
    solution = solved(f=torch.tensor([1.0, 2.0]))
    solution.save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as read:
        assert sorted(read.files) == ["flow", "identity", "points", "total", "twice", "u"]
        np.testing.assert_allclose(read["u"][1], 2 * read["u"][0])
        assert json.loads(str(read["identity"])) == solution.identity
    solution.save(tmp_path / "a.json")
    told = json.loads((tmp_path / "a.json").read_text())
    assert told["spec_hash"] == solution.spec_hash
    assert {"torch_sla", "torch", "numpy", "scipy", "python"} <= told["versions"].keys()
    assert told["seed"] == solution.identity["seed"]
    assert told["outputs"]["total"] == pytest.approx(solution["total"].tolist())
    assert told["solve"]["result"] in ("converged", "roundoff")
    with pytest.raises(ArgumentError, match="batch dimensions"):
        solution.save(tmp_path / "a.vtu")
    with pytest.raises(ArgumentError, match=r"ends in '\.csv'"):
        solution.save(tmp_path / "a.csv")


@pytest.mark.parametrize(
    "mesh",
    [
        IntervalMesh(cells=5),
        RectangleMesh(cells=(3, 3)),
        RectangleMesh(cells=(3, 3), cell="quad"),
        BoxMesh(cells=(2, 2, 2)),
        BoxMesh(cells=(2, 2, 2), cell="hexahedron"),
    ],
    ids=str,
)
def test_pictures(tmp_path, mesh: object) -> None:
    pytest.importorskip("matplotlib")
    solution = solved(mesh)
    solution.plot(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
    batch = solved(mesh, f=torch.rand(2, 3))
    assert batch.plot(member=(1, 2)) is not None


def test_it_prints() -> None:
    text = repr(solved())
    assert "total: 0.3" in text
    assert "flow: [40, 2]" in text
    assert list(solved()) == ["total", "flow", "twice"]
    assert solved()["u"].shape == (30,)


@pytest.mark.parametrize("grad", [False, True])
def test_it_holds_no_matrix_and_still_knows_its_condition(grad: bool, monkeypatch) -> None:
    matrices = []
    plain = model.solve_batch

    def watch(pattern, values, *rest, **options):
        matrices.append(weakref.ref(values))
        return plain(pattern, values, *rest, **options)

    monkeypatch.setattr(model, "solve_batch", watch)
    problem = PoissonProblem(
        mesh=RectangleMesh(cells=(5, 4)),
        diffusivity=Parameter("k", on="cells"),
        source=1.0,
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Reaction("heat", on="left")],
    )
    k = torch.linspace(1, 2, 40, dtype=torch.float64, requires_grad=grad)
    solution = problem.solve(k=k)
    if grad:
        solution["heat"].backward()
    assert [matrix() for matrix in matrices] == [None]
    A = problem.jacobian(k=k.detach()).to_dense()
    exact = 1 / (torch.linalg.matrix_norm(A, 1) * torch.linalg.matrix_norm(A.inverse(), 1))
    assert solution.info.rcond == pytest.approx(float(exact), rel=0.5)


@pytest.mark.parametrize("name", ["points", "file", "allow_pickle", "identity"])
def test_outputs_of_any_name_are_in_the_arrays(tmp_path, name: str) -> None:
    problem = PoissonProblem(
        mesh=RectangleMesh(cells=(2, 2)),
        source=1.0,
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Probe(name, at=[(0.5, 0.5), (1.0, 0.5), (0.2, 0.3)])],
    )
    solution = problem.solve()
    solution.save(tmp_path / "all.npz")
    with np.load(tmp_path / "all.npz") as found:
        assert np.array_equal(found[name], solution[name].numpy())
        assert np.array_equal(found["u"], solution.u.numpy())


@pytest.mark.parametrize("moved", [False, True])
def test_a_solution_can_be_copied_and_pickled(moved: bool) -> None:
    mesh = RectangleMesh(cells=(5, 4))
    points = solved(mesh).points * 1.5 if moved else None
    there = torch.tensor([[0.31, 0.47], [0.9, 0.2]], dtype=torch.float64)
    problem = PoissonProblem(
        mesh=mesh,
        source="1 + x",
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Probe("u_there", at=[(0.31, 0.47)])],
    )
    solution = problem.solve(points=points)
    expected = solution.evaluate("grad(u)", there)
    for other in (pickle.loads(pickle.dumps(solution)), copy.deepcopy(solution)):
        assert torch.equal(other["u_there"], solution["u_there"])
        assert torch.equal(other.evaluate("grad(u)", there), expected)


@pytest.mark.parametrize("scheme", ["backward_euler", "bdf2"])
def test_a_solution_in_time_can_be_copied_and_pickled(scheme: str) -> None:
    problem = PoissonProblem(
        mesh=RectangleMesh(cells=(5, 4)),
        source="t*x",
        boundary=[Dirichlet("left", "sin(t)")],
        outputs=[Reaction("heat", "left")],
    )
    solution = TransientProblem(of=problem, scheme=scheme, end=0.3, steps=3).solve()
    there = torch.tensor([[0.31, 0.47]], dtype=torch.float64)
    expected = solution.evaluate("u + t", there)
    for other in (pickle.loads(pickle.dumps(solution)), copy.deepcopy(solution)):
        assert torch.equal(other["heat"], solution["heat"])
        assert torch.equal(other.evaluate("u + t", there), expected)
