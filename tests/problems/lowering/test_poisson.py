"""The numbers: manufactured solutions, balances, outputs, materials, batches."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from torch_sla import (
    BoxMesh,
    Compliance,
    Dirichlet,
    Energy,
    Field,
    Flux,
    Integral,
    IntervalMesh,
    Maximum,
    MeshArrays,
    Neumann,
    Parameter,
    PoissonProblem,
    Probe,
    Reaction,
    RectangleMesh,
    Robin,
    Solver,
)
from torch_sla.assembly import h1_seminorm_error, l2_error

DIRECT = Solver(backend="scipy", method="superlu")
"""Where rounding is the only error allowed."""

ALL2 = ["left", "right", "bottom", "top"]
ALL3 = [*ALL2, "front", "back"]


def irregular(n: int = 7, seed: int = 311) -> MeshArrays:
    """A square whose inner points are shaken."""
    from torch_sla.assembly import rectangle_mesh

    mesh = rectangle_mesh((n, n))
    points = mesh.points.numpy().copy()
    inside = ((points > 0) & (points < 1)).all(1)
    rng = np.random.default_rng(seed)
    points[inside] += rng.uniform(-0.2 / n, 0.2 / n, (inside.sum(), 2))
    tags = {name: mesh.facets[index].numpy() for name, index in mesh.facet_tags.items()}
    centre = points[mesh.cells.numpy()].mean(1)[:, 0]
    return MeshArrays(
        points=points,
        cells=mesh.cells.numpy(),
        cell="triangle",
        facet_tags=tags,
        cell_tags={"west": centre < 0.5, "east": centre >= 0.5},
    )


@pytest.mark.parametrize(
    ("mesh", "all_sides", "source", "exact", "gradient"),
    [
        (
            lambda n: RectangleMesh(cells=(n, n)),
            ALL2,
            "2*pi**2*sin(pi*x)*sin(pi*y)",
            lambda x: torch.sin(math.pi * x[..., 0]) * torch.sin(math.pi * x[..., 1]),
            lambda x: (
                math.pi
                * torch.stack(
                    [
                        torch.cos(math.pi * x[..., 0]) * torch.sin(math.pi * x[..., 1]),
                        torch.sin(math.pi * x[..., 0]) * torch.cos(math.pi * x[..., 1]),
                    ],
                    -1,
                )
            ),
        ),
        (
            lambda n: BoxMesh(cells=(n // 2, n // 2, n // 2)),
            ALL3,
            "3*pi**2*sin(pi*x)*sin(pi*y)*sin(pi*z)",
            lambda x: torch.sin(math.pi * x).prod(-1),
            lambda x: (
                math.pi
                * torch.cos(math.pi * x)
                / torch.sin(math.pi * x)
                * torch.sin(math.pi * x).prod(-1, keepdim=True)
            ),
        ),
    ],
    ids=["triangles", "tetrahedra"],
)
def test_rates(mesh, all_sides, source, exact, gradient) -> None:
    errors = []
    for n in (20, 40):
        problem = PoissonProblem(mesh=mesh(n), source=source, boundary=[Dirichlet(all_sides, 0.0)])
        u, dofs = problem.solve().u, problem.compile().dofs
        errors.append(
            (float(l2_error(dofs, u, exact)), float(h1_seminorm_error(dofs, u, gradient)))
        )
    l2, h1 = (math.log2(a / b) for a, b in zip(*errors, strict=True))
    assert l2 == pytest.approx(2.0, abs=0.1)
    assert h1 == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("order", [1, 2])
def test_a_linear_field_is_exact_on_an_irregular_mesh(order: int) -> None:
    problem = PoissonProblem(
        solver=DIRECT,
        mesh=irregular(),
        order=order,
        diffusivity=3.0,
        boundary=[
            Dirichlet("left", "1 + 2*y"),
            Neumann("top", flux=3.0 * 2.0),
            Neumann("bottom", flux=-3.0 * 2.0),
            # On x = 1: 3 du/dn = 3 * 4 = h (ambient - u).
            Robin("right", coefficient=5.0, ambient="12/5 + 1 + 4 + 2*y"),
        ],
        outputs=[Probe("p", at=[(0.31, 0.47)]), Probe("g", at=[(0.31, 0.47)], quantity="grad(u)")],
    )
    solution = problem.solve()
    x = problem.dof_points()
    torch.testing.assert_close(solution.u, 1 + 4 * x[:, 0] + 2 * x[:, 1], rtol=0, atol=1e-12)
    assert float(solution["p"]) == pytest.approx(1 + 4 * 0.31 + 2 * 0.47, abs=1e-12)
    assert solution["g"][0].tolist() == pytest.approx([4.0, 2.0], abs=1e-10)


def test_quadratic_elements_are_exact_for_a_quadratic() -> None:
    problem = PoissonProblem(
        solver=DIRECT,
        mesh=irregular(4),
        order=2,
        source=-4.0,
        boundary=[Dirichlet(ALL2, "x**2 + y**2")],
    )
    x = problem.dof_points()
    torch.testing.assert_close(problem.solve().u, x.square().sum(1), rtol=0, atol=1e-12)


def test_matrix_diffusivity() -> None:
    # u = x y with kappa = [[2, 1], [1, 3]]: -div(kappa grad u) = -2.
    problem = PoissonProblem(
        solver=DIRECT,
        mesh=irregular(5),
        order=2,
        diffusivity=[[2.0, 1.0], [1.0, 3.0]],
        source=-2.0,
        boundary=[Dirichlet(ALL2, "x*y")],
        outputs=[Energy("energy")],
    )
    solution = problem.solve()
    x = problem.dof_points()
    torch.testing.assert_close(solution.u, x[:, 0] * x[:, 1], rtol=0, atol=1e-12)
    # half the integral of 2 y^2 + 2 x y + 3 x^2
    assert float(solution["energy"]) == pytest.approx(0.5 * (2 / 3 + 1 / 2 + 1), abs=1e-12)


def test_intervals_and_reaction() -> None:
    # -u'' + 9 u = 0, u(0) = 1, u'(1) = 0: cosh(3(1 - x))/cosh(3).
    problem = PoissonProblem(
        mesh=IntervalMesh(cells=200), order=2, reaction=9.0, boundary=[Dirichlet("left", 1.0)]
    )
    x = problem.dof_points()[:, 0]
    exact = torch.cosh(3 * (1 - x)) / math.cosh(3)
    assert float((problem.solve().u - exact).abs().max()) < 1e-8


def test_what_flows_in_flows_out() -> None:
    problem = PoissonProblem(
        solver=DIRECT,
        mesh=irregular(),
        diffusivity={"west": 1.0, "east": "5 + x"},
        reaction="0.5*y",
        source="exp(x)",
        boundary=[
            Dirichlet("left", "y"),
            Dirichlet("bottom", 0.0),
            Neumann("top", flux="1 + x"),
            Robin("right", coefficient="2 + y", ambient=3.0),
        ],
        outputs=[
            *(Flux(side, side) for side in ALL2),
            Flux("all", ALL2),
            Flux("held", ["left", "bottom"]),
            Reaction("holding", ["left", "bottom"]),
            Integral("made", "exp(x)"),
            Integral("lost", "0.5*y*u"),
        ],
    )
    s = problem.solve()
    balance = sum(float(s[side]) for side in ALL2) + float(s["lost"]) - float(s["made"])
    assert abs(balance) < 1e-12
    assert float(s["all"]) == pytest.approx(sum(float(s[side]) for side in ALL2), abs=1e-12)
    assert float(s["held"]) == pytest.approx(float(s["left"] + s["bottom"]), abs=1e-12)
    assert float(s["holding"]) == pytest.approx(-float(s["held"]), abs=1e-12)
    assert float(s["top"]) == pytest.approx(-1.5, abs=1e-12)


def test_flux_converges_to_the_truth_on_a_part_of_a_held_side() -> None:
    # u = sin(pi x) sinh(pi (1 - y)) / sinh(pi): the flux out through the bottom from 1/4 to 1/2.
    problem = PoissonProblem(
        mesh=RectangleMesh(cells=(32, 32)),
        boundary=[
            Dirichlet(["left", "right", "top"], 0.0),
            Dirichlet("bottom", "sin(pi*x)"),
        ],
        outputs=[Flux("part", "y < 1e-9 and x > 0.24 and x < 0.51")],
    )
    exact = -(math.cos(math.pi / 4) - math.cos(math.pi / 2)) / math.tanh(math.pi)
    assert float(problem.solve()["part"]) == pytest.approx(exact, rel=5e-3)


def test_two_materials_in_series() -> None:
    mesh = irregular(8)
    problem = PoissonProblem(
        mesh=mesh,
        diffusivity={"west": Parameter("k_west", default=50.0), "*": Parameter("k_rest")},
        boundary=[Dirichlet("left", 100.0), Dirichlet("right", 0.0)],
        outputs=[Flux("through", "right")],
    )
    k = torch.tensor(390.0, dtype=torch.float64, requires_grad=True)
    # The west of a shaken mesh ends on a jagged line, so this mesh is compared with itself.
    cells = torch.where(
        problem.mesh_data().points[problem.mesh_data().cells].mean(1)[:, 0] < 0.5, 50.0, 390.0
    ).to(torch.float64)
    by_cell = problem.updated(diffusivity=Parameter("k", on="cells")).solve(k=cells)
    solution = problem.solve(k_rest=k)
    torch.testing.assert_close(solution.u, by_cell.u)
    solution["through"].backward()
    step = 1e-3
    with torch.no_grad():
        up, down = (problem.solve(k_rest=390.0 + s)["through"] for s in (step, -step))
    assert float(k.grad) == pytest.approx(float((up - down) / (2 * step)), rel=1e-6)


def test_outputs() -> None:
    problem = PoissonProblem(
        solver=DIRECT,
        mesh=RectangleMesh(cells=(6, 5), size=(1.0, 2.0)),
        diffusivity=Parameter("k", on="cells", default=2.0),
        boundary=[Dirichlet("left", 0.0), Dirichlet("right", 1.0)],
        outputs=[
            Integral("area", "1"),
            Integral("side", "y", on="right"),
            Integral("left_half", "u", on="x < 1e-9"),
            Energy("energy"),
            Compliance("work"),
            Maximum("top", "u*y"),
            Maximum("mean_square", "u", p=2.0),
            Maximum("steep", "norm(grad(u))"),
            Field("flow", "-k*grad(u)"),
            Field("cell_u", "u"),
            Field("node_u", "u + 0*x", on="nodes"),
            Field("node_flow", "-k*grad(u)", on="nodes"),
            Field("points_u", "u", on="quadrature"),
        ],
    )
    s = problem.solve()
    mesh = problem.mesh_data()
    assert float(s["area"]) == pytest.approx(2.0)
    assert float(s["side"]) == pytest.approx(2.0)
    assert float(s["left_half"]) == pytest.approx(0.0)
    assert float(s["energy"]) == pytest.approx(2.0)
    assert float(s["work"]) == pytest.approx(0.0)
    assert float(s["top"]) == pytest.approx(2.0)
    assert float(s["mean_square"]) == pytest.approx(1 / math.sqrt(3), rel=1e-10)
    assert float(s["steep"]) == pytest.approx(1.0)
    flow = torch.tensor([-2.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(s["flow"], flow.expand(mesh.n_cells, 2), rtol=0, atol=1e-12)
    torch.testing.assert_close(s["node_flow"], flow.expand(mesh.n_points, 2), rtol=0, atol=1e-12)
    torch.testing.assert_close(s["node_u"], mesh.points[:, 0])
    torch.testing.assert_close(s["cell_u"], mesh.centroids[:, 0])
    assert s["points_u"].shape == (problem.compile().counts["quadrature"],)
    with pytest.raises(KeyError, match="did you mean 'energy'"):
        s["enrgy"]


def test_compliance_is_twice_the_energy_under_load_alone() -> None:
    problem = PoissonProblem(
        mesh=irregular(),
        source="x",
        boundary=[Dirichlet("left", 0.0), Neumann("top", flux=2.0)],
        outputs=[Energy("energy"), Compliance("work")],
    )
    s = problem.solve()
    assert float(s["work"]) == pytest.approx(2 * float(s["energy"]), rel=1e-12)


def test_evaluate_anywhere() -> None:
    problem = PoissonProblem(
        mesh=irregular(),
        boundary=[Dirichlet(["left", "right"], "2*x")],
    )
    s = problem.solve()
    at = torch.tensor([[0.25, 0.75], [0.6, 0.1]], dtype=torch.float64, requires_grad=True)
    value = s.evaluate("u*u", at)
    torch.testing.assert_close(value, (2 * at[:, 0]) ** 2)
    (slope,) = torch.autograd.grad(value.sum(), at)
    torch.testing.assert_close(slope[:, 0], 8 * at[:, 0].detach())
    assert s.evaluate("grad(u)", at).shape == (2, 2)
    with pytest.raises(ValueError, match="outside the mesh"):
        s.evaluate("u", torch.tensor([[2.0, 0.0]]))
    with pytest.raises(ValueError, match="unknown name 'v'"):
        s.evaluate("v", at)


def test_operators() -> None:
    problem = PoissonProblem(
        solver=DIRECT,
        mesh=irregular(),
        diffusivity=Parameter("k", default=2.0),
        capacity=3.0,
        reaction=1.0,
        source="x",
        boundary=[Dirichlet("left", "y"), Robin("right", 2.0, 1.0)],
    )
    a, u = problem.assemble(k=1.5), problem.solve(k=1.5).u
    assert float((a.matrix @ u - a.load)[a.free].abs().max()) < 1e-13
    torch.testing.assert_close(u[~a.free], a.lift[~a.free])
    assert float(a.mass.values.sum()) == pytest.approx(3.0)
    assert float(problem.residual(u, k=1.5).abs().max()) < 1e-13
    torch.testing.assert_close(problem.residual(u, k=1.5, constrained=False), a.matrix @ u - a.load)
    v = torch.randn_like(u)
    difference = problem.residual(u + v, k=1.5) - problem.residual(u, k=1.5)
    torch.testing.assert_close(problem.jacobian(u, k=1.5) @ v, difference, rtol=0, atol=1e-11)


def test_batches() -> None:
    problem = PoissonProblem(
        mesh=irregular(4),
        diffusivity=Parameter("k", on="cells", default=1.0),
        source=Parameter("f", default=1.0),
        boundary=[
            Dirichlet("left", Parameter("g", default=0.0)),
            Robin("right", 1.0, Parameter("a", default=0.0)),
        ],
        outputs=[Probe("p", at=[(0.5, 0.5), (0.2, 0.9)]), Flux("q", "left"), Integral("one", "1")],
    )
    n = problem.mesh_data().n_cells
    k = 1 + torch.rand(3, 1, n, dtype=torch.float64)
    f = torch.rand(4, dtype=torch.float64)
    g = torch.rand(3, 1, dtype=torch.float64)
    s = problem.solve(k=k, f=f, g=g)
    assert s.u.shape == (3, 4, problem.compile().dofs.n)
    assert s["p"].shape == (3, 4, 2)
    assert s["q"].shape == s["one"].shape == (3, 4)
    one = problem.solve(k=k[2, 0], f=f[1], g=g[2, 0])
    torch.testing.assert_close(s.u[2, 1], one.u)
    torch.testing.assert_close(s["p"][2, 1], one["p"])
    torch.testing.assert_close(s["q"][2, 1], one["q"])


def test_single_precision() -> None:
    problem = PoissonProblem(
        mesh=RectangleMesh(cells=(8, 8)),
        diffusivity=Parameter("k", on="cells", default=1.0),
        source=1.0,
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Probe("p", at=[(0.5, 0.5)])],
    )
    single = problem.updated(solver=Solver(dtype="float32"))
    k = torch.ones(128, dtype=torch.float64, requires_grad=True)
    s = single.solve(k=k)
    assert s.u.dtype == s["p"].dtype == torch.float32
    torch.testing.assert_close(s.u.double(), problem.solve().u, rtol=1e-4, atol=1e-5)
    s.u.sum().backward()
    assert k.grad.dtype == torch.float64
