"""Fields of a result one after another: times, modes, cases, members of a batch; a steady one has a single frame."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from torch_sla.errors import ArgumentError
from torch_sla.problems.analyses.design.solution import DesignSolution
from torch_sla.problems.analyses.modes import ModalSolution
from torch_sla.problems.analyses.sweep import SweepSolution
from torch_sla.problems.analyses.transient import TransientSolution
from torch_sla.problems.results import Named
from torch_sla.problems.solution import Solution
from torch_sla.problems.specs.outputs import Field

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.assembly import Mesh

__all__ = ["Frames", "frames_of"]

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
        Where they live ``[n_points, dim]``.
    nodal, cellwise
        By name, ``[k, n_points(, components)]`` and ``[k, n_cells(, components)]``.
    moves
        Name of the field in `nodal` that displaces the points, if one does.
    """

    axis: str
    at: list[float]
    titles: list[str]
    mesh: Mesh
    points: Tensor
    nodal: dict[str, Tensor] = field(default_factory=dict)
    cellwise: dict[str, Tensor] = field(default_factory=dict)
    moves: str | None = None

    def __len__(self) -> int:
        return len(self.at)

    def frame(self, i: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the fields of one frame: at points, in cells."""
        return (
            {name: value[i] for name, value in self.nodal.items()},
            {name: value[i] for name, value in self.cellwise.items()},
        )


def frames_of(result: Any) -> Frames:
    """Take the frames of a result.

    Raises
    ------
    ArgumentError
        If it has no mesh.
    """
    match result:
        case ModalSolution():
            return _modes(result)
        case TransientSolution():
            return _times(result)
        case SweepSolution(solution=Solution() as inner) if not isinstance(
            inner, TransientSolution
        ):
            return _members(inner, "case", [_said(case) for case in result.cases])
        case DesignSolution(solution=Named() as inner):
            return _with_design(frames_of(inner), result)
        case Solution():
            return _members(result, "member" if result.batch else "", None)
    raise ArgumentError(
        f"a {type(result).__name__} has no fields on a mesh; .csv, .json and .npz hold its numbers"
    )


def _with_design(frames: Frames, result: DesignSolution) -> Frames:
    """Add the variables that live on points and in cells."""
    nodal, cellwise = dict(frames.nodal), dict(frames.cellwise)
    for name, value in result.design.items():
        parameter = result.spec.declared.get(name)
        if parameter is None or len(parameter.shape) > 1:
            continue
        repeated = value.expand(len(frames), *value.shape)
        if parameter.on == "nodes":
            nodal[name] = repeated
        elif parameter.on == "cells":
            cellwise[name] = repeated
    return replace(frames, nodal=nodal, cellwise=cellwise)


def _members(solution: Solution, axis: str, titles: list[str] | None) -> Frames:
    """Take the members of a batch, in order, or the only one."""
    model, own = solution.model, solution.batch
    k = int(np.prod(own, dtype=int))
    nodal = _unknowns(model, solution.flat.detach().reshape(k, -1))
    if isinstance(solution, TransientSolution):
        cellwise: dict[str, Tensor] = {}
    else:
        more, cellwise = _declared(solution, len(own))
        nodal |= more
    titles = titles or ([""] if not own else [f"member {i}" for i in range(k)])
    return _framed(solution, axis, [float(i) for i in range(k)], titles, nodal, cellwise)


def _times(solution: TransientSolution) -> Frames:
    if solution.batch:
        return _members(solution, "member", None)
    model, at = solution.model, solution.times.tolist()
    nodal, cellwise = _declared(solution, 1)
    u = solution.history.get("u")
    if u is not None:
        single = len(model.ranks) == 1 and model.dofs.components > 1
        nodal = _unknowns(model, u.detach().flatten(-2) if single else u.detach()) | nodal
    elif not nodal and not cellwise:
        at = at[-1:]
        nodal = _unknowns(model, solution.flat.detach()[None])
    return _framed(solution, "t", at, [f"t = {t:.6g}" for t in at], nodal, cellwise)


def _modes(solution: ModalSolution) -> Frames:
    if solution.batch:
        raise ArgumentError(
            f"modes have batch dimensions {list(solution.batch)}, and a picture or a series shows one member"
        )
    model = solution.model.model
    nodal = _unknowns(model, solution.flat.detach())
    numbers = range(1, len(solution.flat) + 1)
    titles = [
        f"mode {i}: {f:.5g} Hz" for i, f in zip(numbers, solution.frequencies.tolist(), strict=True)
    ]
    return _framed(solution, "mode", [float(i) for i in numbers], titles, nodal, {})


def _unknowns(model: Any, states: Tensor) -> dict[str, Tensor]:
    """Return every unknown at the mesh points, of states ``[k, n]``."""
    found: dict[str, Tensor] = {}
    for name in model.ranks:
        found |= _real(name, model.at_points(states, name))
    return found


def _declared(solution: Solution, leading: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the `Field` outputs at points and in cells, with their leading dimensions made one."""
    nodal: dict[str, Tensor] = {}
    cellwise: dict[str, Tensor] = {}
    for output in solution.model.spec.outputs:
        if isinstance(output, Field) and output.on != "quadrature":
            value = solution[output.name].detach()
            k = int(np.prod(value.shape[:leading], dtype=int))
            target = nodal if output.on == "nodes" else cellwise
            target |= _real(output.name, value.reshape(k, *value.shape[leading:]))
    return nodal, cellwise


def _framed(
    result: Any,
    axis: str,
    at: list[float],
    titles: list[str],
    nodal: dict[str, Tensor],
    cellwise: dict[str, Tensor],
) -> Frames:
    model = result.model.model if isinstance(result, ModalSolution) else result.model
    first = next(iter(model.ranks))
    moves = first if model.spec.type in _DISPLACED and first in nodal else None
    points = result.points.detach()
    return Frames(axis, at, titles, model.mesh, points, nodal, cellwise, moves)


def _real(name: str, value: Tensor) -> dict[str, Tensor]:
    if not value.is_complex():
        return {name: value}
    return {f"{name}.real": value.real, f"{name}.imag": value.imag}


def _said(case: dict[str, Any]) -> str:
    parts = []
    for name, value in case.items():
        text = f"{value:.5g}" if isinstance(value, float | int) else str(list(value))
        parts.append(f"{name} = {text}")
    return ", ".join(parts)
