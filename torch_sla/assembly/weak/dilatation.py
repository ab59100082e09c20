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
from torch_sla.assembly.forms.vocabulary import div, grad, identity, inner, sym_grad

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.assembly.basis.basis import Basis
    from torch_sla.assembly.field import Field
    from torch_sla.assembly.forms.cellwise import CellContext
    from torch_sla.assembly.forms.context import Coefficient

__all__ = ["elasticity_bbar", "fbar"]

_shear = BilinearForm(lambda u, v, w: 2.0 * w.mu * inner(sym_grad(u), sym_grad(v)))
_divergence = LinearForm(lambda v, _: div(v))


def elasticity_bbar(basis: Basis, lam: Coefficient, mu: Coefficient) -> Tensor:
    """Element matrices of ``lam mean(div u) mean(div v) + 2 mu strain(u) : strain(v)``, means over cells [1]_.

    For Q1, Q2 and P2; linear simplices have a constant divergence already and keep locking (use a mixed pair).

    Parameters
    ----------
    basis
        Basis of the displacement in cells.
    lam, mu
        Lamé parameters, numbers or ``[*batch, n|1, nq|1]``.

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
    # The mean of div v is the same at all points, so the volume term is an outer product.
    mean = _divergence(basis) / basis.dx.sum(-1)[:, None]
    weight = Functional(lambda w: w.lam + torch.zeros_like(w.basis.dx))(basis, lam=lam)
    return _shear(basis, mu=mu) + weight[..., None, None] * mean[:, :, None] * mean[:, None, :]


def fbar(u: Field, w: CellContext) -> Tensor:
    """Deformation gradient whose volume change is the mean over the cell: ``(mean(J) / J)^(1/d) F`` [2]_.

    Use it in a `CellEnergy` in place of ``I + grad u``.
    """
    F = grad(u) + identity(grad(u))
    J = det(F)
    return (w.mean(J) / J)[..., None, None] ** (1.0 / F.shape[-1]) * F
