"""What a Function keeps for its derivatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd import forward_ad

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["is_followed", "is_recorded", "keep"]

_TRANSFORMS = torch._C.DispatchKey.FuncTorchDynamicLayerFrontMode


def keep(ctx: Any, *tensors: Tensor) -> None:
    """Save tensors for ``backward``, and for ``jvp`` where forward mode is on.

    What is saved for ``jvp`` is held by the node itself, out of reach of checkpointing, so that it would make the
    memory of a long march grow with its steps.
    """
    ctx.save_for_backward(*tensors)
    if forward_ad._current_level >= 0:
        ctx.save_for_forward(*tensors)


def is_recorded() -> bool:
    """Whether somebody may follow what is done now: a graph, forward mode, or a transform.

    Where nobody does, the work of an autograd Function can be done without the Function, whose arguments cost
    more to bind than a short kernel to run. Where transforms are kept out, a Function cannot be applied.

    Examples
    --------
    >>> is_recorded(), torch.no_grad()(is_recorded)()
    (True, False)
    """
    if torch._C._are_functorch_transforms_active():
        return not torch._C._dispatch_tls_is_dispatch_key_excluded(_TRANSFORMS)
    return torch.is_grad_enabled() or forward_ad._current_level >= 0


def is_followed(x: Tensor) -> bool:
    """Whether somebody follows what `x` becomes: it requires a gradient, has a tangent, or is under a transform.

    Examples
    --------
    >>> x = torch.ones(2)
    >>> is_followed(x), is_followed(x.requires_grad_())
    (False, True)
    """
    if torch.is_grad_enabled() and x.requires_grad:
        return True
    if torch._C._functorch.is_functorch_wrapped_tensor(x):
        return True
    return forward_ad._current_level >= 0 and forward_ad.unpack_dual(x).tangent is not None
