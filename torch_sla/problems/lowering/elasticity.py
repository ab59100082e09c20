"""Elasticity: isotropic and orthotropic, in the plane, in space and of revolution."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from torch_sla.assembly import assemble, weak
from torch_sla.errors import SpecError
from torch_sla.lazy import cached_property
from torch_sla.problems.expression import Ranked
from torch_sla.problems.lowering.averaged import is_averaged, seen_from, tell_locking
from torch_sla.problems.lowering.conditions import at_path, positions
from torch_sla.problems.lowering.material import (
    Material,
    isotropic,
    orthotropic,
)
from torch_sla.problems.lowering.model import Model
from torch_sla.problems.lowering.motions import unstopped
from torch_sla.problems.lowering.operators import Matrix
from torch_sla.problems.lowering.points import PointSites
from torch_sla.problems.lowering.terms import uniform
from torch_sla.problems.specs.boundary import Neumann, Spring

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch_sla.assembly import Mesh
    from torch_sla.problems.lowering.motions import Holds
    from torch_sla.problems.lowering.scene import Scene
    from torch_sla.problems.lowering.sites import BasisSites, Sites
    from torch_sla.problems.specs.elasticity import ElasticityProblem

__all__ = ["Elasticity"]


_ON_AXIS = 1e-10
"""Share of the largest radius below which a point lies on the axis of revolution."""


class Elasticity(Model):
    """Lowers `ElasticityProblem`: ∫ σ(u):ε(v) + ∫_springs k u·v = ∫ f·v + ∫ t·v − ∫ p n·v + ∫ C:ε_th : ε(v)."""

    spec: ElasticityProblem
    inertial: ClassVar[frozenset[str]] = frozenset({"density"})
    measuring: ClassVar[frozenset[str]] = frozenset({"thickness"})
    multiplied: ClassVar[tuple[frozenset[str], ...]] = (
        frozenset({"temperature", "thermal_expansion"}),
    )
    loading: ClassVar[frozenset[str]] = frozenset(
        {"body_force", "temperature", "thermal_expansion"}
    )
    undetermined: ClassVar[str] = (
        "the body can move as a rigid one: its supports leave a translation or rotation free, and the matrix is "
        "singular; give more Dirichlet values (components count), or springs at more places or in more directions"
    )

    # -- structure ------------------------------------------------------------------------------

    @cached_property
    def kind(self) -> str:
        """What the mesh stands for."""
        kind, dim = self.spec.model, self.mesh.dim
        if kind is None and dim == 3:
            kind = "solid"
        if kind is None or (kind == "solid") != (dim == 3) or dim == 1:
            known = {2: "plane_stress, plane_strain or axisymmetric", 3: "solid"}.get(dim)
            if known is None:
                raise SpecError("elasticity needs a mesh in 2 or 3 dimensions", path="mesh")
            raise SpecError(f"a mesh in {dim}D stands for {known}; received {kind}", path="model")
        if kind == "axisymmetric":
            least, most = (float(r) for r in self.mesh.points[:, 0].detach().aminmax())
            if least < -_ON_AXIS * abs(most):
                raise SpecError(
                    f"x is the radius and cannot be negative; the least is {least:.6g}", path="mesh"
                )
        if self.spec.thickness is not None and kind in ("solid", "axisymmetric"):
            raise SpecError(f"the model {kind} has no thickness", path="thickness")
        return kind

    bracing: ClassVar[Mapping[type, str]] = {Spring: "stiffness"}

    def loose(self, held: Holds) -> int:
        """Return how many rigid motions the supports do not stop."""
        if self.kind == "axisymmetric":
            return 0 if bool((held.grounded.components == 1).any()) else 1
        return unstopped(held)

    @cached_property
    def coordinates(self) -> Tensor | None:  # type: ignore[override]
        """Where the nodes are: rigid-body modes are what multigrid must represent."""
        return None if self.kind == "axisymmetric" else self.dof_points().detach()

    @property
    def _averaged(self) -> bool:
        return is_averaged(self)

    def check_places(self) -> Mesh:
        """Check whether averaging is of use as well."""
        is_averaged(self)
        return super().check_places()

    # -- laws -----------------------------------------------------------------------------------

    def measure(self, scene: Scene, sites: Sites) -> Tensor | None:
        """Return the thickness, or the circumference 2πr."""
        if self.kind == "axisymmetric":
            return 2.0 * math.pi * sites.x[..., 0]
        if self.spec.thickness is None:
            return None
        return scene.evaluate(self.spec.thickness, sites, "thickness").tensor

    def _material(self, scene: Scene, sites: Sites) -> Material:
        spec = self.spec
        E = scene.evaluate(spec.young_modulus, sites, "young_modulus")
        nu = scene.evaluate(spec.poisson_ratio, sites, "poisson_ratio")
        if (E.rank, nu.rank, spec.shear_modulus is not None) not in ((0, 0, False), (1, 1, True)):
            raise SpecError(
                "an orthotropic material has vectors young_modulus, poisson_ratio and shear_modulus; an isotropic "
                "one has numbers, and no shear_modulus",
                path="young_modulus",
            )
        if E.rank == 0:
            return isotropic(E.tensor, nu.tensor, self.kind)
        G = scene.evaluate(spec.shear_modulus, sites, "shear_modulus").tensor
        return orthotropic(E.tensor, nu.tensor, G[..., [1, 2, 0]], self.kind)

    def _thermal(self, scene: Scene, sites: Sites) -> Tensor | None:
        """Thermal strain, equal along the axes ``[*batch, n|1, q|1]``."""
        if self.spec.temperature is None:
            return None
        rise = scene.evaluate(self.spec.temperature, sites, "temperature").tensor
        expansion = scene.evaluate(self.spec.thermal_expansion, sites, "thermal_expansion").tensor
        return expansion * rise

    # -- operators ------------------------------------------------------------------------------

    def matrix(self, scene: Scene) -> Matrix:
        """Assemble stiffness and springs."""
        cells = scene.cells()
        material, factor = self._material(scene, cells), self.measure(scene, cells)
        values = self._stiffness(material, factor, cells)
        for i, condition in self.conditions(Spring):
            values = values + self._springs(scene, i, condition)
        return Matrix(values, True)

    def load(self, scene: Scene) -> Tensor:
        """Assemble body forces, thermal stresses, tractions and pressures."""
        spec, dofs = self.spec, self.dofs
        cells = scene.cells()
        load = torch.zeros(dofs.n, dtype=self.dtype, device=self.device)
        if spec.body_force is not None:
            f = scene.evaluate(spec.body_force, cells, "body_force").tensor
            force = _by(f, self.measure(scene, cells))
            load = load + uniform(
                force,
                1,
                lambda f: scene.summed({"u": weak.vector_source(cells.basis, f=f)}),
            )
        thermal = self._thermal(scene, cells)
        if thermal is not None:
            more = self._revolved(cells)
            stress = self._thermal_stress(scene, cells, thermal)
            load = load + scene.summed(
                {"u": weak.normal_stress_load(cells.basis, s=stress, **more)}
            )
        for i, condition in self.conditions(Neumann):
            sites = self.at_condition(scene, i)
            around = self.measure(scene, sites)
            if condition.pressure is not None:
                p = self.given(scene, i, sites, "pressure")
                p = p if around is None else p * around
                local = weak.pressure_load(sites.basis, p=p)
            else:
                t = scene.evaluate(condition.traction, sites, f"boundary.{i}.traction").tensor
                local = weak.vector_source(sites.basis, f=_by(t, around))
            load = load + scene.summed({"u": local}, self.selections[i].facets)
        return load

    def _thermal_stress(self, scene: Scene, cells: BasisSites, thermal: Tensor) -> Tensor:
        """Stresses along the axes that would hold the thermal strain back, times thickness or circumference.

        Where the volume change is averaged, the part that resists it is that of the mean thermal strain, or the
        difference of the two, which grows as Poisson's ratio nears 1/2, would load the body.
        """
        material, factor = self._material(scene, cells), self.measure(scene, cells)
        lam, mu = material.lam, material.mu
        if not self._averaged or lam is None or mu is None:
            return _by(material.N.sum(-1) * thermal[..., None], factor)
        allowed = self._allowed(scene, cells)
        every = torch.ones_like(cells.basis.dx)
        bulk = allowed.nearest(lam * allowed.nearest(3.0 * thermal * every))
        stress = 2.0 * mu * thermal + bulk
        return _by(stress[..., None] * lam.new_ones(3), factor)

    def _springs(self, scene: Scene, i: int, condition: Spring) -> Tensor:
        """Assemble the springs of one condition."""
        dofs = self.dofs
        path = f"boundary.{i}.stiffness"
        at = condition.at
        sites: Any
        if at is None:
            sites = self.at_condition(scene, i)
        else:
            points = positions(self, at, f"boundary.{i}.at")
            if not len(points):
                return torch.zeros(dofs.pattern.nnz_csr, dtype=self.dtype, device=self.device)
            with at_path(f"boundary.{i}.at"):
                sites = PointSites(self, scene.geometry, points)
        k = scene.evaluate(condition.stiffness, sites, path)
        vector = k.tensor[..., None] if k.rank == 0 else k.tensor
        if at is not None:
            c, here = self.mesh.dim, vector[..., 0, :]
            each = torch.diag_embed(here.expand(*here.shape[:-2], len(points), c))
            return scene.geometry.located(points, dofs).springs(each)
        stiffness = _by(vector, self.measure(scene, sites))
        return assemble(weak.foundation, dofs, basis=sites.basis, k=stiffness)

    def _stiffness(self, material: Material, factor: Tensor | None, cells: BasisSites) -> Tensor:
        basis, dofs = cells.basis, self.dofs
        lam, mu, more = material.lam, material.mu, self._revolved(cells)
        if self._averaged:
            if lam is None or mu is None:
                raise SpecError("averaging is for isotropic materials", path="dilatation")
            measure = 1.0 if factor is None else factor
            local = weak.elasticity_bbar(basis, lam=lam, mu=mu, measure=measure, **more)
            return dofs.assemble_matrix(local)
        if lam is None or mu is None or more:
            N, G = material.N, material.G
            if factor is not None:
                N, G = factor[..., None, None] * N, factor[..., None] * G
            return assemble(weak.orthotropic, dofs, basis=basis, N=N, G=G, **more)
        if factor is not None:
            lam, mu = factor * lam, factor * mu
        return assemble(weak.elasticity, dofs, basis=basis, lam=lam, mu=mu)

    def _revolved(self, sites: Sites) -> dict[str, Any]:
        return {"over_radius": 1.0 / sites.x[..., 0]} if self.kind == "axisymmetric" else {}

    def mass(self, scene: Scene) -> Tensor:
        """Assemble the density matrix."""
        cells = scene.cells()
        density = scene.evaluate(self.spec.density, cells, "density").tensor
        factor = self.measure(scene, cells)
        c = density if factor is None else factor * density
        return assemble(weak.vector_mass, self.dofs, basis=cells.basis, c=c)

    def geometric(self, scene: Scene, u: Tensor) -> Tensor:
        """Assemble what the stresses at ``u`` add to the stiffness."""
        if self.kind == "axisymmetric":
            raise SpecError(
                "a body of revolution need not keep its symmetry when it buckles; mesh it in space",
                path="model",
            )
        cells, dim = scene.cells(u), self.mesh.dim
        stress = self.derived("stress", scene, cells).tensor[..., :dim, :dim]
        factor = self.measure(scene, cells)
        stress = stress if factor is None else factor[..., None, None] * stress
        return assemble(weak.initial_stress, self.dofs, basis=cells.basis, s=stress)

    def caution(self, seen: Iterable[tuple[Scene, Tensor]], notes: list[str]) -> None:
        """Tell of an isotropic body that locks; a sheet may change its thickness and does not."""
        if self._averaged or self.kind == "plane_stress":
            return
        moduli = []
        for scene, u in seen:
            with torch.no_grad():
                material = self._material(scene, scene.cells(u))
            lam, mu = material.lam, material.mu
            if lam is not None and mu is not None:
                moduli.append((lam + 2.0 / 3.0 * mu, mu))
        tell_locking(self, moduli, notes)

    # -- outputs --------------------------------------------------------------------------------

    def derived(self, name: str, scene: Scene, sites: Sites) -> Ranked:
        """Evaluate ``stress`` or (total) ``strain``, 3 by 3."""
        material = self._material(scene, sites)
        thermal = self._thermal(scene, sites)
        shear = sites.field("sym_grad(u)").tensor
        along = shear.diagonal(dim1=-2, dim2=-1)
        if self.kind == "axisymmetric":
            along = torch.cat([along, self._hoop(sites, along)[..., None]], -1)
        elif self.kind != "solid":
            along = torch.nn.functional.pad(along, (0, 1))
        elastic = along if thermal is None else along - thermal[..., None]
        stress = (material.N * elastic[..., None, :]).sum(-1)
        if self._averaged and material.lam is not None:
            change = self._mean_dilatation(scene, sites) - elastic.sum(-1)
            stress = stress + (material.lam * change)[..., None]
        G = material.G
        if name == "strain":
            if self.kind == "plane_stress":
                out = (material.out * stress).sum(-1)
                out = out if thermal is None else out + thermal
                along = torch.cat([along[..., :2], out[..., None]], -1)
            diagonal, twice = along, torch.ones_like(G)
        else:
            diagonal, twice = stress, 2.0 * G
        planes = ((0, 1, 2),) if shear.shape[-1] == 2 else ((0, 1, 2), (0, 2, 1), (1, 2, 0))
        shape = np.broadcast_shapes(diagonal.shape, (*shear.shape[:-2], 1))
        full = torch.diag_embed(diagonal.expand(shape))
        for i, j, k in planes:
            e = torch.zeros(3, 3, dtype=full.dtype, device=full.device)
            e[i, j] = e[j, i] = 1.0
            full = full + (twice[..., k] * shear[..., i, j])[..., None, None] * e
        return Ranked(full, 2)

    def _hoop(self, sites: Sites, along: Tensor) -> Tensor:
        """Strain around the axis: u_r / r, which on the axis is ∂u_r/∂r."""
        r = sites.x[..., 0]
        axis = r.detach() <= _ON_AXIS * float(self.mesh.points[:, 0].detach().max())
        around = sites.field("u").tensor[..., 0] / torch.where(axis, 1.0, r)
        return torch.where(axis, along[..., 0], around)

    def _dilatation(self, scene: Scene, cells: BasisSites) -> Tensor:
        """Elastic volume change ``[*batch, n, q]``."""
        change, thermal = cells.field("div(u)").tensor, self._thermal(scene, cells)
        if self.kind == "axisymmetric":
            change = change + cells.field("u").tensor[..., 0] / cells.x[..., 0]
        return change if thermal is None else change - 3.0 * thermal

    def _allowed(self, scene: Scene, cells: BasisSites) -> weak.CellPolynomials:
        """Return what the volume change is averaged to."""
        factor = self.measure(scene, cells)
        return weak.CellPolynomials(cells.basis, 1.0 if factor is None else factor)

    def _mean_dilatation(self, scene: Scene, sites: Sites) -> Tensor:
        """Averaged elastic volume change at the sites ``[*batch, n, q]``."""
        cells = scene.cells(sites.solution)
        allowed = self._allowed(scene, cells)
        mean = allowed.coefficients(self._dilatation(scene, cells))
        return seen_from(sites, allowed, mean)

    def energy(self, scene: Scene, u: Tensor) -> Tensor:
        """Return ½ ∫ σ : (ε − ε_thermal) ``[*batch]``."""
        cells = scene.cells(u)
        stress = self.derived("stress", scene, cells).tensor
        strain = self.derived("strain", scene, cells).tensor
        thermal = self._thermal(scene, cells)
        density = (stress * strain).sum((-2, -1))
        if thermal is not None:
            density = density - thermal * stress.diagonal(dim1=-2, dim2=-1).sum(-1)
        if self._averaged:
            # What lam resists is the mean volume change, which differs where lam varies within a cell.
            lam, mean = self._material(scene, cells).lam, self._mean_dilatation(scene, cells)
            if lam is not None:
                density = density + lam * mean * (mean - self._dilatation(scene, cells))
        return 0.5 * self.integrate(scene, cells, density).sum(-1)


def _by(vector: Tensor, factor: Tensor | None) -> Tensor:
    return vector if factor is None else factor[..., None] * vector
