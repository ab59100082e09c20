"""The adjoint of going through time.

Backward goes from one kept state to the one before: between them the steps are done again, recorded, and
differentiated (Griewank and Walther, Evaluating Derivatives, 2nd ed., SIAM 2008, chapter 12). Steps of a length that
was chosen on the way are those of the forward run. Derivatives of higher order record all steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.linalg.adjoint.jacobian import pulled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch_sla.problems.analyses.grid import TimeGrid
    from torch_sla.problems.analyses.march import March, Records
    from torch_sla.problems.analyses.schemes import State

__all__ = ["Marched", "Pull"]

# How much more room many cotangents may take than in the adjoint of one solve.
_MORE = 4


class Pull:
    """Backward through the steps, adding up the gradients of what they share.

    All cotangents and gradients have one dimension more in front: many of them go through the same steps.
    """

    def __init__(
        self,
        march: March,
        grid: TimeGrid,
        plain: TimeGrid,
        shared: Sequence[Tensor],
        grads: dict[str, Tensor | None],
    ) -> None:
        self.march, self.grid, self.plain, self.grads = march, grid, plain, grads
        self.shared = [x for x in shared if x.requires_grad]
        self._places = [k for k, x in enumerate(shared) if x.requires_grad]
        self.found: list[Tensor | None] = [None] * len(shared)
        self.start: list[Tensor | None] = []
        self._base = max(march.keep // 2, 1)

    def through(
        self, low: int, high: int, state: State, upper: list[Tensor | None]
    ) -> list[Tensor | None]:
        """Go from step high back to step low, whose state is known."""
        if high - low <= self._base:
            return self._segment(low, high, state, upper)
        width = self._base
        while width * self.march.keep < high - low:
            width *= self.march.keep
        states = {low: state}
        with torch.no_grad():
            for i in range(low, high - 1):
                state = self.march.scheme.step(self.plain, self.march.course.steps[i][0], state)
                if (i + 1 - low) % width == 0:
                    states[i + 1] = state
        edges = [*states, high]
        for a, b in zip(reversed(edges[:-1]), reversed(edges[1:]), strict=True):
            upper = self.through(a, b, states.pop(a), upper)
        return upper

    def _segment(
        self, low: int, high: int, state: State, upper: list[Tensor | None]
    ) -> list[Tensor | None]:
        own = tuple(x.detach().requires_grad_() for x in state)
        outputs: list[Tensor] = []
        grads: list[Tensor | None] = []
        self.grid.forget()
        with torch.enable_grad():
            now: State = own
            for i in range(low, high):
                now, found = self.march.again(self.grid, i, now)
                row = self.march.course.steps[i][1]
                self._rows(found, row, outputs, grads)
        return self._grad([*now, *outputs], [*upper, *grads], own)

    def first(self, start: State, upper: list[Tensor | None]) -> None:
        """Add what was recorded at the start."""
        own = tuple(x.detach().requires_grad_() for x in start)
        outputs: list[Tensor] = []
        grads: list[Tensor | None] = []
        self.start = upper
        if self.march.stepper.rows[0] is None:
            return
        with torch.enable_grad():
            found = self.march.record(self.grid, 0.0, own, True)
            self._rows(found, 0, outputs, grads)
        more = self._grad(outputs, grads, own)
        self.start = [_plus(a, b) for a, b in zip(upper, more, strict=True)]

    def _rows(
        self,
        found: Records,
        row: int | None,
        outputs: list[Tensor],
        grads: list[Tensor | None],
    ) -> None:
        for name, value in found.items():
            grad = self.grads[name]
            if grad is not None and row is not None:
                outputs.append(value)
                grads.append(grad[:, row])

    def _grad(
        self, outputs: list[Tensor], grads: list[Tensor | None], own: State
    ) -> list[Tensor | None]:
        """Differentiate, keep what is shared, return the gradients of the state."""
        pairs = [
            (x, g) for x, g in zip(outputs, grads, strict=True) if g is not None and x.requires_grad
        ]
        if not pairs:
            return [None] * len(own)
        values, weights = zip(*pairs, strict=True)
        found = pulled(values, [*own, *self.shared], weights)
        for place, grad in zip(self._places, found[len(own) :], strict=True):
            self.found[place] = _plus(self.found[place], grad)
        return list(found[: len(own)])


class Marched(torch.autograd.Function):
    """State at the start, shared tensors and values -> last state and records."""

    pulls_many = True  # see `torch_sla.linalg.adjoint.jacobian`

    @staticmethod
    def forward(ctx: Any, march: March, *inputs: Tensor) -> tuple[Tensor, ...]:
        """March without recording."""
        ctx.march = march
        # All steps are done again for what goes through them together, so that this may be more.
        ctx.nbytes = max(x.nbytes for x in inputs) // _MORE
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs)
        start, grid = march.parts([x.detach() for x in inputs])
        state, records = march.forward(grid, start)
        # What is kept is not what goes out, lest the node hold itself.
        return *(x.detach().clone() for x in state), *records.values()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Go back from kept state to kept state, or where derivatives are recorded, through all steps."""
        march, needed = ctx.march, ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():
            return None, *_recorded(march, ctx.saved_tensors, needed, grads)
        return None, *MarchedAdjoint.apply(march, needed, len(grads), *grads, *ctx.saved_tensors)


class MarchedAdjoint(torch.autograd.Function):
    """Cotangents of the last state and the records -> those of the inputs, without derivatives of their own.

    Under ``vmap`` many cotangents go through the same steps.
    """

    @staticmethod
    def forward(
        march: March, needed: Sequence[bool], count: int, *tensors: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        grads = [None if g is None else g.unsqueeze(0) for g in tensors[:count]]
        rows = _rows(march, needed, grads, tensors[count:])
        return tuple(None if row is None else row[0] for row in rows)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor | None, ...]) -> None:
        del ctx, inputs, output

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        march: March,
        needed: Sequence[bool],
        count: int,
        *tensors: Tensor | None,
    ) -> Any:
        grads, dims = tensors[:count], in_dims[3 : 3 + count]
        spread = [
            None
            if g is None
            else g.expand(info.batch_size, *g.shape)
            if d is None
            else g.movedim(d, 0)
            for g, d in zip(grads, dims, strict=True)
        ]
        rows = _rows(march, needed, spread, tensors[count:])
        return rows, tuple(None if row is None else 0 for row in rows)


def _rows(
    march: March,
    needed: Sequence[bool],
    grads: Sequence[Tensor | None],
    inputs: Sequence[Tensor | None],
) -> tuple[Tensor | None, ...]:
    """Pull cotangents ``[m, ...]`` back to the inputs."""
    own = [
        x.detach().requires_grad_(need)
        for x, need in zip(inputs, needed, strict=True)
        if x is not None
    ]
    start, grid = march.parts(own)
    found = march.pull(grid, start, own[len(start) :], grads)
    return tuple(g if need else None for g, need in zip(found, needed, strict=True))


def _recorded(
    march: March,
    inputs: Sequence[Tensor],
    needed: Sequence[bool],
    grads: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """Differentiate all steps as operations of torch, so that the gradient has derivatives itself."""
    # Aliases: the inputs may depend on each other, and only the direct dependence counts here.
    own = [x.view_as(x) if need else x.detach() for x, need in zip(inputs, needed, strict=True)]
    start, grid = march.parts(own)
    state, records = march.replay(grid, start, dict.fromkeys(march.names, start[0]))
    pairs = [
        (x, g)
        for x, g in zip((*state, *records.values()), grads, strict=True)
        if g is not None and x.requires_grad
    ]
    wanted = [x for x, need in zip(own, needed, strict=True) if need]
    found: tuple[Tensor | None, ...] = (None,) * len(wanted)
    if pairs:
        values, weights = zip(*pairs, strict=True)
        found = torch.autograd.grad(values, wanted, weights, create_graph=True, allow_unused=True)
    rest = iter(found)
    return [next(rest) if need else None for need in needed]


def _plus(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b
