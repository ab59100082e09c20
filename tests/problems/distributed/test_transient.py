"""Problems in time in parts against the same march in one process: outputs, histories and gradients to 1e-10."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

import torch_sla as sla
from tests.helpers.shared.values import TIGHT
from torch_sla import distribute
from torch_sla.errors import ArgumentError, SpecError
from torch_sla.linalg.distributed.precond.multigrid import PartMultigrid
from torch_sla.problems.distributed import solvers

if TYPE_CHECKING:
    from torch import Tensor

    from tests.helpers.ranks import Ranks

EXAMPLE = Path(__file__).parents[3] / "examples" / "distributed" / "distributed_transient.yaml"

Values = dict[str, Any]


def heat(scheme: str, **more: Any) -> tuple[Any, Values]:
    """Loads and given values that change, a value for each time, every kind of output."""
    of = sla.PoissonProblem(
        mesh=sla.DiskMesh(cells=3),
        diffusivity=sla.Parameter("kappa", on="cells"),
        capacity=sla.Parameter("c"),
        source="f*(1 + t)",
        parameters=[sla.Parameter("f", time="steps")],
        boundary=[
            sla.Dirichlet(on="x < 0", value="0.1*t"),
            sla.Robin(on="x > 0.3", coefficient=1.0, ambient=0.5),
        ],
        outputs=[
            sla.Probe("at", at=[(0.1, 0.2)]),
            sla.Integral("heat", "u**2"),
            sla.Reaction("held", on="x < 0"),
            sla.Field("square", "u**2", on="nodes"),
        ],
        solver=TIGHT,
    )
    problem = sla.TransientProblem(
        initial="x*y",
        end=0.5,
        steps=7,
        checkpoints=2,
        save=["u"],
        **{"of": of, "scheme": scheme, **more},
    )
    torch.manual_seed(5)
    n = of.mesh_data().n_cells
    sizes: dict[str, tuple[int, ...]] = {"kappa": (n,), "c": (), "f": (8,)}
    return problem, {k: 0.5 + torch.rand(s, dtype=torch.float64) for k, s in sizes.items()}


def beam(scheme: str) -> tuple[Any, Values]:
    """Motion with damping."""
    explicit = scheme == "explicit"
    of = sla.ElasticityProblem(
        mesh=sla.RectangleMesh(cells=(5, 2), size=(3.0, 1.0)),
        model="plane_stress",
        young_modulus=sla.Parameter("E", on="cells"),
        poisson_ratio=0.3,
        density=sla.Parameter("rho"),
        boundary=[sla.Dirichlet("left", 0.0), sla.Neumann("right", traction=(0.0, "sin(3*t)"))],
        outputs=[sla.Energy("all", part="total"), sla.Reaction("held", "left")],
        solver=TIGHT,
    )
    problem = sla.TransientProblem(
        of=of,
        initial_velocity=(0.0, "0.1*x"),
        end=1.0,
        steps=40 if explicit else 6,
        scheme=scheme,
        mass_damping=sla.Parameter("alpha"),
        stiffness_damping=0.0 if explicit else 0.01,
        save=["velocity"],
    )
    torch.manual_seed(5)
    sizes: dict[str, tuple[int, ...]] = {"E": (of.mesh_data().n_cells,), "rho": (), "alpha": ()}
    return problem, {k: 0.5 + torch.rand(s, dtype=torch.float64) for k, s in sizes.items()}


def softening() -> tuple[Any, Values]:
    """A nonlinear law: Newton's method in every step."""
    of = sla.PoissonProblem(
        mesh=sla.RectangleMesh(cells=(4, 3)),
        diffusivity="k*(1 + u**2)",
        source=4.0,
        parameters=[sla.Parameter("k")],
        boundary=[sla.Dirichlet("left", 0.0)],
        outputs=[sla.Integral("heat", "u")],
        solver=TIGHT,
    )
    problem = sla.TransientProblem(of=of, end=0.4, steps=3, scheme="bdf2")
    return problem, {"k": torch.tensor(0.8, dtype=torch.float64)}


def stretched(scheme: str) -> tuple[Any, Values]:
    """Rubber that is let go: its first acceleration comes of a law of fields."""
    of = sla.HyperelasticityProblem(
        mesh=sla.RectangleMesh(cells=(4, 2)),
        law="neo_hookean",
        constants={"mu": sla.Parameter("mu", on="cells"), "lam": sla.Parameter("lam", on="nodes")},
        density=4.0,
        boundary=[sla.Dirichlet("left", 0.0)],
        outputs=[sla.Energy("all", part="total")],
        solver=TIGHT,
    )
    steps = 20 if scheme == "explicit" else 3
    problem = sla.TransientProblem(
        of=of, initial=["0.1*x", 0.0], end=0.3, steps=steps, scheme=scheme
    )
    torch.manual_seed(5)
    mesh = of.mesh_data()
    sizes = {"mu": (mesh.n_cells,), "lam": (mesh.n_points,)}
    return problem, {k: 0.5 + torch.rand(s, dtype=torch.float64) for k, s in sizes.items()}


def flow(scheme: str, *, closed: bool, **more: Any) -> tuple[Any, Values]:
    """A flow that walls hold, or a lid drives; forces and viscosities that change with time."""
    sides: list[Any] = [sla.Dirichlet(["bottom", "top"], 0.0)]
    if closed:
        sides = [
            sla.Dirichlet(["left", "right", "bottom"], 0.0),
            sla.Dirichlet("top", ["(1 + t)*x*(1 - x)", 0.0]),
        ]
    else:
        # Velocities and pressures repeat.
        sides += [sla.Periodic("right", "left"), sla.Periodic("right", "left", unknown="p")]
    of = sla.StokesProblem(
        mesh=sla.RectangleMesh(cells=(4, 3)),
        viscosity=sla.Parameter("mu", on="cells") if closed else "exp(m*t)",
        density=sla.Parameter("rho"),
        body_force=("y", sla.Parameter("f", time="steps")),
        parameters=[] if closed else [sla.Parameter("m")],
        boundary=sides,
        outputs=[sla.Energy("energy"), sla.Integral("square", "p**2 + p**3")],
        solver=TIGHT,
    )
    problem = sla.TransientProblem(
        of=of,
        initial=["0.1*y*(1 - y)", 0.0],
        end=0.5,
        steps=4,
        scheme=scheme,
        checkpoints=2,
        **{"save": ["u"], **more},
    )
    torch.manual_seed(5)
    sizes: dict[str, tuple[int, ...]] = {"rho": (), "f": (5,)}
    sizes |= {"mu": (of.mesh_data().n_cells,)} if closed else {"m": ()}
    return problem, {k: 0.5 + torch.rand(s, dtype=torch.float64) for k, s in sizes.items()}


def reacting() -> tuple[Any, Values]:
    """Two substances that turn into each other."""
    of = sla.WeakFormProblem(
        mesh=sla.RectangleMesh(cells=(4, 3)),
        unknowns=[sla.Unknown("u", test="v", order=2), sla.Unknown("c", test="q")],
        residual="k*dot(grad(u), grad(v)) + dot(grad(c), grad(q)) + u*q - u**2*c*v",
        parameters=[sla.Parameter("k")],
        boundary=[sla.Dirichlet("left", "t"), sla.Dirichlet("right", 0.5, unknown="c")],
        outputs=[sla.Integral("both", "u*c")],
        solver=TIGHT,
    )
    problem = sla.TransientProblem(of=of, initial="x*y", end=0.5, steps=3, save=["u", "velocity"])
    return problem, {"k": torch.tensor(0.8, dtype=torch.float64)}


CASES = {
    "euler": lambda: heat("backward_euler"),
    "trapezoidal": lambda: heat("crank_nicolson"),
    "bdf2": lambda: heat("bdf2"),
    "adaptive": lambda: heat(
        "bdf2",
        adaptive=sla.Adaptive(rtol=3e-3),
        times=[0.2, 0.33, 0.5],
        events=[sla.Event("warm", of="heat", level=0.4)],
    ),
    "newmark": lambda: beam("newmark"),
    "alpha": lambda: beam("generalized_alpha"),
    "explicit": lambda: beam("explicit"),
    "softening": softening,
    "stretched": lambda: stretched("newmark"),
    "stretched explicit": lambda: stretched("explicit"),
    "lid": lambda: flow("bdf2", closed=True),
    "ring": lambda: flow("backward_euler", closed=False),
    "lid in few steps": lambda: flow(
        "bdf2", closed=True, adaptive=sla.Adaptive(rtol=0.05), save=["velocity"]
    ),
    "reacting": reacting,
}


def marched(problem: Any, values: Values) -> dict[str, Tensor]:
    """Outputs, histories and the gradients of a cubic functional of them."""
    given = {name: value.clone().requires_grad_() for name, value in values.items()}
    solution = problem.solve(given)
    shared = hasattr(problem, "comm")

    def whole(name: str, value: Tensor) -> Tensor:
        return solution.whole(name) if shared else value

    fields = solution.numbers if shared else ()
    found = {n: whole(n, x) if n in fields else x for n, x in solution.outputs.items()}
    found |= {n: whole(f"history.{n}", x) for n, x in solution.history.items()}
    found["u"] = whole("u", solution.u)
    torch.stack([(x**3 + x).sum() for x in found.values()]).sum().backward()
    gradients = {f"gradient of {n}": x.grad for n, x in given.items()}
    return {n: x.detach() for n, x in (found | gradients | solution.events).items()}


@cache
def alone(case: str) -> dict[str, Tensor]:
    return marched(*CASES[case]())


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].shape == value.shape, name
        scale = max(float(value.abs().max()), 1e-6)
        assert float((found[name] - value).abs().max()) <= 1e-10 * scale, name


# Flows that MINRES solves by fields, as large ones are; the factors of others are on one process.
BY_FIELDS = ("lid",)


def as_if_large(case: str, patch: pytest.MonkeyPatch) -> None:
    if case in BY_FIELDS:
        patch.setattr(solvers, "_TOGETHER", 0)


@pytest.mark.parametrize("case", CASES)
def test_parts_in_one_process(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, values = CASES[case]()
    as_if_large(case, monkeypatch)
    # More parts than cells in one of them: some have nothing.
    parts = {"newmark": 25, "ring": 27}.get(case, 3)
    same(marched(distribute(problem, parts), values), alone(case))


def on_ranks(group: Any, case: str) -> dict[str, Tensor]:
    problem, values = CASES[case]()
    with pytest.MonkeyPatch.context() as patch:
        as_if_large(case, patch)
        return marched(distribute(problem, group=group), values)


@pytest.mark.distributed
@pytest.mark.parametrize(
    ("case", "size"),
    [
        ("bdf2", 3),
        ("newmark", 2),
        ("softening", 7),
        ("lid", 1),
        ("lid", 3),
        ("ring", 2),
        ("reacting", 2),
    ],
)
def test_processes(ranks: Ranks, case: str, size: int) -> None:
    for found in ranks.run(size, on_ranks, case):
        same(found, alone(case))


def started(preconditioner: str, density: str) -> Any:
    """A channel whose flow starts from rest."""
    of = sla.StokesProblem(
        mesh=sla.RectangleMesh(cells=(4, 3)),
        density=density,
        body_force=("y", "x*t"),
        boundary=[
            sla.Dirichlet(["bottom", "top"], 0.0),
            sla.Dirichlet("left", ["y*(1 - y)*(1 + t)", 0.0]),
        ],
        outputs=[sla.Integral("square", "dot(u, u)")],
        solver=sla.Solver(rtol=1e-9, preconditioner=preconditioner),
    )
    rough = sla.Adaptive(rtol=5e-3)
    return sla.TransientProblem(of=of, end=0.5, steps=2, scheme="backward_euler", adaptive=rough)


def test_a_small_flow_sends_few_messages() -> None:
    """Factors on one process: no iterations, a vector there and back for each solve."""
    counted = {}
    for kind in ("auto", "schur"):
        shared = distribute(started(kind, "1 + x"), 3)
        solution = shared.solve()
        counted[solution.info.preconditioner] = shared.comm.traffic.messages
        assert len(solution.step_times) > 8
    assert 10 * counted["gathered"] < counted["schur"]


def test_a_fluid_without_mass_in_some_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes without inertia, and one multigrid for the complement of inertia whatever the steps."""
    built = []
    build = PartMultigrid.build_parts

    def counting(self: PartMultigrid, *arguments: Any) -> Any:
        built.append(self)
        return build(self, *arguments)

    monkeypatch.setattr(PartMultigrid, "build_parts", counting)
    wanted = started("auto", "where(x < 0.5, 0.0, 1.0)").solve()
    found = distribute(started("schur", "where(x < 0.5, 0.0, 1.0)"), 3).solve()
    assert found.info.preconditioner == "schur"
    assert len(built) < len(wanted.step_times) / 2
    torch.testing.assert_close(found["square"], wanted["square"], rtol=1e-7, atol=0)


def massless(group: Any) -> str:
    """The end of a beam has no mass: one process of two would see nothing of it."""
    problem, values = beam("explicit")
    of = problem.of.updated(density="where(x < 2.5, 1.0, 0.0)")
    del values["rho"]
    with pytest.raises(ArgumentError) as caught:
        distribute(problem.updated(of=of), group=group).solve(values)
    return str(caught.value)


@pytest.mark.distributed
def test_that_a_mass_is_missing_is_said_by_all(ranks: Ranks) -> None:
    for said in ranks.run(2, massless):
        assert "some have none" in said


def test_files_of_all_times(tmp_path: Path) -> None:
    meshio = pytest.importorskip("meshio")
    problem, values = CASES["euler"]()
    solution = distribute(problem, 2).solve(values)
    written = [p for ending in solution.endings for p in solution.save(tmp_path / f"out{ending}")]
    assert [p.name for p in written[-3:]] == ["out.pvd", "out.csv", "out.json"]
    text = (tmp_path / "out.pvd").read_text()
    assert text.count("<DataSet") == 8
    assert 'timestep="0.5"' in text
    pieces = [meshio.read(tmp_path / f"out-7.{i}.vtu") for i in range(2)]
    found = torch.cat([torch.from_numpy(p.point_data["u"].astype(float)) for p in pieces])
    assert float(found.max()) == pytest.approx(float(solution.whole().max()), rel=1e-12)
    assert (tmp_path / "out.csv").read_text().count("\n") == 9


def test_files_of_several_fields_that_repeat(tmp_path: Path) -> None:
    meshio = pytest.importorskip("meshio")
    problem, values = CASES["ring"]()
    solution = distribute(problem, 2).solve(values)
    solution.save(tmp_path / "out.pvd")
    assert len(solution["p"]) == 20  # its sides are shown both
    pieces = [meshio.read(tmp_path / f"out-4.{i}.vtu").point_data for i in range(2)]
    for name, value in (("u", solution.u[:, 0]), ("p", solution["p"])):
        found = torch.cat(
            [torch.from_numpy(p[name].reshape(len(p["p"]), -1)[:, 0]) for p in pieces]
        )
        assert float(found.double().abs().max()) == pytest.approx(
            float(value.abs().max()), rel=0.05
        )


def test_the_example() -> None:
    solution = distribute(sla.load_problem(EXAMPLE), 3).solve()
    assert float(solution["heat"][-1]) == pytest.approx(2.39839775, rel=1e-7)


def test_what_is_said() -> None:
    problem, values = CASES["bdf2"]()
    shared = distribute(problem, 2)
    assert "7 steps of 0.0714286 to 0.5, bdf2" in shared.describe()
    with pytest.raises(ArgumentError, match=r"batch dimensions \[2\]"):
        shared.solve({**values, "f": torch.ones(2, 8, dtype=torch.float64)})
    elsewhere = problem.updated(of=problem.of.updated(solver=sla.Solver(backend="scipy")))
    with pytest.raises(SpecError, match=r"backend"):
        distribute(elsewhere, 2)


def test_a_series_in_the_initial_state_keeps_its_gradient() -> None:
    of = sla.PoissonProblem(
        mesh=sla.RectangleMesh(cells=(5, 4)),
        parameters=[sla.Parameter("Ta", time="steps")],
        boundary=[sla.Robin("left", coefficient=1.0, ambient="Ta")],
        outputs=[sla.Integral("i", "u")],
    )
    march = sla.TransientProblem(of=of, initial="Ta", end=1.0, steps=4)
    gradients = []
    for problem in (march, distribute(march, 2)):
        warm = torch.linspace(1.0, 2.0, 5).double().requires_grad_()
        problem.solve(Ta=warm)["i"][-1].backward()
        gradients.append(warm.grad)
    assert gradients[0][0] > 0.1
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-8, atol=1e-10)


def test_modes_of_bodies_on_rollers() -> None:
    body = sla.ElasticityProblem(
        mesh=sla.RectangleMesh(cells=(18, 9), size=(2.0, 1.0)),
        model="plane_stress",
        young_modulus=1.0,
        density=1.0,
        boundary=[
            sla.Dirichlet("left", 0.0, component=0),
            sla.Dirichlet("bottom", 0.0, component=1),
        ],
    )
    modes = sla.EigenProblem(of=body, k=2)
    one = modes.solve().eigenvalues
    for parts in (1, 3):
        torch.testing.assert_close(
            distribute(modes, parts).solve().eigenvalues, one, rtol=1e-8, atol=0.0
        )
