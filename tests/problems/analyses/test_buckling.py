"""Loads at which bodies buckle, and modes about the state that loads make."""

from __future__ import annotations

import math

import pytest
import torch

from torch_sla import (
    BoxMesh,
    Dirichlet,
    EigenProblem,
    ElasticityProblem,
    HyperelasticityProblem,
    Neumann,
    Parameter,
    PoissonProblem,
    Reaction,
    RectangleMesh,
    Solver,
)
from torch_sla.errors import ArgumentError, SolveError, SpecError

E, L = 1000.0, 40.0
PUSH = Neumann("right", traction=[Parameter("p", default=-1.0), 0.0])
CLAMPED = Dirichlet("left", 0.0)
NO_SWAY = Dirichlet("right", 0.0, component=1)


def column(*boundary, length: float = L, cells: int = 16, **more) -> ElasticityProblem:
    return ElasticityProblem(
        **{
            "mesh": RectangleMesh(cells=(cells, 1), size=(length, 1.0), cell="quad"),
            "order": 2,
            "model": "plane_stress",
            "young_modulus": Parameter("E", default=E),
            "poisson_ratio": 0.0,
            "boundary": boundary,
            **more,
        }
    )


@pytest.mark.parametrize(
    ("problem", "factor"),
    [
        (column(CLAMPED, PUSH), 0.25),
        # Half of the column, up to its plane of symmetry.
        (column(Dirichlet("left", 0.0, component=0), NO_SWAY, PUSH, length=L / 2), 1.0),
        (column(CLAMPED, NO_SWAY, PUSH), 2.0457),
        (
            column(CLAMPED, Dirichlet("right", [-1.0, 0.0]), outputs=[Reaction("r", "right")]),
            4.0,
        ),
    ],
    ids=["clamped-free", "pinned-pinned", "clamped-pinned", "clamped-clamped"],
)
def test_euler_columns(problem: ElasticityProblem, factor: float) -> None:
    """Timoshenko and Gere, Theory of Elastic Stability, 2nd ed. 1961, 2.1 to 2.3; shear takes some thousandths."""
    s = EigenProblem(of=problem, kind="buckling", k=2).solve()
    load = abs(float(problem.solve()["r"][0])) if problem.outputs else 1.0
    euler = factor * math.pi**2 * E / 12 / L**2
    assert float(s["load_factors"][0]) * load == pytest.approx(euler, rel=5e-3)


def test_simply_supported_square_plate() -> None:
    """Compressed along one side: σ = 4 π² D / (b² t), Timoshenko and Gere, Theory of Elastic Stability, 9.2."""
    t, n = 0.02, 4
    quarter = ElasticityProblem(
        mesh=BoxMesh(cells=(n, n, 1), size=(0.5, 0.5, t), cell="hexahedron"),
        order=2,
        young_modulus=1e6,
        poisson_ratio=0.0,
        boundary=[
            Dirichlet(["left", "front"], 0.0, component=2),
            Dirichlet("right", 0.0, component=0),
            Dirichlet("back", 0.0, component=1),
            # Edges that do not turn in their own plane: what compression moves them by is given.
            Dirichlet("left", 0.0, component=1),
            Dirichlet("front", "-1e-6*(x - 0.5)", component=0),
            Neumann("left", traction=[1.0, 0.0, 0.0]),
        ],
    )
    s = EigenProblem(of=quarter, kind="buckling", k=1).solve()
    bending = 1e6 * t**3 / 12
    assert float(s.eigenvalues[0]) * t / (math.pi**2 * bending) == pytest.approx(4.0, rel=5e-3)


def test_gradients_of_load_factors() -> None:
    problem = EigenProblem(
        of=column(CLAMPED, PUSH, cells=4, thickness=Parameter("b", on="cells", default=1.0)),
        kind="buckling",
        k=2,
    )
    b = torch.linspace(0.8, 1.2, 4, dtype=torch.float64)
    points = problem.of.mesh_data().points
    check = problem.check_gradients(
        {"E": E, "p": -0.7, "b": b, "points": points},
        output=lambda s: s.eigenvalues.log().sum() + s.modes[0].square().sum() * 1e-2,
    )
    assert check.passed, str(check)
    p = torch.tensor(-0.5, dtype=torch.float64, requires_grad=True)
    first = problem.solve(p=p, E=E, b=b).eigenvalues[0]
    (gradient,) = torch.autograd.grad(first, p)
    assert float(gradient * p.detach() / first.detach()) == pytest.approx(-1.0, rel=1e-9)


def test_modes_of_buckling_are_normalised_by_the_stiffness() -> None:
    problem = column(CLAMPED, PUSH, cells=8)
    s = EigenProblem(of=problem, kind="buckling", k=3).solve()
    K = problem.assemble().matrix
    V = s.modes.flatten(-2)
    assert torch.allclose(V @ (K @ V.T), torch.eye(3, dtype=torch.float64), atol=1e-8)
    with pytest.raises(ArgumentError, match="buckling has none"):
        _ = s.participation


def test_batches_share_the_structure() -> None:
    problem = EigenProblem(of=column(CLAMPED, PUSH, cells=6), kind="buckling", k=2)
    pushes = torch.tensor([-1.0, -2.0, -4.0], dtype=torch.float64)
    s = problem.solve(p=pushes)
    assert torch.allclose(s.eigenvalues * pushes[:, None] / -1.0, s.eigenvalues[:1], rtol=1e-8)
    moduli = torch.tensor([E, 2 * E], dtype=torch.float64)
    w = problem.solve(E=moduli).eigenvalues
    assert torch.allclose(w[1], 2.0 * w[0], rtol=1e-8)


def test_loads_that_pull_do_not_make_it_buckle() -> None:
    problem = EigenProblem(of=column(CLAMPED, PUSH, cells=6), kind="buckling", k=2)
    with pytest.raises(SpecError, match=r"k: these loads make the body buckle in \d+ ways"):
        problem.solve(p=0.0)
    with pytest.raises(SpecError, match="check their sign"):
        problem.updated(k=30).solve(p=1.0)


def test_a_long_body_that_is_pulled_says_so_where_no_pair_converges() -> None:
    of = column(CLAMPED, PUSH, cells=24).updated(poisson_ratio=0.0)
    with pytest.raises((SpecError, SolveError), match="check their sign"):
        EigenProblem(of=of, kind="buckling", k=2).solve(p=1.0)


def test_compression_lowers_frequencies_until_it_buckles() -> None:
    """A column in uniform compression: ω² falls with the load in a straight line (nearly one shape)."""
    of = column(Dirichlet("left", 0.0, component=0), NO_SWAY, PUSH, length=L / 2, cells=8)
    critical = float(EigenProblem(of=of, kind="buckling", k=1).solve().eigenvalues[0])
    shares = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    w = EigenProblem(of=of, kind="prestressed", k=1).solve(p=-shares * critical).eigenvalues[:, 0]
    assert torch.allclose(w / w[0], 1.0 - shares, atol=1e-4)


def test_tension_raises_frequencies() -> None:
    """A simply supported beam: ω² = (nπ/L)⁴ EI/ρA + (nπ/L)² T/ρA, Timoshenko, Vibration Problems in Engineering, 57."""
    pull = PUSH.updated(traction=[20.0, 0.0])
    half = column(
        Dirichlet("left", 0.0, component=0), NO_SWAY, pull, length=10.0, young_modulus=1e3
    ).updated(mesh=RectangleMesh(cells=(20, 1), size=(10.0, 0.1), cell="quad"))
    found = EigenProblem(of=half, kind="prestressed", k=2).solve().eigenvalues
    wave = torch.tensor([1.0, 3.0], dtype=torch.float64) * math.pi / 20.0
    assert torch.allclose(found, wave**4 * 1e3 * 0.1**2 / 12 + wave**2 * 20.0, rtol=2e-3)


@pytest.mark.parametrize("kind", ["modes", "buckling"])
def test_multigrid_finds_the_same_pairs(kind: str) -> None:
    loads = [CLAMPED, PUSH]
    mesh = RectangleMesh(cells=(20, 10), size=(2.0, 1.0), cell="quad")
    plain = column(*loads, mesh=mesh)
    iterative = plain.updated(solver=Solver(method="cg", preconditioner="multigrid"))
    one = EigenProblem(of=plain, kind=kind, k=3).solve()
    other = EigenProblem(of=iterative, kind=kind, k=3).solve()
    assert other.info.method == "lobpcg with multigrid"
    assert one.info.method != other.info.method
    assert torch.allclose(one.eigenvalues, other.eigenvalues, rtol=1e-8)
    assert torch.allclose(one.modes, other.modes, atol=1e-5 * float(one.modes.abs().max()))


def test_a_free_body_by_multigrid_keeps_its_rigid_modes() -> None:
    plate = ElasticityProblem(
        mesh=RectangleMesh(cells=(16, 8), size=(2.0, 1.0)),
        model="plane_stress",
        solver=Solver(method="cg", preconditioner="multigrid"),
    )
    s = EigenProblem(of=plate, k=5).solve()
    assert s.info.method == "lobpcg with multigrid"
    assert s.eigenvalues[:3].abs().max() < 1e-8 * s.eigenvalues[3]
    direct = EigenProblem(of=plate.updated(solver=Solver()), k=5).solve()
    assert torch.allclose(s.eigenvalues[3:], direct.eigenvalues[3:], rtol=1e-8)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(SpecError, match=r"kind: buckling of poisson: only a stress"):
        EigenProblem(of=PoissonProblem(mesh=RectangleMesh(cells=(2, 2))), kind="buckling")
    with pytest.raises(SpecError, match=r"kind: prestressed of hyperelasticity.*already"):
        EigenProblem(
            of=HyperelasticityProblem(
                mesh=RectangleMesh(cells=(2, 2)),
                law="neo_hookean",
                constants={"young_modulus": 1.0, "poisson_ratio": 0.3},
            ),
            kind="prestressed",
        )
    with pytest.raises(SpecError, match=r"sigma: the least positive"):
        EigenProblem(of=column(CLAMPED, PUSH), kind="buckling", sigma=1.0)
    with pytest.raises(SpecError, match=r"kind: matrices say"):
        EigenProblem(matrix=[[1.0]], k=1, kind="buckling")
    with pytest.raises(SpecError, match=r"rigid one"):
        EigenProblem(of=column(PUSH), kind="buckling", k=1).solve()
    round_body = column(CLAMPED, PUSH).updated(model="axisymmetric")
    with pytest.raises(SpecError, match=r"need not keep its symmetry"):
        EigenProblem(of=round_body, kind="buckling", k=1).solve()
