"""Many numbers as one that is smooth: bounds of their maximum for constraints and objectives.

Each takes values of any shape and gives one number. They never overflow: values are scaled by the largest,
and the scale cancels.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.problems.design.transforms.base import positive
from torch_sla.problems.expression.functions import largest, root

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["AGGREGATES", "ks", "ks_mean", "p_mean", "p_norm"]


def p_norm(values: Tensor, p: float = 8.0) -> Tensor:
    """Return ``(Σ |v|ᵖ)^(1/p)``, which is at least the largest ``|v|`` and at most ``n^(1/p)`` times it.

    Parameters
    ----------
    values
        Numbers of any shape.
    p
        Exponent, at least 1.

    Examples
    --------
    >>> p_norm(torch.tensor([3.0, 4.0]), 2.0)
    tensor(5.)
    """
    positive("p", p)
    _refuse_none(values)
    size = values.abs()
    scale = largest(size, tuple(range(size.ndim)))
    return scale.reshape(()) * root((size / scale).pow(p).sum(), p)


def p_mean(values: Tensor, p: float = 8.0) -> Tensor:
    """Return ``(Σ |v|ᵖ/n)^(1/p)``, which is at most the largest ``|v|``.

    Parameters
    ----------
    values
        Numbers of any shape.
    p
        Exponent, at least 1.
    """
    return p_norm(values, p) * math.pow(values.numel(), -1 / p)


def ks(values: Tensor, rho: float = 50.0, scale: float = 1.0) -> Tensor:
    """Return the Kreisselmeier-Steinhauser function ``scale/ρ log Σ exp(ρ v/scale)``.

    It is at least the largest value, and at most ``scale/ρ log n`` above it (Kreisselmeier and Steinhauser,
    IFAC Proc. Vol. 12 (1979), 113-117).

    Parameters
    ----------
    values
        Real numbers of any shape and sign.
    rho
        Sharpness.
    scale
        What values are compared with, such as an allowed stress; ρ is a number without unit then.
    """
    positive("rho", rho)
    positive("scale", scale)
    _refuse_none(values)
    return torch.logsumexp((rho / scale) * values.flatten(), 0) * (scale / rho)


def ks_mean(values: Tensor, rho: float = 50.0, scale: float = 1.0) -> Tensor:
    """Return `ks` with the mean in place of the sum, which is at most the largest value.

    Parameters
    ----------
    values
        Real numbers of any shape and sign.
    rho, scale
        As for `ks`.
    """
    return ks(values, rho, scale) - math.log(values.numel()) * (scale / rho)


def _refuse_none(values: Tensor) -> None:
    if not values.numel():
        raise ArgumentError(
            f"values has the shape {list(values.shape)}: there is no number, and no maximum of none"
        )


AGGREGATES: Mapping[str, Callable[..., Tensor]] = MappingProxyType(
    {"p_norm": p_norm, "p_mean": p_mean, "ks": ks, "ks_mean": ks_mean}
)
"""Functions ``(values, *numbers)`` that expressions may use."""
