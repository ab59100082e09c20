"""The solve of a problem in parts as one node of the autograd graph of every process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import GradientError
from torch_sla.problems.distributed.equation import Equation, everywhere
from torch_sla.problems.distributed.outputs import Quantity, quantities, seen

if TYPE_CHECKING:
    from torch_sla.problems.distributed.division import Division
    from torch_sla.problems.distributed.given import WholeValues

__all__ = ["Run", "refuse_second", "solve_parts"]


class Run:
    """One solve: what its node holds.

    Parameters
    ----------
    division, given
        The problem in parts and its values.
    start
        Starting value ``[n_held]``.
    throw
        Whether failure raises.
    """

    def __init__(
        self, division: Division, given: WholeValues, start: Tensor | None, *, throw: bool
    ) -> None:
        self.division, self.given, self._start = division, given, start
        self.equation = Equation(division, given, throw=throw)
        self._quantities: list[Quantity] = quantities(division)

    @torch.no_grad()
    def forward(self, leaves: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the solution ``[n_held]`` and the outputs."""
        d = self.division
        plain = tuple(leaf.detach() for leaf in leaves)
        u = self.equation.solve(plain, self._start)
        info = self.equation.info
        failed = info is not None and not info.converged
        spread = d.spread(u)
        found = everywhere(d, lambda: seen(d, self.given, plain, spread, failed=failed))
        return u, *(q.value(found) for q in self._quantities)

    def backward(
        self, u: Tensor, leaves: tuple[Tensor, ...], needed: tuple[bool, ...], grads: list[Any]
    ) -> list[Tensor | None]:
        """Return the gradient of each leaf, the same on every process."""
        d, info = self.division, self.equation.info
        if info is not None and not info.converged:
            raise GradientError("the solve did not converge, so its result has no derivative")
        own = tuple(
            leaf.detach().requires_grad_(need) for leaf, need in zip(leaves, needed, strict=True)
        )
        wanted = [leaf for leaf, need in zip(own, needed, strict=True) if need]
        of_u, of_outputs = grads[0], grads[1:]
        with torch.enable_grad():
            spread = [x.requires_grad_() for x in d.spread(u)]
            found = everywhere(d, lambda: seen(d, self.given, own, spread))
            pairs = []
            for quantity, grad in zip(self._quantities, of_outputs, strict=True):
                if grad is not None:
                    pairs += quantity.pulled_back(found, grad)
        live = [(value, seed) for value, seed in pairs if value.requires_grad]
        direct: list[Tensor | None] = [None] * (len(wanted) + len(spread))
        if live:
            direct = list(
                torch.autograd.grad(
                    [value for value, _ in live],
                    [*wanted, *spread],
                    [seed.expand_as(value) for value, seed in live],
                    allow_unused=True,
                )
            )
        slopes = [
            torch.zeros_like(x) if g is None else g
            for x, g in zip(spread, direct[len(wanted) :], strict=True)
        ]
        cotangent = d.collect(slopes)
        if of_u is not None:
            cotangent = cotangent + of_u
        through = self.equation.pull_back(u, own, wanted, cotangent)
        flat = [
            _or_zero(a, leaf) + _or_zero(b, leaf)
            for a, b, leaf in zip(direct, through, wanted, strict=False)
        ]
        summed = iter(self._together(flat, wanted))
        return [next(summed) if need else None for need in needed]

    def _together(self, grads: list[Tensor], like: list[Tensor]) -> list[Tensor]:
        """Sum over processes, all gradients in one message."""
        if not grads:
            return []
        d = self.division
        home = torch.cat([g.detach().flatten().to(d.device, d.whole.dtype) for g in grads])
        total = d.comm.reduce(home)
        sizes = [g.numel() for g in grads]
        return [
            piece.reshape(leaf.shape).to(leaf.device, leaf.dtype)
            for piece, leaf in zip(total.split(sizes), like, strict=True)
        ]


class _Solve(torch.autograd.Function):
    """Leaves -> solution and outputs; the gradient is summed over the processes."""

    @staticmethod
    def forward(ctx: Any, run: Run, *leaves: Tensor) -> tuple[Tensor, ...]:
        found = run.forward(leaves)
        ctx.run = run
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(found[0], *leaves)
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        refuse_second()
        u, *leaves = ctx.saved_tensors
        needed = ctx.needs_input_grad[1:]
        return None, *ctx.run.backward(u, tuple(leaves), needed, list(grads))


def refuse_second() -> None:
    """Raise where the gradient is to be differentiated itself, as ``create_graph=True`` asks for."""
    if torch.is_grad_enabled():
        raise GradientError(
            "problems in parts have first derivatives only; leave create_graph out, or solve in one process"
        )


def solve_parts(run: Run) -> tuple[Tensor, ...]:
    """Return the solution ``[n_held]`` and the outputs, recorded as one node."""
    found: tuple[Tensor, ...] = _Solve.apply(run, *run.given.leaves)
    return found


def _or_zero(g: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if g is None else g
