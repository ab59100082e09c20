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
from torch_sla.problems.lowering.part import ends_of
from torch_sla.problems.specs.boundary import Neumann, Robin

if TYPE_CHECKING:
    from torch_sla.assembly import Mesh
    from torch_sla.problems.lowering.scene import Scene
    from torch_sla.problems.lowering.sites import BasisSites
    from torch_sla.problems.specs.helmholtz import HelmholtzProblem

__all__ = ["Helmholtz"]


class Helmholtz(Model):
    """Lowers `HelmholtzProblem`: ∫ r ∇u·∇v − ∫ k²n² u v + ∫_Robin h u v = ∫ f v + ∫ q v + ∫ h u∞ v.

    Complex symmetric, without conjugation. A perfectly matched layer stretches the coordinates into the
    complex plane, x_d -> ∫ s_d with s_d = 1 + i σ/k (Chew and Weedon, Microw. Opt. Technol. Lett. 7 (1994),
    599-604); σ grows with the square of the depth, and k is the wavenumber in the layer.
    """

    spec: HelmholtzProblem
    definite: ClassVar[bool | None] = None  # type: ignore[misc]
    inertial: ClassVar[frozenset[str]] = frozenset()
    fluxes: ClassVar[tuple[type, ...]] = (Neumann, Robin)

    def _reference(self, scene: Scene, sites: BasisSites) -> Tensor:
        """Return the wavenumber that a layer is made for, which includes a refraction and stiffness of the whole body.

        Laws that vary in space are left out: were the stretching of a coordinate to vary with the others, it would
        be no stretching, and the layer would reflect.
        """
        k = scene.evaluate(self.spec.wavenumber, sites, "wavenumber").tensor
        r = scene.evaluate(self.spec.stiffness, sites, "stiffness").tensor
        n = scene.evaluate(self.spec.refraction, sites, "refraction").tensor
        if n.shape[-2:] == (1, 1):
            k = k * n
        return k / _root(r) if r.shape[-2:] == (1, 1) else k

    def _box(self) -> list[tuple[float, float]]:
        """Return the ends of the box of physical space along each axis."""
        layer = self.spec.layer
        if layer is None:
            return []
        if len(layer.lower) != self.mesh.dim or len(layer.upper) != self.mesh.dim:
            raise SpecError(f"the corners need {self.mesh.dim} coordinates", path="layer")
        box = list(zip(layer.lower, layer.upper, strict=True))
        for low, high in box:
            if not low < high:
                raise SpecError(f"upper must exceed lower; received {low} and {high}", path="layer")
        return box

    def _depths(self, sites: BasisSites) -> list[tuple[Tensor, Tensor]]:
        """Return how deep the sites are in the layer, below and above the box along each axis."""
        found = []
        for d, (low, high) in enumerate(self._box()):
            x = sites.x[..., d]
            found.append((torch.relu(low - x), torch.relu(x - high)))
        return found

    def _stretch(self, scene: Scene, sites: BasisSites) -> list[Tensor] | None:
        """Return the stretching of each coordinate at the sites."""
        layer = self.spec.layer
        if layer is None:
            return None
        strength = 3.0 * math.log(1.0 / layer.reflection) / (2.0 * layer.thickness)
        k = self._reference(scene, sites)
        return [
            1.0 + 1j * strength * ((below + above) / layer.thickness) ** 2 / k
            for below, above in self._depths(sites)
        ]

    def _check_layer(self, scene: Scene, cells: BasisSites, waves: Tensor) -> None:
        """Refuse a layer whose wavenumber varies along it, or is far above that of waves in it."""
        if self.spec.layer is None:
            return
        self._check_room()
        k, waves = torch.broadcast_tensors(self._reference(scene, cells).detach(), waves.detach())
        for side in (side for both in self._depths(cells) for side in both):
            inside = side.detach() > 0
            shared = inside & torch.ones_like(k, dtype=torch.bool)
            count = shared.sum((-2, -1), keepdim=True).clamp(min=1)
            mean = torch.where(shared, k, 0.0).sum((-2, -1), keepdim=True) / count
            varies = inside & ((k - mean).abs() > 1e-9 * mean.abs())
            require(
                ~varies.any() | (self.mesh.dim == 1),
                lambda: ArgumentError(
                    "layer: the wavenumber varies along it, so that it would reflect; let wavenumber be one number "
                    "there, and refraction vary"
                ),
            )
            ratio = torch.where(inside, (waves / k).abs(), 1.0).amin()
            require(ratio >= 0.5, partial(self._fast, ratio))

    def check_places(self) -> Mesh:
        """Check that the mesh holds the layer as well."""
        self._check_room()
        return super().check_places()

    def _check_room(self) -> None:
        """Check the extent, of the whole: a part ends where others go on."""
        if self.part is None:
            self.check_extent(self.once("ends", lambda: ends_of(self.mesh)))

    def check_extent(self, ends: Tensor) -> None:
        """Refuse a mesh that ends within the layer, where waves come back from before they are damped."""
        layer, box = self.spec.layer, self._box()
        if layer is None:
            return
        low, high = torch.tensor(box, dtype=ends.dtype).unbind(1)
        for out in (ends - torch.stack([high, -low])).flatten().tolist():
            # Coordinates in files, and of single precision, are rounded.
            if 1e-3 < out / layer.thickness < 1.0 - 1e-3:
                returned = layer.reflection ** ((out / layer.thickness) ** 3)
                raise SpecError(
                    f"it is {layer.thickness:.6g} thick, and the mesh ends {out:.6g} outside the box, so that the "
                    f"amplitude {returned:.2g} would come back; let thickness be {out:.6g}, or the mesh go on",
                    path="layer",
                )

    def _fast(self, ratio: Tensor) -> ArgumentError:
        """Return the error for waves in the layer that are longer than those that it is made for."""
        returned = self.spec.layer.reflection ** float(ratio) if self.spec.layer else 0.0
        return ArgumentError(
            f"layer: it is made for the wavenumber, but refraction / sqrt(stiffness) is down to {float(ratio):.3g} in "
            f"it, and the amplitude {returned:.2g} would come back; let wavenumber be the least of the waves in the "
            "layer, and refraction relative to it"
        )

    def _stretched(self, scene: Scene, sites: BasisSites, value: Tensor) -> Tensor:
        """Multiply a law on facets with what a layer makes of their area: the stretching along them."""
        stretch = self._stretch(scene, sites)
        if stretch is None:
            return value
        area = torch.zeros_like(stretch[0])
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
        self._check_layer(scene, cells, k * n / _root(r))
        stretch = self._stretch(scene, cells)
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
        f = f * math.prod(self._stretch(scene, cells) or [])
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
        c = n**2 * math.prod(self._stretch(scene, cells) or [])
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


def _root(stiffness: Tensor) -> Tensor:
    """Return the principal root, also of a negative number."""
    return torch.sqrt(stiffness + 0j)
