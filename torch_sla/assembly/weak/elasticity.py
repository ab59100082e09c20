"""Linear isotropic elasticity at small strain."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor

from torch_sla.assembly.forms.form import BilinearForm, LinearForm
from torch_sla.assembly.forms.vocabulary import div, identity, inner, sym_grad, trace
from torch_sla.errors import ArgumentError
from torch_sla.linalg.checks import require

if TYPE_CHECKING:
    from torch_sla.assembly.field import Field
    from torch_sla.assembly.forms.context import Context

__all__ = [
    "elasticity",
    "foundation",
    "initial_stress",
    "lame_parameters",
    "normal_strains",
    "normal_stress_load",
    "orthotropic",
    "strain",
    "stress",
]

_MODELS = ("solid", "axisymmetric", "plane_strain", "plane_stress")
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
        nu, dimensionless, in (-1, 1/2), and in (-1, 1) for ``"plane_stress"``.
    model
        ``"solid"``, ``"axisymmetric"``, ``"plane_strain"`` or ``"plane_stress"``; the last condenses the
        out-of-plane strain.

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
    if model not in _MODELS:
        raise ArgumentError(
            f"model: got {model!r}; use {', '.join(map(repr, _MODELS[:-1]))} or {_MODELS[-1]!r}"
        )
    highest = 1.0 if model == "plane_stress" else 0.5
    where = poisson_ratio.device if isinstance(poisson_ratio, Tensor) else "cpu"
    ratio = torch.as_tensor(poisson_ratio, device=where).detach()
    require(
        ((ratio > -1.0) & (ratio < highest)).all(),
        lambda: ArgumentError(
            f"poisson_ratio: got values from {float(ratio.min())} to {float(ratio.max())}; {model} needs "
            f"-1 < nu < {highest}"
        ),
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
    lam, mu = (c[..., None, None] if isinstance(c, Tensor) else c for c in (lam, mu))
    return lam * trace(e)[..., None, None] * identity(e) + 2.0 * mu * e


def _elasticity(u: Field, v: Field, w: Context) -> Tensor:
    """``lam div u div v + 2 mu strain(u) : strain(v)`` with Lamé parameters ``lam`` and ``mu``."""
    return w.lam * (div(u) * div(v)) + 2.0 * w.mu * inner(sym_grad(u), sym_grad(v))


def normal_strains(u: Field, over_radius: Tensor | float | None = None) -> Tensor:
    """Strains along three axes ``[..., 3]``: the third is 0 in the plane, ``u_r / r`` of a body of revolution.

    Parameters
    ----------
    over_radius
        ``1 / r`` of a body of revolution in the coordinates ``(r, z)``.
    """
    g = u.gradient
    along = g.diagonal(dim1=-2, dim2=-1)
    if along.shape[-1] == 3:
        return along
    hoop = 0.0 * g[..., 0, 0] if over_radius is None else over_radius * u.value[..., 0]
    shape = np.broadcast_shapes(along.shape[:-1], hoop.shape)
    return torch.cat([along.expand(*shape, 2), hoop.expand(shape)[..., None]], -1)


def _orthotropic(u: Field, v: Field, w: Context) -> Tensor:
    """Stiffness ``N [..., 3, 3]`` between strains along the axes and shear moduli ``G [..., 3]`` (yz, xz, xy)."""
    over_radius = w.get("over_radius", None)
    a, b = normal_strains(u, over_radius), normal_strains(v, over_radius)
    total = ((w.N * a[..., None, :]).sum(-1) * b).sum(-1)
    e, f = sym_grad(u), sym_grad(v)
    planes = ((0, 1, 2),) if e.shape[-1] == 2 else ((0, 1, 2), (0, 2, 1), (1, 2, 0))
    for i, j, k in planes:
        total = total + 4.0 * w.G[..., k] * e[..., i, j] * f[..., i, j]
    return total


def _normal_stress_load(v: Field, w: Context) -> Tensor:
    """``s . strains of v along the axes`` with stresses ``s [..., 3]``: what an initial strain does."""
    over_radius = w.get("over_radius", None)
    return (w.s * normal_strains(v, over_radius)).sum(-1)


def _foundation(u: Field, v: Field, w: Context) -> Tensor:
    """``sum_i k_i u_i v_i`` with one stiffness for all directions or one for each, ``k [..., 1 | components]``."""
    return (w.k * u.value * v.value).sum(-1)


def _initial_stress(u: Field, v: Field, w: Context) -> Tensor:
    """``(grad u s) : grad v``, what stresses ``s [..., dim, dim]`` do to further displacements."""
    turned = (u.gradient[..., :, :, None] * w.s[..., None, :, :]).sum(-2)
    return inner(turned, v.gradient)


elasticity = BilinearForm(_elasticity, linear=("lam", "mu"))
initial_stress = BilinearForm(_initial_stress)
orthotropic = BilinearForm(_orthotropic)
foundation = BilinearForm(_foundation)
normal_stress_load = LinearForm(_normal_stress_load)
