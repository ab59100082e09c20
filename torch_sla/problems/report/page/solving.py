"""How a result was found: what was decided and why, and how the iteration went."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from torch_sla.errors import TorchSlaError
from torch_sla.linalg.plan.report import duration, storage
from torch_sla.problems.report.draw.charts import Curve, chart
from torch_sla.problems.report.page.section import facts, figure, table

if TYPE_CHECKING:
    from torch_sla.linalg.plan.plan import SolvePlan, Verdict

__all__ = ["convergence_part", "plan_part", "solved_by"]

_REFUSED, _ROWS = 12, 8


def solved_by(info: Any) -> str:
    """Name backend and method, once where one holds the other."""
    return info.method if info.backend in info.method else f"{info.backend} {info.method}".strip()


def convergence_part(result: Any) -> str:
    """Say how the solve ended, and draw its residuals where they were recorded; in time, those of the last step."""
    info = result.info
    found = {"result": info.result.name.lower(), "method": solved_by(info)}
    if info.preconditioner:
        found["preconditioner"] = str(info.preconditioner)
    if info.iterations:
        found["iterations"] = str(info.iterations)
    if info.residual:
        found["residual"] = f"{info.residual:.2e}"
    if info.backward_error:
        found["backward error"] = f"{info.backward_error:.2e}"
    body = facts(found)
    if len(info.history) > 1:
        newton = info.method.startswith("newton")
        across, up = ("Newton step", "‖F(u)‖") if newton else ("iteration", "relative residual")
        last = ", in the last step of time" if hasattr(result, "times") else ""
        curve = Curve(up, range(len(info.history)), info.history)
        body += figure(
            chart([curve], across, up, log=True, dots=True), f"{up} after each {across}{last}"
        )
    if info.notes:
        body += "".join(f'<p class="note">{escape(note)}</p>' for note in info.notes)
    return body


def plan_part(result: Any) -> str:
    """Lay out the plan of the linear solve: the matrix, the choice, and why each other one lost."""
    plan = result.info.plan
    try:
        text = result.spec.explain()
    except TorchSlaError as error:
        text = f"{error}"
    body = "" if plan is None else _verdicts(plan)
    return (
        body
        + f"<details{' open' if plan is None else ''}><summary>The problem and its plan in words</summary>"
        + (f"<pre>{escape(text)}</pre></details>")
    )


def _verdicts(plan: SolvePlan) -> str:
    possible = [v for v in plan.verdicts if v.possible]
    refused = [v for v in plan.verdicts if not v.possible]
    rows = [_row(v) for v in possible[:_ROWS]]
    first = next((i for i, v in enumerate(possible) if v.candidate == plan.choice), None)
    head = ["candidate", "predicted time", "memory", "verdict"]
    lines = [
        f"<p>The matrix: {escape(plan.facts.describe())}.</p>",
        table(head, rows, numeric=(1, 2), strong=first),
    ]
    if len(possible) > _ROWS:
        more = table(head, [_row(v) for v in possible[_ROWS:]], numeric=(1, 2))
        lines.append(f"<details><summary>Slower still</summary>{more}</details>")
    if refused:
        reasons: dict[str, list[str]] = {}
        for v in refused:
            reasons.setdefault(v.reason, []).append(str(v.candidate))
        listed = [[", ".join(names[:_REFUSED]), reason] for reason, names in reasons.items()]
        lines.append(
            "<details><summary>What was not possible here</summary>"
            f"{table(['candidate', 'reason'], listed)}</details>"
        )
    return "".join(lines)


def _row(v: Verdict) -> list[str]:
    counted = v.cost is not None
    return [
        str(v.candidate),
        duration(v.seconds) if counted else "",
        storage(v.nbytes) if counted else "",
        v.reason,
    ]
