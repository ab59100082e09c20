"""Slow viscous flow by Taylor-Hood elements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from torch_sla.assembly import weak
from torch_sla.assembly.forms import BilinearForm
from torch_sla.assembly.forms.vocabulary import div
from torch_sla.errors import MeshError, SpecError
from torch_sla.lazy import cached_property
from torch_sla.problems.expression import Ranked
from torch_sla.problems.lowering.compiled import Unknown
from torch_sla.problems.lowering.model import Model
from torch_sla.problems.lowering.motions import unstopped
from torch_sla.problems.lowering.operators import Matrix
from torch_sla.problems.specs.boundary import Dirichlet, Neumann

if TYPE_CHECKING:
    from torch_sla.assembly import Field
    from torch_sla.assembly.forms import Context
    from torch_sla.linalg import Structure
    from torch_sla.linalg.checks import Answer
    from torch_sla.problems.lowering.geometry import Geometry
    from torch_sla.problems.lowering.motions import Holds
    from torch_sla.problems.lowering.scene import Scene
    from torch_sla.problems.lowering.sites import Sites
    from torch_sla.problems.specs.stokes import StokesProblem

__all__ = ["Stokes"]


def _minus_divergence(u: Field, q: Field, w: Context) -> Tensor:
    """``-q div u``."""
    return -w.c * (q * div(u))


# What is left by rounding of a component of the normal that is zero.
_ALONG = 1e-9
_COUPLING = BilinearForm(_minus_divergence)


class Stokes(Model):
    """Lowers `StokesProblem`: ∫ 2μ ε(u):ε(v) − ∫ p ∇·v − ∫ q ∇·u = ∫ f·v + ∫ t·v − ∫ pressure n·v.

    Symmetric and indefinite. Taylor and Hood, Comput. Fluids 1 (1973), 73-100; stability: Boffi, Brezzi,
    Fortin, Mixed Finite Element Methods and Applications, Springer 2013, section 8.8.
    """

    spec: StokesProblem
    inertial: ClassVar[frozenset[str]] = frozenset({"density"})
    definite: ClassVar[bool | None] = False  # type: ignore[misc]
    multipliers: ClassVar[str | None] = "p"
    undetermined: ClassVar[str] = (
        "nothing holds the fluid against every rigid motion: the velocity is determined up to a translation or a turn; "
        "give more of it on some boundary (components count)"
    )

    @staticmethod
    def unknowns_of(spec: Any, dim: int) -> tuple[Unknown, ...]:
        """Take Taylor-Hood elements."""
        del spec
        if dim == 1:
            raise SpecError("a flow needs a mesh in 2 or 3 dimensions", path="mesh")
        return Unknown("u", 2, dim), Unknown("p", 1, 0)

    def loose(self, held: Holds) -> int:
        """Return how many rigid motions, which viscosity does not resist, the velocities given do not stop."""
        return unstopped(held)

    @cached_property
    def levelled(self) -> bool:  # type: ignore[override]
        """Whether some pressure is given."""
        return bool((self.compiled.constrained >= self.numbering.ranges["u"].stop).any())

    @cached_property
    def surrounded(self) -> bool:  # type: ignore[override]
        """Whether the velocity through the boundary is given (or repeated) all around; that along it need not be."""
        return self.encloses(self.geometry)

    def encloses(self, geometry: Geometry) -> bool:
        """Tell whether the velocity through the boundary is given all around, on any coordinates."""
        held = self.compiled.constrained
        dofs = self.numbering.fields["u"]
        given = torch.zeros(self.numbering.n, dtype=torch.bool, device=self.device)
        given[held] = True
        for s in self.selections:
            if s.to is not None:
                given[dofs.facet_dofs(torch.cat([s.facets, s.to]))] = True
        normal = geometry.basis("u", self.boundary).normal.detach().abs().amax(1)
        crossing = (
            dofs.facet_dofs(self.boundary[normal[:, k] > _ALONG], k) for k in range(self.mesh.dim)
        )
        return all(bool(given[across].all()) for across in crossing)

    def refuse_levels(self, surrounded: bool, n_bodies: int) -> None:
        """Refuse pressures at points of an open flow, and more than one: they replace the conservation of volume."""
        levels = [c for _, c in self.conditions(Dirichlet) if c.unknown == "p"]
        many = sum(len(c.at) for c in levels) > n_bodies
        if not (many or (n_bodies == 1 and not surrounded)):
            return
        number = self.spec.boundary.index(levels[-1])
        why = (
            "the flow has one level of the pressure, which one point gives"
            if many
            else "the pressure has a level already, since the velocity through the boundary is not given all around"
        )
        raise SpecError(
            f"{why}; drop this condition, whose node would be a source or a sink of the fluid",
            path=f"boundary.{number}",
        )

    def refuse_moved(self, before: bool, after: bool) -> None:
        """Refuse coordinates that open the level of the pressure, or fix it, other than the declared ones.

        A level that is given is none of an open flow, where it makes a source or a sink of its node.
        """
        if before == after:
            return
        here, there = "on the declared mesh", "on these coordinates"
        if not before:
            here, there = there, here
        raise MeshError(
            f"points: the velocity through the boundary is given all around {here}, which leaves the level of the "
            f"pressure open, and not {there}, where some side that has one component given lies across another "
            "axis; declare the mesh with these coordinates"
        )

    def structure(self, definite: bool | Answer | None, symmetric: bool | None) -> Structure:
        """Return what is known: symmetric, indefinite, a level of pressure where there is none."""
        known = super().structure(definite, symmetric)
        if not self.surrounded or self.levelled:
            return known
        # Pressures that repeat others are no unknowns of the constrained matrix.
        level = self.compiled.constraint.restrict(self.level)
        return known.updated(nullspace=level[:, None])

    def matrix(self, scene: Scene) -> Matrix:
        """Assemble the saddle point."""
        cells = scene.cells()
        u, p = scene.geometry.basis("u"), scene.geometry.basis("p")
        mu = scene.evaluate(self.spec.viscosity, cells, "viscosity").tensor
        one = torch.ones(1, 1, dtype=self.dtype, device=self.device)
        coupling = _COUPLING(u, p, c=one)
        blocks = {
            ("u", "u"): weak.elasticity(u, lam=torch.zeros_like(mu), mu=mu),
            ("p", "u"): coupling,
            ("u", "p"): coupling.mT,
        }
        return Matrix(self.numbering.matrix(blocks), False)

    def load(self, scene: Scene) -> Tensor:
        """Assemble body forces, tractions and pressures."""
        spec, cells = self.spec, scene.cells()
        u = scene.geometry.basis("u")
        load = torch.zeros(self.numbering.n, dtype=self.dtype, device=self.device)
        if spec.body_force is not None:
            f = scene.evaluate(spec.body_force, cells, "body_force").tensor
            load = load + scene.summed({"u": weak.vector_source(u, f=f)})
        for i, condition in self.conditions(Neumann):
            facets = self.selections[i].facets
            sites, basis = scene.facets(facets), scene.geometry.basis("u", facets)
            if condition.pressure is not None:
                push = self.given(scene, i, sites, "pressure")
                local = weak.pressure_load(basis, p=push)
            else:
                t = scene.evaluate(condition.traction, sites, f"boundary.{i}.traction").tensor
                local = weak.vector_source(basis, f=t)
            load = load + scene.summed({"u": local}, facets)
        return load

    @property
    def moving(self) -> Tensor:
        """Where the nodes of the velocity are."""
        return self.dof_points().detach()

    def complement(self, scene: Scene) -> Tensor:
        """Assemble the mass of pressures over the viscosity, equivalent to the Schur complement on every mesh."""
        cells = scene.cells()
        mu = scene.evaluate(self.spec.viscosity, cells, "viscosity").tensor
        return self.numbering.matrix({("p", "p"): weak.mass(scene.geometry.basis("p"), c=1.0 / mu)})

    def weights(self, scene: Scene) -> Tensor:
        """Integrate the shape functions of pressures: an enclosed flow has the one of mean zero."""
        one = torch.ones(1, 1, dtype=self.dtype, device=self.device)
        return self.numbering.vector({"p": weak.source(scene.geometry.basis("p"), f=one)})

    def through(self, scene: Scene, u: Tensor) -> Tensor:
        """Integrate the outflow and the speed over the boundary."""
        facets = scene.facets(self.boundary, u.detach())
        given, normal = facets.field("u").tensor.detach(), facets.basis.normal.detach()
        sizes = ((given * normal).sum(-1), torch.linalg.vector_norm(given, dim=-1))
        return torch.stack([facets.basis.integrate(x).sum(-1).detach() for x in sizes], -1)

    def refuse_unbalanced(self, through: Tensor) -> None:
        """Refuse velocities around an enclosed flow that let more in than out."""
        net, moving = through.unbind(-1)
        # A balanced flow, interpolated or on points that move a little, is off by less: that part is projected away.
        wrong = net.abs() > 1e-2 * moving
        if bool(wrong.any()):
            raise SpecError(
                f"the velocities given all around do not balance: {float(net[wrong][0]):.6g} more leaves the body "
                "than enters, and nothing can flow in between; leave an outlet without a velocity",
                path="boundary",
            )

    def mass(self, scene: Scene) -> Tensor:
        """Assemble the density matrix of the velocity."""
        density = scene.evaluate(self.spec.density, scene.cells(), "density").tensor
        return self.numbering.matrix(
            {("u", "u"): weak.vector_mass(scene.geometry.basis("u"), c=density)}
        )

    def derived(self, name: str, scene: Scene, sites: Sites) -> Ranked:
        """Evaluate the stress 2μ ε − p 1 ``[..., dim, dim]``."""
        del name
        mu = scene.evaluate(self.spec.viscosity, sites, "viscosity").tensor
        rate, p = sites.field("sym_grad(u)").tensor, sites.field("p").tensor
        eye = torch.eye(self.mesh.dim, dtype=rate.dtype, device=rate.device)
        return Ranked(2.0 * mu[..., None, None] * rate - p[..., None, None] * eye, 2)

    def energy(self, scene: Scene, u: Tensor) -> Tensor:
        """Return ∫ μ ε:ε, half of what is dissipated ``[*batch]``."""
        cells = scene.cells(u)
        mu = scene.evaluate(self.spec.viscosity, cells, "viscosity").tensor
        rate = cells.field("sym_grad(u)").tensor
        return cells.basis.integrate(mu * (rate * rate).sum((-2, -1))).sum(-1)
