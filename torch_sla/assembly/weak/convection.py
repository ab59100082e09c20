"""Convection, and its stabilisation along the flow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch_sla.assembly.forms.form import BilinearForm, LinearForm
from torch_sla.assembly.forms.vocabulary import dot, grad
from torch_sla.assembly.mapping import regular_simplex

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.assembly.field import Field
    from torch_sla.assembly.forms.context import Context

__all__ = ["convection", "streamline", "streamline_mass", "streamline_source", "streamline_time"]


def _convection(u: Field, v: Field, w: Context) -> Tensor:
    """``(velocity . grad u) v`` with a vector ``velocity [..., dim]``."""
    return dot(w.velocity, grad(u)) * v


def _streamline(u: Field, v: Field, w: Context) -> Tensor:
    """``time (velocity . grad v) (velocity . grad u + c u)``: the residual tested along the flow."""
    along = w.time * dot(w.velocity, grad(v))
    return along * (dot(w.velocity, grad(u)) + w.c * u)


def _streamline_mass(u: Field, v: Field, w: Context) -> Tensor:
    """``time (velocity . grad v) c u``."""
    return w.time * dot(w.velocity, grad(v)) * w.c * u


def _streamline_source(v: Field, w: Context) -> Tensor:
    """``time (velocity . grad v) f``."""
    return w.time * dot(w.velocity, grad(v)) * w.f


def streamline_time(
    velocity: Tensor, diffusivity: Tensor, inverse: Tensor, simplex: bool = False
) -> Tensor:
    """Time scale of the streamline-upwind Petrov-Galerkin method, smooth in all arguments.

    ``(4 |G v|^2 + 144 kappa^2 |G G^T|^2)^(-1/2)`` with ``G = dX/dx`` on cells of unit reference length: half
    the cell length over the speed under convection, a twelfth of its square over the diffusivity under diffusion.
    Lengths in a simplex are those in the regular one of unit edges, so that no corner is another than the rest.

    Parameters
    ----------
    velocity
        ``[..., n|1, q|1, dim]``.
    diffusivity
        ``[..., n|1, q|1]``, positive.
    inverse
        ``dX/dx [n, q|1, dim, dim]``.
    simplex
        Whether the reference cell is the simplex between the unit vectors.

    References
    ----------
    Shakib, Hughes, Johan, Comput. Methods Appl. Mech. Engrg. 89 (1991), 141-219, equation (3.59).
    """
    if simplex and inverse.shape[-1] > 1:
        inverse = regular_simplex(inverse) @ inverse
    along = (inverse * velocity[..., None, :]).sum(-1)
    metric = inverse @ inverse.transpose(-1, -2)
    spread: Tensor = (metric * metric).sum((-2, -1))
    return (4.0 * (along * along).sum(-1) + 144.0 * diffusivity**2 * spread).rsqrt()


convection = BilinearForm(_convection)
streamline = BilinearForm(_streamline)
streamline_mass = BilinearForm(_streamline_mass)
streamline_source = LinearForm(_streamline_source)
