"""Functions of whole matrices, over which `torch.vmap` cannot map."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn

import torch

from torch_sla.errors import ArgumentError

__all__ = ["Unmapped", "no_vmap"]


def no_vmap(what: str) -> ArgumentError:
    """Return the error of `torch.vmap` over what decides by looking at values, with the way that works."""
    return ArgumentError(
        f"`torch.vmap` does not go through {what}; give the matrix the batch instead, values [*batch, nnz], or loop"
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
