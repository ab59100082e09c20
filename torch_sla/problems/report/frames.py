"""Fields of a result one after another: times, modes, cases, members of a batch; a steady one has a single frame."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from torch_sla.errors import ArgumentError
from torch_sla.problems.analyses.analysis import frame_of
from torch_sla.problems.analyses.modes import ModalSolution
from torch_sla.problems.analyses.sweep import SweepSolution
from torch_sla.problems.analyses.transient import TransientSolution
from torch_sla.problems.solution import Solution
from torch_sla.problems.specs.of import times_in
from torch_sla.problems.specs.outputs import Field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from torch_sla.assembly import Mesh

__all__ = ["UNSOLVED", "Frames", "frames_of", "real_parts", "said_of"]

UNSOLVED = "did not converge"
"""What titles and names of fields say of a state that is no solution."""

_DISPLACED = ("elasticity", "hyperelasticity")


@dataclass(frozen=True)
class Frames:
    """Real fields on one mesh, for each of k frames.

    Attributes
    ----------
    axis
        What goes from frame to frame: ``t mode case member``, or nothing.
    at
        Where each is on it ``[k]``.
    titles
        Each in words.
    mesh, points
        Where they live ``[n_points, dim]``; ``[k, n_points, dim]`` where each frame has points of its own.
    nodal, cellwise
        By name, ``[k, n_points(, components)]`` and ``[k, n_cells(, components)]``.
    moves
        Name of the field in `nodal` that displaces the points, if one does.
    to_scale
        Whether displacements are drawn as they are: those of large strain. Small ones are enlarged, and what a linear
        law makes of a load of any size is brought down.
    name
        What the problem is called.
    solved
        Which of them are solutions ``[k]``; None for all.
    """

    axis: str
    at: list[float]
    titles: list[str]
    mesh: Mesh
    points: Tensor
    nodal: dict[str, Tensor] = field(default_factory=dict)
    cellwise: dict[str, Tensor] = field(default_factory=dict)
    moves: str | None = None
    to_scale: bool = False
    name: str = ""
    solved: list[bool] | None = None

    def __len__(self) -> int:
        return len(self.at)

    def only(self, index: list[int]) -> Frames:
        """Return some of the frames."""
        return replace(
            self,
            at=[self.at[i] for i in index],
            titles=[self.titles[i] for i in index],
            points=self.points if self.points.ndim == 2 else self.points[index],
            nodal={name: value[index] for name, value in self.nodal.items()},
            cellwise={name: value[index] for name, value in self.cellwise.items()},
            solved=None if self.solved is None else [self.solved[i] for i in index],
        )

    def points_of(self, i: int) -> Tensor:
        """Return the points of one frame ``[n_points, dim]``."""
        return self.points if self.points.ndim == 2 else self.points[i]

    def frame(self, i: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the fields of one frame, at points and in cells, as files name them (`said_of`)."""
        good = self.solved is None or self.solved[i]
        return (
            {said_of(name, good): value[i] for name, value in self.nodal.items()},
            {said_of(name, good): value[i] for name, value in self.cellwise.items()},
        )


def frames_of(result: Any, *, full: bool = False) -> Frames:
    """Take the frames of a result.

    Parameters
    ----------
    full
        Whether the mesh has a point at each node of fields of order 2.

    Raises
    ------
    ArgumentError
        If it has no mesh.
    """
    match result:
        case ModalSolution():
            return _modes(result, full)
        case TransientSolution() if not result.batch:
            return _times(result, full)
        case SweepSolution() if frame_of(result.model) is not None:
            titles = [_said(case) for case in result.cases]
            if "modes" in result.fields:
                return _modes_of_cases(result, titles, full)
            return _members(result, "case", titles if not result.batch else None, full)
        case Solution():
            return _members(result, "member", None, full)
    raise ArgumentError(
        f"a {type(result).__name__} has no fields on a mesh; .csv, .json and .npz hold its numbers"
    )


def _members(result: Any, axis: str, titles: list[str] | None, full: bool) -> Frames:
    """Take the members of a batch, in order, or the only one."""
    model: Any = frame_of(result.model)
    own = _batch(result)
    k = int(np.prod(own, dtype=int))
    nodal: dict[str, Tensor] = {}
    for name, value in result.fields.items():
        part = value.detach().to(model.device).reshape(k, -1)
        whole = model.numbering.placed(part, name)
        nodal |= real_parts(name, model.at_points(whole, name, full=full))
    more: dict[str, Tensor] = {}
    cellwise: dict[str, Tensor] = {}
    if times_in(result.spec) == 1:
        more, cellwise = _declared(model, result.outputs, k, len(own), full)
    nodal |= more
    solved = None
    titles = titles or ([""] if not own else [f"member {i}" for i in range(k)])
    if result.info.solved is not None:
        solved = result.info.solved.expand(own).flatten().tolist()
        titles = [said_of(title, good) for title, good in zip(titles, solved, strict=True)]
    at = [float(i) for i in range(k)]
    found = _framed(model, result, axis if own else "", at, titles, nodal, cellwise, full)
    return replace(found, solved=solved)


def _batch(result: Any) -> tuple[int, ...]:
    """Return the batch dimensions, the cases of a sweep last."""
    cases = (len(result.cases),) if isinstance(result, SweepSolution) else ()
    return (*result.batch, *cases)


def _times(solution: TransientSolution, full: bool) -> Frames:
    model, at = solution.model, solution.times.tolist()
    nodal, cellwise = _declared(model, solution.outputs, len(at), 1, full)
    single = len(model.ranks) == 1 and model.dofs.components > 1
    saved: dict[str, Tensor] = {}
    for kind in ("u", "velocity", "acceleration"):
        if kind in solution.history:
            states = solution.history[kind].detach()
            found = _unknowns(model, states.flatten(-2) if single else states, full)
            saved |= found if kind == "u" else _renamed(found, kind)
    nodal = saved | nodal
    if not nodal and not cellwise:
        at = at[-1:]
        nodal = _unknowns(model, solution.flat.detach()[None], full)
    titles = [f"t = {t:.6g}" for t in at]
    return _framed(model, solution, "t", at, titles, nodal, cellwise, full)


def _modes(solution: ModalSolution, full: bool) -> Frames:
    _one_member(solution)
    model = solution.model.model
    nodal = _unknowns(model, solution.flat.detach(), full)
    titles = _of_modes({**solution.fields, **solution.outputs})
    at = [float(i + 1) for i in range(len(titles))]
    return _framed(model, solution, "mode", at, titles, nodal, {}, full)


def _modes_of_cases(solution: SweepSolution, cases: list[str], full: bool) -> Frames:
    """Take the modes of the first case, of the second one, and so on."""
    _one_member(solution)
    model: Any = frame_of(solution.model)
    states = solution.fields["modes"].detach().to(model.device).flatten(0, 1)
    if len(model.ranks) == 1:
        states = model.numbering.placed(states.reshape(len(states), -1), next(iter(model.ranks)))
    named = {**solution.fields, **solution.outputs}
    each = [_of_modes({name: value[i] for name, value in named.items()}) for i in range(len(cases))]
    titles = [f"{case}, {mode}" for case, modes in zip(cases, each, strict=True) for mode in modes]
    at = [float(i) for i in range(len(titles))]
    return _framed(model, solution, "mode", at, titles, _unknowns(model, states, full), {}, full)


def _one_member(solution: ModalSolution | SweepSolution) -> None:
    if solution.batch:
        raise ArgumentError(
            f"modes have batch dimensions {list(solution.batch)}, and a picture or a series shows one member"
        )


def _of_modes(named: Mapping[str, Tensor]) -> list[str]:
    """Say of each mode what people call its eigenvalue."""
    if "load_factors" in named:
        said = [f"load factor {w:.5g}" for w in named["eigenvalues"].tolist()]
    elif "frequencies" in named:
        said = [f"{f:.5g} Hz" for f in named["frequencies"].tolist()]
    else:
        name, word = ("wavenumbers", "k") if "wavenumbers" in named else ("eigenvalues", "λ")
        said = [f"{word} = {w:.4g}" for w in named[name].tolist()]
    return [f"mode {i}: {text}" for i, text in enumerate(said, 1)]


def _unknowns(model: Any, states: Tensor, full: bool) -> dict[str, Tensor]:
    """Return every unknown at the mesh points, of states ``[k, n]``."""
    found: dict[str, Tensor] = {}
    for name in model.ranks:
        found |= real_parts(name, model.at_points(states, name, full=full))
    return found


def _renamed(fields: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    """Call the rates of unknowns ``velocity``, of several ``velocity.u``."""
    return {kind if len(fields) == 1 else f"{kind}.{name}": v for name, v in fields.items()}


def _declared(
    model: Any, outputs: Mapping[str, Tensor], k: int, leading: int, full: bool
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the `Field` outputs at points and in cells ``[k, ...]``."""
    nodal: dict[str, Tensor] = {}
    cellwise: dict[str, Tensor] = {}
    for output in model.spec.outputs:
        if isinstance(output, Field) and output.on != "quadrature":
            value = outputs[output.name].detach()
            value = value.reshape(k, *value.shape[leading:])
            sites = model.mesh.n_points if output.on == "nodes" else model.mesh.n_cells
            if value.shape[1] == sites:
                target = nodal if output.on == "nodes" else cellwise
                if full and output.on == "nodes":
                    flat = model.filled(value.reshape(k, sites, -1))
                    value = flat.reshape(k, -1, *value.shape[2:])
                target |= real_parts(output.name, value)
    return nodal, cellwise


def _framed(
    model: Any,
    result: Any,
    axis: str,
    at: list[float],
    titles: list[str],
    nodal: dict[str, Tensor],
    cellwise: dict[str, Tensor],
    full: bool,
) -> Frames:
    first = next(iter(model.ranks))
    moves = first if model.spec.type in _DISPLACED and first in nodal else None
    mesh, points = model.mesh, getattr(result, "points", model.mesh.points).detach()
    if points.ndim > 2:
        points = points.expand(*_batch(result), *points.shape[-2:]).flatten(0, -3)
    if full:
        mesh, points = model.full_mesh, model.filled(points)
    name = result.spec.name or model.spec.name or ""
    large = model.spec.type == "hyperelasticity" and axis != "mode"
    return Frames(axis, at, titles, mesh, points, nodal, cellwise, moves, large, name)


def said_of(text: str, solved: bool) -> str:
    """Return a title, or the name of a field, with what is to be said where it belongs to no solution.

    Examples
    --------
    >>> said_of("u", True), said_of("u", False)
    ('u', 'u (did not converge)')
    """
    return text if solved else f"{text} ({UNSOLVED})".strip()


def real_parts(name: str, value: Tensor) -> dict[str, Tensor]:
    """Return a field as files have it: a complex one is two."""
    if not value.is_complex():
        return {name: value}
    return {f"{name}.real": value.real, f"{name}.imag": value.imag}


def _said(case: dict[str, Any]) -> str:
    parts = []
    for name, value in case.items():
        text = f"{value:.5g}" if isinstance(value, float | int) else str(list(value))
        parts.append(f"{name} = {text}")
    return ", ".join(parts)
