"""Many loads on one matrix, some at a time, so that what is made on the way fits into memory."""

from __future__ import annotations

from functools import partial
from math import prod
from operator import eq
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from torch_sla.assembly.constraints import DirichletConstraint
from torch_sla.linalg.kernels.arguments import empty
from torch_sla.problems.lowering.affine import batch_of, batched, is_affine, is_plain, shares_row
from torch_sla.problems.lowering.linear import solve_batch
from torch_sla.problems.lowering.operators import Operator
from torch_sla.problems.lowering.outputs import Taken
from torch_sla.problems.lowering.shares import Share, Silent
from torch_sla.problems.lowering.timing import in_load
from torch_sla.problems.specs.outputs import Compliance, Flux, Reaction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch_sla.linalg import SolveInfo
    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.lowering.scene import Scene

__all__ = ["Blocks", "blocks_of", "solve_blocks"]

_BYTES = 128_000_000
"""Of one vector for each member of a block. Larger ones are new memory each time, at the price of a solve."""
_PIECE = 8_000_000
"""Of a law at the quadrature points, or of a vector where it is on the boundary, for each member of a piece: what is
made of it stays near the processor."""


class Blocks(NamedTuple):
    """How a batch is taken apart.

    Parameters
    ----------
    batch
        Its dimensions.
    dim
        The one that is taken apart.
    width
        Members of a block along it, which are solved at once.
    piece
        Those whose loads are assembled at once.
    """

    batch: tuple[int, ...]
    dim: int
    width: int
    piece: int

    def scenes(self, scene: Scene, members: slice | None = None) -> Iterator[tuple[slice, Scene]]:
        """Yield the members of each block, and the scene with their values; of one block those of its pieces."""
        start, stop = (
            (0, self.batch[self.dim]) if members is None else (members.start, members.stop)
        )
        width, behind = self.width if members is None else self.piece, len(self.batch) - self.dim
        names = batched(scene)
        for low in range(start, stop, width):
            high = min(low + width, stop)
            given = scene.given.changed({})
            for name in names:
                value = given[name]
                place = len(batch_of(scene, name)) - behind
                if place >= 0 and value.shape[place] > 1:
                    given[name] = value.narrow(place, low, high - low)
            yield slice(low, high), scene.like(given)


def _first(scene: Scene) -> Scene:
    """Return the scene of the first member of all."""
    given = scene.given.changed({})
    for name in batched(scene):
        given[name] = given[name][(0,) * len(batch_of(scene, name))]
    return scene.like(given)


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
    batch = tuple(np.broadcast_shapes(*(batch_of(scene, name) for name in names)))
    dim = max(range(len(batch)), key=batch.__getitem__)
    beside, item = prod(batch) // max(batch[dim], 1), model.field_dtype.itemsize
    width = _width(batch[dim], model.numbering.n * item * beside, _BYTES)
    inside = names & model.names_in(lambda path: path[0] not in ("boundary", "outputs"))
    longest = model.counts["quadrature"] if inside else model.numbering.n
    piece = _width(width, longest * item * beside, _PIECE)
    return Blocks(batch, dim, width, piece) if piece < batch[dim] else None


def _width(size: int, each: int, most: int) -> int:
    """Divide members evenly into blocks of at most so many bytes; return how many each holds."""
    count = -(-size // max(1, most // max(each, 1)))
    return -(-size // max(count, 1))


class _Loads:
    """The loads of a batch that share a matrix: what is the same in all, what is not, and shares of laws.

    Parameters
    ----------
    shared
        Whether laws that change may be shares: not where loads are asked for before constraints.
    """

    def __init__(self, model: Model, scene: Scene, blocks: Blocks, *, shared: bool) -> None:
        self.model, self._blocks = model, blocks
        self._still: Tensor | None = None
        paths, self.alone = _changing(model, scene) if shared else (frozenset(), True)
        self.paths: frozenset[str] = frozenset()
        self.shares: list[Share] = []
        if not paths:
            return
        # One member, so that the points are the only batch in what a share is made of.
        first = _first(scene)
        silent = Silent(first, paths)
        self._still = model.loads(silent)
        worth = {path for path in silent.met if _worth(silent, path, prod(blocks.batch))}
        self.paths, self.alone = frozenset(worth), self.alone or worth != paths
        if worth != paths:
            silent = Silent(first, self.paths)
            self._still = model.loads(silent)
        free, members = model.free, prod(blocks.batch) // blocks.batch[blocks.dim] * blocks.width
        self.shares = [
            Share(silent, path, model.load, free, members, batched(scene)) for path in sorted(worth)
        ]

    def pieces(
        self, scene: Scene, part: Scene, members: slice
    ) -> Iterator[tuple[slice, Scene, Tensor, Tensor]]:
        """Yield members of a block, their scene, their loads ``[*batch, n]`` without shares, their given values."""
        model = self.model
        pieces = self._blocks.scenes(scene, members) if self.alone else [(members, part)]
        for some, piece in pieces:
            silent = Silent(piece, self.paths)
            g = model.compiled.sides(model.given_values(silent))
            F = model.loads(silent) if self.alone or self._still is None else self._still
            yield some, piece, F, g


def _changing(model: Model, scene: Scene) -> tuple[frozenset[str], bool]:
    """Return the paths of laws that change and may be shares, and whether others change, too."""
    names = batched(scene)
    plain = {n for n in names if model.declared[n].on == "constant" and n not in scene.given.laws}
    changing = {
        path: model.names_in(partial(eq, path)) & names
        for path, _ in model.acting_laws()
        if path[0] != "outputs"
    }
    moving = {path: used for path, used in changing.items() if used}
    heads = {str(path[0]) for path in moving}
    coupled = frozenset().union(*(g for g in model.multiplied if len(heads & g) > 1))
    found = {
        path
        for path, used in moving.items()
        if used <= plain and path[0] not in coupled and path[-1] != "value"
    }
    return frozenset(".".join(map(str, path)) for path in found), len(found) < len(moving)


def _worth(silent: Silent, path: str, members: int) -> bool:
    """Whether a law is evaluated for more members than the assemblies that its share takes, in bounded memory."""
    sites, points = silent.met[path][1], silent.points(path)
    size = 8 * points * sites.n * silent.model.numbering.all.n_local
    return sites.n > 1 and 2 * points < members and size <= _BYTES * 8


def solve_blocks(
    model: Model, scene: Scene, blocks: Blocks, *, throw: bool
) -> tuple[Taken, dict[str, Tensor], SolveInfo]:
    """Solve for all members of a batch that share a matrix; return the scene solved, outputs and report."""
    constraint, dim, n = model.compiled.constraint, blocks.dim, model.numbering.n
    matrix = model.matrix(next(blocks.scenes(scene))[1])
    values = matrix.values.to(model.field_dtype)
    structure = model.structure(matrix.definite, matrix.symmetric)
    outputs = model.spec.outputs
    # What is left of the equations needs the loads as they were.
    again = any(isinstance(o, Flux | Reaction | Compliance) for o in outputs)
    # What is a product with a row needs nothing that is large, and the row once.
    late = {o.name for o in outputs if shares_row(scene, o) and is_affine(model, o)}
    in_place = isinstance(constraint, DirichletConstraint)
    loads = _Loads(model, scene, blocks, shared=in_place and not again)
    held: Tensor | None = None
    # What the solver gives for one block is the solution but for given values; members lie beside each other in it.
    whole = in_place and blocks.width == blocks.batch[dim]
    u = None if whole else empty((*blocks.batch, n), values.dtype)
    size = n * prod(blocks.batch) // blocks.batch[dim] * blocks.width
    room = empty((size,), values.dtype, again=True)
    parts: dict[str, list[Tensor]] = {}
    report: SolveInfo | None = None
    solved = torch.ones(blocks.batch, dtype=torch.bool)
    for members, part in blocks.scenes(scene):
        count = members.stop - members.start
        shape = (*blocks.batch[:dim], count, *blocks.batch[dim + 1 :])
        # The solver takes columns.
        columns = room[: n * prod(shape)].view(n, -1)
        load = columns.unflatten(1, shape).movedim(0, -1)
        push = values.new_empty(*shape, n) if again else None
        pieces = []
        start: Tensor | None = None
        for some, piece, F, g in loads.pieces(scene, part, members):
            if held is None:
                held, own = constraint.apply(values, F, g)
            else:
                own = constraint.load(values, F, g)
            place = (dim, some.start - members.start, some.stop - some.start)
            pieces.append((place, piece, g))
            if loads.shares and own.numel() == n and not loads.alone:
                start = own.reshape(n)
            else:
                load.narrow(*place).copy_(own)
            if push is not None:
                push.narrow(*place).copy_(F)
        for share in loads.shares:
            share.add(columns, part, shape, start)
            start = None
        if held is None:
            raise ValueError("a block has pieces")
        u_hat, info = solve_batch(
            constraint.pattern, held, load, structure, model.spec.solver, throw=throw
        )
        u = u_hat if u is None else u
        here = u.narrow(dim, members.start, count)
        for place, piece, g in pieces:
            found = u_hat.narrow(*place)
            own = constraint.recover(found, g, out=found if whole else here.narrow(*place))
            done = model.finished(piece, own)
            if done is not own:
                own.copy_(done)
        operator = None
        if push is not None:
            operator = Operator(values, push, matrix.definite, matrix.symmetric)
        part.trial = not info.converged
        for name, value in Taken(model, part, operator, here).outputs(besides=late).items():
            parts.setdefault(name, []).append(value)
        if info.solved is not None:
            solved.narrow(dim, members.start, count).copy_(info.solved)
        if report is not None:
            info.absorb(report)
        report = info
    if report is None or u is None:
        raise ValueError("a batch of blocks has members")
    scene.trial = not report.converged
    report.solved = None if report.converged else solved
    taken = Taken(model, scene, None, u)
    return taken, taken.outputs({k: torch.cat(v, dim) for k, v in parts.items()}), report
