"""Linear isotropic elasticity at small strain."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from torch_sla.assembly.forms.form import BilinearForm
from torch_sla.assembly.forms.vocabulary import div, identity, inner, sym_grad, trace
from torch_sla.errors import ArgumentError

if TYPE_CHECKING:
    from torch_sla.assembly.field import Field
    from torch_sla.assembly.forms.context import Context

__all__ = ["elasticity", "lame_parameters", "strain", "stress"]

_Real = TypeVar("_Real", float, Tensor)


def lame_parameters(
    young_modulus: _Real, poisson_ratio: _Real, model: str = "solid"
) -> tuple[_Real, _Real]:
    """Lamé parameters of an isotropic material.

    Parameters
    ----------
    young_modulus
        E, a stress.
    poisson_ratio
        nu, dimensionless, in (-1, 1/2) for ``"solid"`` and ``"plane_strain"`` and (-1, 1) for ``"plane_stress"``.
    model
        ``"solid"``, ``"plane_strain"`` or ``"plane_stress"``; the last condenses the out-of-plane strain.

    Returns
    -------
    lam, mu
        Such that the (in-plane) stress is ``lam tr(strain) I + 2 mu strain``.

    Raises
    ------
    ArgumentError
        For another model, or a ratio outside its range.

    Examples
    --------
    >>> lame_parameters(1.0, 0.25)
    (0.4, 0.4)
    """
    if model not in ("solid", "plane_strain", "plane_stress"):
        raise ArgumentError(f"model: got {model!r}; use 'solid', 'plane_strain' or 'plane_stress'")
    highest = 1.0 if model == "plane_stress" else 0.5
    ratio = torch.as_tensor(poisson_ratio).detach()
    if not bool(((ratio > -1.0) & (ratio < highest)).all()):
        raise ArgumentError(
            f"poisson_ratio: got values from {float(ratio.min())} to {float(ratio.max())}; {model} needs -1 < nu < "
            f"{highest}"
        )
    mu = young_modulus / (2.0 * (1.0 + poisson_ratio))
    if model == "plane_stress":
        lam = young_modulus * poisson_ratio / (1.0 - poisson_ratio * poisson_ratio)
    else:
        lam = young_modulus * poisson_ratio / ((1.0 + poisson_ratio) * (1.0 - 2.0 * poisson_ratio))
    return lam, mu


def strain(u: Field) -> Tensor:
    """Small strain ``[..., dim, dim]``."""
    return sym_grad(u)


def stress(u: Field, lam: Tensor | float, mu: Tensor | float) -> Tensor:
    """Cauchy stress ``lam tr(strain) I + 2 mu strain``, ``[..., dim, dim]``."""
    e = sym_grad(u)
    first = torch.as_tensor(lam)[..., None, None] * trace(e)[..., None, None] * identity(e)
    return first + 2.0 * torch.as_tensor(mu)[..., None, None] * e


def _elasticity(u: Field, v: Field, w: Context) -> Tensor:
    """``lam div u div v + 2 mu strain(u) : strain(v)`` with Lamé parameters ``lam`` and ``mu``."""
    return w.lam * (div(u) * div(v)) + 2.0 * w.mu * inner(sym_grad(u), sym_grad(v))


elasticity = BilinearForm(_elasticity)
