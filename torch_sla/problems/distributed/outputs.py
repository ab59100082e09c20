"""Outputs of a problem in parts, as one node of the graph."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.linalg.distributed.everywhere import agreed
from torch_sla.problems.distributed.quantities import Quantity, Seen, quantities
from torch_sla.problems.distributed.scene import refuse_second
from torch_sla.problems.lowering.operators import Operator
from torch_sla.problems.lowering.outputs import Taken
from torch_sla.problems.specs import outputs as kinds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch_sla.problems.distributed.division import Division
    from torch_sla.problems.distributed.scene import SharedScene
    from torch_sla.problems.distributed.share import Share

__all__ = ["Motion", "TakenInParts"]


@dataclass(frozen=True, eq=False)
class Motion:
    """What the unknowns here do, where they move ``[n_held]`` each.

    Parameters
    ----------
    inertia
        What supports bear because of it; None where it is not known.
    velocity, momentum
        Their product over two is the kinetic energy; None with one derivative in time.
    """

    inertia: Tensor | None = None
    velocity: Tensor | None = None
    momentum: Tensor | None = None

    def tensors(self) -> list[Tensor]:
        """Return what there is."""
        return [x for x in (self.inertia, self.velocity, self.momentum) if x is not None]

    def put(self, tensors: list[Tensor]) -> Motion:
        """Return others in their places."""
        rest = iter(tensors)
        each = (self.inertia, self.velocity, self.momentum)
        return Motion(*(None if x is None else next(rest) for x in each))


def seen(division: Division, scene: SharedScene, u: list[Tensor], motion: Motion) -> list[Seen]:
    """Take the solution of every share; recorded where gradients are enabled."""
    supports = any(isinstance(o, kinds.Flux | kinds.Reaction) for o in division.spec.outputs)
    found = []
    for share, x in zip(division.shares, u, strict=True):
        around, alone = (scene.of(model) for model in (share.rows, share.sums))
        none = torch.zeros(0, dtype=x.dtype, device=x.device)
        operator = share.rows.loaded(around) if supports else Operator(none, none, None)
        loads = Operator(none, share.sums.loads(alone), None)
        rows = Taken(
            share.rows,
            around,
            operator,
            x,
            None if motion.inertia is None else partial(_placed, share, motion.inertia),
            counted=share.own_nodes,
            repeats=division.repeats(share),
        )
        sums = Taken(
            share.sums,
            alone,
            loads,
            x.index_select(-1, share.into_sums),
            kinetic=None if motion.velocity is None else partial(_kinetic, share, motion),
        )
        found.append(Seen(share, rows, sums))
    return found


def _placed(share: Share, x: Tensor) -> Tensor:
    """Put the own entries of a vector of the process where the share has them."""
    return x.new_zeros(share.rows.numbering.n).index_copy(0, share.first, x[share.held])


def _kinetic(share: Share, motion: Motion) -> Tensor:
    if motion.velocity is None or motion.momentum is None:
        raise ArgumentError("nothing moves here")
    return 0.5 * (motion.velocity[share.held] * motion.momentum[share.held]).sum()


class TakenInParts:
    """A solved scene of a problem in parts, from which outputs are taken.

    Parameters
    ----------
    division, scene
        The problem and its values.
    u
        What is held here of the solution ``[n_held]``.
    motion
        How it moves.
    """

    def __init__(
        self, division: Division, scene: SharedScene, u: Tensor, motion: Motion | None = None
    ) -> None:
        self.division, self.scene, self.u = division, scene, u
        self.motion = Motion() if motion is None else motion
        self.quantities: list[Quantity] = quantities(division)

    def outputs(self, known: object = None) -> dict[str, Tensor]:
        """Evaluate all outputs, recorded as one node; in parts none is known before."""
        del known
        names = [output.name for output in self.division.spec.outputs]
        if not names:
            return {}
        inputs = (self.u, *self.motion.tensors(), *self.scene.tensors())
        if torch.is_grad_enabled() and any(x.requires_grad for x in inputs):
            found: tuple[Tensor, ...] = _Outputs.apply(self, *inputs)
        else:
            with torch.no_grad():
                found = self.values(inputs)
        return dict(zip(names, found, strict=True))

    def _seen(self, inputs: tuple[Tensor, ...], spread: list[Tensor]) -> list[Seen]:
        count = 1 + len(self.motion.tensors())
        motion, scene = self.motion.put(list(inputs[1:count])), self.scene.put(inputs[count:])
        scene.trial = self.scene.trial
        return seen(self.division, scene, spread, motion)

    def values(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return all outputs, not recorded."""
        d = self.division
        spread = d.spread(inputs[0])

        def work() -> list[list[Any]]:
            found = self._seen(inputs, spread)
            return [q.of_shares(found) for q in self.quantities]

        each = agreed(d.comm, d.device, work)
        return tuple(q.joined(parts) for q, parts in zip(self.quantities, each, strict=True))

    def pulled_back(
        self, inputs: tuple[Tensor, ...], grads: Sequence[Tensor | None]
    ) -> list[Tensor | None]:
        """Return the gradient of every input; of those that all processes hold, this process's share."""
        d = self.division
        with torch.enable_grad():
            spread = [x.requires_grad_() for x in d.spread(inputs[0].detach())]
        of_u, slopes = agreed(d.comm, d.device, lambda: self._slopes(inputs, spread, grads))
        return [d.collect(of_u), *slopes]

    def _slopes(
        self, inputs: tuple[Tensor, ...], spread: list[Tensor], grads: Sequence[Tensor | None]
    ) -> tuple[list[Tensor], list[Tensor | None]]:
        """Return the gradients of the unknowns of the shares, and of all other inputs; nothing is exchanged."""
        pairs = []
        with torch.enable_grad():
            found = self._seen(inputs, spread)
            for quantity, grad in zip(self.quantities, grads, strict=True):
                if grad is not None:
                    pairs += quantity.pulled_back(found, grad)
        live = [(value, seed) for value, seed in pairs if value.requires_grad]
        wanted = [x for x in inputs[1:] if x.requires_grad]
        slopes: list[Tensor | None] = [None] * (len(wanted) + len(spread))
        if live:
            slopes = list(
                torch.autograd.grad(
                    [value for value, _ in live],
                    [*wanted, *spread],
                    [seed.expand_as(value) for value, seed in live],
                    allow_unused=True,
                )
            )
        of_u = [
            torch.zeros_like(x) if g is None else g
            for x, g in zip(spread, slopes[len(wanted) :], strict=True)
        ]
        rest = iter(slopes)
        return of_u, [next(rest) if x.requires_grad else None for x in inputs[1:]]


class _Outputs(torch.autograd.Function):
    """Solution, motion and given values -> outputs."""

    @staticmethod
    def forward(ctx: Any, taken: TakenInParts, *inputs: Tensor) -> tuple[Tensor, ...]:
        found = taken.values(tuple(x.detach() for x in inputs))
        ctx.taken = taken
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs)
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        refuse_second()
        needed = ctx.needs_input_grad[1:]
        inputs = tuple(
            x.detach().requires_grad_(need)
            for x, need in zip(ctx.saved_tensors, needed, strict=True)
        )
        return None, *ctx.taken.pulled_back(inputs, grads)
