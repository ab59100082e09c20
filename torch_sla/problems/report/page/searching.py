"""How a search went: what was found, and what every iteration brought."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch_sla.problems.report.draw.charts import Curve, chart, number
from torch_sla.problems.report.page.section import Section, facts, figure, short, table

if TYPE_CHECKING:
    from torch_sla.problems.analyses.design.solution import DesignSolution

__all__ = ["search_part"]


def search_part(result: DesignSolution) -> list[Section]:
    """Return the design that was found, and the history of the search."""
    spec = result.spec
    said = {
        "search": "converged" if result.converged else "not converged",
        "because": result.reason,
        "iterations": str(result.iterations),
        "objective": number(result.objective),
        "optimizer": spec.optimizer.type,
    }
    rows = []
    for name, value in result.design.items():
        parameter = spec.declared.get(name)
        rows.append([name, short(value), "" if parameter is None else parameter.unit or ""])
    found = facts(said) + table(["variable", "value", "unit"], rows)
    return [Section("Design", found), Section("Search", _history(result))]


def _history(result: DesignSolution) -> str:
    history = result.history
    steps = history["iteration"]
    value = Curve("objective", steps, history["objective"])
    positive = min(history["objective"]) > 0
    body = figure(chart([value], "iteration", "objective", log=positive, dots=True), "Objective")
    curves = [
        Curve(name, steps, [v or 0.0 for v in history[name]])
        for name in ("optimality", "violation")
        if name in history.names and any((v or 0.0) > 0 for v in history[name])
    ]
    if curves:
        body += figure(
            chart(curves, "iteration", "", log=True, dots=True),
            "Optimality, and the largest violation of a constraint",
        )
    return f'<div class="grid2">{body}</div>'
