"""Elasticity where formulas have to be taken with care: thermal strain of means, stresses on an axis of revolution."""

from __future__ import annotations

import pytest
import torch

from torch_sla import (
    Compliance,
    Dirichlet,
    ElasticityProblem,
    Energy,
    Field,
    Integral,
    Line,
    MeshArrays,
    Neumann,
    Parameter,
    Probe,
    RectangleMesh,
)


@pytest.mark.parametrize(("cell", "order"), [("quad", 1), ("quad", 2), ("triangle", 2)])
def test_heat_that_varies_within_cells_does_not_load_nearly_incompressible_bodies(cell, order):
    # Warmed linearly across, a free body bends without stress in its plane: u = c (x y, (y² - x²)/2), c = (1 + ν) α.
    c, size = 1.499999e-2, []
    for n in (4, 8):
        body = ElasticityProblem(
            mesh=RectangleMesh(cells=(n, n), cell=cell),
            order=order,
            model="plane_strain",
            poisson_ratio=0.499999,
            dilatation="averaged",
            thermal_expansion=1e-2,
            temperature="y",
            boundary=[Dirichlet("left", [f"{c}*x*y", f"{c}*(y**2 - x**2)/2"])],
            outputs=[
                Integral("du", f"(u[0] - {c}*x*y)**2 + (u[1] - {c}*(y**2 - x**2)/2)**2"),
                Integral("ds", "stress[0,0]**2 + stress[1,1]**2 + stress[0,1]**2"),
            ],
        )
        solution = body.solve()
        size.append([float(solution[name]) ** 0.5 / 1e-2 for name in ("du", "ds")])
    assert size[1][0] < 3e-3
    if (cell, order) == (
        "quad",
        2,
    ):  # whose volume change may be linear, as that of the exact solution is
        assert max(size[0] + size[1]) < 1e-7
        return
    assert size[0][0] / size[1][0] > 3.8  # second order
    assert size[0][1] / size[1][1] > 1.9


def shaft(**more):
    """A long solid shaft that turns: the stress on its axis is (3 - 2ν) ρω²R² / 8 (1 - ν) in radius and hoop."""
    return ElasticityProblem(
        mesh=more.pop("mesh", RectangleMesh(cells=(16, 1), size=(1.0, 0.1), cell="quad")),
        order=2,
        model="axisymmetric",
        poisson_ratio=0.3,
        body_force=["2*x", "0"],
        boundary=[
            Dirichlet("x < 1e-8", 0.0, component=0),
            Dirichlet(["bottom", "top"], 0.0, component=1),
        ],
        outputs=[
            Probe("axis", at=[(0.0, 0.05)], quantity="stress"),
            Line("hoop", at=[(0.0, 0.05), (1.0, 0.05)], n=3, quantity="strain[2,2]"),
            Field("nodes", "stress", on="nodes"),
            Integral("along", "stress[2,2]", on="bottom"),
        ],
        **more,
    )


def test_stresses_on_the_axis_of_revolution():
    problem = shaft()
    points = problem.mesh_data().points.requires_grad_()
    solution = problem.solve(points=points)
    exact = 2.0 * (3 - 0.6) / (8 * 0.7)
    stress = solution["axis"][0]
    found = stress.detach()
    assert float(found[0, 0]) == pytest.approx(exact, rel=2e-3)
    assert float(found[2, 2]) == pytest.approx(exact, rel=2e-3)
    assert solution["nodes"].isfinite().all()
    (slope,) = torch.autograd.grad(stress[2, 2], points)
    assert slope.isfinite().all()


@pytest.mark.parametrize("shift", [1e-17, -1e-17])
def test_points_that_miss_the_axis_by_rounding_lie_on_it(shift):
    mesh = shaft().mesh_data()
    points = mesh.points.clone()
    points[points[:, 0] == 0, 0] = shift
    moved = MeshArrays(
        points=points.tolist(),
        cells=mesh.cells.tolist(),
        cell="quad",
        facet_tags={
            name: mesh.facets[mesh.facet_tags[name]].tolist() for name in ("bottom", "top")
        },
    )
    a, b = shaft().solve(), shaft(mesh=moved).solve()
    torch.testing.assert_close(b["nodes"], a["nodes"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("model", "cell", "order"),
    [
        ("plane_strain", "quad", 1),
        ("plane_strain", "quad", 2),
        ("plane_strain", "triangle", 2),
        ("axisymmetric", "quad", 1),
        ("axisymmetric", "triangle", 2),
    ],
)
def test_the_energy_under_averaged_dilatation_is_the_work_done(model, cell, order):
    # Also where moduli and thickness vary within a cell: the mean volume change is what the stiffness resists.
    body = ElasticityProblem(
        mesh=RectangleMesh(cells=(3, 2), cell=cell),
        order=order,
        model=model,
        thickness=None if model == "axisymmetric" else "1 + x*y",
        young_modulus="exp(2*x*y)",
        poisson_ratio="0.3 + 0.15*x",
        dilatation="averaged",
        thermal_expansion=0.1,
        temperature=Parameter("T", on="nodes", default=0.0),
        body_force=["f", "0.3*f"],
        parameters=[Parameter("f", default=1.0)],
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Energy("stored"), Compliance("work")],
    )
    loaded = body.solve()
    torch.testing.assert_close(loaded["stored"], 0.5 * loaded["work"])
    # What a force adds to a body that has been heated is what it stores in a cold one.
    T = 1 + torch.arange(12, dtype=torch.float64).sin()
    heated, both = body.solve(T=T, f=0.0), body.solve(T=T)
    torch.testing.assert_close(both["stored"] - heated["stored"], loaded["stored"])
    assert body.check_gradients(T=T, f=1.0).passed


def tube(n, cell, order, dilatation="averaged", **changes):
    """A long thick tube under pressure, nearly incompressible; its mesh is not aligned with the radius."""
    settings = {
        "mesh": RectangleMesh(cells=(n, max(1, n // 4)), size=(1, 0.25), origin=(1, 0), cell=cell),
        "order": order,
        "model": "axisymmetric",
        "poisson_ratio": 0.499999,
        "dilatation": dilatation,
        "boundary": [
            Dirichlet(["bottom", "top"], 0.0, component=1),
            Neumann("left", pressure=1.0),
        ],
        "outputs": [Field("means", "trace(stress)")],
    }
    return ElasticityProblem(**{**settings, **changes})


@pytest.mark.parametrize(
    ("cell", "order", "rate", "most"),
    [("quad", 1, 2, 2e-3), ("quad", 2, 3, 1e-5), ("triangle", 2, 2.5, 2e-4)],
)
def test_nearly_incompressible_bodies_of_revolution_do_not_lock(cell, order, rate, most):
    # Lamé: u = (1 + ν)/E s ((1 - 2ν) r + b²/r), tr σ = 2 (1 + ν) s, s = p a²/(b² - a²) = 1/3.
    nu, off = 0.499999, []
    for n, dilatation in ((8, "pointwise"), (8, "averaged"), (16, "averaged")):
        problem = tube(n, cell, order, dilatation)
        solution, r = problem.solve(), problem.dof_points()[:, 0]
        exact = (1 + nu) / 3 * ((1 - 2 * nu) * r + 4 / r)
        off.append(float((solution.u[:, 0] - exact).abs().max() / exact.max()))
    locked, *off = off
    assert locked > 100 * off[0]
    assert off[1] < most
    assert off[0] / off[1] > 0.9 * 2**rate
    torch.testing.assert_close(
        solution["means"], torch.full_like(solution["means"], 2 * (1 + nu) / 3), rtol=3e-3, atol=0
    )


@pytest.mark.parametrize(("cell", "order"), [("quad", 1), ("quad", 2), ("triangle", 2)])
def test_heated_bodies_of_revolution_swell_freely(cell, order):
    # u = α T x on a mesh that reaches the axis and is distorted, without stress.
    problem = tube(
        4,
        cell,
        order,
        mesh=RectangleMesh(cells=(3, 3), cell=cell),
        thermal_expansion=1e-2,
        temperature=3.0,
        boundary=[Dirichlet("bottom", 0.0, component=1)],
        outputs=[
            Integral("du", "(u[0] - 0.03*x)**2 + (u[1] - 0.03*y)**2"),
            Integral("ds", "inner(stress, stress)"),
        ],
    )
    points = problem.mesh_data().points.clone()
    inside = ((points > 1e-9) & (points < 1 - 1e-9)).all(-1)
    points[inside] += 0.1 * torch.linspace(0, 3, int(inside.sum())).double().sin()[:, None]
    solution = problem.solve(points=points)
    assert float(solution["du"]) ** 0.5 < 1e-9
    assert float(solution["ds"]) ** 0.5 < 1e-6  # the bulk modulus is 2e5


@pytest.mark.parametrize(("nu", "n"), [(0.3, 1), (0.4999, 1), (0.4999, 2)])
def test_averaging_leaves_cells_of_order_two_their_stiffness_in_bending(nu, n):
    # Timoshenko: F L³ / 3 E' I + F L / (5/6 G h), E' = E / (1 - ν²).
    length, force = 10.0, 1e-3
    beam = ElasticityProblem(
        mesh=RectangleMesh(cells=(10, n), size=(length, 1.0), cell="quad"),
        order=2,
        model="plane_strain",
        poisson_ratio=nu,
        dilatation="averaged",
        boundary=[
            Dirichlet("left", 0.0, component=0),
            Dirichlet(at=[(0.0, 0.0)], value=0.0, component=1),
            Neumann("right", traction=[0.0, force]),
        ],
        outputs=[Probe("tip", at=[(length, 0.5)], quantity="u[1]")],
    )
    exact = 4 * force * length**3 * (1 - nu**2) + force * length * 2 * (1 + nu) * 6 / 5
    assert float(beam.solve()["tip"]) == pytest.approx(exact, rel=1e-2)


TWO = [[0.0, 0.0], [1.0, 0.0], [3.0, 0.0], [0.0, 1.0], [1.0, 1.0], [3.0, 1.0]]


def two_cells(**more):
    return ElasticityProblem(
        mesh=MeshArrays(points=TWO, cells=[[0, 1, 4, 3], [1, 2, 5, 4]], cell="quad"),
        boundary=[Dirichlet("x > -1", ["x", "2*x"])],
        outputs=[
            Field("cells", "u", on="cells"),
            Field("nodes", "grad(u)[0, 0]*u", on="nodes"),
        ],
        **more,
    )


@pytest.mark.parametrize("model", ["axisymmetric", "plane_stress"])
def test_means_of_fields_are_over_the_volume(model):
    # That of x over a ring from a to b is 2 (b³ - a³) / 3 (b² - a²), as over a plate whose thickness is x.
    body = two_cells(model=model, thickness=None if model == "axisymmetric" else "x")
    found = body.solve()
    inner, middle, outer = 2 / 3, 2 * 27 / (3 * 9), 2 * 26 / (3 * 8)
    factor = torch.tensor([1.0, 2.0]).double()
    for name, mean in (("cells", [inner, outer]), ("nodes", [inner, middle, outer] * 2)):
        wanted = torch.tensor(mean, dtype=torch.float64)[:, None] * factor
        assert torch.allclose(found[name], wanted, rtol=1e-12)


def test_means_over_the_volume_of_a_batch_and_their_slopes():
    # With the thickness 1 + c x the mean of x over the cell from a to b is a quotient of polynomials.
    body = two_cells(
        model="plane_stress", thickness="1 + c*x", parameters=[Parameter("c", default=0.0)]
    )
    c = torch.tensor([0.0, 0.5, 2.0]).double().requires_grad_()

    def part(k, a, b):
        return (b ** (k + 1) - a ** (k + 1)) / (k + 1)

    def first(a, b):
        return part(1, a, b) + c * part(2, a, b)

    def volume(a, b):
        return part(0, a, b) + c * part(1, a, b)

    found = body.solve(c=c)
    cells = torch.stack([first(0, 1) / volume(0, 1), first(1, 3) / volume(1, 3)], -1)
    middle = first(0, 3) / volume(0, 3)
    assert torch.allclose(found["cells"][..., 0], cells, rtol=1e-12)
    assert torch.allclose(found["nodes"][..., 1, 1], 2 * middle, rtol=1e-12)
    (slope,) = torch.autograd.grad(found["cells"][..., 0].sum(), c, retain_graph=True)
    (wanted,) = torch.autograd.grad(cells.sum(), c)
    assert torch.allclose(slope, wanted, rtol=1e-10)
