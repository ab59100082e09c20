r"""Functions of the solution that are averaged over each cell, in terms and in their tangents.

An average is the function of a small space on the cell, constants or linear functions, that is nearest to a quantity
at its points. Averages may use those before them,

.. math:: \theta_k = \Pi f_k(u, \nabla u, \theta_1, \dots, \theta_{k-1}),

and duals use all. They live in their cells alone, so their derivatives are eliminated there: the tangent is that of the
points, with the averages held, and in each cell a product of small matrices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from torch_sla.assembly.forms.contract import Parts, element_vectors
from torch_sla.errors import SpecError
from torch_sla.linalg.checks import ask
from torch_sla.problems.lowering.sites import BasisSites

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from torch_sla.assembly.weak import CellPolynomials
    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.lowering.sites import Sites

__all__ = ["Averages", "is_averaged", "seen_from", "tell_locking"]

_LOCKS = 50.0
"""Bulk by shear modulus from which on cells lock, that of a Poisson's ratio of 0.49."""


def is_averaged(model: Model) -> bool:
    """Return whether the dilatation of a body is averaged; raise where that is of no use."""
    spec: Any = model.spec
    if spec.dilatation == "pointwise":
        return False
    if model.mesh.reference.is_simplex and spec.order == 1:
        raise SpecError(
            "simplices of order 1 lock with the mean volume change, too; "
            "take order: 2, or quad and hexahedron cells",
            path="dilatation",
        )
    return True


def tell_locking(
    model: Model, moduli: Sequence[tuple[Tensor, Tensor]], notes: list[str], *, splits: bool = True
) -> None:
    """Add to `notes` if a body resists the change of volume at points, and cells lock.

    Parameters
    ----------
    moduli
        Its bulk and shear modulus at small strains ``[*batch, n|1, q|1]``, on each of its meshes.
    splits
        Whether its law can be averaged.
    """

    def judge(ratios: list[float]) -> None:
        if max(ratios) > _LOCKS:
            notes.append(_of_locking(model, max(ratios), splits=splits))

    if moduli:
        ratios = [torch.where(shear > 0, bulk / shear, 0.0).max() for bulk, shear in moduli]
        ask(torch.stack(ratios), judge)


def _of_locking(model: Model, ratio: float, *, splits: bool) -> str:
    spec: Any = model.spec
    cell = model.mesh.cell
    lost = "a third" if spec.order == 1 else "a tenth"
    law = "" if splits else "a law of J1, J2 and J with "
    low = "order: 2 and " if model.mesh.reference.is_simplex and spec.order == 1 else ""
    return (
        f"nearly incompressible: the bulk modulus is up to {ratio:.4g} times the shear modulus, and from {_LOCKS:g} "
        f"times on (a Poisson's ratio of 0.49) {cell} cells of order {spec.order} lock: coarse meshes lose {lost} of "
        f"the displacement and more, and pressures oscillate; give {law}{low}dilatation: averaged"
    )


def seen_from(sites: Sites, allowed: CellPolynomials, coefficients: Tensor) -> Tensor:
    """Evaluate a function of each cell ``[*batch, n_cells, m]`` at sites ``[*batch, n, q]``."""
    if isinstance(sites, BasisSites) and sites.basis.facets is None:
        return allowed.values(coefficients, sites.x)
    if sites.owners is None:
        raise SpecError("a mean over cells has no single value at a node")
    return allowed.values(coefficients, sites.x, sites.owners)


@dataclass(frozen=True)
class Averages:
    """What is averaged over cells, one after the other.

    Parameters
    ----------
    allowed
        What averages may be in each cell.
    laws
        Functions ``(sites, *averages before) -> [*batch, n, q]`` on cells where the solution is seen.
    """

    allowed: CellPolynomials
    laws: tuple[Callable[..., Tensor], ...]

    def coefficients(self, sites: BasisSites) -> list[Tensor]:
        """Return the coefficients of each average ``[*batch, n, m]``."""
        found: list[Tensor] = []
        values: list[Tensor] = []
        for law in self.laws:
            found.append(self.allowed.coefficients(law(sites, *values)))
            values.append(self.allowed.values(found[-1], sites.x))
        return found

    def at(self, sites: BasisSites) -> list[Tensor]:
        """Return each average at the points of the cells ``[*batch, n, q]``."""
        return [self.allowed.values(c, sites.x) for c in self.coefficients(sites)]

    def slopes(
        self,
        sites: BasisSites,
        held: Sequence[Tensor],
        field: tuple[Tensor, Tensor],
        *,
        recorded: bool,
    ) -> list[Tensor]:
        """Differentiate the coefficients of each average by those of the field ``[*batch, n, m, n_local]``.

        Parameters
        ----------
        sites
            Where the field is seen.
        held
            The averages there, which laws are differentiated by.
        field
            Value and gradient of the field, which laws are differentiated by.
        recorded
            Whether the result is to be differentiable itself.
        """
        allowed = self.allowed
        found: list[Tensor] = []
        for k, law in enumerate(self.laws):
            grads = torch.autograd.grad(
                law(sites, *held[:k]).sum(),
                [*field, *held[:k]],
                create_graph=recorded,
                retain_graph=True,
                allow_unused=True,
            )
            value, gradient = (
                torch.zeros_like(x) if g is None else g
                for x, g in zip(field, grads[:2], strict=True)
            )
            jets = torch.cat([value[..., None], gradient], -1).flatten(-2).movedim(-1, 0)
            moments = self.against(jets, Parts(True, True), allowed.weight)
            for slope, g in zip(found, grads[2:], strict=True):
                if g is not None:
                    moments = moments + allowed.products(allowed.weight * g) @ slope
            found.append(allowed.solve(moments))
        return found

    def chained(
        self,
        derivatives: Sequence[Sequence[Tensor | None]],
        slopes: Sequence[Tensor],
        parts: Parts,
    ) -> Tensor:
        """Return what the averages add to element tangents ``[*batch, n, n_local, n_local]``.

        Parameters
        ----------
        derivatives
            Of each coefficient of a linear form by each average ``[*batch, n, q]``.
        slopes
            From `slopes`.
        parts
            Of the linear form.
        """
        total = slopes[0].new_zeros(())
        for column, slope in zip(derivatives, slopes, strict=True):
            like = next((g for g in column if g is not None), None)
            if like is not None:
                by = torch.stack([torch.zeros_like(like) if g is None else g for g in column])
                total = total + self.against(by, parts).mT @ slope
        return total

    def against(self, stacked: Tensor, parts: Parts, weight: Tensor | float = 1.0) -> Tensor:
        """Integrate coefficients of a linear form times each allowed function ``[*batch, n, m, n_local]``."""
        basis = self.allowed.basis
        each = self.allowed.at_points.unbind(-1)
        return torch.stack(
            [element_vectors(stacked * (weight * phi), basis, parts) for phi in each], -2
        )
