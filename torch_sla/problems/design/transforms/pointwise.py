"""Functions of each value on its own: reparametrisations, projection, interpolation of materials."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from torch_sla.errors import ArgumentError
from torch_sla.problems.design.transforms.base import (
    Pointwise,
    Reparametrisation,
    finite,
    positive,
)

__all__ = ["RAMP", "SIMP", "Log", "Logit", "Projection", "Softplus"]


@dataclass(frozen=True)
class Log(Reparametrisation):
    """The unknown is the logarithm of the value, which is therefore positive.

    Examples
    --------
    >>> round(Log()(torch.tensor([0.0, 1.0]))[1].item(), 4)
    2.7183
    """

    type: Literal["log"] = field(default="log", kw_only=True)

    def __call__(self, values: Tensor) -> Tensor:
        """Return ``exp(values)``."""
        return values.exp()

    def inverse(self, values: Tensor) -> Tensor:
        """Return the logarithm."""
        if not bool((values > 0).all()):
            raise ArgumentError(f"log needs positive values; the least is {float(values.min()):g}")
        return values.log()


@dataclass(frozen=True)
class Softplus(Reparametrisation):
    """``lower + log(1 + exp(s x))/s``: above `lower`, and nearly linear far above it.

    Parameters
    ----------
    lower
        Infimum of the values.
    sharpness
        ``s``: the bend is about ``1/s`` wide.

    Examples
    --------
    >>> from torch_sla import Softplus
    >>> Softplus(lower=0.1)
    Softplus(lower=0.1, sharpness=1.0, type='softplus')
    """

    lower: float = 0.0
    sharpness: float = 1.0
    type: Literal["softplus"] = field(default="softplus", kw_only=True)

    def __post_init__(self) -> None:
        """Check."""
        finite("lower", self.lower)
        positive("sharpness", self.sharpness)

    def __call__(self, values: Tensor) -> Tensor:
        """Map any number to one above `lower`."""
        return self.lower + functional.softplus(self.sharpness * values) / self.sharpness

    def inverse(self, values: Tensor) -> Tensor:
        """Return what is mapped to ``values``."""
        over = self.sharpness * (values - self.lower)
        if not bool((over > 0).all()):
            raise ArgumentError(
                f"softplus needs values above lower={self.lower:g}; the least is {float(values.min()):g}"
            )
        return (over + (-torch.expm1(-over)).log()) / self.sharpness


@dataclass(frozen=True)
class Logit(Reparametrisation):
    """Strictly between two bounds, for methods that know none: ``lower + (upper - lower) sigmoid(x)``.

    Parameters
    ----------
    lower
        Lower bound, which is never reached.
    upper
        Upper bound, which is never reached.

    Examples
    --------
    >>> from torch_sla import Logit
    >>> Logit(0.1, 10.0)
    Logit(lower=0.1, upper=10.0, type='logit')
    """

    lower: float = 0.0
    upper: float = 1.0
    type: Literal["logit"] = field(default="logit", kw_only=True)

    def __post_init__(self) -> None:
        """Check."""
        finite("lower", self.lower)
        finite("upper", self.upper)
        if self.lower >= self.upper:
            raise ArgumentError(f"lower={self.lower!r} must be below upper={self.upper!r}")

    def __call__(self, values: Tensor) -> Tensor:
        """Map any number to one between the bounds."""
        return self.lower + (self.upper - self.lower) * torch.sigmoid(values)

    def inverse(self, values: Tensor) -> Tensor:
        """Return what is mapped to ``values``."""
        share = (values - self.lower) / (self.upper - self.lower)
        if not bool(((share > 0) & (share < 1)).all()):
            raise ArgumentError(
                f"logit needs values strictly between {self.lower:g} and {self.upper:g}; they reach from "
                f"{float(values.min()):g} to {float(values.max()):g}"
            )
        return torch.logit(share)


@dataclass(frozen=True)
class Projection(Pointwise):
    """Smoothed Heaviside projection to 0 and 1, which keeps 0 and 1 where they are.

    ``(tanh(b e) + tanh(b (x - e))) / (tanh(b e) + tanh(b (1 - e)))`` with ``b = beta`` and ``e = eta``
    (Wang, Lazarov and Sigmund, Struct. Multidisc. Optim. 43 (2011), 767-784, eq. 9).

    Parameters
    ----------
    beta
        Sharpness: nearly the identity at 1, nearly a step at 32. Loops raise it as they go.
    eta
        Threshold between 0 and 1.

    Examples
    --------
    >>> p = Projection(beta=4.0)
    >>> p(torch.tensor([0.0, 0.5, 1.0])).tolist()
    [0.0, 0.5, 1.0]
    """

    beta: float = 8.0
    eta: float = 0.5
    type: Literal["projection"] = field(default="projection", kw_only=True)

    def __post_init__(self) -> None:
        """Check."""
        positive("beta", self.beta)
        finite("eta", self.eta)
        if not 0 <= self.eta <= 1:
            raise ArgumentError(f"eta must be between 0 and 1; got {self.eta!r}")

    @property
    def _ends(self) -> tuple[float, float]:
        low = math.tanh(self.beta * self.eta)
        return low, low + math.tanh(self.beta * (1 - self.eta))

    def __call__(self, values: Tensor) -> Tensor:
        """Push values towards 0 and 1."""
        low, whole = self._ends
        return (low + torch.tanh(self.beta * (values - self.eta))) / whole


@dataclass(frozen=True)
class _Material(Pointwise):
    """A material property between those of void and of material, by a penalised density."""

    penalty: float = 3.0
    minimum: float = 1e-9
    maximum: float = 1.0

    def __post_init__(self) -> None:
        """Check."""
        positive("penalty", self.penalty)
        finite("minimum", self.minimum)
        finite("maximum", self.maximum)


@dataclass(frozen=True)
class SIMP(_Material):
    """Material by a power of the density: ``minimum + x**penalty (maximum - minimum)``.

    The modified scheme (Sigmund, Struct. Multidisc. Optim. 33 (2007), 401-424, eq. 3).

    Parameters
    ----------
    penalty
        The power; 3 is usual.
    minimum
        Value of the void; positive, so that the matrix stays regular.
    maximum
        Value of the material.

    Examples
    --------
    >>> from torch_sla import SIMP
    >>> SIMP(penalty=3.0, minimum=1e-3)
    SIMP(penalty=3.0, minimum=0.001, maximum=1.0, type='simp')
    """

    type: Literal["simp"] = field(default="simp", kw_only=True)

    def __call__(self, values: Tensor) -> Tensor:
        """Map densities to material values."""
        return self.minimum + values**self.penalty * (self.maximum - self.minimum)


@dataclass(frozen=True)
class RAMP(_Material):
    """Material by a rational function: ``minimum + x/(1 + q (1 - x)) (maximum - minimum)``.

    Its slope at zero density is not zero, so that bodies under their own weight and vibrating ones do not
    get stuck there (Stolpe and Svanberg, Struct. Multidisc. Optim. 22 (2001), 116-124).

    Parameters
    ----------
    penalty
        ``q``; 8 is like a cubic SIMP.
    minimum
        Value of the void; positive, so that the matrix stays regular.
    maximum
        Value of the material.

    Examples
    --------
    >>> from torch_sla import RAMP
    >>> RAMP(penalty=8.0)
    RAMP(penalty=8.0, minimum=1e-09, maximum=1.0, type='ramp')
    """

    penalty: float = 8.0
    type: Literal["ramp"] = field(default="ramp", kw_only=True)

    def __call__(self, values: Tensor) -> Tensor:
        """Map densities to material values."""
        share = values / (1 + self.penalty * (1 - values))
        return self.minimum + share * (self.maximum - self.minimum)
