"""Large strain with averaged dilatation: no locking, exact tangents, one volume change in all that is made of it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import torch_sla.assembly as fem
from torch_sla import (
    BoxMesh,
    Dirichlet,
    EigenProblem,
    ElasticityProblem,
    Energy,
    Field,
    HyperelasticityProblem,
    Integral,
    Line,
    MeshArrays,
    Neumann,
    Newton,
    Parameter,
    Probe,
    Reaction,
    RectangleMesh,
    Solver,
)
from torch_sla.assembly import weak
from torch_sla.errors import SpecError
from torch_sla.problems.distributed.problem import distribute

KINDS = [
    ("quad", 1),
    ("quad", 2),
    ("triangle", 2),
    ("hexahedron", 1),
    ("hexahedron", 2),
    ("tetra", 2),
]


def rubber(cell: str = "quad", order: int = 1, **changes: Any) -> HyperelasticityProblem:
    """A block of one or two cells along each side, its mesh distorted."""
    flat = cell in ("quad", "triangle")
    mesh = RectangleMesh(cells=(2, 1), cell=cell) if flat else BoxMesh(cells=(1, 1, 1), cell=cell)
    settings: dict[str, Any] = {
        "mesh": mesh,
        "order": order,
        "constants": {"mu": 1.0, "lam": 50.0},
        "dilatation": "averaged",
        "boundary": [Dirichlet("left", 0.0)],
    }
    return HyperelasticityProblem(**{**settings, **changes})


def moved(problem: HyperelasticityProblem, size: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    n, dim = problem.dof_points().shape
    return size * torch.randn(n, dim, generator=generator, dtype=torch.float64)


def scaled(u: Any, w: Any) -> torch.Tensor:
    """F, 3 by 3 in plane strain too, with the mean of its determinant over the cell."""
    gradient = fem.grad(u)
    F = torch.eye(3, dtype=gradient.dtype) + torch.nn.functional.pad(
        gradient, (0, 3 - gradient.shape[-1]) * 2
    )
    J = fem.det(F)
    return (w.mean(J) / J)[..., None, None] ** (1 / 3) * F


def neo_hookean(u: Any, w: Any) -> torch.Tensor:
    F = scaled(u, w)
    log = torch.log(fem.det(F))
    return 0.5 * w.mu * ((F * F).sum((-2, -1)) - 3 - 2 * log) + 0.5 * w.lam * log**2


@pytest.mark.parametrize(("cell", "order"), [k for k in KINDS if k not in (KINDS[1], KINDS[4])])
def test_means_are_those_of_the_energy_of_whole_cells(cell: str, order: int) -> None:
    problem = rubber(cell, order)
    model, u = problem.compile(), moved(problem, 0.05)
    basis = fem.CellBasis(model.mesh, model.dofs.element, 2 * order, components=u.shape[-1])
    form, field = fem.CellEnergy(neo_hookean), basis.interpolate(model.dofs, u.flatten())
    residual = model.dofs.assemble_vector(form.residual(basis, field, mu=1.0, lam=50.0))
    found = problem.residual(u, constrained=False)
    torch.testing.assert_close(found.flatten(), residual)
    tangent = model.dofs.assemble_matrix(form.tangent(basis, field, mu=1.0, lam=50.0))
    torch.testing.assert_close(problem.jacobian(u, constrained=False).values, tangent)


@pytest.mark.parametrize(("cell", "order"), KINDS)
@pytest.mark.parametrize(
    ("law", "constants"),
    [
        ("mooney_rivlin", {"c1": 0.4, "c2": 0.2, "kappa": 60.0}),
        ("mu/2*(J1 - 3) + (J2 - 3)**2/9 + k*log(J)**2", {"mu": "1 + x", "k": "20 + 5*y"}),
    ],
)
def test_forces_are_slopes_of_the_energy_and_the_tangent_theirs(
    cell: str, order: int, law: str, constants: dict[str, Any]
) -> None:
    problem = rubber(cell, order, law=law, constants=constants)
    model, u, d = problem.compile(), moved(problem, 0.04), moved(problem, 1.0, seed=1)
    scene, h = model.scene({}), 1e-5

    def energy(t: float) -> float:
        return float(model.energy(scene, (u + t * d).flatten()))

    def forces(t: float) -> torch.Tensor:
        return problem.residual(u + t * d, constrained=False).flatten()

    slope = (energy(h) - energy(-h)) / (2 * h)
    assert float(forces(0.0) @ d.flatten()) == pytest.approx(slope, rel=1e-6)
    K = problem.jacobian(u, constrained=False).to_dense()
    expected = (forces(h) - forces(-h)) / (2 * h)
    scale = float(expected.abs().max())
    torch.testing.assert_close(K @ d.flatten(), expected, rtol=0, atol=1e-5 * scale)
    torch.testing.assert_close(K, K.T, rtol=0, atol=1e-12 * float(K.abs().max()))


@pytest.mark.parametrize(("cell", "order"), KINDS)
def test_at_small_strains_it_is_the_bbar_method(cell: str, order: int) -> None:
    """The whole resistance to a change of volume is averaged, where `ElasticityProblem` leaves 2μ/3 at points."""
    problem = rubber(cell, order)
    model, dim = problem.compile(), problem.dof_points().shape[1]
    basis = fem.CellBasis(model.mesh, model.dofs.element, 2 * order, components=dim)
    trace = fem.BilinearForm(lambda u, v, w: fem.div(u) * fem.div(v))(basis)
    local = weak.elasticity_bbar(basis, lam=50.0 + 2 / 3, mu=1.0) - 2 / 3 * trace
    at_rest = problem.jacobian(torch.zeros_like(problem.dof_points()), constrained=False)
    torch.testing.assert_close(at_rest.values, model.dofs.assemble_matrix(local))


@pytest.mark.parametrize(("cell", "order"), [("quad", 1), ("quad", 2), ("triangle", 2)])
def test_small_loads_move_it_as_linear_elasticity(cell: str, order: int) -> None:
    common: dict[str, Any] = {
        "mesh": RectangleMesh(cells=(8, 8), cell=cell),
        "order": order,
        "dilatation": "averaged",
        "boundary": [Dirichlet("left", 0.0), Neumann("right", traction=[0.0, 1e-7])],
        "outputs": [Probe("tip", at=[(1.0, 0.5)], quantity="u[1]")],
    }
    moduli = {"young_modulus": 3.0, "poisson_ratio": 0.4999}
    large = HyperelasticityProblem(constants=moduli, **common).solve()["tip"]
    small = ElasticityProblem(model="plane_strain", **moduli, **common).solve()["tip"]
    torch.testing.assert_close(large, small, rtol=1e-2, atol=0)


DISTORTED = [[0, 0], [1, 0], [2, 0], [0, 1], [1.2, 0.7], [2, 1], [0, 2], [0.8, 2], [2, 2]]
FOUR = [[0, 1, 4, 3], [1, 2, 5, 4], [3, 4, 7, 6], [4, 5, 8, 7]]


@pytest.mark.parametrize("law", ["neo_hookean", "mooney_rivlin"])
@pytest.mark.parametrize("order", [1, 2])
def test_patch(law: str, order: int) -> None:
    """A uniform deformation is exact on a distorted mesh, and its stress that of the law."""
    given = (
        {"mu": 1.0, "lam": 1e4} if law == "neo_hookean" else {"c1": 0.3, "c2": 0.1, "kappa": 1e4}
    )
    problem = HyperelasticityProblem(
        mesh=MeshArrays(points=DISTORTED, cells=FOUR, cell="quad"),
        order=order,
        law=law,
        constants=given,
        dilatation="averaged",
        boundary=[
            Dirichlet(
                "x < 1e-9 or x > 2 - 1e-9 or y < 1e-9 or y > 2 - 1e-9",
                ["0.2*x + 0.3*y", "0.1*x - y/6"],
            )
        ],
        outputs=[
            Field("stress", "stress", on="quadrature"),
            Field("J", "J", on="cells"),
            Probe("inside", at=[(0.4, 0.7)], quantity="stress"),
            Integral("edge", "stress[0,0]", on="x > 2 - 1e-9"),
            Energy("energy"),
        ],
    )
    H = torch.tensor([[0.2, 0.3], [0.1, -1 / 6]], dtype=torch.float64)
    u = problem.dof_points() @ H.T
    # From nearby, since the boundary alone, moved at once, turns the cells inside out.
    solution = problem.solve(start=u + moved(problem, 1e-3))
    torch.testing.assert_close(solution.u, u, rtol=0, atol=1e-9)
    F = torch.eye(3, dtype=torch.float64)
    F[:2, :2] += H
    F.requires_grad_()
    C, J = F.T @ F, torch.linalg.det(F)
    first, second = C.trace(), 0.5 * (C.trace() ** 2 - (C @ C).trace())
    if law == "neo_hookean":
        W = 0.5 * (first - 3) - torch.log(J) + 0.5e4 * torch.log(J) ** 2
    else:
        W = 0.3 * (J ** (-2 / 3) * first - 3) + 0.1 * (J ** (-4 / 3) * second - 3)
        W = W + 0.5e4 * (J - 1) ** 2
    (P,) = torch.autograd.grad(W, F)
    stress = (P @ F.T / J).detach()
    tight: dict[str, Any] = {"rtol": 1e-7, "atol": 1e-7 * float(stress.abs().max())}
    torch.testing.assert_close(solution["stress"], stress.expand_as(solution["stress"]), **tight)
    torch.testing.assert_close(solution["inside"][0], stress, **tight)
    torch.testing.assert_close(solution["edge"], 2 * stress[0, 0], **tight)
    torch.testing.assert_close(solution["J"], J.detach().expand(4), **tight)
    torch.testing.assert_close(solution["energy"], 4 * W.detach(), **tight)


def tube(cell: str, order: int, dilatation: str = "averaged") -> HyperelasticityProblem:
    """A quarter of a long thick tube of radii 1 and 2 whose inner radius a pressure makes 1.5."""
    n, m = 3, 5
    points, cells = [], []
    for i in range(n + 1):
        for j in range(m + 1):
            r, a = 2 ** (i / n), math.pi / 2 * j / m
            points.append([r * math.cos(a), r * math.sin(a)])
    for i in range(n):
        for j in range(m):
            k = i * (m + 1) + j
            quad = [k, k + m + 1, k + m + 2, k + 1]
            cells += [quad] if cell == "quad" else [quad[:3], [quad[0], quad[2], quad[3]]]
    a, b, k = 1.5, math.sqrt(4 + 1.25), 1.25
    pressure = math.log(a * 2 / b) + k / 2 * (1 / a**2 - 1 / b**2)
    return HyperelasticityProblem(
        mesh=MeshArrays(points=points, cells=cells, cell=cell),
        order=order,
        law="mu/2*(J1 - 3) + k/2*(J - 1)**2",
        constants={"mu": 1.0, "k": 1e4},
        dilatation=dilatation,
        load_steps=6,
        boundary=[
            Dirichlet("x < 1e-9", 0.0, component=0),
            Dirichlet("y < 1e-9", 0.0, component=1),
            Neumann("x**2 + y**2 < 1.02", pressure=pressure),
        ],
        outputs=[
            Line("radii", at=[(1.0, 0.0), (2.0, 0.0)], n=2, quantity="u[0]"),
            Line("along", at=[(1.2, 0.5), (1.6, 0.7)], n=5, quantity="trace(stress)/3"),
            Integral("volume", "J - 1"),
        ],
    )


@pytest.mark.parametrize(
    ("cell", "order", "most"), [("quad", 1, 0.03), ("quad", 2, 0.02), ("triangle", 2, 0.02)]
)
def test_an_inflated_tube_in_closed_form(cell: str, order: int, most: float) -> None:
    """A neo-Hookean tube keeps r² - R², and p = μ (log(λ_a/λ_b) + (r² - R²)/2 (1/a² - 1/b²))."""
    solution = tube(cell, order).solve()
    exact = torch.tensor([0.5, math.sqrt(5.25) - 2], dtype=torch.float64)
    torch.testing.assert_close(solution["radii"], exact, rtol=most, atol=0)
    assert abs(float(solution["volume"])) < 1e-3
    # σ_r - tr σ/3 = μ (R²/r² - (R²/r² + r²/R² + 1)/3), and σ_r is p of the tube outside r, negative.
    R = torch.linspace(0, 1, 5, dtype=torch.float64)
    R = ((1.2 + 0.4 * R) ** 2 + (0.5 + 0.2 * R) ** 2).sqrt()
    r, b = (R**2 + 1.25).sqrt(), math.sqrt(5.25)
    radial = -torch.log(r / R * 2 / b) - 0.625 * (1 / r**2 - 1 / b**2)
    squares = R**2 / r**2, r**2 / R**2
    mean = radial - (squares[0] - (squares[0] + squares[1] + 1) / 3)
    torch.testing.assert_close(solution["along"], mean, rtol=0.05, atol=0)


def loaded(cell: str, order: int, **changes: Any) -> HyperelasticityProblem:
    settings: dict[str, Any] = {
        "law": "mu/2*(J1 - 3) + (J2 - 3)**2/10 + k/2*(J - 1)**2",
        "constants": {
            "mu": Parameter("mu", on="nodes", default=1.0),
            "k": Parameter("k", default=200.0),
        },
        "boundary": [
            Dirichlet("left", 0.0),
            Neumann("right", traction=[0.05, 0.03]),
            Neumann("top", pressure=Parameter("p", default=0.02)),
        ],
        "outputs": [
            Probe("s", at=[(0.31, 0.42), (0.83, 0.77)], quantity="stress"),
            Probe("change", at=[(0.3, 0.4)], quantity="J"),
            Integral("stored", "energy_density"),
            Energy("energy"),
            Integral("volumes", "J**2"),
            Integral("edge", "stress[0,0]*J", on="left"),
            Reaction("held", "left"),
        ],
    }
    return rubber(cell, order, **{**settings, **changes})


@pytest.mark.parametrize(("cell", "order"), KINDS[1:3])
def test_batches_are_their_members(cell: str, order: int) -> None:
    problem = loaded(cell, order)
    k, p = torch.tensor([[50.0, 1000.0], [0.01, 0.03]], dtype=torch.float64)
    many = problem.solve(k=k, p=p)
    for i in range(2):
        one = problem.solve(k=k[i], p=p[i])
        for name, value in one.outputs.items():
            torch.testing.assert_close(many[name][i], value, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(many["stored"], many["energy"])


def asked(solution: Any) -> torch.Tensor:
    s = solution
    total: torch.Tensor = s["edge"] + s["volumes"] + s["s"].sum() + s["held"][1] + s["energy"]
    return total


@pytest.mark.parametrize(("cell", "order"), KINDS[:3])
def test_gradients_are_differences(cell: str, order: int) -> None:
    problem = loaded(cell, order, solver=Solver(nonlinear=Newton(rtol=1e-12)))
    x = problem.compile().mesh.points + 0.05
    at = {"mu": torch.linspace(0.8, 1.3, 6).double(), "k": torch.tensor(100.0).double()}
    x[1] += 0.05
    at["points"] = x
    along = {n: torch.cos(torch.arange(v.numel()).double()).reshape(v.shape) for n, v in at.items()}
    along["points"] = 0.1 * along["points"]
    problem = problem.updated(
        outputs=[o for o in problem.outputs if not isinstance(o, Probe)]
        + [Probe("s", at=[(0.5, 0.5)], quantity="stress")]
    )
    _, slope = problem.value_and_grad(asked, **at)
    h = 1e-4
    high, low = (
        asked(problem.solve(**{n: v + t * along[n] for n, v in at.items()})) for t in (h, -h)
    )
    found = sum(float((slope[n] * d).sum()) for n, d in along.items())
    assert found == pytest.approx(float(high - low) / (2 * h), rel=1e-5)


def test_second_derivatives_are_differences() -> None:
    problem = loaded(
        "quad", 1, boundary=[Dirichlet("left", 0.0), Neumann("right", traction=[0.05, 0.03])]
    )
    check = problem.check_gradients(k=100.0, output=asked)
    assert check.passed, str(check)


@pytest.mark.parametrize(("cell", "order"), [("quad", 1), ("triangle", 2)])
def test_parts_are_the_whole(cell: str, order: int) -> None:
    problem = loaded(
        cell, order, mesh=RectangleMesh(cells=(3, 2), cell=cell), solver=Solver(rtol=1e-13)
    )
    mu = torch.linspace(0.8, 1.3, 12, dtype=torch.float64)
    found, wanted = [], []
    for answers, solver in ((wanted, problem), (found, distribute(problem, 3))):
        given = mu.clone().requires_grad_()
        solution = solver.solve(mu=given)
        (slope,) = torch.autograd.grad(solution["volumes"] + solution["edge"], given)
        answers += [*solution.outputs.values(), slope]
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours.detach(), theirs.detach(), rtol=1e-8, atol=1e-9)


def test_modes_are_those_about_the_loaded_state() -> None:
    problem = loaded(
        "quad", 1, boundary=[Dirichlet("left", 0.0), Neumann("right", traction=[0.3, 0.1])]
    )
    free = torch.arange(12).reshape(6, 2)[problem.dof_points()[:, 0] > 1e-9].flatten()
    K = problem.jacobian(problem.solve().u, constrained=False).to_dense()
    M = problem.assemble().mass.to_dense()
    K, M = (A[free][:, free] for A in (K, M))
    exact = torch.linalg.eigvals(torch.linalg.solve(M, K)).real.sort().values
    found = EigenProblem(of=problem.updated(outputs=[]), k=3).solve()
    torch.testing.assert_close(found.eigenvalues.sort().values, exact[:3], rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("law", "constants"),
    [
        ("saint_venant_kirchhoff", {"mu": 1.0, "lam": 9.0}),
        ("mu/2*(I1 - 3) + k/8*(I1 - 3)**2", {"mu": 1.0, "k": 9.0}),
        ("mu*(sqrt(I2) - sqrt(3)) + k/2*(J - 1)**2", {"mu": 1.0, "k": 9.0}),
    ],
)
def test_laws_that_do_not_resist_volume_by_itself_are_refused(
    law: str, constants: dict[str, float]
) -> None:
    with pytest.raises(SpecError, match=r"dilatation: averaged needs a law.*J1 and J2"):
        rubber(law=law, constants=constants)
    rubber(law=law, constants=constants, dilatation="pointwise")


def test_a_law_of_the_volume_change_alone_is_resisted_by_its_mean() -> None:
    problem = rubber(law="k/2*(J - 1)**2", constants={"k": 3.0})
    u = moved(problem, 0.05)
    # The mean of J over a cell is its area after by that before, 1/2.
    x = (problem.dof_points() + u)[problem.compile().mesh.cells]
    across = x[:, 2] - x[:, 0], x[:, 3] - x[:, 1]
    area = 0.5 * (across[0][:, 0] * across[1][:, 1] - across[0][:, 1] * across[1][:, 0])
    energy = (0.5 * 3.0 * (area / 0.5 - 1) ** 2 * 0.5).sum()
    model = problem.compile()
    torch.testing.assert_close(model.energy(model.scene({}), u.flatten()), energy)
    h, d = 1e-6, moved(problem, 1.0, seed=1).flatten()
    high, low = (model.energy(model.scene({}), u.flatten() + t * d) for t in (h, -h))
    force = problem.residual(u, constrained=False).flatten()
    torch.testing.assert_close(force @ d, (high - low) / (2 * h), rtol=1e-6, atol=0)
    K = problem.jacobian(u, constrained=False).to_dense()
    high, low = (
        problem.residual((u.flatten() + t * d).reshape(u.shape), constrained=False).flatten()
        for t in (h, -h)
    )
    torch.testing.assert_close(K @ d, (high - low) / (2 * h), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("cell", ["triangle", "tetra"])
def test_simplices_of_order_1_are_refused(cell: str) -> None:
    with pytest.raises(SpecError, match=r"dilatation: simplices of order 1 lock .*order: 2"):
        rubber(cell, 1).solve()
    with pytest.raises(SpecError, match="dilatation: simplices of order 1 lock"):
        rubber(cell, 1).check()
