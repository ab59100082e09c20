"""Batches of moved points beside other batches: shapes, derivatives, errors, sweeps, pictures and files."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from torch_sla import (
    Dirichlet,
    EigenProblem,
    Integral,
    Parameter,
    PoissonProblem,
    Probe,
    Reaction,
    RectangleMesh,
    Robin,
    SweepProblem,
)
from torch_sla.errors import ArgumentError, MeshError, SolveError
from torch_sla.problems.specs.solver import Newton, Solver


def plate(**more) -> PoissonProblem:
    return PoissonProblem(
        mesh=RectangleMesh(cells=(3, 3)),
        diffusivity=Parameter("kappa", on="cells", default=1.0),
        source=Parameter("f", default=1.0),
        boundary=[Dirichlet("left", 0.0), Robin("right", coefficient=2.0, ambient=0.5)],
        outputs=[
            Integral("mean", "u"),
            Probe("inside", at=[(0.3, 0.4), (0.5, 0.5)], quantity="kappa*grad(u)"),
            Reaction("held", "left"),
        ],
        **more,
    )


def meshes(problem, *shape: int) -> torch.Tensor:
    points = problem.mesh_data().points
    generator = torch.Generator().manual_seed(11)
    noise = torch.rand(*shape, *points.shape, generator=generator, dtype=torch.float64)
    return 1.1 * points + 0.03 * noise


def test_batches_of_meshes_and_parameters_broadcast() -> None:
    problem = plate()
    X = meshes(problem, 3)
    generator = torch.Generator().manual_seed(5)
    kappa = 1 + torch.rand(3, 18, generator=generator, dtype=torch.float64)
    f = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    found = problem.solve(points=X, kappa=kappa, f=f)
    assert found.batch == (2, 3)
    assert found.points.shape == X.shape
    place = torch.tensor([[0.2, 0.7]], dtype=torch.float64)
    seen = found.evaluate("kappa*u", place)
    for j in range(2):
        for i in range(3):
            alone = problem.solve(points=X[i], kappa=kappa[i], f=f[j, 0])
            torch.testing.assert_close(found.u[j, i], alone.u)
            for name, value in alone.outputs.items():
                torch.testing.assert_close(found[name][j, i], value)
            torch.testing.assert_close(seen[j, i], alone.evaluate("kappa*u", place))
    # Dimensions of one among those of meshes, numbers and lists of them.
    lines = problem.solve(points=X[:, None], f=[1.0, 2.0, 3.0, 4.0])
    assert lines.u.shape == (3, 4, 16)
    torch.testing.assert_close(lines["mean"][2, 3], problem.solve(points=X[2], f=4.0)["mean"])
    assert problem.solve(points=X[:1], f=2.0)["mean"].shape == (1,)
    grid = problem.solve(points=X.reshape(3, 1, 1, 16, 2), kappa=kappa[:2, None], f=f[:, 0])
    assert grid.batch == (3, 2, 2)
    alone = problem.solve(points=X[2], kappa=kappa[1], f=f[0, 0])
    torch.testing.assert_close(grid.u[2, 1, 0], alone.u)


def test_derivatives_of_all_orders_and_modes() -> None:
    problem = plate()
    X = meshes(problem, 2).requires_grad_()
    kappa = torch.linspace(1, 2, 36, dtype=torch.float64).reshape(2, 18).requires_grad_()

    def number(X, kappa):
        found = problem.solve(points=X, kappa=kappa)
        return (found.u**3).mean() + found["held"].square().sum() + found["inside"].sum()

    assert torch.autograd.gradcheck(number, (X, kappa), fast_mode=True, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(number, (X, kappa), fast_mode=True)


def test_the_operators_have_the_batch() -> None:
    problem = plate()
    X, f = meshes(problem, 2), torch.ones(3, 1, dtype=torch.float64)
    found = problem.assemble(points=X, f=f)
    assert found.matrix.shape == (2, 16, 16)
    assert found.load.shape == (3, 2, 16)
    assert found.mass.shape == (2, 16, 16)
    u = problem.solve(points=X, f=f).u
    left = torch.stack([found.matrix @ each for each in u]) - found.load
    assert float(left[..., found.free].abs().max()) < 1e-13
    jacobian = problem.jacobian(points=X)
    assert jacobian.shape == (2, 16, 16)
    alone = problem.jacobian(points=X[1])
    torch.testing.assert_close(jacobian.values[1], alone.values)


def test_what_is_wrong_with_a_mesh_names_it() -> None:
    problem = plate()
    X = meshes(problem, 3)
    inverted = X.clone()
    inverted[2, 5] += 1.0
    with pytest.raises(MeshError, match=r"batch member 2 of points: points: cell \d+ .*inverted"):
        problem.solve(points=inverted)
    with pytest.raises(MeshError, match=r"batch member \(2, 0\) of points: .*inverted"):
        problem.solve(points=inverted[:, None].expand(3, 2, -1, -1))
    away = X.clone()
    away[1] += 5.0
    with pytest.raises(ArgumentError, match=r"outputs.1.at: batch member 1 of points: .*outside"):
        problem.solve(points=away)
    broken = X.clone()
    broken[0, 3] = math.nan
    with pytest.raises(MeshError, match="batch member 0 of points: points holds NaN"):
        problem.solve(points=broken)
    with pytest.raises(
        ArgumentError, match=r"'f' has the batch dimensions \[2\], and points has \[3\]"
    ):
        problem.solve(points=X, f=[1.0, 2.0])
    with pytest.raises(ArgumentError, match="no member"):
        problem.solve(points=X[:0])
    with pytest.raises(ArgumentError, match=r"'kappa' has shape \(3, 17\)"):
        problem.solve(points=X, kappa=torch.ones(3, 17, dtype=torch.float64))
    modes = EigenProblem(of=problem, k=2)
    with pytest.raises(MeshError, match=r"points has shape \(3, 16, 2\).* one by one"):
        modes.solve(points=X)


def test_a_nonlinear_problem_says_which_mesh_failed() -> None:
    problem = PoissonProblem(
        mesh=RectangleMesh(cells=(3, 3)),
        diffusivity="1 + u**2",
        source=Parameter("f", default=1.0),
        boundary=[Dirichlet("left", 0.0)],
        solver=Solver(nonlinear=Newton(maxiter=6)),
    )
    X = meshes(problem, 2)
    found = problem.solve(points=X, f=[1.0, 2.0])
    torch.testing.assert_close(found.u[1], problem.solve(points=X[1], f=2.0).u)
    assert found.info.iterations == problem.solve(points=X[1], f=2.0).info.iterations
    with pytest.raises(SolveError, match="batch member 1 of points"):
        problem.solve(points=X, f=[1.0, 1e7])
    left = problem.solve(points=X, f=[1.0, 1e7], throw=False)
    assert not left.info.converged


def test_sweeps_go_over_all_meshes() -> None:
    problem = plate()
    X = meshes(problem, 3)
    sweep = SweepProblem(of=problem, cases=[{"f": 1.0}, {"f": 2.0}])
    found = sweep.solve(points=X)
    assert found.batch == (3,)
    assert found["mean"].shape == (3, 2)
    torch.testing.assert_close(found["mean"][2, 1], problem.solve(points=X[2], f=2.0)["mean"])


def test_files_and_pictures_show_each_mesh(tmp_path) -> None:
    from torch_sla.problems.report.frames import frames_of
    from torch_sla.problems.report.page.fields import seen

    problem = plate()
    X = meshes(problem, 3)
    found = problem.solve(points=X)
    found.save(tmp_path / "all.npz")
    with np.load(tmp_path / "all.npz") as arrays:
        assert np.array_equal(arrays["points"], X.numpy())
    with pytest.raises(ArgumentError, match="a mesh of its own"):
        found.save(tmp_path / "all.pvd")
    frames = frames_of(found)
    _, _, points = seen(frames, "u", frames.nodal["u"])
    assert np.array_equal(points, X.numpy())
    some = frames.only([2])
    assert torch.equal(some.points_of(0), X[2])
    found.report(tmp_path / "page.html")
