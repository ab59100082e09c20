"""Forward mode within forward mode: a ``jvp`` is recorded by the levels around its own.

`torch.func` may nest ``jvp`` in ``jvp`` (``jacfwd`` of ``jacfwd``). Torch calls the ``jvp`` of a Function with forward
mode off, for all levels: what it computes would have no tangents of the outer ones, and a second derivative would be
a wrong number in silence. It is off because saved tensors still have the tangents of the level that is being
differentiated; without these it can be on.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd import forward_ad

from torch_sla.linalg.adjoint.first_order import primals

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["nested"]

_functorch = torch._C._functorch


class _Outer:
    """The context of a Function as the levels around its own see it: saved tensors are primals."""

    def __init__(self, ctx: Any) -> None:
        self._ctx = ctx

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx, name)

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        return tuple(primals(self._ctx.saved_tensors))


def nested(jvp: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate the ``jvp`` of a Function, so that tangents of outer levels pass through it."""

    @functools.wraps(jvp)
    def run(ctx: Any, *tangents: Any) -> Any:
        levels = _functorch.get_interpreter_stack()
        if levels is None or len(levels) < 2:
            return jvp(ctx, *tangents)
        with forward_ad._set_fwd_grad_enabled(True):
            return jvp(_Outer(ctx), *tangents)

    return run
