"""Modes of a physics."""

from __future__ import annotations

import json
import math

import pytest
import torch

from torch_sla import (
    Component,
    Dirichlet,
    EigenProblem,
    ElasticityProblem,
    HelmholtzProblem,
    HyperelasticityProblem,
    Integral,
    IntervalMesh,
    MeshArrays,
    Neumann,
    Newton,
    Parameter,
    Periodic,
    PointLoad,
    PoissonProblem,
    RectangleMesh,
    Robin,
    Solver,
    StokesProblem,
    SweepProblem,
    distribute,
    load_problem,
)
from torch_sla.errors import ArgumentError, GradientError, SolveError, SpecError
from torch_sla.problems.lowering.mesh import build_mesh

SIDES = ["left", "right", "bottom", "top"]


def test_nafems_fv32_tapered_membrane() -> None:
    """NAFEMS, The Standard NAFEMS Benchmarks, rev. 3, 1990, test FV32: six frequencies in Hz."""
    problem = ElasticityProblem(
        mesh=RectangleMesh(cells=(12, 6), cell="quad"),
        order=2,
        model="plane_stress",
        young_modulus=200e9,
        poisson_ratio=0.3,
        density=8000.0,
        thickness=0.05,
        boundary=[Dirichlet("left", 0.0)],
    )
    x, y = problem.mesh_data().points.unbind(1)
    points = torch.stack([10 * x, (2 * y - 1) * (2.5 - 2 * x)], 1)
    found = EigenProblem(of=problem, k=6).solve(points=points)
    published = torch.tensor([44.623, 130.03, 162.70, 246.05, 379.90, 391.44], dtype=torch.float64)
    assert torch.allclose(found.frequencies, published, rtol=2e-3, atol=0)


def test_membrane_modes_converge_and_are_normalised() -> None:
    errors = []
    for n in (6, 12):
        membrane = PoissonProblem(
            mesh=RectangleMesh(cells=(n, n), size=(1.0, 1.3)),
            order=2,
            boundary=[Dirichlet(SIDES, 0.0)],
        )
        s = EigenProblem(of=membrane, k=3).solve()
        sides = [(1, 1), (1, 2), (2, 1)]
        exact = sorted(math.pi**2 * (i**2 + (j / 1.3) ** 2) for i, j in sides)
        errors.append((s.eigenvalues - torch.tensor(exact, dtype=torch.float64)).abs().max())
        M = membrane.assemble().mass
        gram = s.modes @ (M @ s.modes.T)
        assert torch.allclose(gram, torch.eye(3, dtype=torch.float64), atol=1e-10)
        held = ~membrane.assemble().free
        assert not s.modes[:, held].any()
    assert math.log2(errors[0] / errors[1]) > 3.7  # twice the order of the elements


def test_a_free_body_has_its_rigid_modes() -> None:
    body = ElasticityProblem(
        mesh=RectangleMesh(cells=(6, 2), size=(3.0, 1.0)),
        model="plane_stress",
        density=Parameter("rho", default=2.0),
    )
    s = EigenProblem(of=body, k=5).solve()
    assert s.modes.shape == (5, 21, 2)
    assert s.eigenvalues[:3].abs().max() < 1e-9 * s.eigenvalues[3]
    assert s.eigenvalues[3] > 1e-3
    assert torch.equal(s.frequencies[s.eigenvalues <= 0], s.eigenvalues[s.eigenvalues <= 0] * 0)
    # The rigid modes hold all the mass, 2 * 3 * 1, in each direction.
    assert torch.allclose(s.effective_mass.sum(0), torch.full((2,), 6.0, dtype=torch.float64))


def test_sigma_and_the_other_end() -> None:
    string = PoissonProblem(
        mesh=IntervalMesh(cells=20), boundary=[Dirichlet(["left", "right"], 0.0)]
    )
    every = EigenProblem(of=string, k=19).solve().eigenvalues
    near = (
        EigenProblem(of=string, k=2, sigma=0.49 * float(every[7]) + 0.51 * float(every[8]))
        .solve()
        .eigenvalues
    )
    assert torch.allclose(near, every[7:9])
    top = EigenProblem(of=string, k=2, which="LA").solve().eigenvalues
    assert torch.allclose(top, every[-2:])


def test_periodic_ends() -> None:
    ring = PoissonProblem(
        mesh=RectangleMesh(cells=(24, 1), size=(1.0, 0.02), cell="quad"),
        order=2,
        boundary=[Periodic("left", to="right")],
    )
    s = EigenProblem(of=ring, k=3).solve()
    exact = torch.tensor([0.0, 4 * math.pi**2, 4 * math.pi**2], dtype=torch.float64)
    assert torch.allclose(s.eigenvalues, exact, rtol=1e-4, atol=1e-6)


def test_a_side_that_is_held_ends_in_periodic_ones() -> None:
    """At its ends a given value is said twice."""
    strip = PoissonProblem(
        mesh=RectangleMesh(cells=(12, 2), size=(1.0, 0.5), cell="quad"),
        order=2,
        boundary=[Dirichlet("left", 0.0), Periodic("top", to="bottom")],
    )
    s = EigenProblem(of=strip, k=2).solve()
    exact = torch.tensor([0.25, 2.25], dtype=torch.float64) * math.pi**2
    torch.testing.assert_close(s.eigenvalues, exact, rtol=1e-4, atol=0.0)


def test_gradients_of_values_and_modes() -> None:
    plate = ElasticityProblem(
        mesh=RectangleMesh(cells=(3, 2), size=(2.0, 1.0)),
        model="plane_strain",
        young_modulus=Parameter("E", on="cells", default=1.0),
        density=Parameter("rho", on="cells", default=1.0),
        boundary=[Dirichlet("left", 0.0)],
    )
    problem = EigenProblem(of=plate, k=2)
    values = {"E": torch.linspace(0.8, 1.3, 12), "rho": torch.linspace(1.2, 0.9, 12)}
    values = {name: value.double() for name, value in values.items()}
    values["points"] = plate.mesh_data().points
    for output in (
        lambda s: s.frequencies.sum(),
        lambda s: (s.modes**3).sum(),
        lambda s: s.effective_mass[0, 1],
    ):
        check = problem.check_gradients(values, output=output)
        assert check.passed, str(check)


def test_tension_raises_the_frequencies_of_a_strip() -> None:
    """Small motions about a stretched state, and the gradient by the load that stretches it."""
    strip = HyperelasticityProblem(
        mesh=RectangleMesh(cells=(4, 1), size=(4.0, 1.0)),
        law="neo_hookean",
        constants={"young_modulus": 1.0, "poisson_ratio": 0.3},
        boundary=[
            Dirichlet("left", 0.0),
            Neumann("right", traction=[Parameter("pull", default=0.0), 0.0]),
        ],
    )
    problem = EigenProblem(of=strip, k=1)
    pulls = [float(problem.solve(pull=p).eigenvalues) for p in (0.0, 0.05, 0.1)]
    assert pulls[0] < pulls[1] < pulls[2]
    check = problem.check_gradients({"pull": 0.05}, output=lambda s: s.eigenvalues.sum())
    assert check.passed, str(check)


def test_files_hold_the_modes(tmp_path) -> None:
    string = PoissonProblem(
        mesh=RectangleMesh(cells=(4, 4)), boundary=[Dirichlet(SIDES, 0.0)], name="drum"
    )
    problem = EigenProblem(of=string, k=2, outputs=[Component("first", index=[0])])
    problem.to_yaml(tmp_path / "drum.yaml")
    s = load_problem(tmp_path / "drum.yaml").solve()
    assert float(s["first"]) == float(s.eigenvalues[0])
    s.save(tmp_path / "drum.vtu")
    with pytest.raises(ArgumentError, match=r"'\.csv'; modes are saved as \.vtu"):
        s.save(tmp_path / "drum.csv")
    import meshio

    found = meshio.read(tmp_path / "drum.vtu").point_data
    assert set(found) == {"mode_1", "mode_2"}
    assert torch.allclose(torch.as_tensor(found["mode_2"]).reshape(-1), s.modes[1])


def test_what_has_no_modes_says_why() -> None:
    mesh = RectangleMesh(cells=(2, 2))
    with pytest.raises(SpecError, match="pressure of a flow has no mass"):
        EigenProblem(of=StokesProblem(mesh=mesh))
    held = PoissonProblem(mesh=mesh, boundary=[Dirichlet("left", 0.0)])
    many = EigenProblem(of=held, k=7)
    for verb in (many.check, many.solve):
        with pytest.raises(SpecError, match=r"^k: there are 6 free unknowns; received 7"):
            verb()
    many.updated(k=6).check()
    with pytest.raises(SpecError, match="either a physics"):
        EigenProblem(k=1)
    with pytest.raises(SpecError, match=r"of\.solver"):
        EigenProblem(of=held, solver={"rtol": 1e-8})
    pushed = EigenProblem(of=held.updated(source=Parameter("f", default=1.0)), k=1)
    with pytest.raises(GradientError, match="'f' requires grad, but no matrix"):
        pushed.solve(f=torch.tensor(1.0, dtype=torch.float64, requires_grad=True))
    with pytest.raises(SpecError, match="depends on time"):
        EigenProblem(of=held.updated(reaction="t"), k=1).solve()


def test_soft_motions_are_not_taken_for_rigid_ones() -> None:
    """In single precision the first bending mode of a slender body is as small as the rounding of some matrices."""
    slender = ElasticityProblem(
        mesh=RectangleMesh(cells=(120, 6), size=(10.0, 0.5)),
        density=1.0,
        poisson_ratio=0.3,
        young_modulus=1.0,
        model="plane_stress",
        solver={"dtype": "float32"},
    )
    s = EigenProblem(of=slender, k=4).solve()
    assert s["frequencies"][:3].tolist() == [0.0] * 3
    assert float(s["frequencies"][3]) == pytest.approx(5.13e-3, rel=0.1)
    # A hinge leaves one of the three.
    hinged = slender.updated(boundary=[Dirichlet(at=[(0.0, 0.0)], value=0.0)])
    s = EigenProblem(of=hinged, k=2).solve()
    assert float(s["frequencies"][0]) == 0.0
    assert float(s["frequencies"][1]) > 1e-3


def test_rigid_motions_have_no_frequency_and_no_damping(tmp_path) -> None:
    loose = ElasticityProblem(
        mesh=RectangleMesh(cells=(40, 2), size=(400.0, 1.0)),
        young_modulus=1e3,
        density=1.0,
        model="plane_stress",
    )
    s = EigenProblem(of=loose, k=5).solve()
    assert s["frequencies"][:3].tolist() == [0.0] * 3
    # The softest bending mode is seven digits above what is taken for rounding.
    assert float(s.eigenvalues[3]) > 1e-4
    assert float(s["frequencies"][3]) > 1e-3
    assert "3 eigenvalues are those of rigid motions" in s.info.notes[-1]
    plate = loose.updated(mesh=RectangleMesh(cells=(6, 4)))
    damped = EigenProblem(of=plate, k=6, sigma=-0.5, mass_damping=0.1)
    s = damped.solve()
    still = s.eigenvalues.abs() < 1e-4
    assert 2 <= int(still.sum()) <= 3
    torch.testing.assert_close(s.eigenvalues[:3].real, torch.full((3,), -0.1).double())
    assert s["damping_ratios"][:3].tolist() == [1.0] * 3
    assert torch.equal(s["damping_ratios"].isnan(), still)
    assert torch.equal(s["frequencies"] == 0.0, still | (s.eigenvalues.imag == 0.0))
    s.save(tmp_path / "s.json")
    told = json.loads(
        (tmp_path / "s.json").read_text(), parse_constant=lambda _: pytest.fail("no JSON")
    )
    assert told["outputs"]["damping_ratios"].count(None) == int(still.sum())
    held = loose.updated(boundary=[Dirichlet("left", 0.0)])
    assert not EigenProblem(of=held, k=2).solve().info.notes


def test_each_body_has_rigid_motions_of_its_own() -> None:
    mesh = build_mesh(RectangleMesh(cells=(4, 2), size=(2.0, 1.0)))
    beside = torch.tensor([5.0, 0.0], dtype=torch.float64)
    points = torch.cat([mesh.points, mesh.points + beside]).tolist()
    cells = torch.cat([mesh.cells, mesh.cells + mesh.n_points]).tolist()
    two = ElasticityProblem(
        mesh=MeshArrays(points=points, cells=cells, cell="triangle"),
        young_modulus=1e3,
        density=1.0,
        model="plane_stress",
    )
    s = EigenProblem(of=two, k=8).solve()
    assert s["frequencies"][:6].tolist() == [0.0] * 6
    assert float(s["frequencies"][6]) > 1.0
    one = two.updated(boundary=[Dirichlet("x < 1e-9", 0.0)])
    s = EigenProblem(of=one, k=5).solve()
    assert s["frequencies"][:3].tolist() == [0.0] * 3
    assert float(s["frequencies"][3]) > 1.0
    with pytest.raises(SpecError, match="the body can move as a rigid one"):
        one.solve()
    held = [Dirichlet("x < 1e-9", 0.0), Dirichlet("x > 7 - 1e-9", 0.0)]
    assert two.updated(boundary=held).solve().info.converged
    warm = PoissonProblem(mesh=two.mesh, source=1.0, boundary=[Dirichlet("x < 1e-9", 0.0)])
    with pytest.raises(SpecError, match="nothing fixes the level"):
        warm.solve()


def test_what_the_pencil_does_not_see_needs_no_value() -> None:
    """A load, a given value or an output asked for parameters that no matrix uses."""
    body = ElasticityProblem(
        mesh=RectangleMesh(cells=(4, 2)),
        model="plane_stress",
        young_modulus=1.0,
        poisson_ratio=0.3,
        density=1.0,
        body_force=[Parameter("b"), 0.0],
        temperature=Parameter("T"),
        thermal_expansion=Parameter("a"),
        boundary=[
            Dirichlet("left", [Parameter("g"), 0.0]),
            Neumann("right", traction=[Parameter("p"), 0.0]),
            PointLoad(at=[[1.0, 1.0]], value=[Parameter("q"), 0.0]),
        ],
        outputs=[Integral("work", "w*u[0]")],
        parameters=[Parameter("w")],
    )
    plain = body.updated(
        body_force=None,
        temperature=None,
        thermal_expansion=0.0,
        boundary=[Dirichlet("left", 0.0)],
        outputs=[],
        parameters=[],
    )
    known = EigenProblem(of=plain, k=3).solve().eigenvalues
    modes = EigenProblem(of=body, k=3)
    assert torch.equal(modes.solve().eigenvalues, known)
    for problem in (modes, SweepProblem(of=modes, cases={"a": [1.0, 2.0]})):
        assert "parameter   p: 1 on constant, needs no value here" in problem.explain()
    assert "needs no value" not in EigenProblem(of=body, k=3, kind="buckling").explain()
    torch.testing.assert_close(distribute(modes, 2).solve().eigenvalues, known)
    given = modes.solve(b=1.0, p=[1.0, 2.0]).eigenvalues
    assert torch.equal(given.expand_as(known), known)
    with pytest.raises(ArgumentError, match="'p' holds NaN"):
        modes.solve(p=math.nan)
    with pytest.raises(ArgumentError, match="has no default"):
        EigenProblem(of=body, k=3, kind="prestressed").solve()
    with pytest.raises(ArgumentError, match="'p' has no default"):
        EigenProblem(of=body, k=3, mass_damping=Parameter("p")).solve()


def test_resonances_need_no_source() -> None:
    sides = [
        Dirichlet("left", [Parameter("g"), 0.0]),
        Robin("right", coefficient="-3j", ambient=Parameter("a")),
    ]
    cavity = HelmholtzProblem(mesh=IntervalMesh(cells=8), wavenumber=3.0, boundary=sides)
    found = EigenProblem(of=cavity.updated(source=Parameter("s")), k=2)
    alone = cavity.updated(boundary=[Dirichlet("left", 0.0), Robin("right", coefficient="-3j")])
    assert torch.equal(found.solve().eigenvalues, EigenProblem(of=alone, k=2).solve().eigenvalues)


@pytest.mark.parametrize("parts", [0, 2])
def test_there_are_no_modes_about_what_is_no_state(parts: int) -> None:
    """One step of Newton's method is none of the loaded body, and its modes were told with ``throw=False``."""
    body = HyperelasticityProblem(
        mesh=RectangleMesh(cells=(4, 1)),
        law="neo_hookean",
        constants={"mu": 1.0, "lam": 1.0},
        density=1.0,
        boundary=[Dirichlet("left", 0.0), Neumann("right", traction=(0.0, -0.5))],
        solver=Solver(nonlinear=Newton(maxiter=1)),
    )
    modes = EigenProblem(of=body, k=2)
    solver = distribute(modes, parts) if parts else modes
    with pytest.raises(SolveError, match="iteration limit"):
        solver.solve(throw=False)
