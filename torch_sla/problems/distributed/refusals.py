"""What several processes cannot share yet, and why: said before any work is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch_sla.problems.specs.problem import Problem

__all__ = ["TYPES", "refusal", "table"]

TYPES: dict[str, str | None] = {
    "poisson": None,
    "elasticity": None,
    "hyperelasticity": None,
    "helmholtz": None,
    "stokes": None,
    "weak_form": None,
    "linear": None,
    "nonlinear": None,
    "eigen": None,
    "transient": None,
    "design": None,
    "sweep": None,
}
"""Why a type of problem is solved by one process only; None for those that several can share."""


def refusal(spec: Problem) -> str | None:
    """Return why several processes cannot share a problem; None when they can."""
    reason = TYPES.get(spec.type, "its meaning on several processes is not written")
    if reason is not None:
        return f"{spec.type}: {reason}"
    if getattr(spec, "damped", False) and spec.type == "eigen":
        return "eigen: damped modes come of factors, which one process makes; leave the damping out"
    if spec.inner is not None and spec.type != "design":
        inner = spec.inner
        if spec.type == "eigen" and (len(inner.fields) > 1 or inner.is_complex):
            return f"eigen of {inner.type}: one process finds modes of several or complex unknowns"
        if spec.type == "sweep" and any(event.stop for event in getattr(inner, "events", ())):
            return "sweep: in parts each case goes alone, and events would stop each elsewhere; leave stop out"
        return refusal(inner)
    if getattr(spec, "control", "load") == "arc_length":
        return "control: arc_length follows its path in one process; several apply the loads in steps (control: load)"
    if spec.solver.backend not in ("auto", "pytorch"):
        return (
            f"solver.backend {spec.solver.backend!r} works in one process; the methods of several are those of "
            "'pytorch': cg, minres, bicgstab, gmres"
        )
    newton = spec.solver.nonlinear
    if newton.reuse or newton.inexact:
        return "solver.nonlinear keeps a tangent or a hierarchy (reuse, inexact), and in parts every step makes its own"
    return None


def table() -> str:
    """Return which types of problems several processes can share, as the documentation lists them."""
    lines = ["| type | on several processes |", "|---|---|"]
    for name, reason in TYPES.items():
        lines.append(f"| `{name}` | {'yes' if reason is None else 'no: ' + reason} |")
    return "\n".join(lines)
