"""What several processes cannot share is refused with a reason; the table in the docs lists every type."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

import torch_sla as sla
from tests.helpers.shared_problems import problem_of
from torch_sla.errors import ArgumentError, DTypeError, GradientError, RankError, SpecError
from torch_sla.linalg import SparseTensor
from torch_sla.problems.distributed.problem import DistributedProblem
from torch_sla.problems.distributed.refusals import TYPES, table
from torch_sla.problems.lowering.scene import Scene
from torch_sla.problems.registry import PHYSICS

if TYPE_CHECKING:
    from tests.helpers.ranks import Ranks

DOCS = Path(__file__).parents[3] / "docs" / "distributed_problems.md"


def test_every_type_has_an_answer() -> None:
    assert TYPES.keys() == PHYSICS.keys()


def test_the_docs_have_the_table() -> None:
    text = DOCS.read_text(encoding="utf-8")
    found = re.search(r"<!-- shared types -->\n(.*?)\n<!-- end -->", text, re.DOTALL)
    assert found is not None
    assert found[1] == table(), "put this into docs/distributed_problems.md:\n" + table()


def poisson(**changes: Any) -> sla.PoissonProblem:
    fields: dict[str, Any] = {
        "mesh": sla.RectangleMesh(cells=(3, 3)),
        "diffusivity": sla.Parameter("kappa", on="cells", default=1.0),
        "boundary": [sla.Dirichlet("left", 0.0)],
        "outputs": [sla.Integral("heat", "u")],
    }
    return sla.PoissonProblem(**{**fields, **changes})


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (
            sla.StokesProblem(mesh=sla.RectangleMesh(cells=(2, 2)), viscosity=1.0),
            "nothing holds the fluid",
        ),
        (
            sla.EigenProblem(of=poisson(solver=sla.Solver(backend="scipy")), k=2),
            "solver.backend 'scipy'",
        ),
        (
            sla.EigenProblem(
                of=sla.HelmholtzProblem(mesh=sla.RectangleMesh(cells=(2, 2)), wavenumber=1.0), k=1
            ),
            "eigen of helmholtz",
        ),
        (
            sla.HyperelasticityProblem(
                mesh=sla.RectangleMesh(cells=(2, 2)),
                constants={"young_modulus": 1.0, "poisson_ratio": 0.3},
                control="arc_length",
                boundary=[sla.Dirichlet("left", 0.0)],
            ),
            "arc_length",
        ),
        (poisson(solver=sla.Solver(backend="scipy")), "solver.backend 'scipy'"),
        (poisson(solver=sla.Solver(nonlinear=sla.Newton(reuse=0.3))), "reuse"),
        (
            poisson(solver=sla.Solver(device="cuda")),
            "solver.device: this process computes on 'cpu'",
        ),
        (
            poisson(boundary=[sla.Dirichlet(at=[(0.1, 0.2)], value=0.0)]),
            "no corner of a cell lies at",
        ),
        (
            poisson(boundary=[sla.Periodic(on="left", to="top"), sla.Dirichlet("right", 0.0)]),
            r"^boundary\.0\.to: the node at .* has no partner",
        ),
        (
            sla.HelmholtzProblem(
                mesh=sla.RectangleMesh(cells=(8, 2), size=(1.0, 0.25)),
                wavenumber=6.0,
                layer=sla.PML(lower=[-1.0, -1.0], upper=[0.75, 1.0], thickness=0.3),
            ),
            r"layer: .* the mesh ends 0\.25 outside the box",
        ),
    ],
)
def test_refused_before_any_work(problem: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        _ = sla.distribute(problem, 2).division


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (
            {"kappa": torch.ones(4, 18, dtype=torch.float64)},
            ArgumentError,
            r"batch dimensions \[4\]",
        ),
        ({"kappa": torch.ones(7, dtype=torch.float64)}, ArgumentError, "shape"),
        ({"kapa": 1.0}, ArgumentError, "kapa"),
        ({"points": torch.zeros(15, 2)}, ArgumentError, r"the mesh has points \[16, 2\]"),
        ({"start": torch.zeros(3)}, ArgumentError, "16\\] of this process"),
        ({"kappa": -1.0}, ArgumentError, "diffusivity must be positive"),
    ],
)
def test_values_that_cannot_be(given: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        sla.distribute(poisson(), 2).solve(**given)


@pytest.mark.parametrize("parts", [1, 3])
def test_a_reaction_on_sides_that_nothing_holds(parts: int) -> None:
    problem = poisson(outputs=[sla.Reaction("held", on="left"), sla.Reaction("free", on="top")])
    with pytest.raises(SpecError, match=r"outputs\.1\.on: no Dirichlet condition holds 'u'"):
        sla.distribute(problem, parts).solve()


@pytest.mark.parametrize("level", [False, True])
def test_velocities_that_do_not_balance(level: bool) -> None:
    sides: list[Any] = [
        sla.Dirichlet(["bottom", "top", "left"], 0.0),
        sla.Dirichlet("right", ["y*(1 - y)", 0.0]),
    ]
    if level:
        sides.append(sla.Dirichlet(at=[(0.0, 0.0)], value=0.0, unknown="p"))
    flow = sla.StokesProblem(mesh=sla.RectangleMesh(cells=(4, 4)), boundary=sides)
    with pytest.raises(SpecError, match=r"boundary: .* do not balance: 0\.166667 more leaves"):
        sla.distribute(flow, 3).solve()


def test_a_gradient_that_reaches_nothing_is_an_error() -> None:
    problem = poisson(parameters=[sla.Parameter("idle", default=1.0)])
    idle = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    for value in (idle, torch.nn.Linear(2, 1)):
        with pytest.raises(GradientError, match="idle"):
            sla.distribute(problem, 2).solve(idle=value)


def test_second_derivatives_raise() -> None:
    kappa = torch.ones(18, dtype=torch.float64, requires_grad=True)
    heat = sla.distribute(poisson(source=1.0), 2).solve(kappa=kappa)["heat"]
    with pytest.raises(GradientError, match="first derivatives only"):
        torch.autograd.grad(heat, kappa, create_graph=True)


@pytest.mark.parametrize(
    ("start", "error", "message"),
    [
        (
            torch.zeros(4),
            ArgumentError,
            r"start has shape \(4,\); expected .* 9\] of this process's",
        ),
        (torch.full((9,), 1j), DTypeError, "start is complex"),
    ],
)
def test_starts_of_a_linear_system(
    start: torch.Tensor, error: type[Exception], message: str
) -> None:
    off = torch.tensor(-1.0, dtype=torch.float64)
    A = SparseTensor.tridiagonal(off, torch.full((9,), 2.5, dtype=torch.float64), off)
    system = sla.LinearProblem(matrix=sla.Parameter("A"), rhs=sla.Parameter("b"))
    with pytest.raises(error, match=message):
        sla.distribute(system, 2).solve(A=A, b=torch.ones(9, dtype=torch.float64), start=start)


def test_a_start_of_real_equations_is_real() -> None:
    roots = sla.NonlinearProblem(residual=["x**3 + x - 1"], unknowns=[sla.Root("x", size=6)])
    with pytest.raises(DTypeError, match="start is complex"):
        sla.distribute(roots, 2).solve(start=torch.full((6,), 1j))


def test_a_start_saves_iterations() -> None:
    problem = sla.distribute(poisson(source=1.0, solver=sla.Solver(preconditioner="jacobi")), 3)
    first = problem.solve()
    assert problem.solve(start=first.u).info.iterations < first.info.iterations
    assert "3 parts" in repr(problem)
    assert "heat" in repr(first)


def differing(group: Any, what: str) -> str:
    rank = torch.distributed.get_rank(group)
    problem, values = problem_of("disk")
    try:
        if what == "spec":
            changed = problem.model_copy(update={"order": 1 + rank})
            changed.forget()
            sla.distribute(changed, group=group)
        elif what == "values":
            sla.distribute(problem, group=group).solve({**values, "f": 1.0 + rank})
        elif what == "gradients":
            kappa = values["kappa"].detach().requires_grad_(rank == 1)
            sla.distribute(problem, group=group).solve({**values, "kappa": kappa})
        elif what == "start":
            shared = sla.distribute(problem, group=group)
            first = shared.solve(values).u
            shared.solve(values, start=first if rank == 2 else None)
        else:
            kappa = values["kappa"].clone()
            # In the cells of some processes only.
            kappa[: 20 if what == "negative" else 1] = -1.0 if what == "negative" else math.nan
            sla.distribute(problem, group=group).solve({**values, "kappa": kappa})
    except (RankError, ArgumentError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


@pytest.mark.distributed
def test_processes_that_differ_all_stop(ranks: Ranks) -> None:
    for found in ranks.run(3, differing, "spec"):
        assert "RankError: the ranks disagree on the problem" in found
    for found in ranks.run(3, differing, "values"):
        assert "RankError: the ranks disagree on the parameter 'f'" in found
    for found in ranks.run(3, differing, "gradients"):
        assert "the parameter 'kappa': ranks 0, 2 have float64" in found
        assert "requires grad); start" in found
    for found in ranks.run(3, differing, "start"):
        assert "disagree on start: ranks 0, 1 have nothing; rank 2 has something" in found
    for what, message in (
        ("negative", "diffusivity must be positive"),
        ("undefined", "'kappa' holds NaN"),
    ):
        said = ranks.run(3, differing, what)
        assert all(found.startswith("ArgumentError") for found in said)
        assert any(message in found for found in said)


def test_shared_problems_say_what_they_are() -> None:
    problem = sla.distribute(poisson(), 3)
    assert isinstance(problem, DistributedProblem)
    assert "16 unknowns on 18 triangle cells" in problem.division.describe()


def test_no_part_takes_its_own_end_for_that_of_the_mesh() -> None:
    """Each of the four parts ends within the layer, or before it."""
    layer = sla.PML(lower=[-1.0, -1.0], upper=[0.4, 1.0], thickness=0.6)
    problem = sla.HelmholtzProblem(
        mesh=sla.RectangleMesh(cells=(8, 2), size=(1.0, 0.25)), wavenumber=6.0, layer=layer
    )
    assert sla.distribute(problem, 4).division.layout.n == 27


def test_laws_are_evaluated_by_the_solve_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A division finds places; what `check` assembles in one process would be assembled twice."""
    seen = []
    real = Scene.evaluate

    def evaluate(self: Any, value: Any, sites: Any, path: str) -> Any:
        seen.append(path)
        return real(self, value, sites, path)

    monkeypatch.setattr(Scene, "evaluate", evaluate)
    problem = sla.distribute(poisson(diffusivity="1 + x"), 2)
    _ = problem.division
    assert seen == []
    problem.solve()
    assert "diffusivity" in seen
