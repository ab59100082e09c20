"""A plan in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch_sla.linalg.plan.plan import SolvePlan, Verdict
    from torch_sla.linalg.plan.rules import Candidate

__all__ = ["explain"]

# Rows of the table before the rest is named in one line.
_ROWS = 5


def explain(plan: SolvePlan, *, full: bool = False) -> str:
    """Lay a plan out: facts, choice, a table of the candidates that could have been, and who could not."""
    possible = [v for v in plan.verdicts if v.possible]
    refused = [v for v in plan.verdicts if not v.possible]
    lines = [f"matrix: {plan.facts.describe()}", f"choice: {plan.choice}"]
    turns = []
    if plan.fallbacks:
        turns.append(", then ".join(map(str, plan.fallbacks)) + " should it fail")
    if plan.lean is not None:
        turns.append(f"{plan.lean} should memory run out")
    if turns:
        lines.append("else: " + "; ".join(turns))
    if full:
        return "\n".join([*lines, *_table(list(plan.verdicts))])
    lines += _table(possible[:_ROWS])
    slower = [v.candidate for v in possible[_ROWS:]]
    if slower:
        lines.append(f"slower still: {_names(slower)}")
    reasons: dict[str, list[Candidate]] = {}
    for v in refused:
        reasons.setdefault(v.reason, []).append(v.candidate)
    if reasons:
        lines.append("not possible")
        lines += [f"  {_names(names)}: {reason}" for reason, names in reasons.items()]
    return "\n".join(lines)


def _table(verdicts: list[Verdict]) -> list[str]:
    rows = [("candidate", "time", "memory", "verdict")]
    for v in verdicts:
        counted = v.cost is not None
        rows.append(
            (
                str(v.candidate),
                _seconds(v.seconds) if counted else "-",
                _bytes(v.nbytes) if counted else "-",
                v.reason,
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return [
        "  ".join([*(cell.ljust(w) for cell, w in zip(row[:3], widths, strict=True)), row[3]])
        for row in rows
    ]


def _names(candidates: list[Candidate]) -> str:
    """Name candidates by backend: ``scipy cg, minres; eigen lu``; preconditioners are left out."""
    methods: dict[str, list[str]] = {}
    for c in candidates:
        known = methods.setdefault(c.backend, [])
        if c.method not in known:
            known.append(c.method)
    return "; ".join(f"{backend} {', '.join(names)}" for backend, names in methods.items())


def _seconds(t: float) -> str:
    for limit, unit, name in ((1e-3, 1e-6, "us"), (1.0, 1e-3, "ms"), (600.0, 1.0, "s")):
        if t < limit:
            return f"{t / unit:.3g} {name}"
    return f"{t / 60:.3g} min"


def _bytes(size: float) -> str:
    for limit, unit, name in ((1e6, 1e3, "kB"), (1e9, 1e6, "MB")):
        if size < limit:
            return f"{size / unit:.3g} {name}"
    return f"{size / 1e9:.3g} GB"
