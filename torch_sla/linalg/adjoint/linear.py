"""Differentiable linear maps: one Function for all of them.

A linear map ``y = L x`` is its own tangent, and what it does to cotangents, its adjoint, is linear again. So a map that
can apply itself and knows its adjoint has derivatives of every order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from torch_sla.linalg.adjoint.nested import nested

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

__all__ = ["Linear", "LinearMap"]


class Linear(torch.autograd.Function):
    """Argument of a `LinearMap`, and the map -> its result."""

    @staticmethod
    def forward(x: Tensor, what: LinearMap) -> Tensor:
        return what.run(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        del output
        x, ctx.what = inputs
        ctx.shape = x.shape

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.what.adjoint(ctx.shape)(grad), None

    @staticmethod
    @nested
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return ctx.what(tangent)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int, None], x: Tensor, what: LinearMap
    ) -> tuple[Tensor, int]:
        if what.members is None:
            return what(x.movedim(in_dims[0], what.beside)), what.beside
        at, to = what.members
        y = what.of_many(info.batch_size)(x.movedim(in_dims[0], at).flatten(at, at + 1))
        return y.unflatten(to, (info.batch_size, -1)), to


class LinearMap(ABC):
    """A map that is linear in one tensor, over the real numbers; calling it is differentiable to any order."""

    members: ClassVar[tuple[int, int] | None] = None
    """Which dimension of the argument and of the result a batch has, that of ``vmap`` too; None: one of its own."""

    beside: ClassVar[int] = -1
    """Where a dimension of its own may be: 0 or -1."""

    function: ClassVar[type[Linear]] = Linear
    """What its node in a graph is."""

    @abstractmethod
    def run(self, x: Tensor) -> Tensor:
        """Return ``L x``, not recorded."""

    @abstractmethod
    def adjoint(self, shape: torch.Size) -> Callable[[Tensor], Tensor]:
        """Return ``Lᵀ``, recorded, where ``x`` is of this shape."""

    def of_many(self, count: int) -> LinearMap:
        """Return the map for `count` times as many members."""
        del count
        return self

    def __call__(self, x: Tensor) -> Tensor:
        """Return ``L x``."""
        return self.function.apply(x, self)
