"""Outputs as numbers and curves."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Any

import torch

from torch_sla.problems.analyses.sweep import SweepSolution
from torch_sla.problems.analyses.transient import TransientSolution
from torch_sla.problems.report.draw.charts import Curve, chart, number
from torch_sla.problems.report.page.fields import chosen
from torch_sla.problems.report.page.section import figure, short, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from torch_sla.problems.specs.outputs import OutputSpec

__all__ = ["declared_outputs", "outputs_part"]

_ROWS, _CURVES = 200, 6


def declared_outputs(problem: Any) -> dict[str, OutputSpec]:
    """Return the outputs of a problem, and of the one it is of, by name."""
    found = {output.name: output for output in problem.outputs}
    for case, part in problem.parts.items():
        own = declared_outputs(part)
        found |= own | {f"{case}_{name}": output for name, output in own.items() if case}
    return found


def outputs_part(result: Any) -> str:
    """Lay out all outputs: a table of values, curves of what goes along lines, times or cases."""
    specs = declared_outputs(result.spec)
    rows = []
    for name, value in {**result.fields, **result.outputs}.items():
        spec = specs.get(name)
        kind = str(getattr(spec, "type", "")) or ("field" if name in result.fields else "")
        unit = (spec.unit if spec else None) or ""
        rows.append([name, kind, short(result.told(value)), unit, _where(spec)])
    parts = [table(["name", "kind", "value", "unit", "of"], rows)]
    if isinstance(result, SweepSolution):
        parts += _cases(result)
    else:
        charts = list(_charts(result))
        if charts:
            parts.append(f'<div class="grid2">{"".join(charts)}</div>')
    return "".join(parts)


def _where(spec: OutputSpec | None) -> str:
    text = str(getattr(spec, "quantity", None) or getattr(spec, "expression", None) or "")
    on = getattr(spec, "on", None)
    if on is None:
        return text
    place = " ".join(on) if isinstance(on, tuple) else str(on)
    return f"{text} on {place}" if text else f"on {place}"


def _charts(result: Any) -> Iterator[str]:
    if getattr(result, "batch", ()):
        return
    arcs, specs = result.arcs, declared_outputs(result.spec)
    times = result.times.tolist() if isinstance(result, TransientSolution) else None
    for name, value in result.outputs.items():
        unit = getattr(specs.get(name), "unit", None)
        up = f"{name} [{unit}]" if unit else name
        tensor = value.detach().cpu()
        if tensor.is_complex():
            tensor = tensor.abs()
            up = f"|{up}|"
        if name in arcs:
            yield figure(_along(arcs[name], tensor, times, up), f"{name} along the line")
        elif times is not None and len(times) > 1 and tensor[0].numel() <= 64:
            yield figure(_over("t", times, tensor, up), f"{name} over time")


def _along(arc: Tensor, value: Tensor, times: list[float] | None, up: str) -> str:
    s = arc.tolist()
    if times is None:
        columns = value.reshape(len(s), -1).T
        names = [up] if len(columns) == 1 else [f"[{i}]" for i in range(len(columns))]
        curves = [Curve(n, s, c.tolist()) for n, c in zip(names, columns[:_CURVES], strict=False)]
        return chart(curves, "length along the line", up)
    size = value if value.ndim == 2 else value.flatten(2).norm(dim=-1)
    curves = [Curve(f"t = {times[i]:.4g}", s, size[i].tolist()) for i in chosen(len(times), 5)]
    return chart(curves, "length along the line", up if value.ndim == 2 else f"|{up}|")


def _over(across: str, at: Sequence[float], value: Tensor, up: str) -> str:
    columns = value.reshape(len(at), -1).T
    shape = list(value.shape[1:])
    names = [up]
    if len(columns) > 1:
        places = torch.cartesian_prod(*(torch.arange(n) for n in shape)).reshape(len(columns), -1)
        names = [f"[{', '.join(map(str, p))}]" for p in places.tolist()]
    curves = [Curve(n, at, c.tolist()) for n, c in zip(names, columns[:_CURVES], strict=False)]
    return chart(curves, across, up)


def _cases(result: SweepSolution) -> list[str]:
    if result.batch:
        return []
    every = result.table
    names = list(every[0])
    shown = [n for n in names if len(names) <= 12 or "[" not in n][:12]
    # What tells cases apart is not rounded as far as what comes of them.
    digits = {name: 8 if name.partition("[")[0] in result.cases[0] else 4 for name in shown}
    rows = [[number(row[name], digits[name]) for name in shown] for row in every[:_ROWS]]
    parts = [table(shown, rows, numeric=range(len(shown)))]
    if len(every) > _ROWS:
        parts.append(f'<p class="note">The first {_ROWS} of {len(every)} cases.</p>')
    varied = [n for n, v in result.cases[0].items() if isinstance(v, float | int)]
    charts = []
    if len(varied) == 1 and len(result.cases[0]) == 1 and len(every) > 2:
        (along,) = varied
        at = [row[along] for row in every]
        order = sorted(range(len(at)), key=at.__getitem__)
        for name in [n for n in names if n != along][:8]:
            y = [every[i][name] for i in order]
            if any(map(math.isinf, y)) or sum(map(math.isfinite, y)) < 2:
                continue  # an event that never happened, or too few cases that converged
            curve = Curve(name, [at[i] for i in order], y)
            charts.append(figure(chart([curve], along, name, dots=True), f"{name} by case"))
    if charts:
        parts.append(f'<div class="grid2">{"".join(charts)}</div>')
    return [f"<h3>{escape('All cases')}</h3>", *parts]
