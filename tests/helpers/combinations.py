"""Which physics goes with which analysis: found by declaring all of them, written as the table of the documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch_sla import (
    Adaptive,
    Dirichlet,
    EigenProblem,
    ElasticityProblem,
    Neumann,
    Parameter,
    RectangleMesh,
    SweepProblem,
    TransientProblem,
)
from torch_sla.errors import SpecError
from torch_sla.problems.registry import PHYSICS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch_sla.problems.specs.field_problem import FieldProblem
    from torch_sla.problems.specs.problem import Problem

    Samples = Mapping[str, Mapping[str, Any]]

__all__ = ["ANALYSES", "FIELDS", "declared", "table"]

FIELDS = [kind for kind, entry in PHYSICS.items() if entry.kind == "field"]


def _in_time(**more: Any) -> Callable[[FieldProblem], Problem]:
    return lambda of: TransientProblem(of=of, end=0.1, steps=2, **more)


ANALYSES: dict[str, Callable[[Any], Problem]] = {
    "modes": lambda of: EigenProblem(of=of, k=1),
    "prestressed": lambda of: EigenProblem(of=of, k=1, kind="prestressed"),
    "buckling": lambda of: EigenProblem(of=of, k=1, kind="buckling"),
    "backward_euler": _in_time(scheme="backward_euler"),
    "crank_nicolson": _in_time(scheme="crank_nicolson"),
    "bdf2": _in_time(scheme="bdf2", adaptive=Adaptive(rtol=0.1)),
    "newmark": _in_time(scheme="newmark", adaptive=Adaptive(rtol=0.1)),
    "generalized_alpha": _in_time(scheme="generalized_alpha", mass_damping=0.1),
    "explicit": _in_time(scheme="explicit"),
    "sweep": lambda of: SweepProblem(of=of, cases={next(iter(of.declared)): [1.0, 1.1]}),
}


def physics(given: Samples, kind: str, analysis: str) -> FieldProblem:
    """Return a sample that makes sense: symmetric for modes, compressed for buckling, lumped masses for `explicit`."""
    samples = given[kind]
    if analysis in ("prestressed", "buckling") and kind == "elasticity":
        return ElasticityProblem(
            mesh=RectangleMesh(cells=(4, 1), size=(8.0, 1.0)),
            model="plane_stress",
            boundary=[
                Dirichlet("left", 0.0),
                Neumann("right", traction=[Parameter("p", default=-1e-4), 0.0]),
            ],
        )
    if kind == "hyperelasticity" and analysis in ("modes", "explicit"):
        of = samples["energy"].make()
    else:
        of = next(iter(samples.values())).make()
    if kind == "poisson" and analysis == "modes":
        of = of.updated(advection=None)
    if kind == "poisson" and analysis == "explicit":
        of = of.updated(stabilization="none")
    if analysis == "explicit" and kind != "stokes":
        of = of.updated(order=1)
    found: FieldProblem = of
    return found


def declared(given: Samples, kind: str, analysis: str) -> Problem | str:
    """Return the problem, or why there is none."""
    of = physics(given, kind, analysis)
    try:
        return ANALYSES[analysis](of)
    except SpecError as error:
        return error.message


def table(given: Samples) -> str:
    """Return the table, and the reasons of what is refused."""
    found = {kind: {name: declared(given, kind, name) for name in ANALYSES} for kind in FIELDS}
    lines = [
        "| | " + " | ".join(f"`{name}`" for name in ANALYSES) + " |",
        "|---" * (len(ANALYSES) + 1) + "|",
    ]
    for kind, row in found.items():
        cells = ("no" if isinstance(problem, str) else "yes" for problem in row.values())
        lines.append(f"| `{kind}` | " + " | ".join(cells) + " |")
    lines.append("")
    for kind, row in found.items():
        reasons: dict[str, list[str]] = {}
        for name, problem in row.items():
            if isinstance(problem, str):
                reason = problem.removeprefix(f"{name!r} is ").removeprefix(f"{name} of {kind}: ")
                reasons.setdefault(reason.split("; schemes here")[0], []).append(f"`{name}`")
        for reason, names in reasons.items():
            lines.append(f"- `{kind}`, {' '.join(names)}: {reason}.")
    return "\n".join(lines)
