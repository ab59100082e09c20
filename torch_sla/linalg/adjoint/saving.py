"""How a Function is applied, and what it keeps for its derivatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._functorch.utils import unwrap_dead_wrappers
from torch.autograd import forward_ad

if TYPE_CHECKING:
    from torch.autograd import Function

__all__ = ["applied", "is_followed", "is_recorded", "keep"]

_TRANSFORMS = torch._C.DispatchKey.FuncTorchDynamicLayerFrontMode


def applied(function: type[Function], *args: Any) -> Any:
    """Apply a Function that has a ``setup_context`` to all arguments of its ``forward``.

    Where nobody follows an argument, its work is done without it. Else what ``Function.apply`` does, but for binding
    arguments to the signature of ``forward``: that is inspected each time, which takes longer than a short kernel runs.
    From torch 2.15 on its compiled code does that in any case.

    Examples
    --------
    >>> class Double(torch.autograd.Function):
    ...     forward = staticmethod(lambda x: 2 * x)
    ...     setup_context = staticmethod(lambda ctx, inputs, output: None)
    ...     backward = staticmethod(lambda ctx, g: 2 * g)
    >>> x = torch.ones(2)
    >>> applied(Double, x), applied(Double, x.requires_grad_()).requires_grad
    (tensor([2., 2.]), True)
    """
    if torch._C._are_functorch_transforms_active():
        return function.apply(*args) if is_recorded() else function.forward(*args)
    args = unwrap_dead_wrappers(args)
    if any(isinstance(x, Tensor) and is_followed(x) for x in args):
        return super(torch.autograd.Function, function).apply(*args)  # type: ignore[misc]
    with torch.no_grad():
        return function.forward(*args)


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

    Where transforms are kept out, a Function cannot be applied.

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
