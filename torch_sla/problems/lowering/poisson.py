"""Diffusion with reaction, sources, fluxes and exchange."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from torch_sla.assembly import weak
from torch_sla.errors import ArgumentError
from torch_sla.problems.lowering.model import Model
from torch_sla.problems.lowering.operators import Operator
from torch_sla.problems.specs.boundary import Neumann, Robin

if TYPE_CHECKING:
    from torch_sla.problems.expression import Ranked
    from torch_sla.problems.lowering.scene import Scene
    from torch_sla.problems.specs.poisson import PoissonProblem

__all__ = ["Poisson"]


class Poisson(Model):
    """Lowers `PoissonProblem`: a(u, v) = ∫ κ∇u·∇v + ∫ c u v + ∫_Robin h u v = ∫ f v + ∫ q v + ∫ h u∞ v."""

    spec: PoissonProblem

    undetermined: ClassVar[str] = (
        "nothing fixes the level of the solution: with fluxes alone it is determined only up to a constant, and "
        "the matrix is singular; give a Dirichlet value or a Robin exchange on some boundary, or a reaction"
    )

    @property
    def determined(self) -> bool:
        """Whether a value, an exchange or a reaction fixes the level."""
        exchange = any(isinstance(c, Robin) for c in self.spec.boundary)
        return bool(len(self.compiled.constrained)) or exchange or self.spec.reaction is not None

    def operator(self, scene: Scene) -> Operator:
        """Assemble stiffness, reaction and exchange, and the load."""
        spec, dofs = self.spec, self.dofs
        cells = scene.cells()
        kappa = self.diffusivity(scene)
        form = weak.diffusion if kappa.rank == 0 else weak.tensor_diffusion
        local = form(cells.basis, kappa=kappa.tensor)
        definite: bool | None = True
        if kappa.rank == 2 and not _symmetric(kappa.tensor):
            raise ArgumentError(
                "diffusivity: the matrix is not symmetric; an unsymmetric diffusivity is not available"
            )
        if spec.reaction is not None:
            reaction = scene.evaluate(spec.reaction, cells, "reaction").tensor
            definite = definite and _not_negative(reaction)
            local = local + weak.mass(cells.basis, c=reaction)
        values = dofs.assemble_matrix(local)
        source = scene.evaluate(spec.source, cells, "source").tensor
        load = dofs.assemble_vector(weak.source(cells.basis, f=source))
        for i, condition in enumerate(spec.boundary):
            facets = self.selections[i].facets
            if isinstance(condition, Neumann):
                sites = scene.facets(facets)
                flux = scene.evaluate(condition.flux, sites, f"boundary.{i}.flux").tensor
                load = load + dofs.assemble_vector(weak.source(sites.basis, f=flux), facets)
            elif isinstance(condition, Robin):
                sites = scene.facets(facets)
                h, ambient = self.exchange(scene, i)
                definite = definite and _not_negative(h)
                values = values + dofs.assemble_matrix(weak.mass(sites.basis, c=h), facets)
                load = load + dofs.assemble_vector(weak.source(sites.basis, f=h * ambient), facets)
        return Operator(values, load, definite or None)

    def mass(self, scene: Scene) -> Tensor:
        """Assemble the capacity matrix."""
        cells = scene.cells()
        capacity = scene.evaluate(self.spec.capacity, cells, "capacity").tensor
        return self.dofs.assemble_matrix(weak.mass(cells.basis, c=capacity))

    def diffusivity(self, scene: Scene) -> Ranked:
        """Return κ at the quadrature points of the cells, known to be positive (definite)."""
        kappa = scene.evaluate(self.spec.diffusivity, scene.cells(), "diffusivity")
        check_positive(kappa)
        return kappa

    def exchange(self, scene: Scene, i: int) -> tuple[Tensor, Tensor]:
        """Return coefficient and ambient value of the Robin condition ``i`` on its facets."""
        condition = self.spec.boundary[i]
        if not isinstance(condition, Robin):
            raise TypeError(f"boundary.{i} is no Robin condition")
        sites = scene.facets(self.selections[i].facets)
        h = scene.evaluate(condition.coefficient, sites, f"boundary.{i}.coefficient").tensor
        ambient = scene.evaluate(condition.ambient, sites, f"boundary.{i}.ambient").tensor
        return h, ambient

    def natural_outflow(self, scene: Scene, u: Tensor, facets: Tensor) -> Tensor:
        """Return −κ ∂u/∂n integrated over facets whose flux is given by a condition ``[*batch]``."""
        total = u.new_zeros(u.shape[:-1])
        for i, condition in enumerate(self.spec.boundary):
            mine = self.selections[i].facets
            chosen = torch.nonzero(torch.isin(mine, facets))[:, 0]
            if not len(chosen):
                continue
            sites = scene.facets(mine, u)
            if isinstance(condition, Neumann):
                path = f"boundary.{i}.flux"
                inflow = scene.evaluate(condition.flux, sites, path).tensor
            elif isinstance(condition, Robin):
                h, ambient = self.exchange(scene, i)
                inflow = h * (ambient - sites.field("u").tensor)
            else:
                continue
            total = total - sites.basis.integrate(inflow).index_select(-1, chosen).sum(-1)
        return total

    def energy(self, scene: Scene, u: Tensor) -> Tensor:
        """Return ½ ∫ κ|∇u|² + ½ ∫ reaction·u² over the cells ``[*batch]``."""
        cells = scene.cells(u)
        kappa, gradient = self.diffusivity(scene), cells.field("grad(u)").tensor
        flow = (
            kappa.tensor[..., None] * gradient
            if kappa.rank == 0
            else (kappa.tensor @ gradient[..., None])[..., 0]
        )
        density = (flow * gradient).sum(-1)
        if self.spec.reaction is not None:
            reaction = scene.evaluate(self.spec.reaction, cells, "reaction").tensor
            density = density + reaction * cells.field("u").tensor ** 2
        return 0.5 * cells.basis.integrate(density).sum(-1)


def check_positive(kappa: Ranked) -> None:
    """Refuse a diffusivity that is not positive (definite) somewhere, naming the worst place."""
    values = kappa.tensor.detach()
    if kappa.rank == 2:
        values = torch.linalg.eigvalsh(values)[..., 0]
    if bool((values > 0).all()):
        return
    site = values.ndim - 2
    worst = int(values.argmin())
    index = [int(i) for i in torch.unravel_index(torch.tensor(worst), values.shape)]
    place = f" in cell {index[site]}" if values.shape[site] > 1 else ""
    member = f" of batch member {tuple(index[:site])}" if site else ""
    noun = "positive" if kappa.rank == 0 else "positive definite; the least eigenvalue"
    verb = "it is" if kappa.rank == 0 else "is"
    raise ArgumentError(
        f"diffusivity must be {noun}{';' if kappa.rank == 0 else ''} {verb} {float(values.min()):.6g}"
        f"{place}{member}"
    )


def _symmetric(matrix: Tensor) -> bool:
    matrix = matrix.detach()
    return bool(torch.allclose(matrix, matrix.mT, rtol=1e-12, atol=0.0))


def _not_negative(values: Tensor) -> bool:
    return bool((values.detach() >= 0).all())
