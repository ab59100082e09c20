"""Published benchmarks, each with its source, its mesh and its tolerance."""

from __future__ import annotations

import math

import pytest
import torch

from torch_sla import (
    PML,
    BoxMesh,
    Dirichlet,
    EigenProblem,
    ElasticityProblem,
    HelmholtzProblem,
    HyperelasticityProblem,
    Integral,
    IntervalMesh,
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
from torch_sla.errors import SolveError, SpecError


def test_nafems_t4_convection_from_a_plate() -> None:
    """NAFEMS, The Standard NAFEMS Benchmarks, rev. 3, 1990, test T4: 18.25 at (0.6, 0.2)."""
    plate = PoissonProblem(
        mesh=RectangleMesh(cells=(12, 20), size=(0.6, 1.0), cell="quad"),
        order=2,
        diffusivity=52.0,
        boundary=[Robin(["right", "top"], 750.0, 0.0), Dirichlet("bottom", 100.0)],
        outputs=[Probe("E", at=[(0.6, 0.2)])],
    )
    assert float(plate.solve()["E"]) == pytest.approx(18.25, rel=2e-3)


def membrane(n: int) -> tuple[ElasticityProblem, torch.Tensor]:
    """The elliptic membrane of LE1 as a moved rectangle: x from bore to rim, y the angle."""
    problem = ElasticityProblem(
        mesh=RectangleMesh(cells=(n, 2 * n), cell="quad"),
        order=2,
        model="plane_stress",
        young_modulus=210e3,
        poisson_ratio=0.3,
        thickness=0.1,
        boundary=[
            Dirichlet("bottom", 0.0, component=1),
            Dirichlet("top", 0.0, component=0),
            Neumann("right", pressure=-10.0),
        ],
        outputs=[Probe("D", at=[(2.0001, 0.0001)], quantity="stress[1, 1]")],
    )
    s, angle = problem.mesh_data().points.unbind(1)
    angle = 0.5 * math.pi * angle
    a, b = 2.0 + 1.25 * s, 1.0 + 1.75 * s
    return problem, torch.stack([a * torch.cos(angle), b * torch.sin(angle)], 1)


def test_nafems_le1_elliptic_membrane() -> None:
    """NAFEMS, The Standard NAFEMS Benchmarks, rev. 3, 1990, test LE1: 92.7 MPa at D = (2, 0)."""
    problem, points = membrane(16)
    assert float(problem.solve(points=points)["D"]) == pytest.approx(92.7, rel=1e-2)


def cook(n: int, **changes: object) -> ElasticityProblem:
    """Cook's membrane: a tapered panel, clamped at the left, sheared at the right."""
    t = torch.linspace(0, 1, n + 1, dtype=torch.float64)
    x, y = torch.meshgrid(48 * t, t, indexing="ij")
    low = 44 / 48 * x
    height = 44 - (44 - 16) * x / 48
    points = torch.stack([x, low + height * y], -1).reshape(-1, 2)
    i = torch.arange((n + 1) ** 2).reshape(n + 1, n + 1)
    cells = torch.stack([i[:-1, :-1], i[1:, :-1], i[1:, 1:], i[:-1, 1:]], -1).reshape(-1, 4)
    settings: dict[str, object] = {
        "mesh": MeshArrays(points=points, cells=cells, cell="quad"),
        "model": "plane_stress",
        "young_modulus": 1.0,
        "poisson_ratio": 1 / 3,
        "boundary": [
            Dirichlet("x < 1e-9", 0.0),
            Neumann("x > 48 - 1e-9", traction=[0.0, 1 / 16]),
        ],
        "outputs": [Probe("tip", at=[(48.0, 52.0)], quantity="u[1]")],
    }
    return ElasticityProblem(**{**settings, **changes})


def test_cooks_membrane() -> None:
    """Cook, J. Struct. Div. ASCE 100 (1974), 1851-1863: the tip moves by 23.96 (converged)."""
    assert float(cook(16, order=2).solve()["tip"]) == pytest.approx(23.96, rel=2e-3)


def test_cooks_membrane_nearly_incompressible_does_not_lock() -> None:
    """The panel of rubber-like moduli (Simo and Armero, Int. J. Numer. Methods Engrg. 33 (1992), 1413-1449)."""
    moduli = {"model": "plane_strain", "young_modulus": 240.565, "poisson_ratio": 0.4999}
    load = {"boundary": [Dirichlet("x < 1e-9", 0.0), Neumann("x > 48 - 1e-9", traction=[0, 6.25])]}
    reference = float(cook(16, order=2, dilatation="averaged", **moduli, **load).solve()["tip"])
    free = float(cook(16, dilatation="averaged", **moduli, **load).solve()["tip"])
    locked = float(cook(16, **moduli, **load).solve()["tip"])
    assert free == pytest.approx(reference, rel=0.03)
    assert locked < 0.75 * reference


@pytest.mark.parametrize(
    ("order", "dilatation", "tip", "within"),
    [(1, "pointwise", 2.2867, 1e-3), (1, "averaged", 6.14, 0.03), (2, "averaged", 6.93, 0.015)],
)
def test_cooks_membrane_at_large_strain(
    order: int, dilatation: str, tip: float, within: float
) -> None:
    """The panel of rubber on 4 by 4 cells under a force of 100, its corner.

    OpenGeoSys, benchmark CooksMembrane of large deformations: 2.2867 at points, 6.14 with the F-bar method of de Souza
    Neto et al., Int. J. Solids Struct. 33 (1996), 3277-3296, on these cells; 6.93 is converged.
    """
    panel = cook(4, order=order, model="plane_strain")
    rubber = HyperelasticityProblem(
        mesh=panel.mesh,
        order=order,
        law="mu/2*(J1 - 3) + k/2*(J - 1)**2",
        constants={"mu": 80.2419, "k": 40094.2},
        dilatation=dilatation,
        load_steps=4,
        boundary=[Dirichlet("x < 1e-9", 0.0), Neumann("x > 48 - 1e-9", traction=[0.0, 6.25])],
        outputs=[Probe("corner", at=[(48.0, 60.0)], quantity="u[1]")],
    )
    assert float(rubber.solve()["corner"]) == pytest.approx(tip, rel=within)


def test_averaging_is_refused_where_it_does_nothing() -> None:
    mesh = RectangleMesh(cells=(2, 2))
    problem = ElasticityProblem(
        mesh=mesh, model="plane_strain", dilatation="averaged", boundary=[Dirichlet("left", 0.0)]
    )
    for attempt in (problem.solve, problem.check, EigenProblem(of=problem).check):
        with pytest.raises(SpecError, match=r"dilatation.*lock"):
            attempt()
    with pytest.raises(SpecError, match=r"dilatation: averaged is not for plane_stress.*not lock"):
        problem.updated(model="plane_stress")


@pytest.mark.parametrize(
    ("ratio", "down", "back"), [(1.0, 0.30172, 0.05643), (5.0, 0.71379, 0.38763)]
)
def test_elastica(ratio: float, down: float, back: float) -> None:
    """Mattiasson, Int. J. Numer. Methods Engrg. 17 (1981), 145-153, PL²/EI = 1 and 5."""
    length = 50.0
    beam = HyperelasticityProblem(
        mesh=RectangleMesh(cells=(25, 1), size=(length, 1.0), cell="quad"),
        order=2,
        law="saint_venant_kirchhoff",
        constants={"young_modulus": 12.0 * length**2, "poisson_ratio": 0.0},
        boundary=[Dirichlet("left", 0.0), Neumann("right", traction=[0.0, -ratio])],
        outputs=[Probe("tip", at=[(length, 0.5)])],
    )
    tip = beam.solve()["tip"][0] / length
    assert float(-tip[1]) == pytest.approx(down, rel=3e-3)
    assert float(-tip[0]) == pytest.approx(back, rel=1e-2)


def test_load_steps_are_cut_and_leave_no_trace() -> None:
    """A block pressed to 40 % of its height: one step turns it inside out, its halves do not."""

    def block(steps: int) -> HyperelasticityProblem:
        return HyperelasticityProblem(
            mesh=BoxMesh(cells=(2, 2, 2), cell="hexahedron"),
            constants={"mu": Parameter("mu", default=1.0), "lam": 2.0},
            load_steps=steps,
            boundary=[Dirichlet("bottom", 0.0), Dirichlet("top", [0.0, 0.0, -0.6])],
            outputs=[Reaction("press", "top")],
        )

    one, many = block(1), block(8)
    notes = one.solve(mu=1.3).info.notes
    assert any("cut" in note and "cut 0 times" not in note for note in notes), notes
    value, gradient = one.value_and_grad(lambda s: s["press"][2], mu=1.3)
    other, same = many.value_and_grad(lambda s: s["press"][2], mu=1.3)
    assert float(value) == pytest.approx(float(other), rel=1e-8)
    assert float(gradient["mu"]) == pytest.approx(float(same["mu"]), rel=1e-7)
    pressed = one.updated(boundary=[Dirichlet("bottom", 0.0), Dirichlet("top", [0.0, 0.0, -1.01])])
    with pytest.raises(SolveError, match=r"load factor 0\.9"):
        pressed.solve()


def test_following_pressure_keeps_a_sphere_like_block_in_balance() -> None:
    """Under equal pressure all around, mu = 1 and lam = 0: a cube of stretch a, p = mu (1 - a²) / a³."""
    cube = HyperelasticityProblem(
        mesh=BoxMesh(cells=(1, 1, 1), cell="hexahedron"),
        constants={"mu": 1.0, "lam": 0.0},
        boundary=[
            Dirichlet("left", 0.0, component=0),
            Dirichlet("front", 0.0, component=1),
            Dirichlet("bottom", 0.0, component=2),
            Neumann(["right", "back", "top"], pressure=(1 - 0.81) / 0.729),
        ],
        outputs=[Integral("volume", "J")],
    )
    assert float(cube.solve()["volume"]) == pytest.approx(0.9**3, rel=1e-9)


def test_phase_of_the_discrete_wave() -> None:
    """Ihlenburg and Babuska, Comput. Math. Appl. 30 (1995), 9-37: the discrete wavenumber in 1D.

    On n equal elements of order 1 the wave runs with the wavenumber k' of cos(k'h) = (6 - 2 K²)/(6 + K²),
    K = k h, exactly.
    """
    k, n = 10.0, 40
    K = k / n
    discrete = n * math.acos((6 - 2 * K**2) / (6 + K**2))
    # Ends that are exact for the discrete wave: values given on both sides.
    tube = HelmholtzProblem(
        mesh=IntervalMesh(cells=n),
        wavenumber=k,
        boundary=[
            Dirichlet("left", 1.0),
            Dirichlet("right", f"exp(1j*{discrete!r})"),
        ],
    )
    x = tube.dof_points()[:, 0]
    exact = torch.exp(1j * discrete * x)
    assert float((tube.solve().u - exact).abs().max()) < 1e-10


def test_a_perfectly_matched_layer_does_not_reflect() -> None:
    """A point source in the plane: inside, the field is that of a twice larger domain."""

    def source(half: int) -> HelmholtzProblem:
        edge = half / 8
        return HelmholtzProblem(
            mesh=RectangleMesh(
                cells=(4 * half + 16, 4 * half + 16),
                size=(2 * edge + 1.0, 2 * edge + 1.0),
                origin=(-edge - 0.5, -edge - 0.5),
                cell="quad",
            ),
            order=2,
            wavenumber=6.0,
            source="exp(-20*(x**2 + y**2))",
            layer=PML(lower=[-edge, -edge], upper=[edge, edge], thickness=0.5),
            outputs=[Probe("p", at=[(0.31, 0.2), (-0.4, 0.1), (0.03, 0.45)])],
        )

    near, far = source(4).solve()["p"], source(8).solve()["p"]
    assert float((near - far).abs().max() / far.abs().max()) < 5e-3


def test_singular_supports_are_named() -> None:
    loose = ElasticityProblem(
        mesh=RectangleMesh(cells=(2, 2)),
        model="plane_strain",
        boundary=[Dirichlet("left", 0.0, component=0)],
    )
    with pytest.raises(SpecError, match="rigid"):
        loose.solve()


def test_elasticity_of_many_unknowns_goes_through_multigrid() -> None:
    """Rigid-body modes reach the hierarchy: few iterations, and the plan says so."""
    block = ElasticityProblem(
        mesh=BoxMesh(cells=(12, 12, 12), cell="hexahedron"),
        boundary=[Dirichlet("bottom", 0.0), Neumann("top", traction=[0.1, 0.0, -0.1])],
        solver=Solver(backend="pytorch", method="cg", preconditioner="multigrid"),
    )
    info = block.solve().info
    assert info.iterations < 25
    assert info.preconditioner == "multigrid"
