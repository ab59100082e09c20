"""Hyperelasticity: an energy per undeformed volume, its stress and tangent by differentiation."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from torch_sla.assembly import assemble, weak
from torch_sla.assembly.forms.determinants import cofactor
from torch_sla.errors import ArgumentError, SpecError
from torch_sla.lazy import cached_property
from torch_sla.linalg.adjoint.saving import is_followed
from torch_sla.problems.expression import Expression, Ranked
from torch_sla.problems.expression.functions import determinant
from torch_sla.problems.lowering.averaged import Averages, is_averaged, seen_from, tell_locking
from torch_sla.problems.lowering.bounds import require_within
from torch_sla.problems.lowering.model import Model
from torch_sla.problems.lowering.motions import unstopped
from torch_sla.problems.lowering.operators import Matrix, Operator
from torch_sla.problems.lowering.terms import Dual, Duals, Term
from torch_sla.problems.specs.boundary import Neumann
from torch_sla.problems.specs.place import POSITIVE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch_sla.assembly import Mesh
    from torch_sla.problems.lowering.motions import Holds
    from torch_sla.problems.lowering.scene import Scene
    from torch_sla.problems.lowering.sites import BasisSites, Sites
    from torch_sla.problems.specs.hyperelasticity import HyperelasticityProblem

__all__ = ["Hyperelasticity"]

# Bonet and Wood, Nonlinear Continuum Mechanics for Finite Element Analysis, 2nd ed., Cambridge 2008:
# neo-Hookean (6.27), Saint Venant-Kirchhoff (6.13); Mooney-Rivlin of unit volume, Holzapfel, Nonlinear Solid
# Mechanics, Wiley 2000, (6.147), with kappa/2 (J - 1)². I2 of the Saint Venant-Kirchhoff energy is tr C² written
# by invariants: tr C² = I1² - 2 I2.
_ENERGIES = {
    "neo_hookean": "mu/2*(I1 - 3) - mu*log(J) + lam/2*log(J)**2",
    "saint_venant_kirchhoff": "lam/8*(I1 - 3)**2 + mu/4*(I1**2 - 2*I2 - 2*I1 + 3)",
    "mooney_rivlin": "c1*(J1 - 3) + c2*(J2 - 3) + kappa/2*(J - 1)**2",
}


class Hyperelasticity(Model):
    """Lowers `HyperelasticityProblem`: ∫ P(F):∇v = ∫ f·v + ∫ t·v − ∫ p J F⁻ᵀ n·v over the undeformed body."""

    spec: HyperelasticityProblem
    inertial: ClassVar[frozenset[str]] = frozenset({"density"})
    nonlinear: ClassVar[bool] = True  # type: ignore[misc]
    may_step: ClassVar[bool] = True  # type: ignore[misc]
    definite: ClassVar[bool | None] = None  # type: ignore[misc]
    undetermined: ClassVar[str] = (
        "the body can move as a rigid one: its supports leave a translation or rotation free, and the tangent is "
        "singular; give more Dirichlet values (components count)"
    )

    unsound: ClassVar[str] = "cells turned inside out, det F below zero"  # type: ignore[misc]

    @property
    def load_steps(self) -> int:  # type: ignore[override]
        """In how many steps the loads are applied."""
        return self.spec.load_steps

    @property
    def arc_length(self) -> bool:  # type: ignore[override]
        """Whether the path is followed over limit points."""
        return self.spec.control == "arc_length"

    def rest(self, scene: Scene) -> float:
        """Return the norm of the positions of the nodes, to which displacements are added."""
        points = scene.geometry.points.detach()
        spread = points - points.mean(0)
        per_node = float(torch.linalg.vector_norm(spread)) / math.sqrt(len(points))
        return per_node * math.sqrt(self.dofs.n_nodes)

    @cached_property
    def symmetric(self) -> bool | None:  # type: ignore[override]
        """A pressure that follows the surface may leave no symmetry."""
        follows = any(c.kind == "neumann.pressure" for c in self.spec.boundary)
        return None if follows else True

    def loose(self, held: Holds) -> int:
        """Return how many rigid motions the supports do not stop."""
        dim = self.mesh.dim
        known = "plane_strain" if dim == 2 else "solid"
        if dim == 1 or self.spec.model not in (None, known):
            raise SpecError(
                f"a mesh in {dim}D stands for {known}",
                path="model",
            )
        return unstopped(held)

    @cached_property
    def coordinates(self) -> Tensor | None:  # type: ignore[override]
        """Where the nodes are."""
        return self.dof_points().detach()

    # -- the law --------------------------------------------------------------------------------

    @cached_property
    def _energy_law(self) -> Expression:
        return Expression.parse(_ENERGIES.get(self.spec.law, str(self.spec.law)))

    def _constants(self, scene: Scene, sites: Sites) -> dict[str, Ranked]:
        found = {
            name: scene.evaluate(law, sites, f"constants.{name}")
            for name, law in self.spec.constants.items()
        }
        for name in ("young_modulus", "mu", "kappa") if self.spec.law in _ENERGIES else ():
            if name in found:
                require_within(found[name], POSITIVE, f"constants.{name}", sites)
        # What the constants together are at small strains; one alone may be negative.
        if self.spec.law == "mooney_rivlin":
            shear = found["c1"].tensor + found["c2"].tensor
            what = "constants: c1 + c2, half the shear modulus of small strains,"
            require_within(Ranked(shear), POSITIVE, what, sites)
        elif self.spec.law in _ENERGIES and "lam" in found:
            bulk = found["lam"].tensor + 2 / 3 * found["mu"].tensor
            what = "constants: lam + 2/3 mu, the bulk modulus of small strains,"
            require_within(Ranked(bulk), POSITIVE, what, sites)
        if self.spec.law in _ENERGIES and "young_modulus" in found:
            E, nu = found["young_modulus"].tensor, found["poisson_ratio"].tensor
            lam, mu = weak.lame_parameters(E, nu)
            return {"lam": Ranked(lam), "mu": Ranked(mu)}
        return found

    def _density(self, constants: dict[str, Ranked]) -> Callable[..., Tensor]:
        """Return the energy per volume as a function of the deformation gradient ``[..., 3, 3]``.

        With a volume change ``[...]`` besides, it is the energy of the gradient scaled to that.
        """

        def energy(F: Tensor, change: Tensor | None = None) -> Tensor:
            C = F.transpose(-1, -2) @ F
            J = determinant(F)
            first = C.diagonal(dim1=-2, dim2=-1).sum(-1)
            second = 0.5 * (first**2 - (C * C).sum((-2, -1)))
            unit = J.abs() ** (-2.0 / 3.0)
            if change is not None:
                scale = (change / J).abs() ** (2.0 / 3.0)
                unit = change.abs() ** (-2.0 / 3.0)
                first, second, J = scale * first, scale**2 * second, change
            invariants = {
                "I1": first,
                "I2": second,
                "I3": J**2,
                "J": J,
                "J1": unit * first,
                "J2": unit**2 * second,
            }
            names = {name: Ranked(value) for name, value in invariants.items()}
            return self._energy_law.evaluate({**names, **constants}).tensor

        return energy

    def _deformation(self, slope: Tensor) -> Tensor:
        """Return F ``[..., 3, 3]`` from ∇u; nothing moves out of the plane."""
        if slope.shape[-1] == 2:
            slope = torch.nn.functional.pad(slope, (0, 1, 0, 1))
        return slope + torch.eye(3, dtype=slope.dtype, device=slope.device)

    def _piola(
        self,
        scene: Scene,
        sites: Sites,
        change: Tensor | None = None,
        pressure: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return F, the energy per volume and P ``[..., 3, 3]``, differentiable further.

        P is ∂W/∂F; where the volume change is averaged, it is ∂W/∂F with that held plus the averaged pressure times the
        cofactor of F, which is what the energy of the cell resists ∇u at a point with.
        """
        slope = sites.field("grad(u)").tensor
        constants = self._constants(scene, sites)
        averages = [x for x in (change, pressure) if x is not None]
        inputs = [slope, *(c.tensor for c in constants.values()), *averages]
        recorded = any(is_followed(x) for x in inputs)
        with torch.enable_grad():
            F = self._deformation(slope)
            # All batch dimensions before differentiating, so that members are not summed.
            shapes = [c.tensor.shape for c in constants.values()] + [x.shape for x in averages]
            F = F.expand(*np.broadcast_shapes(F.shape[:-2], *shapes), 3, 3)
            F = F if F.requires_grad else (F if recorded else F.detach()).requires_grad_()
            W, P = self._density(constants)(F, change), torch.zeros_like(F)
            # A law of J alone has no derivative where the volume change is held.
            if W.requires_grad:
                (P,) = torch.autograd.grad(
                    W.sum(), F, create_graph=recorded, materialize_grads=True
                )
            if pressure is not None:
                P = P + pressure[..., None, None] * cofactor(F)
        return (F, W, P) if recorded else (F.detach(), W.detach(), P.detach())

    # -- the averaged volume change -------------------------------------------------------------

    def check_places(self) -> Mesh:
        """Check whether averaging is of use as well."""
        is_averaged(self)
        return super().check_places()

    @property
    def _averaged(self) -> bool:
        return is_averaged(self)

    def _averages(self, scene: Scene) -> Averages:
        """Return the volume change and the pressure, which are averaged over cells, in this order."""
        allowed = weak.CellPolynomials(scene.cells().basis)
        return Averages(allowed, (self._volume_change, partial(self._resistance, scene)))

    def _volume_change(self, sites: Sites) -> Tensor:
        return determinant(self._deformation(sites.field("grad(u)").tensor))

    def _resistance(self, scene: Scene, sites: Sites, change: Tensor) -> Tensor:
        """Return the derivative of the energy by the averaged volume change ``[*batch, n, q]``."""
        slope = sites.field("grad(u)").tensor
        constants = self._constants(scene, sites)
        inputs = [slope, change, *(c.tensor for c in constants.values())]
        recorded = any(is_followed(x) for x in inputs)
        with torch.enable_grad():
            shapes = (c.tensor.shape for c in constants.values())
            shape = np.broadcast_shapes(slope.shape[:-2], change.shape, *shapes)
            full = change.expand(shape)
            full = full if recorded and full.requires_grad else full.detach().requires_grad_()
            W = self._density(constants)(self._deformation(slope), full)
            (p,) = torch.autograd.grad(W.sum(), full, create_graph=recorded, materialize_grads=True)
        return p if recorded else p.detach()

    def _averages_at(self, scene: Scene, sites: Sites) -> list[Tensor]:
        """Return the averaged volume change and pressure at sites ``[*batch, n, q]``; none where none are averaged."""
        if not self._averaged:
            return []
        averages = self._averages(scene)
        found = averages.coefficients(scene.cells(sites.solution))
        return [seen_from(sites, averages.allowed, c) for c in found]

    def caution(self, seen: Iterable[tuple[Scene, Tensor]], notes: list[str]) -> None:
        """Tell of a body that locks, by the curvature of its energy where it is undeformed."""
        if not self._averaged:
            moduli = [self._moduli(scene, u) for scene, u in seen]
            tell_locking(self, moduli, notes, splits=self.spec.splits)

    def _moduli(self, scene: Scene, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return the bulk and the shear modulus at small strains ``[*batch, n|1, q|1]``."""
        with torch.no_grad():
            constants = self._constants(scene, scene.cells(u))
        shape = np.broadcast_shapes((1, 1), *(c.tensor.shape for c in constants.values()))
        with torch.enable_grad():
            # W = 9/2 bulk t² where all axes stretch by t, and 2 shear t² where one stretches and one shrinks.
            t = torch.zeros(2, *shape, dtype=self.dtype, device=self.device, requires_grad=True)
            axes = t.new_tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0]]).reshape(
                2, *[1] * len(shape), 3
            )
            F = torch.diag_embed(1.0 + t[..., None] * axes)
            W = self._density(constants)(F).sum()
            (slope,) = torch.autograd.grad(W, t, create_graph=True)
            (second,) = torch.autograd.grad(slope.sum(), t, materialize_grads=True)
        return second[0] / 9.0, second[1] / 4.0

    def refuse_start(self, scene: Scene, u: Tensor) -> None:
        """Raise where the energy has no stress or no stiffness at a displacement."""
        sites = scene.cells(u)
        with torch.enable_grad():
            slope = sites.field("grad(u)").tensor.detach()
            constants = {
                n: Ranked(c.tensor.detach(), c.rank)
                for n, c in self._constants(scene, sites).items()
            }
            F = self._deformation(slope).requires_grad_()
            (P,) = torch.autograd.grad(self._density(constants)(F).sum(), F, create_graph=True)
            what = "stress"
            broken = not bool(torch.isfinite(P).all())
            if not broken and P.requires_grad:
                what = "stiffness"
                # Another weight for each entry, lest infinities of both signs meet.
                weights = torch.cos(torch.arange(P.numel(), dtype=P.dtype, device=P.device))
                (A,) = torch.autograd.grad((P * weights.reshape(P.shape)).sum(), F)
                broken = not bool(torch.isfinite(A).all())
        if broken:
            raise ArgumentError(
                f"law: its {what} is NaN or infinite where the iteration begins, in the undeformed body unless start= "
                "says otherwise; keep roots, logarithms and fractional powers of what vanishes there away from zero, "
                "as in sqrt(I1 - 3 + 1e-9)"
            )

    # -- operators ------------------------------------------------------------------------------

    def matrix(self, scene: Scene) -> Matrix:
        """Return zeros: all stiffness is in `terms`."""
        del scene
        nnz = self.dofs.pattern.nnz_csr
        values = torch.zeros(nnz, dtype=self.dtype, device=self.device)
        return Matrix(values, None, self.symmetric)

    def load(self, scene: Scene) -> Tensor:
        """Assemble the loads that do not follow the body."""
        spec, dofs = self.spec, self.dofs
        load = torch.zeros(dofs.n, dtype=self.dtype, device=self.device)
        if spec.body_force is not None:
            cells = scene.cells()
            f = scene.evaluate(spec.body_force, cells, "body_force").tensor
            load = load + dofs.assemble_vector(weak.vector_source(cells.basis, f=f))
        for i, condition in self.conditions(Neumann):
            if condition.traction is not None:
                sites = self.at_condition(scene, i)
                t = scene.evaluate(condition.traction, sites, f"boundary.{i}.traction").tensor
                local = weak.vector_source(sites.basis, f=t)
                load = load + dofs.assemble_vector(local, self.selections[i].facets)
        return load

    def terms(self, scene: Scene) -> list[Term]:
        """Return the internal forces, and the pressures that follow the surface."""
        averages = self._averages(scene) if self._averaged else None
        found = [Term(scene.cells(), partial(self._internal, scene), averages=averages)]
        for i, condition in self.conditions(Neumann):
            if condition.pressure is not None:
                sites = self.at_condition(scene, i)
                found.append(Term(sites, partial(self._pressure, scene, i)))
        return found

    def _internal(self, scene: Scene, sites: BasisSites, *averages: Tensor) -> Duals:
        dim = self.mesh.dim
        F, _, P = self._piola(scene, sites, *averages)
        if scene.ended:
            # Most laws are finite there, so that Newton's method may come to rest in it.
            for J in (determinant(F), *averages[:1]):
                P = torch.where((J > 0)[..., None, None], P, torch.nan)
        return {"u": Dual(gradient=P[..., :dim, :dim])}

    def _pressure(self, scene: Scene, i: int, sites: BasisSites) -> Duals:
        """Return ``p J F⁻ᵀ N``."""
        p, dim = scene.factor * self.given(scene, i, sites, "pressure"), self.mesh.dim
        F = self._deformation(sites.field("grad(u)").tensor)
        push = (cofactor(F)[..., :dim, :dim] * sites.basis.normal[..., None, :]).sum(-1)
        return {"u": Dual(p[..., None] * push)}

    def mass(self, scene: Scene) -> Tensor:
        """Assemble the density matrix."""
        cells = scene.cells()
        density = scene.evaluate(self.spec.density, cells, "density").tensor
        return assemble(weak.vector_mass, self.dofs, basis=cells.basis, c=density)

    # -- outputs --------------------------------------------------------------------------------

    def derived(self, name: str, scene: Scene, sites: Sites) -> Ranked:
        """Evaluate a tensor or a scalar of the deformed state."""
        if name in ("F", "strain"):
            F = self._deformation(sites.field("grad(u)").tensor)
            if name == "F":
                return Ranked(F, 2)
            eye = torch.eye(3, dtype=F.dtype, device=F.device)
            return Ranked(0.5 * (F.transpose(-1, -2) @ F - eye), 2)
        averages = self._averages_at(scene, sites)
        if name == "J":
            return Ranked(averages[0] if averages else self._volume_change(sites))
        F, W, P = self._piola(scene, sites, *averages)
        if name == "energy_density":
            return Ranked(W)
        if name == "piola":
            return Ranked(P, 2)
        return Ranked(P @ F.transpose(-1, -2) / determinant(F)[..., None, None], 2)

    def work(self, scene: Scene, operator: Operator, u: Tensor) -> Tensor:
        """Return Fᵀu ``[*batch]``, pressures on the deformed surface included."""
        total = super().work(scene, operator, u)
        for i, condition in self.conditions(Neumann):
            if condition.pressure is not None:
                sites = self.at_condition(scene, i, u)
                push = self._pressure(scene, i, sites)["u"].value
                if push is not None:
                    done = (push * sites.field("u").tensor).sum(-1)
                    total = total - sites.basis.integrate(done).sum(-1)
        return total

    def energy(self, scene: Scene, u: Tensor) -> Tensor:
        """Return ∫ W over the undeformed body ``[*batch]``."""
        cells = scene.cells(u)
        density = self.derived("energy_density", scene, cells).tensor
        return cells.basis.integrate(density).sum(-1)
