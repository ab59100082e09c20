"""Problems that several processes share, each with values, and what is compared with one process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

import torch_sla as sla
from tests.helpers.shared_flows import basin, box, cavity, channel, drop, ring
from torch_sla.linalg import SparseTensor
from torch_sla.problems.distributed.problem import DistributedProblem, distribute
from torch_sla.problems.specs.arrays import Array

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.distributed import ProcessGroup

__all__ = ["CASES", "Found", "on_ranks", "problem_of", "solved"]

TIGHT = sla.Solver(rtol=1e-13, nonlinear=sla.Newton(rtol=1e-13))


class Found(NamedTuple):
    """Solution, outputs, loss and gradients by name."""

    u: Tensor
    outputs: dict[str, Tensor]
    loss: Tensor
    gradients: dict[str, Tensor]


def _rand(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return 0.5 + torch.rand(*shape, generator=generator, dtype=torch.float64)


def _number(x: float) -> Tensor:
    return torch.tensor(x, dtype=torch.float64)


def _net(inputs: int) -> torch.nn.Module:
    torch.manual_seed(3)
    layers = (torch.nn.Linear(inputs, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    return torch.nn.Sequential(*layers, torch.nn.Softplus()).double()


def disk() -> tuple[Any, dict[str, Any]]:
    """Diffusion on an irregular mesh, every kind of output, conditions by predicates."""
    problem = sla.PoissonProblem(
        mesh=sla.DiskMesh(cells=5),
        diffusivity=sla.Parameter("kappa", on="cells"),
        source=sla.Parameter("f", default=1.0),
        boundary=[
            sla.Dirichlet(on="x < 0", value=sla.Parameter("g", on="nodes")),
            sla.Robin(on="x > 0.3", coefficient=sla.Parameter("h", on="facets"), ambient="1 + x*y"),
        ],
        outputs=[
            sla.Probe("at", at=[(0.1, 0.2), (-0.3, 0.1), (0.0, 0.0)]),
            sla.Line("cut", at=[(-0.5, 0.0), (0.5, 0.1)], n=7, quantity="kappa*grad(u)"),
            sla.Integral("heat", "u**2"),
            sla.Integral("rim", "kappa*u", on="x > 0.3"),
            sla.Flux("out", on="rim"),
            sla.Reaction("held", on="x < 0"),
            sla.Energy("energy"),
            sla.Compliance("work"),
            sla.Maximum("most", "u"),
            sla.Minimum("least", "u"),
            sla.Maximum("mean", "u", p=8),
            sla.Field("flow", "kappa*grad(u)", on="cells"),
            sla.Field("slope", "grad(u)", on="nodes"),
            sla.Field("square", "u**2", on="nodes"),
        ],
        solver=TIGHT,
    )
    mesh = problem.mesh_data()
    values = {
        "kappa": _rand(mesh.n_cells),
        "f": _number(1.3),
        "g": _rand(mesh.n_points),
        "h": _rand(mesh.n_facets),
    }
    return problem, values


def bracket() -> tuple[Any, dict[str, Any]]:
    """Elasticity in space: forces and springs at points and on faces."""
    problem = sla.ElasticityProblem(
        mesh=sla.BoxMesh(cells=(4, 2, 2), size=(2.0, 1.0, 1.0), cell="hexahedron"),
        young_modulus=sla.Parameter("E", on="cells"),
        poisson_ratio=0.3,
        boundary=[
            sla.Dirichlet(on="left", value=(0.0, 0.0, 0.0)),
            sla.Neumann(on="right", traction=(0.0, 0.1, -0.2)),
            sla.PointLoad(
                at=[(2.0, 1.0, 1.0), (0.7, 0.4, 0.3)], value=sla.Parameter("F", shape=(3,))
            ),
            sla.Spring(at=[(2.0, 0.0, 0.0)], stiffness=sla.Parameter("k")),
        ],
        outputs=[
            sla.Compliance("work"),
            sla.Energy("energy"),
            sla.Maximum("stress", "von_mises(stress)", p=6),
            sla.Probe("tip", at=[(2.0, 0.5, 0.5)]),
            sla.Reaction("held", on="left"),
        ],
        solver=TIGHT,
    )
    return problem, {"E": _rand(16), "F": _rand(3), "k": _number(0.4)}


def corner() -> tuple[Any, dict[str, Any]]:
    """A nonlinear law, radiation, elements of second order, a corner that reenters."""
    problem = sla.PoissonProblem(
        mesh=sla.LShapeMesh(cells=3),
        order=2,
        diffusivity="k0*(1 + u**2)",
        source=sla.Parameter("f", on="nodes"),
        parameters=[sla.Parameter("k0")],
        boundary=[
            sla.Dirichlet(on="x < 1e-9", value=0.1),
            sla.Radiation(on="x > 0.999", emissivity=0.3, ambient=1.0, constant=1.0),
        ],
        outputs=[
            sla.Integral("heat", "u"),
            sla.Flux("out", on="x > 0.999"),
            sla.Compliance("work"),
        ],
        solver=TIGHT,
    )
    return problem, {"k0": _number(1.2), "f": _rand(problem.mesh_data().n_points)}


def stream() -> tuple[Any, dict[str, Any]]:
    """Advection, whose matrix has no symmetry; a network as coefficient; values at quadrature points."""
    problem = sla.PoissonProblem(
        mesh=sla.RectangleMesh(cells=(6, 4), cell="quad"),
        diffusivity=sla.Parameter("kappa", on="quadrature"),
        advection=[sla.Parameter("speed"), 0.3],
        boundary=[sla.Dirichlet(on="left", value=0.0), sla.Neumann(on="right", flux="1 + y")],
        outputs=[sla.Integral("top", "u", on="top"), sla.Maximum("most", "u")],
        solver=TIGHT,
    )
    return problem, {"kappa": _net(2), "speed": _number(3.0)}


def learned() -> tuple[Any, dict[str, Any]]:
    """A network as a law of the solution."""
    problem = sla.PoissonProblem(
        mesh=sla.RectangleMesh(cells=(4, 4)),
        diffusivity=sla.Parameter("kappa", on="quadrature", of=("x", "u")),
        source=1.0,
        boundary=[sla.Dirichlet(on=["left", "top"], value=0.0)],
        outputs=[sla.Integral("heat", "u")],
        solver=TIGHT,
    )
    return problem, {"kappa": _net(3)}


def two_materials() -> tuple[Any, dict[str, Any]]:
    """Coefficients by cell tags, some of which parts do not have; a tagged facet inside the body."""
    plain = sla.PoissonProblem(mesh=sla.RectangleMesh(cells=(8, 3))).mesh_data()
    x = plain.points[plain.cells].mean(1)[:, 0]
    on_line = torch.nonzero((plain.points[:, 0] - 0.5).abs() < 1e-9)[:, 0]
    upwards = on_line[plain.points[on_line, 1].argsort()]
    middle = torch.stack([upwards[:-1], upwards[1:]], 1)
    problem = sla.PoissonProblem(
        mesh=sla.MeshArrays(
            points=Array(plain.points.numpy()),
            cells=Array(plain.cells.numpy()),
            cell="triangle",
            cell_tags={"hot": Array(torch.nonzero(x < 0.2)[:, 0].numpy())},
            facet_tags={
                "left": Array(plain.facets[plain.facet_tags["left"]].numpy()),
                "middle": Array(middle.numpy()),
            },
        ),
        diffusivity={"hot": sla.Parameter("k_hot"), "*": 2.0},
        source=1.0,
        boundary=[sla.Dirichlet(on="left", value=0.0)],
        outputs=[
            sla.Integral("crossing", "dot(grad(u), normal)*u", on="middle"),
            sla.Integral("hot", "u", on="hot"),
        ],
        solver=TIGHT,
    )
    return problem, {"k_hot": _number(3.0)}


def bar() -> tuple[Any, dict[str, Any]]:
    """Three cells, for more parts than there are."""
    problem = sla.PoissonProblem(
        mesh=sla.IntervalMesh(cells=3),
        source=sla.Parameter("f"),
        boundary=[sla.Dirichlet(on="left", value=0.0)],
        outputs=[
            sla.Integral("heat", "u"),
            sla.Probe("at", at=[(0.5,), (1.0,)]),
            sla.Maximum("most", "u"),
            sla.Field("flow", "grad(u)", on="cells"),
        ],
        solver=TIGHT,
    )
    return problem, {"f": _number(2.0)}


def rubber() -> tuple[Any, dict[str, Any]]:
    """Large strains: a load whose steps are cut, a pressure that follows the surface."""
    problem = sla.HyperelasticityProblem(
        mesh=sla.RectangleMesh(cells=(6, 2), size=(3.0, 1.0), cell="quad"),
        constants={"young_modulus": sla.Parameter("E", on="cells"), "poisson_ratio": 0.3},
        boundary=[
            sla.Dirichlet(on="left", value=(0.0, 0.0)),
            sla.Dirichlet(on="right", value=(sla.Parameter("pull"), 0.0)),
            sla.Neumann(on="top", pressure=sla.Parameter("p")),
        ],
        outputs=[
            sla.Energy("energy"),
            sla.Reaction("held", on="left"),
            sla.Maximum("stress", "von_mises(stress)", p=4),
        ],
        solver=TIGHT,
    )
    return problem, {"E": _rand(12), "pull": _number(2.5), "p": _number(0.02)}


def written() -> tuple[Any, dict[str, Any]]:
    """A weak form written out, nonlinear, with an integral over facets."""
    problem = sla.WeakFormProblem(
        mesh=sla.DiskMesh(cells=3),
        unknowns=[sla.Unknown("u", test="v")],
        residual="(dot(k*grad(u), grad(v)) + u**3*v - f*v)*dx + 0.5*u*v*ds",
        parameters=[sla.Parameter("k", on="cells"), sla.Parameter("f")],
        boundary=[sla.Dirichlet(on="x < 0", value=0.2)],
        outputs=[sla.Integral("heat", "u**2"), sla.Reaction("held", on="x < 0")],
        solver=TIGHT,
    )
    return problem, {"k": _rand(problem.mesh_data().n_cells), "f": _number(3.0)}


def drifting() -> tuple[Any, dict[str, Any]]:
    """A weak form without symmetry."""
    problem = sla.WeakFormProblem(
        mesh=sla.RectangleMesh(cells=(5, 4)),
        unknowns=[sla.Unknown("u", test="v")],
        residual="(dot(k*grad(u), grad(v)) + 3*grad(u)[0]*v - v)*dx",
        parameters=[sla.Parameter("k")],
        boundary=[sla.Dirichlet(on=["left", "right"], value=0.0)],
        outputs=[sla.Integral("heat", "u")],
        solver=TIGHT,
    )
    return problem, {"k": _number(0.7)}


def strip() -> tuple[Any, dict[str, Any]]:
    """A long lattice, of which a process sees a piece: supports, loads and probes far from each other."""
    problem = sla.ElasticityProblem(
        mesh=sla.RectangleMesh(cells=(28, 3), size=(7.0, 1.0), grading=(2.0, 1.0)),
        model="plane_stress",
        young_modulus=sla.Parameter("E", on="cells"),
        poisson_ratio=0.3,
        boundary=[
            sla.Dirichlet(on="left", value=0.0, component=0),
            sla.Dirichlet(on="x < 1 and y < 1e-9", value=0.0, component=1),
            sla.Neumann(on="x > 6.5 and y > 0.999", traction=(0.0, -0.1)),
            sla.PointLoad(at=[(2.5, 0.5), (7.0, 1.0)], value=(sla.Parameter("F"), 0.1)),
        ],
        outputs=[
            sla.Compliance("work"),
            sla.Probe("tip", at=[(7.0, 0.5), (0.3, 0.2), (3.0, 1.0)]),
            sla.Reaction("held", on="left"),
            sla.Maximum("stress", "von_mises(stress)"),
            sla.Field("strain", "trace(strain)", on="nodes"),
        ],
        solver=TIGHT,
    )
    return problem, {"E": _rand(168), "F": _number(0.4)}


def rolled() -> tuple[Any, dict[str, Any]]:
    """A lattice that repeats itself in both directions, with elements of second order and a reaction."""
    problem = sla.PoissonProblem(
        mesh=sla.RectangleMesh(cells=(6, 4)),
        order=2,
        diffusivity=sla.Parameter("kappa", on="cells"),
        reaction=2.0,  # the mean is held by it: rounding has room below 1e-10
        source="1 + x",
        boundary=[sla.Periodic(on="right", to="left"), sla.Periodic(on="top", to="bottom")],
        outputs=[
            sla.Integral("heat", "u**2"),
            sla.Probe("at", at=[(0.0, 0.3), (0.55, 1.0)]),
            sla.Field("slope", "grad(u)", on="nodes"),
        ],
        solver=TIGHT,
    )
    return problem, {"kappa": _rand(48)}


def sleeve() -> tuple[Any, dict[str, Any]]:
    """A ring of an elastic body cut open: two sides repeat each other, one of them held at its end."""
    problem = sla.ElasticityProblem(
        mesh=sla.RectangleMesh(cells=(8, 3), cell="quad"),
        model="plane_strain",
        young_modulus=sla.Parameter("E", on="cells"),
        poisson_ratio=0.3,
        boundary=[
            sla.Periodic(on="right", to="left"),
            sla.Dirichlet(on="bottom", value=(0.0, 0.0)),
            sla.Neumann(on="top", traction=("0.1*x", -0.2)),
        ],
        outputs=[sla.Compliance("work"), sla.Energy("energy"), sla.Reaction("held", on="bottom")],
        solver=TIGHT,
    )
    return problem, {"E": _rand(24)}


def pinned() -> tuple[Any, dict[str, Any]]:
    """A body that is held at single points, far from each other."""
    problem = sla.ElasticityProblem(
        mesh=sla.RectangleMesh(cells=(12, 2), size=(6.0, 1.0)),
        model="plane_stress",
        young_modulus=sla.Parameter("E"),
        poisson_ratio=0.3,
        body_force=(0.0, -0.1),
        boundary=[
            sla.Dirichlet(at=[(0.0, 0.0)], value=(0.0, 0.0)),
            sla.Dirichlet(at=[(6.0, 0.0), (3.0, 0.5)], value=sla.Parameter("sink"), component=1),
        ],
        outputs=[sla.Compliance("work"), sla.Probe("tip", at=[(1.5, 1.0)])],
        solver=TIGHT,
    )
    return problem, {"E": _number(2.0), "sink": _number(0.01)}


def bent() -> tuple[Any, dict[str, Any]]:
    """A mesh whose points move, with a gradient with respect to all of them."""
    problem = sla.ElasticityProblem(
        mesh=sla.RectangleMesh(cells=(9, 3), size=(3.0, 1.0)),
        model="plane_stress",
        young_modulus="1 + x**2",
        poisson_ratio=0.3,
        boundary=[
            sla.Dirichlet(on="left", value=(0.0, 0.0)),
            sla.Neumann(on="right", traction=("0.1*y", -0.2)),
        ],
        outputs=[
            sla.Compliance("work"),
            sla.Integral("area", "1"),
            sla.Maximum("stress", "von_mises(stress)", p=6),
        ],
        solver=TIGHT,
    )
    points = problem.mesh_data().points
    return problem, {"points": points + 0.05 * _rand(*points.shape)}


def waves() -> tuple[Any, dict[str, Any]]:
    """A complex field with impedances and a perfectly matched layer."""
    problem = sla.HelmholtzProblem(
        mesh=sla.RectangleMesh(cells=(14, 9)),
        wavenumber=sla.Parameter("k"),
        refraction=sla.Parameter("n", on="cells"),
        source="exp(-40*((x - 0.5)**2 + (y - 0.4)**2))",
        boundary=[sla.Robin(["bottom", "top"], "-1j*k", 0.0)],
        layer=sla.PML(lower=(0.2, 0.0), upper=(0.8, 1.0), thickness=0.2),
        outputs=[
            sla.Integral("power", "abs(u)**2"),
            sla.Probe("size", at=[(0.3, 0.4), (0.7, 0.9)], quantity="abs(u)"),
        ],
        solver=TIGHT,
    )
    return problem, {"k": _number(7.0), "n": 0.5 + _rand(252)}


def ripple() -> tuple[Any, dict[str, Any]]:
    """A complex field on two cells, with outputs that are real, for more parts than there are."""
    problem = sla.HelmholtzProblem(
        mesh=sla.RectangleMesh(cells=(2, 1)),
        wavenumber=sla.Parameter("k"),
        source=1.0,
        boundary=[sla.Dirichlet("left", 1.0)],
        outputs=[
            sla.Integral("power", "abs(u)**2"),
            sla.Probe("size", at=[(0.4, 0.3)], quantity="abs(u)"),
        ],
        solver=TIGHT,
    )
    return problem, {"k": _number(2.1)}


def coupled() -> tuple[Any, dict[str, Any]]:
    """Two unknowns that react with each other, one of them a vector."""
    problem = sla.WeakFormProblem(
        mesh=sla.RectangleMesh(cells=(8, 5)),
        unknowns=[sla.Unknown("w", shape="vector", order=2, test="q"), sla.Unknown("u", test="v")],
        residual="(dot(k*grad(u), grad(v)) + 0.3*div(w)*v - v)*dx"
        " + (inner(grad(w), grad(q)) - 0.2*u*q[1])*dx + u*v*ds",
        parameters=[sla.Parameter("k", on="cells")],
        boundary=[
            sla.Dirichlet("left", (0.0, 0.0), unknown="w"),
            sla.Dirichlet("right", 1.0, unknown="u"),
        ],
        outputs=[sla.Integral("a", "u"), sla.Integral("b", "dot(w, w)")],
        solver=TIGHT,
    )
    return problem, {"k": _rand(80)}


def _ring(n: int) -> SparseTensor:
    """A symmetric matrix of a ring, with weights."""
    i = torch.arange(n)
    w = _rand(n)
    row, col = torch.cat([i, (i + 1) % n, i]), torch.cat([(i + 1) % n, i, i])
    return SparseTensor(torch.cat([-w, -w, 2.5 + _rand(n)]), row, col, (n, n))


def system() -> tuple[Any, dict[str, Any]]:
    """A matrix given at solve time, two right-hand sides, components."""
    problem = sla.LinearProblem(
        matrix=sla.Parameter("A"),
        rhs=sla.Parameter("b", shape=(30,)),
        outputs=[sla.Component("some", index=[3, 17, 3]), sla.Component("first", index=[0])],
        solver=TIGHT,
    )
    return problem, {"A": _ring(30), "b": _rand(2, 30)}


def drums() -> tuple[Any, dict[str, Any]]:
    """Modes of a given matrix with a given mass."""
    problem = sla.EigenProblem(
        matrix=sla.Parameter("K"),
        mass=sla.Parameter("M"),
        k=3,
        outputs=[sla.Component("second", index=[1])],
    )
    M = SparseTensor.eye(40, dtype=torch.float64)
    return problem, {"K": _ring(40), "M": SparseTensor.from_pattern(M.pattern, _rand(40))}


def reaction() -> tuple[Any, dict[str, Any]]:
    """Equations of a vector and a number, with products over the whole, components and a branch."""
    n = 30
    problem = sla.NonlinearProblem(
        unknowns=[sla.Root("u", size=n, start=0.1), sla.Root("s", start=1.0)],
        matrices={"A": sla.Parameter("A")},
        residual=[
            "dot(A, u) + where(s > 0.02, k*u**3, exp(u)) - s*f",
            "s - 2 + dot(u, u)/10 + u[2]*norm(f)*dot(p, p)",
        ],
        parameters=[
            sla.Parameter("k"),
            sla.Parameter("f", shape=(n,)),
            sla.Parameter("p", shape=(2,)),
        ],
        outputs=[sla.Component("some", index=[2, n])],
        solver=TIGHT,
    )
    return problem, {"A": _ring(n), "k": _number(0.7), "f": _rand(n), "p": 0.1 * _rand(2)}


def pair() -> tuple[Any, dict[str, Any]]:
    """Two equations, for more parts than there are."""
    problem = sla.LinearProblem(
        matrix=[[2.0, 1.0], [1.0, 3.0]],  # type: ignore[arg-type]  # made an array of
        rhs=sla.Parameter("b", shape=(2,)),
        solver=TIGHT,
    )
    return problem, {"b": _rand(3, 2)}


def links() -> tuple[Any, dict[str, Any]]:
    """Two numbers that satisfy two equations, for more parts than there are."""
    problem = sla.NonlinearProblem(
        unknowns=[sla.Root("u", start=1.0), sla.Root("s", start=1.0)],
        residual=["u**3 + s - k", "s**3 - u/2 - 1"],
        parameters=[sla.Parameter("k")],
        solver=TIGHT,
    )
    return problem, {"k": _number(2.7)}


def cases() -> tuple[Any, dict[str, Any]]:
    """A sweep of a steady problem."""
    rod = sla.PoissonProblem(
        mesh=sla.DiskMesh(cells=3),
        diffusivity=sla.Parameter("k"),
        source=sla.Parameter("f", on="nodes"),
        boundary=[sla.Dirichlet("rim", 0.0)],
        outputs=[sla.Integral("heat", "u"), sla.Field("flow", "k*grad(u)", on="cells")],
        solver=TIGHT,
    )
    problem = sla.SweepProblem(of=rod, cases={"k": [1.0, 2.0, 0.5]})
    return problem, {"f": _rand(rod.mesh_data().n_points)}


def marches() -> tuple[Any, dict[str, Any]]:
    """A sweep of a march in time."""
    rod = sla.PoissonProblem(
        mesh=sla.IntervalMesh(cells=6),
        capacity=1.0,
        diffusivity=sla.Parameter("k"),
        source=sla.Parameter("f"),
        boundary=[sla.Dirichlet("left", 0.0)],
        outputs=[sla.Integral("heat", "u")],
        solver=TIGHT,
    )
    march = sla.TransientProblem(of=rod, end=0.1, steps=3)
    return sla.SweepProblem(of=march, cases=[{"k": 1.0}, {"k": 3.0}]), {"f": _number(2.0)}


CASES: dict[str, Callable[[], tuple[Any, dict[str, Any]]]] = {
    case.__name__: case
    for case in (
        *(disk, bracket, corner, stream, learned, two_materials, bar),
        *(rubber, written, drifting),
        *(
            strip,
            rolled,
            sleeve,
            pinned,
            bent,
            waves,
            ripple,
            coupled,
            system,
            pair,
            drums,
            reaction,
            links,
            cases,
            marches,
            channel,
            basin,
            cavity,
            ring,
            box,
            drop,
        ),
    )
}


def solved(problem: Any, values: dict[str, Any]) -> Found:
    """Solve and differentiate a cubic functional of everything, by one process or by many."""
    given: dict[str, Any] = {}
    for name, value in values.items():
        given[name] = value.clone().requires_grad_() if isinstance(value, Tensor) else value
        if isinstance(value, SparseTensor):
            own = value.values.clone().requires_grad_()
            given[name] = SparseTensor.from_pattern(value.pattern, own)
        if isinstance(value, torch.nn.Module):
            value.zero_grad()
    moved = {"points": given["points"]} if "points" in given else {}
    solution = problem.solve({n: x for n, x in given.items() if n not in moved}, **moved)
    shared = isinstance(problem, DistributedProblem)
    name = {"linear": "x", "nonlinear": "x", "eigen": "modes"}.get(
        problem.spec.type if shared else problem.type, "u"
    )
    u = solution.whole(name) if shared else solution[name]
    if problem.spec.is_complex if shared else problem.is_complex:
        u = torch.view_as_real(u)
    fields = set(solution.numbers) if shared else set()
    outputs = {
        name: solution.whole(name) if shared and name in fields else solution[name]
        for name in solution
    }
    weights = 1 + torch.arange(u.numel(), dtype=u.dtype).reshape(u.shape) / u.numel()
    loss = (weights * u**3).sum()
    for value in outputs.values():
        weights = 1 + torch.arange(value.numel(), dtype=value.dtype).reshape(value.shape)
        loss = loss + (weights * (value**3 + value)).sum() / value.numel()
    loss.backward()
    gradients: dict[str, Tensor] = {}
    for name, value in given.items():
        if isinstance(value, SparseTensor):
            slope = value.values.grad
            gradients[name] = torch.zeros_like(value.values) if slope is None else slope
        elif isinstance(value, Tensor):
            gradients[name] = torch.zeros_like(value) if value.grad is None else value.grad
        else:
            gradients |= {f"{name}.{n}": w.grad.clone() for n, w in value.named_parameters()}
    detached = {name: value.detach() for name, value in outputs.items()}
    return Found(u.detach(), detached, loss.detach(), gradients)


def problem_of(case: str) -> tuple[Any, dict[str, Any]]:
    """Return a case by name."""
    return CASES[case]()


def on_ranks(group: ProcessGroup, case: str) -> Found:
    """Solve a case with all processes of a group."""
    problem, values = problem_of(case)
    return solved(distribute(problem, group=group), values)
