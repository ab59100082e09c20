"""A batch of moved meshes: one scene for each, and how what they give becomes one tensor.

Geometry is made mesh after mesh, because nothing in it is shared; what comes of it is joined along the dimensions of
the batch. The matrices of a linear problem are then solved with at once, on one pattern and one analysis.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, MeshError, SolveError, SpecError
from torch_sla.problems.lowering.linear import solve_constrained
from torch_sla.problems.lowering.operators import Operator, decided
from torch_sla.problems.lowering.outputs import Taken
from torch_sla.problems.lowering.states import check_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch_sla.linalg import SolveInfo
    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.lowering.scene import Scene
    from torch_sla.problems.progress import ProgressCallback

__all__ = ["Shapes", "solve_shapes"]


class Shapes:
    """The scenes of a batch of meshes; one without dimensions where there is no batch.

    Parameters
    ----------
    model
        The lowered problem.
    values
        What is given for its parameters. Their batch dimensions broadcast with those of the meshes.
    points
        Coordinates ``[*batch, n_points, dim]``; None for the declared ones.
    options
        As for `Frame.scene`.

    Attributes
    ----------
    batch
        Dimensions of the batch of meshes.
    scenes
        One for each mesh, row by row.

    Raises
    ------
    ArgumentError
        If there is no mesh, or a parameter has a batch that does not broadcast with theirs.
    """

    def __init__(
        self, model: Model, values: Mapping[str, Any], points: Tensor | None, **options: Any
    ) -> None:
        self.model = model
        whole = points is not None and points.shape[-2:] == model.mesh.points.shape
        self.batch = tuple(points.shape[:-2]) if points is not None and whole else ()
        if 0 in self.batch:
            raise ArgumentError(f"points has the batch dimensions {list(self.batch)}: no member")
        # Counted from the last one, as dimensions that broadcast are.
        self._own = [(len(self.batch) - d, n) for d, n in enumerate(self.batch) if n > 1]
        self.scenes: list[Scene]
        if points is None or not self.batch:
            self.scenes = [model.scene(values, points, **options)]
            return
        given: list[dict[str, Any]] = [{} for _ in range(prod(self.batch))]
        for name, value in values.items():
            for own, part in zip(given, self._given(name, value), strict=True):
                own[name] = part
        meshes = (part.reshape(part.shape[-2:]) for part in self.apart(points, 2))
        self.scenes = self.each(
            partial(model.scene, **options), given, list(meshes), only=MeshError
        )

    def _given(self, name: str, value: Any) -> Sequence[Any]:
        """Return what each mesh is given for a parameter."""
        everywhere, parameter = [value] * prod(self.batch), self.model.declared.get(name)
        if parameter is None or not isinstance(value, Tensor | np.ndarray | list | tuple):
            return everywhere
        tensor = value if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))
        sites = () if parameter.on == "constant" else (self.model.counts[parameter.on],)
        rest = (*sites, *parameter.shape)
        batch = tuple(tensor.shape[: max(tensor.ndim - len(rest), 0)])
        if tuple(tensor.shape[len(batch) :]) != rest or not batch:
            return everywhere
        try:
            np.broadcast_shapes(batch, self.batch)
        except ValueError:
            raise ArgumentError(
                f"{name!r} has the batch dimensions {list(batch)}, and points has {list(self.batch)}; they broadcast "
                "against each other: add a dimension of 1 for all combinations"
            ) from None
        return self.apart(tensor, len(rest))

    def apart(self, value: Tensor, rest: int) -> list[Tensor]:
        """Return what belongs to each mesh of ``[*batch, *rest]``; leading dimensions of one are left out."""
        parts = [value]
        for place, size in self._own:
            dim = value.ndim - rest - place
            shared = dim < 0 or value.shape[dim] == 1
            parts = [q for p in parts for q in ([p] * size if shared else p.split(1, dim))]
        shape = parts[0].shape[: value.ndim - rest]
        leading = next((d for d, n in enumerate(shape) if n > 1), len(shape))
        return [p.reshape(p.shape[leading:]) for p in parts]

    def joined(self, parts: Sequence[Tensor], rest: int) -> Tensor:
        """Put what each mesh gives, ``[*batch, *rest]``, behind each other along the batch of meshes.

        Parameters
        ----------
        rest
            How many dimensions each has behind those of its own batch.
        """
        batches = [p.shape[: p.ndim - rest] for p in parts]
        inside = tuple(np.broadcast_shapes(*batches, (1,) * len(self.batch)))
        full = [p.expand(*inside, *p.shape[p.ndim - rest :]) for p in parts]
        if not self._own:
            return full[0]
        own = len(self._own)
        places = [len(inside) - place for place, _ in self._own]
        stacked = torch.stack(full).unflatten(0, [size for _, size in self._own])
        stacked = stacked.squeeze([own + place for place in places])
        return stacked.movedim(list(range(own)), places)

    def each(
        self, make: Callable[..., Any], *of: Sequence[Any], only: type[Exception] = Exception
    ) -> list[Any]:
        """Do something for each of the meshes; errors say with which one it failed.

        Parameters
        ----------
        of
            What it is done with, one entry for each mesh.
        only
            Kind of errors that are about a mesh.
        """
        found = []
        for k, own in enumerate(zip(*of, strict=True)):
            with self._saying(k, only):
                found.append(make(*own))
        return found

    @contextmanager
    def _saying(self, k: int, only: type[Exception]) -> Iterator[None]:
        try:
            yield
        except only as error:
            if not self._own:
                raise
            index = tuple(int(i) for i in np.unravel_index(k, self.batch))
            where = f"batch member {index[0] if len(index) == 1 else index} of points"
            if isinstance(error, SolveError):
                error.detail = f"{where}: {error.detail}" if error.detail else where
                raise
            if isinstance(error, SpecError):
                raise type(error)(f"{where}: {error.message}", path=error.path) from None
            if isinstance(error, ArgumentError):
                raise type(error)(f"{where}: {error}") from None
            raise


class TakenTogether(Taken):
    """The solved scenes of a batch of meshes."""

    def __init__(self, shapes: Shapes, members: list[Taken], scene: Scene) -> None:
        u = shapes.joined([one.u for one in members], 1)
        super().__init__(shapes.model, scene, None, u)
        self._shapes, self._members = shapes, members

    def outputs(self, *_: Any) -> dict[str, Tensor]:
        """Evaluate all outputs on each mesh."""
        found = self._shapes.each(lambda one: one.outputs(), self._members)
        return {name: self._whole([each[name] for each in found]) for name in found[0]}

    def at(self, expression: str, points: Tensor, path: str) -> Tensor:
        """Evaluate an expression at points of every mesh ``[*batch, m, *shape]``."""
        return self._whole(
            self._shapes.each(lambda one: one.at(expression, points, path), self._members)
        )

    def _whole(self, parts: list[Tensor]) -> Tensor:
        return self._shapes.joined(parts, parts[0].ndim - len(self._members[0].batch))

    def forget(self) -> None:
        """Let go of the operators."""
        for one in self._members:
            one.forget()


def solve_shapes(
    shapes: Shapes,
    values: Mapping[str, Any],
    points: Tensor,
    start: Tensor | None,
    *,
    throw: bool,
    progress: ProgressCallback | None,
) -> tuple[Taken, SolveInfo]:
    """Solve on each of a batch of meshes; return the scenes solved and the report."""
    model, scenes = shapes.model, shapes.scenes
    starts: list[Tensor | None] = [None] * len(scenes)
    if start is not None:
        check_batch(start, shapes.batch, more=True)
        starts = [*shapes.apart(start, 1)]
    operators: list[Operator]
    if model.nonlinear:
        ends = shapes.each(partial(model.state, throw=throw, progress=progress), scenes, starts)
        solutions, operators = [u for u, _, _ in ends], [operator for _, operator, _ in ends]
        reports = [one for _, _, one in ends]
        solved = [
            torch.ones(u.shape[:-1], dtype=torch.bool) if one.solved is None else one.solved
            for u, _, one in ends
        ]
        report = reports[0]
        for more in reports[1:]:
            more.absorb(report)
            report = more
        report.solved = None if report.converged else shapes.joined(solved, 0)
    else:
        operators = shapes.each(model.loaded, scenes)
        given = shapes.each(lambda scene: model.compiled.sides(model.given_values(scene)), scenes)
        definite = all(decided(one.definite) for one in operators) or None
        symmetric = {one.symmetric for one in operators}
        whole = Operator(
            shapes.joined([one.values for one in operators], 1),
            shapes.joined([one.load for one in operators], 1),
            definite,
            symmetric.pop() if len(symmetric) == 1 else None,
        )
        u, report = solve_constrained(model, whole, shapes.joined(given, 1), start, throw=throw)
        solutions = shapes.each(model.finished, scenes, shapes.apart(u, 1))
    members = []
    for scene, operator, u in zip(scenes, operators, solutions, strict=True):
        scene.trial = not report.converged
        members.append(Taken(model, scene, operator, model.widened(scene, u)))
    return TakenTogether(shapes, members, _whole(shapes, values, points)), report


def _whole(shapes: Shapes, values: Mapping[str, Any], points: Tensor) -> Scene:
    """Return the scene of all: the values of all meshes, on coordinates that nothing is integrated on."""
    first = shapes.scenes[0]
    changing = {}
    for name, value in values.items():
        if name in first.given and not isinstance(value, int | float):
            rest = len(first.declared[name].shape) + (first.declared[name].on != "constant")
            every = [scene.given[name] for scene in shapes.scenes]
            if any(one.data_ptr() != every[0].data_ptr() for one in every):
                changing[name] = shapes.joined(every, rest)
    return first.like(first.given.changed(changing), shapes.model.unplaced(points))
