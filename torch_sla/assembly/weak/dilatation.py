"""Nearly incompressible solids without locking: the volume change is averaged over each cell.

References
----------
.. [1] T. J. R. Hughes, Generalization of selective integration procedures to anisotropic and nonlinear media, Int. J.
   Numer. Meth. Engng. 15 (1980), 1413-1418.
.. [2] J. C. Simo, R. L. Taylor, K. S. Pister, Variational and projection methods for the volume constraint in finite
   deformation elasto-plasticity, Comput. Methods Appl. Mech. Engrg. 51 (1985), 177-208.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from torch_sla.assembly.forms.determinants import det
from torch_sla.assembly.forms.form import BilinearForm, Functional, LinearForm
from torch_sla.assembly.forms.vocabulary import grad, identity, inner, sym_grad
from torch_sla.assembly.weak.elasticity import normal_strains

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.assembly.basis.basis import Basis
    from torch_sla.assembly.field import Field
    from torch_sla.assembly.forms.cellwise import CellContext
    from torch_sla.assembly.forms.context import Coefficient, Context

__all__ = ["elasticity_bbar", "fbar"]


def _shear(u: Field, v: Field, w: Context) -> Tensor:
    """``2 mu strain(u) : strain(v)``, with the hoop of a body of revolution."""
    total = inner(sym_grad(u), sym_grad(v))
    over_radius = w.get("over_radius", None)
    if over_radius is not None:
        total = total + over_radius**2 * (u.value[..., 0] * v.value[..., 0])
    return 2.0 * w.measure * w.mu * total


def _dilatation(v: Field, w: Context) -> Tensor:
    return w.measure * normal_strains(v, w.get("over_radius", None)).sum(-1)


_SHEAR, _DILATATION = BilinearForm(_shear), LinearForm(_dilatation)
_INTEGRAL = Functional(lambda w: w.c + torch.zeros_like(w.basis.dx))


def elasticity_bbar(
    basis: Basis,
    lam: Coefficient,
    mu: Coefficient,
    measure: Coefficient = 1.0,
    over_radius: Coefficient | None = None,
) -> Tensor:
    """Element matrices of ``lam mean(div u) mean(div v) + 2 mu strain(u) : strain(v)``, means over cells [1]_.

    For Q1, Q2 and P2; linear simplices have a constant divergence already and keep locking (use a mixed pair).

    Parameters
    ----------
    basis
        Basis of the displacement in cells.
    lam, mu
        Lamé parameters, numbers or ``[*batch, n|1, nq|1]``.
    measure
        What the integrals and means are weighted with: the thickness, or the circumference of a body of revolution.
    over_radius
        ``1 / r`` of a body of revolution in the coordinates ``(r, z)``, whose strains have a hoop.

    Returns
    -------
    Tensor ``[*batch, n, n_local, n_local]``.

    Examples
    --------
    >>> from torch_sla.assembly import CellBasis, lagrange, rectangle_mesh
    >>> basis = CellBasis(rectangle_mesh((1, 1), cell="quad"), lagrange("quad"), components=2)
    >>> elasticity_bbar(basis, lam=1e6, mu=1.0).shape
    torch.Size([1, 8, 8])
    """
    more = {} if over_radius is None else {"over_radius": over_radius}
    volume = _INTEGRAL(basis, c=measure)
    # The mean is the same at all points, so the volume term is an outer product.
    mean = _DILATATION(basis, measure=measure, **more) / volume[..., None]
    weight = _INTEGRAL(basis, c=measure * lam)
    shear = _SHEAR(basis, mu=mu, measure=measure, **more)
    return shear + weight[..., None, None] * mean[..., :, None] * mean[..., None, :]


def fbar(u: Field, w: CellContext) -> Tensor:
    """Deformation gradient whose volume change is the mean over the cell: ``(mean(J) / J)^(1/d) F`` [2]_.

    Use it in a `CellEnergy` in place of ``I + grad u``.
    """
    F = grad(u) + identity(grad(u))
    J = det(F)
    return (w.mean(J) / J)[..., None, None] ** (1.0 / F.shape[-1]) * F
