"""Differentiable exchange between processes, and the sum over them.

An exchange copies entries ``h = E x`` from where they are owned to where they are wanted, with a matrix ``E``
of zeros and ones that no process holds whole. Its adjoint ``Eᵀ`` sends what arrived back and adds it up, so each is
the derivative of the other.

A sum over processes has two derivatives, depending on what a loss is taken to be. Here the cotangent of a
vector always is the derivative of the whole loss, wherever it is computed: a sum that every process holds has the
same cotangent everywhere, and passes it on as it is. What every process holds a copy of and puts to use
receives a share of its derivative from each, and the shares are added.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch

from torch_sla.linalg.adjoint.nested import nested

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Gathering", "Sharing", "Swap", "exchange", "gathered", "replicated", "summed", "total"]


class Swap(Protocol):
    """A planned exchange."""

    def fetch(self, x: Tensor) -> Tensor:
        """Return ``E x``: ``[n_source, *] -> [n_target, *]``, not recorded."""

    def give_back(self, h: Tensor) -> Tensor:
        """Return ``Eᵀ h``."""


class Sharing(Protocol):
    """Sums over processes."""

    def reduce(self, x: Tensor) -> Tensor:
        """Add up the shares of all processes, not recorded; every process gets the sum."""


class Gathering(Sharing, Protocol):
    """Pieces of every process, and sums over them."""

    def gather(self, x: Tensor) -> list[Tensor]:
        """Return the `x` of every process, not recorded."""


class Exchange(torch.autograd.Function):
    """``[n_source, *] -> [n_target, *]``, or back."""

    @staticmethod
    def forward(x: Tensor, swap: Swap, back: bool) -> Tensor:
        return swap.give_back(x) if back else swap.fetch(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        del output
        _, ctx.swap, ctx.back = inputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return exchange(grad, ctx.swap, back=not ctx.back), None, None

    @staticmethod
    @nested
    def jvp(ctx: Any, x_t: Tensor, *_: None) -> Tensor:
        return exchange(x_t, ctx.swap, back=ctx.back)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, swap: Swap, back: bool
    ) -> tuple[Tensor, int]:
        """Send all members at once, as columns."""
        del info
        return exchange(x.movedim(in_dims[0] or 0, -1), swap, back=back), -1


class _Shared(torch.autograd.Function):
    """What processes have in common, and the `Sharing` between them -> a tensor of that shape."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        del output
        ctx.sharing = inputs[1]


class Summed(_Shared):
    """Share of this process -> sum over all, of which each process makes its own use; it is its own adjoint."""

    @staticmethod
    def forward(x: Tensor, sharing: Sharing) -> Tensor:
        return sharing.reduce(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return summed(grad, ctx.sharing), None

    @staticmethod
    @nested
    def jvp(ctx: Any, x_t: Tensor, _: None) -> Tensor:
        return summed(x_t, ctx.sharing)


class Total(_Shared):
    """Share of this process -> sum over all."""

    @staticmethod
    def forward(x: Tensor, sharing: Sharing) -> Tensor:
        return sharing.reduce(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        # The same number on every process, of which each takes its own copy: that is what is differentiated again.
        return replicated(grad, ctx.sharing), None

    @staticmethod
    @nested
    def jvp(ctx: Any, x_t: Tensor, _: None) -> Tensor:
        return total(x_t, ctx.sharing)


class Replicated(_Shared):
    """A copy that every process holds -> the same; the shares of its derivative are added up."""

    @staticmethod
    def forward(x: Tensor, sharing: Sharing) -> Tensor:
        del sharing
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return total(grad, ctx.sharing), None

    @staticmethod
    @nested
    def jvp(ctx: Any, x_t: Tensor, _: None) -> Tensor:
        del ctx
        return x_t.view_as(x_t)


class Gathered(torch.autograd.Function):
    """Entries held here, and their places in the whole -> the whole, a copy for every process."""

    @staticmethod
    def forward(x: Tensor, places: Tensor, n: int, gathering: Gathering) -> Tensor:
        whole = x.new_zeros((n, *x.shape[1:]))
        for there, piece in zip(gathering.gather(places), gathering.gather(x), strict=True):
            whole[there] = piece
        return whole

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        del output
        _, ctx.places, ctx.n, ctx.gathering = inputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        grad = replicated(grad, ctx.gathering)
        return grad.index_select(0, ctx.places), None, None, None

    @staticmethod
    @nested
    def jvp(ctx: Any, x_t: Tensor, *_: None) -> Tensor:
        return gathered(x_t, ctx.places, ctx.n, ctx.gathering)


def exchange(x: Tensor, swap: Swap, *, back: bool = False) -> Tensor:
    """Return ``E x``, or ``Eᵀ x`` with `back`; differentiable to any order."""
    return Exchange.apply(x, swap, back)  # type: ignore[no-any-return]


def total(x: Tensor, sharing: Sharing) -> Tensor:
    """Return the sum of `x` over processes, the same on each; differentiable to any order."""
    return Total.apply(x, sharing)  # type: ignore[no-any-return]


def summed(x: Tensor, sharing: Sharing) -> Tensor:
    """Return the sum over processes, where cotangents are shares: what each makes of its use of the sum."""
    return Summed.apply(x, sharing)  # type: ignore[no-any-return]


def replicated(x: Tensor, sharing: Sharing) -> Tensor:
    """Return `x`, of which every process holds the same copy, with a gradient that is complete on each."""
    return Replicated.apply(x, sharing)  # type: ignore[no-any-return]


def gathered(x: Tensor, places: Tensor, n: int, gathering: Gathering) -> Tensor:
    """Return the whole ``[n, *]``, of which `x` are the entries at `places`, on every process; differentiable."""
    return Gathered.apply(x, places, n, gathering)  # type: ignore[no-any-return]
