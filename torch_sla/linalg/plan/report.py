"""A plan in words."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch_sla.linalg.plan.plan import SolvePlan, Verdict
    from torch_sla.linalg.plan.rules import Candidate

__all__ = ["duration", "explain", "storage"]

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
                duration(v.seconds) if counted else "-",
                storage(v.nbytes) if counted else "-",
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


def duration(t: float) -> str:
    """Write seconds for people.

    Examples
    --------
    >>> duration(2.5e-4), duration(9.997e-4), duration(0.0314), duration(12.0), duration(3600.0)
    ('250 us', '1 ms', '31.4 ms', '12 s', '60 min')
    """
    return _scaled(
        t, ((1e-6, 999.5, "us"), (1e-3, 999.5, "ms"), (1.0, 600.0, "s"), (60.0, inf, "min"))
    )


def storage(size: float) -> str:
    """Write bytes for people.

    Examples
    --------
    >>> storage(512.0), storage(999_900.0), storage(3.2e7), storage(2.5e12)
    ('0.512 kB', '1 MB', '32 MB', '2500 GB')
    """
    return _scaled(size, ((1e3, 999.5, "kB"), (1e6, 999.5, "MB"), (1e9, inf, "GB")))


def _scaled(x: float, units: tuple[tuple[float, float, str], ...]) -> str:
    """Write three digits in the first unit of which there are fewer than its limit, once they are rounded."""
    rounded = float(f"{x:.3g}")
    unit, _, name = next((u for u in units if rounded / u[0] < u[1]), units[-1])
    shown = rounded / unit
    return f"{shown:.3g} {name}" if shown < 1000 else f"{shown:.0f} {name}"
