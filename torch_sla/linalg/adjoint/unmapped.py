"""Functions of whole matrices, over which `torch.vmap` cannot map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import torch

from torch_sla.errors import ArgumentError, GradientError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Unmapped", "no_vmap", "refuse_old_vmap", "refuse_vmap"]

_functorch = torch._C._functorch


def no_vmap(what: str) -> ArgumentError:
    """Return the error of `torch.vmap` over what decides by looking at values, with the way that works."""
    return ArgumentError(
        f"`torch.vmap` does not go through {what}; give the matrix the batch instead, values [*batch, nnz], or loop"
    )


def refuse_vmap(values: Tensor, what: str) -> None:
    """Raise where `values` are mapped over by `torch.vmap`, for what decides by looking at them.

    Raises
    ------
    ArgumentError
        With the way that works: batch dimensions of the matrix.
    """
    x = values
    with torch._C._DisableFuncTorch():
        while _functorch.is_functorch_wrapped_tensor(x):
            if _functorch.maybe_get_bdim(x) >= 0:
                raise no_vmap(what)
            x = _functorch.get_unwrapped(x)


def refuse_old_vmap(*tensors: Tensor) -> None:
    """Raise for derivatives of ``is_grads_batched`` and ``vectorize``: their `vmap` asks no Function for its rule."""
    if any(map(_functorch.is_legacy_batchedtensor, tensors)):
        raise GradientError(
            "`is_grads_batched=True` and `vectorize=True` do not go through sparse products and solves: torch maps "
            "over tangents and cotangents there without asking how. Leave them out, or pull all cotangents back "
            "together: `torch.func.vmap(lambda g: torch.autograd.grad(y, x, g, retain_graph=True))(G)`"
        )


class Unmapped(torch.autograd.Function):
    """A Function that may stand inside `torch.vmap`, where nothing it takes is mapped over."""

    mapped: ClassVar[str]
    """What it computes, for the error."""

    pulls_many: ClassVar[bool] = False
    """Whether its backward takes many cotangents all the same, see `torch_sla.linalg.adjoint.jacobian`."""

    @classmethod
    def vmap(cls, *_: Any) -> NoReturn:
        raise no_vmap(cls.mapped)
