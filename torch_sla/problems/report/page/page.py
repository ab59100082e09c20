"""The page: parts in order, in one file."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch_sla.errors import ArgumentError, TorchSlaError
from torch_sla.linalg.sparse.whole import whole
from torch_sla.problems.analyses.design.solution import DesignSolution
from torch_sla.problems.report.draw.charts import number
from torch_sla.problems.report.frames import frames_of
from torch_sla.problems.report.page.fields import field_pictures, mesh_part
from torch_sla.problems.report.page.outputs import outputs_part
from torch_sla.problems.report.page.search import search_parts
from torch_sla.problems.report.page.section import Section, facts, short, table
from torch_sla.problems.report.page.solving import convergence_part, plan_part, solved_by
from torch_sla.problems.report.page.style import SCRIPT, STYLE
from torch_sla.problems.report.save import identity, unknowns

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

__all__ = ["alone", "write_report"]


def write_report(
    result: Any,
    path: str | Path,
    *,
    command: str | None = None,
    seconds: float | None = None,
) -> None:
    """Write one HTML file about a result, which needs no network and no other file.

    Parameters
    ----------
    result
        A solution of any kind. Parts that it has of its own (``sections() -> list[Section]``) come before the plan.
    path
        The file.
    command
        How it was run, where that was in a shell.
    seconds
        How long it took.
    """
    path = Path(path)
    if path.suffix not in (".html", ".htm"):
        raise ArgumentError(f"path ends in {path.suffix!r}; a report is an .html file")
    sections = list(_sections(result, command))
    with whole(path) as file:
        file.write_text(_page(result, sections, seconds), encoding="utf-8")


def _sections(result: Any, command: str | None) -> Iterable[Section]:
    if isinstance(result, DesignSolution):
        yield from search_parts(result)
    yield from _looks(result)
    yield Section("Outputs", outputs_part(result))
    parameters = _parameters(result)
    if parameters:
        yield Section("Parameters", parameters)
    own = getattr(result, "sections", None)
    if own is not None:
        yield from own()
    yield Section("Convergence", convergence_part(result))
    yield Section("Plan", plan_part(result))
    yield Section("How to do it again", _again(result, command))


def _looks(result: Any) -> Iterable[Section]:
    """Draw fields and meshes; of a design those of every problem it is for."""
    inner = result.solution if isinstance(result, DesignSolution) else result
    parts = inner if isinstance(inner, dict) else {"": inner}
    fields, meshes = [], []
    for case, solution in parts.items():
        try:
            frames = frames_of(solution)
        except ArgumentError:
            continue
        head = f"<h3>{escape(case)}</h3>" if case else ""
        fields.append(head + field_pictures(frames))
        meshes.append(head + mesh_part(frames))
    if fields:
        yield Section("Fields", "".join(fields))
        yield Section("Mesh", "".join(dict.fromkeys(meshes)))


def alone(title: str, body: str) -> str:
    """Make a page, which needs no other file."""
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,">'
        f"<style>{STYLE}</style></head><body><main>{body}</main>"
        f"<script>{SCRIPT}</script></body></html>\n"
    )


def _page(result: Any, sections: list[Section], seconds: float | None) -> str:
    spec, info = result.spec, result.info
    name = next((s.name for s in _chain(spec) if s.name), type(spec).__name__)
    good = getattr(result, "converged", info.converged)
    said = info.result.name.lower() if good or not info.converged else "not converged"
    mark = f'<span class="{"good" if good else "bad"}">{escape(said)}</span>'
    links = "".join(f'<a href="#{_anchor(s.title)}">{escape(s.title)}</a>' for s in sections)
    body = "".join(
        f'<section id="{_anchor(s.title)}"><h2>{escape(s.title)}</h2>{s.body}</section>'
        for s in sections
    )
    versions = identity(result)["versions"]
    made = f"torch_sla {versions['torch_sla']}, torch {versions['torch']}"
    head = f"<h1>{escape(name)} {mark}</h1><p>{escape(_kind(spec))}</p><nav>{links}</nav>"
    figures = facts(_head(result, seconds))
    return alone(name, f"<header>{head}</header>{figures}{body}<footer>{escape(made)}</footer>")


def _anchor(title: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in title.lower())


def _chain(spec: Any) -> list[Any]:
    """Return a problem, what it is of, what that is of; of several the first."""
    found = [spec]
    while found[-1].parts:
        found.append(next(iter(found[-1].parts.values())))
    return found


def _kind(spec: Any) -> str:
    return " of ".join(problem.type.replace("_", " ") for problem in _chain(spec))


def _head(result: Any, seconds: float | None) -> dict[str, str]:
    info = result.info
    found = {"unknowns": f"{unknowns(result):,}".replace(",", " ")}
    times, cases = getattr(result, "times", None), getattr(result, "cases", None)
    if times is not None:
        found["steps"] = f"{len(times) - 1}, to t = {number(float(times[-1]))}"
    if cases is not None:
        found["cases"] = str(len(cases))
    batch = getattr(result, "batch", ())
    if batch:
        found["batch"] = " × ".join(map(str, batch))
    found["solved by"] = solved_by(info)
    if info.residual:
        found["residual"] = f"{info.residual:.1e}"
    if seconds is not None:
        found["time"] = f"{seconds:.3g} s"
    found["device"] = str(getattr(result.model, "device", "cpu"))
    found["spec"] = result.spec_hash[:12]
    return found


def _parameters(result: Any) -> str:
    declared = result.spec.declared
    if not declared:
        return ""
    given = _given(result)
    rows = []
    for name, parameter in declared.items():
        value = given.get(name)
        if name in _varied(result):
            text = "varies"
        elif value is None:  # a run kept in a folder does not hold what it was given
            text = "given" if parameter.default is None else f"{parameter.default} unless given"
        else:
            text = short(value, most=1)
        shape = f", {list(parameter.shape)}" if parameter.shape else ""
        rows.append([name, text, parameter.unit or "", f"{parameter.on}{shape}"])
    return table(["name", "value", "unit", "lives on"], rows)


def _given(result: Any) -> dict[str, Any]:
    """Return the values that were given, where the result, or the solutions it holds, remember them."""
    found: dict[str, Any] = {}
    inner = getattr(result, "_solutions", {}).values()
    for holder in (*inner, getattr(result, "_solution", None), result):
        taken = getattr(holder, "_taken", None)
        scene = getattr(holder, "_scene", None) or getattr(taken, "scene", None)
        found |= {} if scene is None else scene.given
    return found


def _varied(result: Any) -> Collection[str]:
    """Return the names of the parameters that cases or a search vary, and nobody gives."""
    return getattr(result.model, "varied", ())


def _again(result: Any, command: str | None) -> str:
    parts = []
    if command:
        parts.append(f"<h3>In a shell</h3><pre>{escape(command)}</pre>")
    file = "problem.yaml"
    names = [name for name in result.spec.declared if name not in _varied(result)]
    values = ", ".join(f"{name}={name}" for name in names)
    note = f"  # with values of: {' '.join(names)}" if names else ""
    code = f'from torch_sla import load_problem\n\nsolution = load_problem("{file}").solve({values}){note}'
    parts.append(f"<h3>In Python</h3><pre>{escape(code)}</pre>")
    try:
        text = result.spec.to_yaml()
        parts.append(f"<h3>{file}</h3><pre>{escape(text)}</pre>")
    except TorchSlaError as error:
        parts.append(
            f'<p class="note">The declaration has no form as a file: {escape(str(error))}</p>'
        )
    known = identity(result)
    rows = [["spec", known["spec_hash"]], ["structure", known["structural_hash"]]]
    rows += [[name, text] for name, text in known["versions"].items()]
    rows.append(["seed", str(known["seed"])])
    rows.append(["device", str(getattr(result.model, "device", "cpu"))])
    import torch

    rows.append(["threads", str(torch.get_num_threads())])
    return "".join([*parts, "<h3>What identifies it</h3>", table(["what", "value"], rows)])
