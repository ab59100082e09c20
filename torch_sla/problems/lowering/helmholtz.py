"""Waves of one frequency, with impedance boundaries and perfectly matched layers."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from torch_sla.assembly import assemble, weak
from torch_sla.errors import ArgumentError, SpecError
from torch_sla.linalg.checks import require
from torch_sla.problems.lowering.model import Model
from torch_sla.problems.lowering.operators import Matrix
from torch_sla.problems.specs.boundary import Neumann, Robin

if TYPE_CHECKING:
    from torch_sla.problems.lowering.scene import Scene
    from torch_sla.problems.lowering.sites import BasisSites
    from torch_sla.problems.specs.helmholtz import HelmholtzProblem

__all__ = ["Helmholtz"]


class Helmholtz(Model):
    """Lowers `HelmholtzProblem`: ∫ r ∇u·∇v − ∫ k²n² u v + ∫_Robin h u v = ∫ f v + ∫ q v + ∫ h u∞ v.

    Complex symmetric, without conjugation. A perfectly matched layer stretches the coordinates into the
    complex plane, x_d -> ∫ s_d with s_d = 1 + i σ/k (Chew and Weedon, Microw. Opt. Technol. Lett. 7 (1994),
    599-604); σ grows with the square of the depth.
    """

    spec: HelmholtzProblem
    definite: ClassVar[bool | None] = None  # type: ignore[misc]
    inertial: ClassVar[frozenset[str]] = frozenset()
    fluxes: ClassVar[tuple[type, ...]] = (Neumann, Robin)

    def _stretch(self, sites: BasisSites, k: Tensor) -> list[Tensor] | None:
        """Return the stretching of each coordinate at the sites."""
        layer = self.spec.layer
        if layer is None:
            return None
        if len(layer.lower) != self.mesh.dim or len(layer.upper) != self.mesh.dim:
            raise SpecError(f"the corners need {self.mesh.dim} coordinates", path="layer")
        strength = 3.0 * math.log(1.0 / layer.reflection) / (2.0 * layer.thickness)
        found = []
        for d, (low, high) in enumerate(zip(layer.lower, layer.upper, strict=True)):
            if not low < high:
                raise SpecError(f"upper must exceed lower; received {low} and {high}", path="layer")
            x = sites.x[..., d]
            depth = torch.relu(low - x) + torch.relu(x - high)
            found.append(1.0 + 1j * strength * (depth / layer.thickness) ** 2 / k)
        return found

    def _stretched(self, scene: Scene, sites: BasisSites, value: Tensor) -> Tensor:
        """Multiply a law on facets with what a layer makes of their area: the stretching along them."""
        if self.spec.layer is None:
            return value
        k = scene.evaluate(self.spec.wavenumber, sites, "wavenumber").tensor
        stretch = self._stretch(sites, k) or []
        area = torch.zeros_like(k)
        for d, normal in enumerate(sites.basis.normal.unbind(-1)):
            along = math.prod(stretch[:d] + stretch[d + 1 :])
            area = area + normal**2 * along
        return area * value

    def matrix(self, scene: Scene) -> Matrix:
        """Assemble stiffness, inertia and impedances."""
        spec, dofs = self.spec, self.dofs
        cells = scene.cells()
        r = scene.evaluate(spec.stiffness, cells, "stiffness").tensor
        k = scene.evaluate(spec.wavenumber, cells, "wavenumber").tensor
        n = scene.evaluate(spec.refraction, cells, "refraction").tensor
        for name, value in (("stiffness", r), ("wavenumber", k)):
            require((value.detach() != 0).all(), partial(ArgumentError, f"{name} must not be zero"))
        c = -((k * n) ** 2)
        stretch = self._stretch(cells, k)
        if stretch is None:
            values = assemble(weak.diffusion, dofs, basis=cells.basis, kappa=r)
        else:
            volume = math.prod(stretch[1:], start=stretch[0])
            diagonal = torch.stack(
                torch.broadcast_tensors(*(r * volume / s**2 for s in stretch)), -1
            )
            kappa = torch.diag_embed(diagonal)
            values = assemble(weak.tensor_diffusion, dofs, basis=cells.basis, kappa=kappa)
            c = c * volume
        values = values + assemble(weak.mass, dofs, basis=cells.basis, c=c)
        for i, _ in self.conditions(Robin):
            sites = self.at_condition(scene, i)
            h = self._coefficient(scene, i, sites)
            values = values + assemble(weak.mass, dofs, basis=sites.basis, c=h)
        return Matrix(values, None)

    def load(self, scene: Scene) -> Tensor:
        """Assemble sources, fluxes and surroundings."""
        spec = self.spec
        cells = scene.cells()
        f = scene.evaluate(spec.source, cells, "source").tensor
        if spec.layer is not None:
            k = scene.evaluate(spec.wavenumber, cells, "wavenumber").tensor
            f = f * math.prod(self._stretch(cells, k) or [])
        load = scene.summed({"u": weak.source(cells.basis, f=f)})
        for i, condition in self.conditions(Neumann, Robin):
            sites = self.at_condition(scene, i)
            if isinstance(condition, Robin):
                push = math.prod(self._impedance(scene, i, sites))
            else:
                push = self._stretched(scene, sites, self.given(scene, i, sites, "flux"))
            local = weak.source(sites.basis, f=push)
            load = load + scene.summed({"u": local}, self.selections[i].facets)
        return load

    def _impedance(self, scene: Scene, i: int, sites: BasisSites) -> tuple[Tensor, Tensor]:
        """Return coefficient and ambient value of the Robin condition ``i``."""
        return self._coefficient(scene, i, sites), self.given(scene, i, sites, "ambient")

    def _coefficient(self, scene: Scene, i: int, sites: BasisSites) -> Tensor:
        return self._stretched(scene, sites, self.given(scene, i, sites, "coefficient"))

    def inflow(self, scene: Scene, i: int, sites: BasisSites) -> Tensor:
        """Return r ∂u/∂n as condition ``i`` gives it."""
        if isinstance(self.spec.boundary[i], Neumann):
            return self._stretched(scene, sites, self.given(scene, i, sites, "flux"))
        h, ambient = self._impedance(scene, i, sites)
        return h * (ambient - sites.field("u").tensor)

    def mass(self, scene: Scene) -> Tensor:
        """Assemble ∫ n² u v, in a layer over its stretched volume: the matrix that meets k² where it is constant."""
        cells = scene.cells()
        n = scene.evaluate(self.spec.refraction, cells, "refraction").tensor
        c = n**2
        if self.spec.layer is not None:
            k = scene.evaluate(self.spec.wavenumber, cells, "wavenumber").tensor
            c = c * math.prod(self._stretch(cells, k) or [])
        return assemble(weak.mass, self.dofs, basis=cells.basis, c=c)

    def counted_from(self, scene: Scene) -> Tensor:
        """Return k² of the given wavenumber ``[*batch]``."""
        k = scene.evaluate(self.spec.wavenumber, scene.cells(), "wavenumber").tensor
        first = k[..., :1, :1]
        if bool(((k - first).detach().abs() > 1e-12 * first.detach().abs()).any()):
            raise SpecError(
                "resonances are those of one wavenumber; what varies in space is the refraction",
                path="wavenumber",
            )
        return first[..., 0, 0] ** 2

    def energy(self, scene: Scene, u: Tensor) -> Tensor:
        """Refuse: what is meant has to be named."""
        del scene, u
        raise SpecError(self.spec.refused["energy"])
