"""Transforms of `torch.func` that an interrupt ends cleanly."""

from __future__ import annotations

import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import torch
from torch._functorch import eager_transforms
from torch.autograd import forward_ad

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["transformed"]

R = TypeVar("R")
_functorch = torch._C._functorch


def transformed(function: Callable[..., R], *args: object) -> R:
    """Call a function that applies transforms of `torch.func`, and end those that an interrupt leaves open.

    Ctrl-C that arrives while torch enters or leaves a transform keeps it from leaving. The transform would stay active
    for the rest of the process, and whatever is computed afterwards would be wrapped, or fail.

    Parameters
    ----------
    function
        What is called, such as ``torch.func.vmap(f)``.
    *args
        Its arguments.

    Examples
    --------
    >>> transformed(torch.func.grad(lambda x: x**3), torch.tensor(2.0))
    tensor(12.)
    """
    before = _state()
    try:
        return function(*args)
    except BaseException as error:
        behind: BaseException | None = error
        while isinstance(behind, RuntimeError) and "INTERNAL ASSERT" in str(behind):
            behind = behind.__context__  # torch left a transform that it was kept from entering
        if _state() != before or behind is not error:
            # What a generator among the frames still holds open ends with it: now, not when it is collected.
            for one in (error, behind):
                if one is not None:
                    traceback.clear_frames(one.__traceback__)
        if _state() != before or not isinstance(behind, Exception):
            _restore(*before)
        if isinstance(behind, KeyboardInterrupt) and behind is not error:
            raise behind from None
        raise


def _state() -> tuple[int, int, int]:
    """Return the number of transforms, of those that push tangents, and of levels of dual numbers."""
    depth = _functorch.get_dynamic_layer_stack_depth()
    return depth, eager_transforms.JVP_NESTING, forward_ad._current_level


def _restore(depth: int, pushing: int, dual: int) -> None:
    if _functorch.get_dynamic_layer_stack_depth() > depth:
        _functorch.pop_dynamic_layer_stack_and_undo_to_depth(depth)
    eager_transforms.JVP_NESTING = pushing
    with suppress(RuntimeError):  # there is none, unless torch was kept from counting it
        torch._C._exit_dual_level(dual + 1)
    forward_ad._current_level = dual
