"""The contract: a transform is data; prepared at a place it is a differentiable map of tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch_sla.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from torch_sla.problems.design.transforms.place import Place

__all__ = [
    "Pointwise",
    "Reparametrisation",
    "Stage",
    "Transform",
    "by_columns",
    "finite",
    "positive",
]


class Stage(ABC):
    """A transform prepared at its place: structural work is done, values pass through."""

    unknowns: int | None = None
    """Number of unknowns, where it is not one per site: the stage then begins its chain."""
    bounded: bool = False
    """Whether bounds of a variable have a meaning for unknowns of its own."""
    bends: bool = False
    """Whether it changes gradients alone: goals see the variable without it."""

    @abstractmethod
    def __call__(self, values: Tensor) -> Tensor:
        """Map values ``[*batch, n, *shape]``, differentiable in them."""

    def start(self, initial: Tensor) -> Tensor:  # noqa: ARG002
        """Return unknowns ``[unknowns]`` that give ``initial``, or begin near it.

        Raises
        ------
        ArgumentError
            If this stage has no unknowns of its own.
        """
        raise ArgumentError(
            f"{type(self).__name__} has one unknown per site, so it starts from them"
        )


@dataclass(frozen=True)
class Transform(ABC):
    """Options of a transform; subclasses are frozen dataclasses with a ``type``."""

    @abstractmethod
    def prepare(self, place: Place) -> Stage:
        """Do what values do not change: matrices, factors, neighbours.

        Raises
        ------
        ArgumentError
            If it has no meaning at that place.
        """


@dataclass(frozen=True)
class Pointwise(Transform, Stage):
    """A function of each value on its own; prepared, it is itself."""

    def prepare(self, place: Place) -> Stage:  # noqa: ARG002
        """Return itself."""
        return self


@dataclass(frozen=True)
class Reparametrisation(Pointwise):
    """A function that takes any number; at the head of a chain it lies between optimiser and design."""

    @abstractmethod
    def inverse(self, values: Tensor) -> Tensor:
        """Return what is mapped to ``values``.

        Raises
        ------
        ArgumentError
            If nothing is.
        """


def by_columns(apply: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """Apply an operator on columns ``[n, k] -> [m, k]`` along the last dimension, in float64."""
    result = apply(values.double().reshape(-1, values.shape[-1]).T)
    return result.T.reshape(*values.shape[:-1], result.shape[0]).to(values.dtype)


def positive(name: str, value: float) -> None:
    """Refuse what is not a positive number."""
    finite(name, value)
    if value <= 0:
        raise ArgumentError(f"{name} must be positive; got {value!r}")


def finite(name: str, value: float) -> None:
    """Refuse what is not a finite number."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or abs(value) > 1e300
        or value != value
    ):
        raise ArgumentError(f"{name} must be a finite number; got {value!r}")
