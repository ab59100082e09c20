"""Keeping index work out of torch's transforms.

Patterns and their derived index arrays outlive the call that made them. Made inside
`torch.func.grad`, `vmap` or inference mode they would be wrapped by a transform that has long
ended, so they are made outside of all of them.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.utils._device import DeviceContext

from torch_sla.errors import GradientError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "is_outside",
    "is_transformed",
    "outside_autocast",
    "outside_compiler",
    "outside_inference",
    "outside_transforms",
    "own_device",
    "own_precision",
    "physical",
    "refuse_recording",
]

P = ParamSpec("P")
R = TypeVar("R")

_functorch = torch._C._functorch
_depth = threading.local()
_AS_IT_IS = nullcontext()


def outside_transforms(function: Callable[P, R]) -> Callable[P, R]:
    """Run `function` as if no functorch transform, autograd, inference mode or compiler were active."""

    @outside_compiler
    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        _depth.value = getattr(_depth, "value", 0) + 1
        try:
            with torch._C._DisableFuncTorch(), torch.inference_mode(False), torch.no_grad():
                return function(*args, **kwargs)
        finally:
            _depth.value -= 1

    return wrapper


def outside_compiler(function: Callable[P, R], *, calls_back: bool = False) -> Callable[P, R]:
    """Let `torch.compile` leave the graph for `function`, in one clean break, and come back after it.

    What decides from values, or runs compiled kernels, cannot be traced; stepping into it to find that out
    takes the compiler seconds. What records operations and has no way to leave is refused: it would take results
    of kernels, which it does not see, for constants. A default device is for what the caller makes: there is none
    here, except where functions of the caller's are called back. The same holds for autocast.
    """

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_dynamo_compiling():
            return torch.compiler.disable(wrapper)(*args, **kwargs)
        refuse_recording()
        if calls_back:
            return function(*args, **kwargs)
        with own_device(), own_precision():
            return function(*args, **kwargs)

    return wrapper


def outside_inference(function: Callable[P, R]) -> Callable[P, R]:
    """Let what `function` keeps be written to after inference mode, too; it records nothing there."""

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        if not torch.is_inference_mode_enabled():
            return function(*args, **kwargs)
        with torch.inference_mode(False), torch.no_grad():
            return function(*args, **kwargs)

    return wrapper


def outside_autocast(function: Callable[P, R]) -> Callable[P, R]:
    """Run `function` in the precision of its arguments, in a backward pass too that begins under autocast."""

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with own_precision():
            return function(*args, **kwargs)

    return wrapper


def own_precision() -> AbstractContextManager[Any]:
    """Return what keeps dense products in the precision of their factors, which autocast would round to 16 bits.

    Examples
    --------
    >>> with torch.autocast("cpu"), own_precision():
    ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
    torch.float32
    """
    if not torch._C._is_any_autocast_enabled():
        return _AS_IT_IS
    off = ExitStack()
    for device in ("cpu", "cuda"):
        if torch.is_autocast_enabled(device):
            off.enter_context(torch.autocast(device, enabled=False))
    return off


def own_device() -> AbstractContextManager[Any]:
    """Return what lets tensors that are made without a device lie on the CPU, whatever the default.

    Examples
    --------
    >>> with torch.device("meta"), own_device():
    ...     torch.ones(2)
    tensor([1., 1.])
    """
    modes = torch._C._len_torch_function_stack()
    if not modes:
        return _AS_IT_IS
    last = torch._C._get_function_stack_at(modes - 1)
    there = isinstance(last, DeviceContext) and last.device.type == "cpu"
    return _AS_IT_IS if there else torch.device("cpu")


def refuse_recording() -> None:
    """Raise where operations are recorded by what does not see those of compiled kernels.

    Raises
    ------
    GradientError
        With what to use instead.
    """
    known = torch._C._TorchDispatchModeKey
    modes = (known.PROXY, known.FAKE) if torch._C._len_torch_dispatch_stack() else ()
    recorded = torch._C._get_tracing_state() is not None
    if recorded or any(torch._C._get_dispatch_mode(mode) is not None for mode in modes):
        raise GradientError(
            "`torch.func.linearize`, `make_fx`, `torch.export`, `torch.jit.trace` and fake tensors record operations "
            "of torch, and would take what sparse matrices compute for constants; for tangents use `torch.func.jvp`, "
            "or `vmap` over it (factors are kept), for speed `torch.compile`, which leaves the graph"
        )


def is_outside() -> bool:
    """Whether the caller runs inside `outside_transforms`, where autograd Functions cannot be applied.

    Examples
    --------
    >>> is_outside(), outside_transforms(is_outside)()
    (False, True)
    """
    return getattr(_depth, "value", 0) > 0


def is_transformed() -> bool:
    """Whether a transform of `torch.func` is active, inside which every result is wrapped.

    Examples
    --------
    >>> (
    ...     is_transformed(),
    ...     torch.func.grad(lambda x: x if is_transformed() else 0 * x)(torch.ones(())),
    ... )
    (False, tensor(1.))
    """
    return _functorch.peek_interpreter_stack() is not None


def physical(x: Tensor) -> Tensor:
    """Return the numbers behind a tensor seen from inside transforms, vmapped dimensions in front.

    Pending conjugations and signs are written out: libraries read the memory, which does not have them.

    Examples
    --------
    >>> physical(torch.ones(3)).shape
    torch.Size([3])
    """
    with torch._C._DisableFuncTorch():
        dims: list[int] = []
        while _functorch.is_functorch_wrapped_tensor(x):
            dim = _functorch.maybe_get_bdim(x)
            x = _functorch.get_unwrapped(x)
            if dim >= 0:
                dims.append(dim)
        for dim in reversed(dims):
            x = x.movedim(dim, 0)
        return x.detach().resolve_conj().resolve_neg()
