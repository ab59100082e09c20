"""A design and the search that found it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch_sla.problems.analyses.analysis import frame_of
from torch_sla.problems.report.draw.charts import Curve, chart, number
from torch_sla.problems.report.frames import Frames
from torch_sla.problems.report.page.fields import field_pictures, mesh_part
from torch_sla.problems.report.page.section import Section, facts, figure, short, table
from torch_sla.problems.specs.variable import POINTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from torch_sla.problems.analyses.design.solution import DesignSolution

__all__ = ["search_parts"]

_MEASURES = ("optimality", "violation", "gradient")


def search_parts(result: DesignSolution) -> Iterator[Section]:
    """Make the parts that only a design has: what was found, and how the search went."""
    yield Section("Design", _design(result))
    yield Section("Search", _search(result))


def _design(result: DesignSolution) -> str:
    frame = frame_of(result.model.model)
    rows = []
    nodal: dict[str, Tensor] = {}
    cellwise: dict[str, Tensor] = {}
    for name, value in result.design.items():
        parameter = result.model.declared.get(name)
        home = "points" if parameter is None else parameter.on
        rows.append([name, short(value), (parameter.unit if parameter else None) or "", home])
        if name != POINTS and frame is not None and home in ("nodes", "cells"):
            (nodal if home == "nodes" else cellwise)[name] = value.detach()[None]
    body = table(["variable", "value", "unit", "lives on"], rows)
    if frame is None:
        return body
    points = result.design.get(POINTS, frame.mesh.points).detach()
    found = Frames("", [0.0], [""], frame.mesh, points, nodal, cellwise)
    if POINTS in result.design:
        body += mesh_part(found)
    return body + field_pictures(found) if nodal or cellwise else body


def _search(result: DesignSolution) -> str:
    history = result.history
    found = {
        "objective": f"{result.objective:.8g}",
        "ended": "converged" if result.converged else "not converged",
        "iterations": str(result.iterations),
        "because": result.reason,
    }
    worst = max((float(c) for c in result.constraints.reshape(-1)), default=None)
    if worst is not None:
        found["largest constraint"] = number(worst)
    steps = history["iteration"]
    curve = Curve("objective", steps, history["objective"])
    positive = [v for v in history["objective"] if v is not None and v > 0]
    decades = len(positive) == len(history) and max(positive) > 100.0 * min(positive)
    drawn = chart([curve], "iteration", "objective", log=decades, dots=True)
    charts = [figure(drawn, "the objective")]
    measures = [
        Curve(name, steps, [float("nan") if v is None else float(v) for v in history[name]])
        for name in _MEASURES
        if name in history.names and any(history[name])
    ]
    if measures and len(history) > 1:
        drawn = chart(measures, "iteration", "", log=True, dots=True)
        charts.append(figure(drawn, "how far from an optimum"))
    return facts(found) + f'<div class="grid2">{"".join(charts)}</div>'
