"""Many loads on one matrix, some at a time, so that what is made on the way fits into memory."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from torch_sla.problems.lowering.affine import batched, is_plain
from torch_sla.problems.lowering.linear import solve_batch
from torch_sla.problems.lowering.operators import Operator
from torch_sla.problems.lowering.outputs import Taken
from torch_sla.problems.lowering.parameters import Given
from torch_sla.problems.lowering.timing import in_load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch_sla.linalg import SolveInfo
    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.lowering.scene import Scene

__all__ = ["Blocks", "blocks_of", "solve_blocks"]

_BYTES = 256_000_000
"""Of one vector for each member of a block; about six of them are made on the way."""


class Blocks(NamedTuple):
    """How a batch is taken apart.

    Parameters
    ----------
    batch
        Its dimensions.
    dim
        The one that is taken apart.
    width
        Members of a block along it.
    """

    batch: tuple[int, ...]
    dim: int
    width: int

    def scenes(self, scene: Scene) -> Iterator[tuple[slice, Scene]]:
        """Yield the members of each block, and the scene with their values."""
        size, behind = self.batch[self.dim], len(self.batch) - self.dim
        names = batched(scene)
        for low in range(0, size, self.width):
            high = min(low + self.width, size)
            given = Given()
            given.home, given.laws = scene.given.home, scene.given.laws
            given.update(scene.given)
            for name in names:
                value = given[name]
                place = len(scene.batch_of(name)) - behind
                if place >= 0 and value.shape[place] > 1:
                    given[name] = value.narrow(place, low, high - low)
            yield slice(low, high), scene.like(given)


def blocks_of(model: Model, scene: Scene) -> Blocks | None:
    """Return how to take the batch of a linear problem apart; None where it is solved as one.

    That is where it is small, where it reaches the matrix, and where derivatives are recorded.
    """
    names = batched(scene)
    if model.nonlinear or not names or model.device.type != "cpu":
        return None
    if names & model.names_in(lambda path: not in_load(path, model.loading)):
        return None
    if not is_plain(scene):
        return None
    if torch.is_grad_enabled() and scene.requires_grad:
        return None
    batch = tuple(np.broadcast_shapes(*(scene.batch_of(name) for name in names)))
    dim = max(range(len(batch)), key=batch.__getitem__)
    row = model.numbering.n * model.field_dtype.itemsize * prod(batch) // max(batch[dim], 1)
    width = max(1, _BYTES // max(row, 1))
    count = -(-batch[dim] // width)
    return Blocks(batch, dim, -(-batch[dim] // count)) if count > 1 else None


def solve_blocks(
    model: Model, scene: Scene, blocks: Blocks, *, throw: bool
) -> tuple[Taken, dict[str, Tensor], SolveInfo]:
    """Solve for all members of a batch that share a matrix; return the scene solved, outputs and report."""
    constraint, dim = model.compiled.constraint, blocks.dim
    matrix = model.matrix(next(blocks.scenes(scene))[1])
    values = matrix.values.to(model.field_dtype)
    held: Tensor | None = None
    u = values.new_empty(*blocks.batch, model.numbering.n)
    parts: dict[str, list[Tensor]] = {}
    report: SolveInfo | None = None
    for members, part in blocks.scenes(scene):
        operator = Operator(values, model.loads(part), matrix.definite, matrix.symmetric)
        g = model.compiled.sides(model.given_values(part))
        if held is None:
            held, load = constraint.apply(values, operator.load, g)
        else:
            load = constraint.load(values, operator.load, g)
        structure = model.structure(matrix.definite, matrix.symmetric)
        u_hat, info = solve_batch(
            constraint.pattern, held, load, structure, model.spec.solver, throw=throw
        )
        here = u.narrow(dim, members.start, members.stop - members.start)
        here.copy_(model.finished(part, constraint.recover(u_hat, g)))
        part.trial = not info.converged
        for name, value in Taken(model, part, operator, here).outputs().items():
            parts.setdefault(name, []).append(value)
        if report is not None:
            info.absorb(report)
        report = info
    if report is None:
        raise ValueError("a batch of blocks has members")
    scene.trial = not report.converged
    outputs = {name: torch.cat(values, dim) for name, values in parts.items()}
    return Taken(model, scene, None, u), outputs, report
