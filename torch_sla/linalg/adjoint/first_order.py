"""Marking a derivative that has no derivative of its own: asking for one is an error, not a zero."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torch_sla.errors import GradientError

__all__ = ["first_order"]


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


def first_order(value: Tensor, message: str, *links: Tensor | None) -> Tensor:
    """Return `value`, whose derivative with respect to `links` raises `GradientError`."""
    if not torch.is_grad_enabled():
        return value
    present = [link for link in links if link is not None]
    return FirstOrder.apply(value, message, *present)  # type: ignore[no-any-return]
