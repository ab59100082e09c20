"""Nearly incompressible solids without locking: the volume change is averaged over each cell.

In quadrilaterals and hexahedra of order 2 it is replaced by the linear function that is nearest to it, which keeps the
order of the stresses; a mean would make them too soft in bending. Triangles and tetrahedra of order 2 are stable with
means only.

References
----------
.. [1] T. J. R. Hughes, Generalization of selective integration procedures to anisotropic and nonlinear media, Int. J.
   Numer. Meth. Engng. 15 (1980), 1413-1418.
.. [2] J. C. Simo, R. L. Taylor, K. S. Pister, Variational and projection methods for the volume constraint in finite
   deformation elasto-plasticity, Comput. Methods Appl. Mech. Engrg. 51 (1985), 177-208.
.. [3] D. Boffi, F. Brezzi, M. Fortin, Mixed Finite Element Methods and Applications, Springer 2013, section 8.6.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from torch_sla.assembly.forms.determinants import det
from torch_sla.assembly.forms.form import BilinearForm, LinearForm
from torch_sla.assembly.forms.vocabulary import grad, identity, inner, sym_grad
from torch_sla.assembly.weak.elasticity import normal_strains
from torch_sla.linalg.kernels.ordered import taken

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.assembly.basis.basis import Basis
    from torch_sla.assembly.field import Field
    from torch_sla.assembly.forms.cellwise import CellContext
    from torch_sla.assembly.forms.context import Coefficient, Context

__all__ = ["CellPolynomials", "elasticity_bbar", "fbar"]


def _shear(u: Field, v: Field, w: Context) -> Tensor:
    """``2 mu strain(u) : strain(v)``, with the hoop of a body of revolution."""
    total = inner(sym_grad(u), sym_grad(v))
    over_radius = w.get("over_radius", None)
    if over_radius is not None:
        total = total + over_radius**2 * (u.value[..., 0] * v.value[..., 0])
    return 2.0 * w.measure * w.mu * total


def _dilatation(v: Field, w: Context) -> Tensor:
    return w.weight * normal_strains(v, w.get("over_radius", None)).sum(-1)


_SHEAR, _DILATATION = BilinearForm(_shear), LinearForm(_dilatation)


class CellPolynomials:
    """What the volume change may be in each cell: constants, and linear functions in Q2 [3]_.

    Parameters
    ----------
    basis
        Basis of the displacement in cells.
    measure
        What integrals are weighted with ``[*batch, n|1, nq|1]``.

    Examples
    --------
    >>> from torch_sla.assembly import CellBasis, lagrange, rectangle_mesh
    >>> basis = CellBasis(rectangle_mesh((1, 1), cell="quad"), lagrange("quad", 2), components=2)
    >>> linear = CellPolynomials(basis)
    >>> c = linear.coefficients(basis.x[..., 0])
    >>> torch.allclose(linear.values(c, basis.x), basis.x[..., 0])
    True
    """

    def __init__(self, basis: Basis, measure: Tensor | float = 1.0) -> None:
        self.basis = basis
        self.linear = basis.element.order > 1 and not basis.mesh.reference.is_simplex
        weight, x = basis.dx.detach(), basis.x.detach()
        self.centre = (weight[..., None] * x).sum(-2) / weight.sum(-1)[..., None]
        self.size = (x - self.centre[:, None]).abs().amax((-2, -1))
        self.weight = measure + torch.zeros_like(basis.dx)
        self.at_points = self.functions(basis.x)
        self.gram = self.products(self.weight)

    def functions(self, x: Tensor, cells: Tensor | None = None) -> Tensor:
        """Evaluate them at points ``[n, q, dim]`` of the given cells, by default of all: ``[n, q, m]``."""
        one = torch.ones_like(x[..., :1])
        if not self.linear:
            return one
        centre, size = self.centre, self.size
        if cells is not None:
            centre, size = taken(centre, cells, 0), taken(size, cells, 0)
        return torch.cat([one, (x - centre[:, None]) / size[:, None, None]], -1)

    def products(self, weight: Tensor) -> Tensor:
        """Integrate the weighted products of all pairs ``[*batch, n, m, m]``."""
        phi = (weight * self.basis.dx)[..., None] * self.at_points
        return self.at_points.mT @ phi

    def solve(self, moments: Tensor) -> Tensor:
        """Return the coefficients of the nearest function from its moments ``[*batch, n, m, k]``."""
        return torch.linalg.solve(self.gram, moments) if self.linear else moments / self.gram

    def coefficients(self, values: Tensor) -> Tensor:
        """Return those of the function nearest to values at the points ``[*batch, n, nq]``: ``[*batch, n, m]``."""
        weighted = (self.weight * self.basis.dx * values)[..., None, :]
        return self.solve((weighted @ self.at_points).mT)[..., 0]

    def values(self, coefficients: Tensor, x: Tensor, cells: Tensor | None = None) -> Tensor:
        """Evaluate at points ``[n, q, dim]`` of the given cells, by default of all: ``[*batch, n, q]``."""
        if cells is not None:
            coefficients = taken(coefficients, cells, -2)
        return (self.functions(x, cells) * coefficients[..., None, :]).sum(-1)

    def nearest(self, values: Tensor) -> Tensor:
        """Return the nearest function at the points ``[*batch, n, nq]``."""
        return self.values(self.coefficients(values), self.basis.x)


def elasticity_bbar(
    basis: Basis,
    lam: Tensor | float,
    mu: Coefficient,
    measure: Tensor | float = 1.0,
    over_radius: Coefficient | None = None,
) -> Tensor:
    """Element matrices of ``lam mean(div u) mean(div v) + 2 mu strain(u) : strain(v)``, means over cells [1]_.

    For Q1, P2, and Q2, where the mean is the nearest linear function; linear simplices have a constant divergence
    already and keep locking (use a mixed pair).

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
    allowed = CellPolynomials(basis, measure)
    moments = [
        _DILATATION(basis, weight=allowed.weight * phi, **more)
        for phi in allowed.at_points.unbind(-1)
    ]
    # The coefficients are the same at all points, so the volume term is a product of small matrices.
    change = allowed.solve(torch.stack(moments, -2))
    stiff = allowed.products(allowed.weight * lam) @ change
    return _SHEAR(basis, mu=mu, measure=measure, **more) + change.mT @ stiff


def fbar(u: Field, w: CellContext) -> Tensor:
    """Deformation gradient whose volume change is the mean over the cell: ``(mean(J) / J)^(1/d) F`` [2]_.

    Use it in a `CellEnergy` in place of ``I + grad u``.
    """
    F = grad(u) + identity(grad(u))
    J = det(F)
    return (w.mean(J) / J)[..., None, None] ** (1.0 / F.shape[-1]) * F
