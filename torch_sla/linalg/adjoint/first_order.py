"""Marking a derivative that has no derivative of its own: asking for one is an error, not a zero."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from torch_sla.errors import GradientError
from torch_sla.linalg.adjoint.saving import is_recorded

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["first_order", "only_tangent", "primals"]


class FirstOrder(torch.autograd.Function):
    """``value``, connected to what it depends on by a node whose backward raises."""

    @staticmethod
    def forward(value: Tensor, message: str, *links: Tensor) -> Tensor:
        del message, links
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        del output
        ctx.message = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        del grad
        raise GradientError(ctx.message)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        del tangents
        raise GradientError(ctx.message)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], value: Tensor, message: str, *links: Tensor
    ) -> tuple[Tensor, int | None]:
        """Go through `torch.vmap`, as many cotangents do that are pulled back at once."""
        del info
        return FirstOrder.apply(value, message, *links), in_dims[0]


def first_order(value: Tensor, message: str, *links: Tensor | None) -> Tensor:
    """Return `value`, whose derivative with respect to `links` raises `GradientError`."""
    if not is_recorded():
        return value
    present = [link for link in links if link is not None]
    return FirstOrder.apply(value, message, *present)


def primals(saved: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Return what a ``jvp`` has saved without tangents, recorded as it came."""
    return [None if x is None else forward_ad.unpack_dual(x).primal for x in saved]


def only_tangent(tangent: Tensor, of: str, *links: Tensor | None) -> Tensor:
    """Return a tangent that was found without recording, linked to all it depends on.

    All of them, recorded or not: within transforms of `torch.func` nothing tells which are.

    Parameters
    ----------
    tangent
        What a ``jvp`` returns.
    of
        What it is the tangent of, for the error.
    links
        Primals and tangents.
    """
    message = (
        f"the tangent of {of} in forward mode has no derivative in reverse mode: take second derivatives by "
        "torch.autograd.grad(create_graph=True) or problem.hvp"
    )
    return first_order(tangent, message, *links)
