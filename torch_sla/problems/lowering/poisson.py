"""Diffusion with advection, reaction, sources, fluxes, exchange and radiation."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from torch_sla.assembly import assemble, weak
from torch_sla.lazy import cached_property
from torch_sla.linalg.checks import Answer, told
from torch_sla.problems.lowering.model import Model
from torch_sla.problems.lowering.operators import Matrix, Operator
from torch_sla.problems.lowering.terms import Dual, Duals, Term, uniform
from torch_sla.problems.specs.boundary import Neumann, Radiation, Robin
from torch_sla.problems.specs.laws import sees_solution
from torch_sla.problems.specs.value import ArrayFile, Parameter, leaves
from torch_sla.problems.specs.written import Formula, FrozenMap

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch_sla.problems.expression import Ranked
    from torch_sla.problems.lowering.motions import Holds
    from torch_sla.problems.lowering.scene import Scene
    from torch_sla.problems.lowering.sites import BasisSites
    from torch_sla.problems.specs.poisson import PoissonProblem

__all__ = ["Poisson"]

_CELLS = ("diffusivity", "advection", "reaction", "source")


class _Coefficients(NamedTuple):
    kappa: Ranked
    velocity: Tensor | None
    reaction: Tensor | None
    source: Tensor
    time: Tensor | None


class Poisson(Model):
    """Lowers `PoissonProblem`.

    a(u, v) = ∫ κ∇u·∇v + ∫ a·∇u v + ∫ c u v + ∫_Robin h u v = ∫ f v + ∫ q v + ∫ h u∞ v. What sees the
    solution becomes a term of the residual, the rest stays a matrix and a load.
    """

    spec: PoissonProblem

    undetermined: ClassVar[str] = (
        "nothing fixes the level of the solution: with fluxes alone it is determined only up to a constant, and "
        "the matrix is singular; give a Dirichlet value or a Robin exchange on some boundary, or a reaction"
    )

    bracing: ClassVar[Mapping[type, str]] = {Robin: "coefficient", Radiation: "emissivity"}
    fluxes: ClassVar[tuple[type, ...]] = (Neumann, Robin, Radiation)

    def loose(self, held: Holds) -> int:
        """Return 0 where a value, an exchange or a reaction fixes the level, else 1."""
        level = self.spec.reaction is not None or self._sees("source")
        return 0 if level or len(held.grounded.points) > 0 else 1

    # -- structure ------------------------------------------------------------------------------

    def _sees(self, name: str) -> bool:
        return sees_solution(getattr(self.spec, name), self.ranks, self.declared)

    @cached_property
    def _cells_nonlinear(self) -> bool:
        return any(self._sees(name) for name in _CELLS)

    def _facets_nonlinear(self, i: int) -> bool:
        condition: Any = self.spec.boundary[i]
        if isinstance(condition, Radiation):
            return True
        given = [getattr(condition, n, None) for n in ("flux", "coefficient", "ambient")]
        return any(sees_solution(law, self.ranks, self.declared) for law in given)

    @cached_property
    def nonlinear(self) -> bool:  # type: ignore[override]
        """Whether some law sees the solution, or a boundary radiates."""
        conditions = range(len(self.spec.boundary))
        return self._cells_nonlinear or any(map(self._facets_nonlinear, conditions))

    @cached_property
    def definite(self) -> bool | None:  # type: ignore[override]
        """Unknown under advection, which leaves no symmetry, and where a reaction or exchange is a negative number."""
        robin = [c.coefficient for _, c in self.conditions(Robin)]
        below = any(isinstance(x, int | float) and x < 0 for x in (self.spec.reaction, *robin))
        return None if below or self.spec.advection is not None else True

    @cached_property
    def symmetric(self) -> bool | None:  # type: ignore[override]
        """Whether the matrix (or tangent) is symmetric for sensible values."""
        if self.spec.advection is not None or self._sees("diffusivity"):
            return False
        if not self._mirrored(self.spec.diffusivity):
            return None
        seen = [getattr(self.spec, name) for name in ("reaction", "source")]
        for condition in self.spec.boundary:
            names = ("flux", "coefficient", "ambient", "emissivity")
            seen += [getattr(condition, name, None) for name in names]
        return None if any(map(_sloped, seen)) else True

    def _mirrored(self, law: Any) -> bool:
        """Whether a law is a number, or a matrix written the same on both sides of the diagonal."""
        if isinstance(law, FrozenMap):
            return all(map(self._mirrored, law.values()))
        if isinstance(law, tuple) and all(isinstance(row, tuple) for row in law):
            return tuple(zip(*law, strict=False)) == law  # ragged rows are refused later
        if isinstance(law, Formula):
            used = law.expression.names & self.declared.keys()
            return not any(self.declared[name].shape for name in used)
        if isinstance(law, Parameter):
            return not law.shape
        return not isinstance(law, tuple | ArrayFile)

    @property
    def _stabilized(self) -> bool:
        chosen = self.spec.stabilization
        return self.spec.advection is not None and chosen != "none" and self.spec.order == 1

    # -- values ---------------------------------------------------------------------------------

    def _coefficients(
        self, scene: Scene, sites: BasisSites, *, source: bool = False
    ) -> _Coefficients:
        """Evaluate the laws of the cells; the source, of which a batch may be large, where it is asked for."""
        spec = self.spec

        def maybe(name: str) -> Tensor | None:
            law = getattr(spec, name)
            return None if law is None else scene.evaluate(law, sites, name).tensor

        kappa = scene.evaluate(spec.diffusivity, sites, "diffusivity")
        reaction, f = maybe("reaction"), maybe("source") if source else None
        velocity = None
        if spec.advection is not None:
            velocity = scene.evaluate(spec.advection, sites, "advection").tensor
        time = None
        if velocity is not None and self._stabilized:
            time = self._time(kappa, velocity, sites)
        if f is None:
            f = torch.zeros(1, 1, dtype=self.dtype, device=self.device)
        return _Coefficients(kappa, velocity, reaction, f, time)

    def _time(self, kappa: Ranked, velocity: Tensor, sites: BasisSites) -> Tensor:
        """Return the time for which the flow carries a residual."""
        scalar = kappa.tensor
        if kappa.rank == 2:
            scalar = scalar.diagonal(dim1=-2, dim2=-1).mean(-1)
        inverse, simplex = sites.basis.geometry.inverse, self.mesh.reference.is_simplex
        return weak.streamline_time(velocity, scalar, inverse, simplex)

    def matrix(self, scene: Scene) -> Matrix:
        """Assemble what does not see the solution: stiffness, advection, reaction, exchange."""
        dofs, cells, signs = self.dofs, scene.cells(), list[Tensor]()
        definite: bool | Answer | None
        if self._cells_nonlinear:
            nnz = dofs.pattern.nnz_csr
            values = torch.zeros(nnz, dtype=self.dtype, device=self.device)
            definite, symmetric = None, self.symmetric
        else:
            c = self._coefficients(scene, cells)
            definite, symmetric = True, self.symmetric
            form = weak.diffusion if c.kappa.rank == 0 else weak.tensor_diffusion
            basis = cells.basis
            values = assemble(form, dofs, basis=basis, kappa=c.kappa.tensor)
            if c.kappa.rank == 2 and not _symmetric(c.kappa.tensor):
                definite, symmetric = None, False
            elif not self.nonlinear:
                symmetric = c.velocity is None
            if c.reaction is not None:
                signs.append(_not_negative(c.reaction))
                values = values + assemble(weak.mass, dofs, basis=basis, c=c.reaction)
            if c.velocity is not None:
                definite = None
                values = values + assemble(weak.convection, dofs, basis=basis, velocity=c.velocity)
                if c.time is not None:
                    along: dict[str, Any] = {"time": c.time, "velocity": c.velocity}
                    reaction = 0.0 if c.reaction is None else c.reaction
                    values = values + assemble(
                        weak.streamline, dofs, basis=basis, c=reaction, **along
                    )
        for i, _ in self.conditions(Robin):
            if not self._facets_nonlinear(i):
                sites = self.at_condition(scene, i)
                h = self.given(scene, i, sites, "coefficient")
                signs.append(_not_negative(h))
                values = values + assemble(weak.mass, dofs, basis=sites.basis, c=h)
        if definite and signs:
            definite = told(torch.stack(signs).all())
        return Matrix(values, None if definite is False else definite, symmetric)

    def load(self, scene: Scene) -> Tensor:
        """Assemble sources, fluxes and surroundings that do not see the solution."""
        spec, dofs = self.spec, self.dofs
        load = torch.zeros(dofs.n, dtype=self.dtype, device=self.device)
        if spec.source != 0.0 and not self._cells_nonlinear:
            cells = scene.cells()
            f = scene.evaluate(spec.source, cells, "source").tensor
            c = self._coefficients(scene, cells) if self._stabilized else None

            def of_source(f: Tensor) -> Tensor:
                force = weak.source(cells.basis, f=f)
                if c is not None and c.time is not None and c.velocity is not None:
                    force = force + weak.streamline_source(
                        cells.basis, f=f, time=c.time, velocity=c.velocity
                    )
                return scene.summed({"u": force})

            load = uniform(f, 0, of_source) if c is None else of_source(f)
        for i, condition in self.conditions(Neumann, Robin):
            if self._facets_nonlinear(i):
                continue
            sites = self.at_condition(scene, i)
            if isinstance(condition, Neumann):
                push = self.given(scene, i, sites, "flux")
            else:
                h = self.given(scene, i, sites, "coefficient")
                push = h * self.given(scene, i, sites, "ambient")
            local = weak.source(sites.basis, f=push)
            load = load + scene.summed({"u": local}, self.selections[i].facets)
        return load

    def terms(self, scene: Scene) -> list[Term]:
        """Return the integrals whose laws see the solution."""
        found = []
        if self._cells_nonlinear:
            found.append(Term(scene.cells(), partial(self._cell_duals, scene)))
        for i, _ in self.conditions(*self.fluxes):
            if self._facets_nonlinear(i):
                sites = self.at_condition(scene, i)
                found.append(Term(sites, partial(self._facet_duals, scene, i)))
        return found

    def _facet_duals(self, scene: Scene, i: int, sites: BasisSites) -> Duals:
        return {"u": Dual(-self.inflow(scene, i, sites))}

    def _cell_duals(self, scene: Scene, sites: BasisSites) -> Duals:
        c = self._coefficients(scene, sites, source=True)
        u, slope = sites.field("u").tensor, sites.field("grad(u)").tensor
        flow = _times(c.kappa, slope)
        rest = -c.source
        if c.reaction is not None:
            rest = rest + c.reaction * u
        if c.velocity is not None:
            rest = rest + (c.velocity * slope).sum(-1)
            if c.time is not None:
                flow = flow + (c.time * rest)[..., None] * c.velocity
        return {"u": Dual(rest, flow)}

    def mass(self, scene: Scene) -> Tensor:
        """Assemble the capacity matrix."""
        return self._inertia(scene, along=False)

    @property
    def upwinded(self) -> bool:  # type: ignore[override]
        """Whether the capacity is tested along the flow as well: where that is one at all times."""
        laws = ("diffusivity", "advection")
        changing = any(path.split(".")[0] in laws for path in self.timed)
        return self._stabilized and not changing and not any(map(self._sees, laws))

    def rate_matrix(self, scene: Scene) -> Tensor:
        """Assemble the capacity matrix, tested along the flow as well where it is `upwinded`."""
        return self._inertia(scene, along=self.upwinded)

    def _inertia(self, scene: Scene, *, along: bool) -> Tensor:
        """Assemble the capacity matrix; with `along` what tests it along the flow is added."""
        cells = scene.cells()
        c = scene.evaluate(self.spec.capacity, cells, "capacity").tensor
        found = assemble(weak.mass, self.dofs, basis=cells.basis, c=c)
        if not along:
            return found
        kappa = scene.evaluate(self.spec.diffusivity, cells, "diffusivity")
        velocity = scene.evaluate(self.spec.advection, cells, "advection").tensor
        flow: dict[str, Any] = {"time": self._time(kappa, velocity, cells), "velocity": velocity}
        return found + assemble(weak.streamline_mass, self.dofs, basis=cells.basis, c=c, **flow)

    # -- outputs --------------------------------------------------------------------------------

    def inflow(self, scene: Scene, i: int, sites: BasisSites) -> Tensor:
        """Return κ ∂u/∂n as condition ``i`` gives it, where the solution is seen."""
        condition = self.spec.boundary[i]
        if isinstance(condition, Neumann):
            return self.given(scene, i, sites, "flux")
        ambient, u = self.given(scene, i, sites, "ambient"), sites.field("u").tensor
        if isinstance(condition, Robin):
            return self.given(scene, i, sites, "coefficient") * (ambient - u)
        # |u| u³, not u⁴: below zero the exchange keeps its sign, so that iterations find their way back.
        strength = self._strength(scene, i, sites)
        return strength * (ambient * ambient.abs() ** 3 - u * u.abs() ** 3)

    def _strength(self, scene: Scene, i: int, sites: BasisSites) -> Tensor:
        """Return σ emissivity of the Radiation condition ``i``."""
        condition: Any = self.spec.boundary[i]
        return self.given(scene, i, sites, "emissivity") * float(condition.constant)

    def work(self, scene: Scene, operator: Operator, u: Tensor) -> Tensor:
        """Return Fᵀu ``[*batch]``, with the sources and surroundings of laws that see the solution."""
        total = super().work(scene, operator, u)
        if self._cells_nonlinear:
            cells = scene.cells(u)
            c = self._coefficients(scene, cells, source=True)
            value = cells.field("u").tensor
            if c.velocity is not None and c.time is not None:
                along = (c.velocity * cells.field("grad(u)").tensor).sum(-1)
                value = value + c.time * along
            total = total + cells.basis.integrate(c.source * value).sum(-1)
        for i, condition in self.conditions(*self.fluxes):
            if not self._facets_nonlinear(i):
                continue
            sites = self.at_condition(scene, i, u)
            u_here = sites.field("u").tensor
            push = self.inflow(scene, i, sites)
            if isinstance(condition, Robin):
                push = push + self.given(scene, i, sites, "coefficient") * u_here
            elif isinstance(condition, Radiation):
                push = push + self._strength(scene, i, sites) * u_here * u_here.abs() ** 3
            total = total + sites.basis.integrate(push * u_here).sum(-1)
        return total

    def energy(self, scene: Scene, u: Tensor) -> Tensor:
        """Return ½ ∫ κ|∇u|² + ½ ∫ reaction·u² over the cells ``[*batch]``."""
        cells = scene.cells(u)
        c, gradient = self._coefficients(scene, cells), cells.field("grad(u)").tensor
        density = (_times(c.kappa, gradient) * gradient).sum(-1)
        if c.reaction is not None:
            density = density + c.reaction * cells.field("u").tensor ** 2
        return 0.5 * cells.basis.integrate(density).sum(-1)


def _sloped(law: Any) -> bool:
    """Whether a law sees the gradient of the solution."""
    return any(
        isinstance(leaf, Formula) and bool(leaf.expression.derivatives) for _, leaf in leaves(law)
    )


def _times(kappa: Ranked, gradient: Tensor) -> Tensor:
    if kappa.rank == 0:
        return kappa.tensor[..., None] * gradient
    return (kappa.tensor * gradient[..., None, :]).sum(-1)


def _symmetric(matrix: Tensor) -> bool:
    matrix = matrix.detach()
    return bool(torch.allclose(matrix, matrix.mT, rtol=1e-12, atol=0.0))


def _not_negative(values: Tensor) -> Tensor:
    return (values.detach() >= 0).all()
