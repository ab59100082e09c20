"""A lowered problem for fields on a mesh: the steps every physics shares."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from torch_sla.assembly.kernels.contents import contents
from torch_sla.errors import ArgumentError, GradientError, SpecError
from torch_sla.lazy import cached_property
from torch_sla.linalg import SparseTensor, Structure
from torch_sla.problems.lowering.affine import batch_of
from torch_sla.problems.lowering.blocks import blocks_of, solve_blocks
from torch_sla.problems.lowering.conditions import at_path, point_loads, positions
from torch_sla.problems.lowering.linear import solve_batch, solve_constrained
from torch_sla.problems.lowering.motions import loose_motions
from torch_sla.problems.lowering.names import no_such_axis
from torch_sla.problems.lowering.nonlinear import solve_nonlinear
from torch_sla.problems.lowering.operators import Assembled, Operator, decided
from torch_sla.problems.lowering.outputs import Taken, check_places
from torch_sla.problems.lowering.parameters import check_default
from torch_sla.problems.lowering.physics import Physics
from torch_sla.problems.lowering.selection import AXES
from torch_sla.problems.lowering.shapes import Shapes, solve_shapes
from torch_sla.problems.lowering.states import given_start, given_state
from torch_sla.problems.lowering.superposition import superposed
from torch_sla.problems.lowering.terms import residual, tangent
from torch_sla.problems.lowering.told import check_told
from torch_sla.problems.solution import Solution
from torch_sla.problems.specs.boundary import PointLoad, Spring
from torch_sla.problems.specs.faults import dotted
from torch_sla.problems.specs.laws import laws
from torch_sla.problems.specs.value import leaves, names_of
from torch_sla.problems.specs.written import Formula, FrozenMap

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch_sla.assembly import Mesh
    from torch_sla.linalg import SolveInfo
    from torch_sla.linalg.checks import Answer
    from torch_sla.problems.lowering.scene import Scene
    from torch_sla.problems.lowering.sites import BasisSites, Sites
    from torch_sla.problems.lowering.terms import Term
    from torch_sla.problems.progress import ProgressCallback

__all__ = ["Model"]


class Model(Physics):
    """What `compile` returns: a declaration with its structure, ready for values."""

    @cached_property
    def loose_motions(self) -> int:
        """How many motions the conditions of this mesh leave free, of all bodies that it consists of."""
        return loose_motions(self)

    @property
    def determined(self) -> bool:
        """Whether the conditions of this mesh fix the solution."""
        return self.loose_motions == 0

    def refuse_start(self, scene: Scene, u: Tensor) -> None:
        """Raise, naming it, where a law makes it impossible to begin at ``u``; called when that has failed."""
        scene.blaming = True
        try:
            self.tangent(scene, self.loaded(scene), self.terms(scene), u)
        except GradientError as error:
            where = "where the iteration begins, which start= may change"
            raise ArgumentError(str(error).replace("at some place", where)) from None

    def of_condition(self, i: int, facets: Tensor) -> Tensor:
        """Return which of the facets of the condition ``i`` are among some facets."""
        mine, key = self.selections[i].facets, ("of condition", i, contents(facets))
        return self.once(key, lambda: torch.nonzero(torch.isin(mine, facets))[:, 0])

    def conditions(self, *kinds: type) -> Iterator[tuple[int, Any]]:
        """Return the boundary conditions of some kinds, with their numbers."""
        return ((i, c) for i, c in enumerate(self.spec.boundary) if isinstance(c, kinds))

    def at_condition(self, scene: Scene, i: int, u: Tensor | None = None) -> BasisSites:
        """Return the facets of the condition ``i`` to evaluate on."""
        return scene.facets(self.selections[i].facets, u)

    def given(self, scene: Scene, i: int, sites: Sites, name: str) -> Tensor:
        """Evaluate what the condition ``i`` gives by that name, a number at each site."""
        law = getattr(self.spec.boundary[i], name)
        return scene.evaluate(law, sites, f"boundary.{i}.{name}").tensor

    def natural_outflow(self, scene: Scene, u: Tensor, facets: Tensor) -> Tensor:
        """Integrate the outflow through facets whose flux a condition gives ``[*batch]``."""
        total = u.new_zeros(u.shape[:-1])
        for i, _ in self.conditions(*self.fluxes):
            chosen = self.of_condition(i, facets)
            if len(chosen):
                sites = self.at_condition(scene, i, u)
                through = sites.basis.integrate(self.inflow(scene, i, sites))
                total = total - through.index_select(-1, chosen).sum(-1)
        return total

    def integrate(self, scene: Scene, sites: BasisSites, value: Tensor) -> Tensor:
        """Integrate ``[*batch, n|1, q|1]`` over each site, with what `measure` says: ``[*batch, n]``."""
        factor = self.measure(scene, sites)
        return sites.basis.integrate(value if factor is None else factor * value)

    # -- verbs ----------------------------------------------------------------------------------

    def solve(
        self,
        values: Mapping[str, Any],
        *,
        points: Tensor | None = None,
        start: Tensor | None = None,
        info: bool = False,
        throw: bool = True,
        progress: ProgressCallback | None = None,
    ) -> Solution:
        """Solve; see `Problem.solve`."""
        if not self.determined:
            raise SpecError(self.undetermined, path="boundary")
        shapes = Shapes(self, values, points)
        scene = shapes.scenes[0]
        if start is not None:
            start = self.given_start(start)
        if points is not None and shapes.batch:
            taken, report = solve_shapes(
                shapes, values, points, start, throw=throw, progress=progress
            )
            return self._solution(shapes, taken, taken.outputs(), report, info=info)
        fast = None if start is not None else superposed(self, scene)
        blocks = None if start is not None or fast is not None else blocks_of(self, scene)
        if fast is not None:
            u, report = fast
            taken = Taken(self, scene, None, self.widened(scene, u))
            outputs = taken.outputs()
        elif blocks is not None:
            taken, outputs, report = solve_blocks(self, scene, blocks, throw=throw)
        else:
            u, operator, report = self.state(scene, start, throw=throw, progress=progress)
            # What failed may be NaN; the report says so, and laws of it are taken as they come.
            scene.trial = not report.converged
            taken = Taken(self, scene, operator, self.widened(scene, u))
            outputs = taken.outputs()
        return self._solution(shapes, taken, outputs, report, info=info)

    def _solution(
        self,
        shapes: Shapes,
        taken: Taken,
        outputs: dict[str, Tensor],
        report: SolveInfo,
        *,
        info: bool,
    ) -> Solution:
        if report.converged:
            each = zip(shapes.scenes, shapes.apart(taken.u.detach(), 1), strict=True)
            self.caution(each, report.notes)
        taken.forget()
        if not info:
            report.history.clear()
        return Solution(taken, outputs, report)

    def state(
        self,
        scene: Scene,
        start: Tensor | None = None,
        *,
        throw: bool = True,
        progress: ProgressCallback | None = None,
    ) -> tuple[Tensor, Operator, SolveInfo]:
        """Find the solution ``[*batch, n]``, with the operator before constraints and the report."""
        if self.nonlinear:
            u, report = solve_nonlinear(self, scene, start, throw=throw, progress=progress)
            return u, self.loaded(scene), report
        operator = self.loaded(scene)
        g = self.compiled.sides(self.given_values(scene))
        u, report = solve_constrained(self, operator, g, start, throw=throw)
        if operator.values.ndim == 1:
            # A report outlives its solve: it makes the matrix again where it is asked about that.
            report.matrix = partial(self._constrained, scene)
        return self.finished(scene, u), operator, report

    def seen_batch(self, scene: Scene) -> tuple[int, ...]:
        """Batch dimensions of the parameters that outputs use, which the solution may not depend on."""
        return tuple(
            np.broadcast_shapes(*(batch_of(scene, n) for n in self._seen & scene.given.keys()))
        )

    @cached_property
    def _seen(self) -> frozenset[str]:
        return self.names_in(lambda path: path[0] == "outputs") & self.declared.keys()

    def widened(self, scene: Scene, u: Tensor) -> Tensor:
        """Return a solution ``[*batch, n]`` with the batch dimensions of all that outputs make of it."""
        return u.expand(*np.broadcast_shapes(u.shape[:-1], self.seen_batch(scene)), -1)

    @torch.no_grad()
    def _constrained(self, scene: Scene) -> Tensor:
        """Assemble the matrix under the constraint once more ``[nnz]``."""
        values = self.matrix(scene).values.to(self.field_dtype)
        g = self.compiled.sides(self.given_values(scene))
        return self.compiled.constraint.apply(values, values.new_zeros(self.numbering.n), g)[0]

    def given_start(self, start: Tensor) -> Tensor:
        """Return where an iteration begins ``[*batch, n]``."""
        n, c = self.numbering.n, self._components
        return given_start(start, n, self.field_dtype, self.device, components=c)

    def _flat(self, u: Tensor) -> Tensor:
        n, c = self.numbering.n, self._components
        flat = given_state(u, "u", n, self.field_dtype, components=c)
        return flat.to(device=self.device, dtype=self.field_dtype)

    @property
    def _components(self) -> int:
        """Components of the field; one where there are several fields."""
        return self.dofs.components if len(self.ranks) == 1 else 1

    def loaded(self, scene: Scene) -> Operator:
        """Assemble the operator and the whole load, forces at points included."""
        return self.unloaded(scene)._replace(load=self.loads(scene))

    def unloaded(self, scene: Scene) -> Operator:
        """Assemble the operator with no load."""
        matrix = self.matrix(scene)
        values = matrix.values.to(self.field_dtype)
        none = values.new_zeros(self.numbering.n)
        return Operator(values, none, matrix.definite, matrix.symmetric)

    def loads(self, scene: Scene) -> Tensor:
        """Assemble the whole load ``[*batch, n]``, forces at points included."""
        load = self.load(scene).to(self.field_dtype)
        forces = point_loads(self, scene)
        return load if forces is None else load + forces

    def unconstrained(
        self, scene: Scene, operator: Operator, terms: list[Term], u: Tensor
    ) -> Tensor:
        """Return K u − F plus what is not linear, before constraints."""
        r = self.apply(operator.values, u) - operator.load
        more = residual(scene, terms, u)
        return r if more is None else r + more

    def tangent(
        self,
        scene: Scene,
        operator: Operator,
        terms: list[Term],
        u: Tensor,
        *,
        recorded: bool = False,
    ) -> Tensor:
        """Return the derivative of `unconstrained`: values ``[*batch, nnz]``."""
        more = tangent(scene, terms, u, recorded=recorded)
        return operator.values if more is None else operator.values + more

    def structure(self, definite: bool | Answer | None, symmetric: bool | None) -> Structure:
        """Return what is known about the constrained matrix (or tangent)."""
        definite = decided(definite)
        if symmetric is False:
            return Structure(symmetric=False, hermitian=False, positive_definite=False)
        hermitian: bool | None = symmetric
        if self.spec.is_complex:
            hermitian = definite = False
        return Structure(
            symmetric=symmetric,
            hermitian=hermitian,
            positive_definite=definite,
            coordinates=self.coordinates,
        )

    def solved(
        self,
        values: Tensor,
        load: Tensor,
        definite: bool | Answer | None,
        symmetric: bool | None,
        complement: object = None,
        inertia: object = None,
        **options: Any,
    ) -> tuple[Tensor, SolveInfo]:
        """Solve with a constrained matrix ``[*batch, nnz]``; options as for `solve_batch`."""
        del complement, inertia  # of several processes: one takes factors
        pattern, structure = self.compiled.constraint.pattern, self.structure(definite, symmetric)
        return solve_batch(pattern, values, load, structure, self.spec.solver, **options)

    @property
    def prescribes(self) -> bool:
        """Whether conditions give some unknowns, or tie them to each other."""
        tied = any(s.to is not None for s in self.selections)
        return tied or len(self.compiled.constrained) > 0

    def norm(self, u: Tensor) -> Tensor:
        """Return the Euclidean norm of vectors of unknowns: ``[*batch, n]`` to ``[*batch]``."""
        return torch.linalg.vector_norm(u, dim=-1)

    def rms(self, u: Tensor) -> Tensor:
        """Return the root mean square of the first unknown: ``[*batch, n]`` to ``[*batch]``."""
        first = self.numbering.part(u, next(iter(self.ranks)))
        return torch.linalg.vector_norm(first, dim=-1) / max(first.shape[-1], 1) ** 0.5

    def assemble(self, values: Mapping[str, Any], *, points: Tensor | None = None) -> Assembled:
        """Assemble; see `FieldProblem.assemble`."""
        return Assembled(self, Shapes(self, values, points, mass=True))

    def residual(
        self,
        u: Tensor,
        values: Mapping[str, Any],
        *,
        points: Tensor | None = None,
        constrained: bool = True,
    ) -> Tensor:
        """Return K u − F; see `FieldProblem.residual`."""
        flat = self._flat(u)
        shapes = Shapes(self, values, points)
        at = partial(self._residual, constrained=constrained)
        r = shapes.joined(shapes.each(at, shapes.scenes, shapes.apart(flat, 1)), 1).to(u.device)
        return r if u.shape[-1:] == flat.shape[-1:] else r.unflatten(-1, u.shape[-2:])

    def _residual(self, scene: Scene, flat: Tensor, *, constrained: bool) -> Tensor:
        r = self.unconstrained(scene, self.loaded(scene), self.terms(scene), flat)
        if constrained:
            constraint = self.compiled.constraint
            g = self.compiled.sides(self.given_values(scene))
            held = constraint.recover(constraint.restrict(flat), g)
            zero = torch.zeros((), dtype=r.dtype, device=r.device)
            r = constraint.reduce(r) + torch.where(self.free, zero, flat - held)
        return r

    def jacobian(
        self,
        u: Tensor | None,
        values: Mapping[str, Any],
        *,
        points: Tensor | None = None,
        constrained: bool = True,
    ) -> SparseTensor:
        """Return the derivative of `residual`; for a linear problem it does not depend on u."""
        if self.nonlinear and u is None:
            raise ArgumentError("the problem is nonlinear: its derivative is taken at some u")
        shapes = Shapes(self, values, points)
        states: list[Tensor | None] = [None] * len(shapes.scenes)
        flat = None
        if u is not None:
            flat = self._flat(u)
        if self.nonlinear and flat is not None:
            states = [*shapes.apart(flat, 1)]
        matrix = shapes.joined(shapes.each(self._jacobian, shapes.scenes, states), 1)
        pattern = self.numbering.pattern
        if constrained:
            if any(s.to is not None for s in self.selections):
                raise ArgumentError(
                    "constrained: with periodic conditions only constrained=False has a matrix on the pattern"
                )
            row = pattern.csr_row.long()
            on_diagonal = (row == pattern.ccol.long()).to(matrix)
            matrix = torch.where(self.free[row], matrix, on_diagonal)
        return SparseTensor.from_pattern(pattern, matrix)

    def _jacobian(self, scene: Scene, flat: Tensor | None) -> Tensor:
        operator = self.loaded(scene)
        if flat is None:
            return operator.values
        terms = self.terms(scene)
        shape = self.unconstrained(scene, operator, terms, flat).shape
        recorded = torch.is_grad_enabled() and (flat.requires_grad or scene.requires_grad)
        return self.tangent(scene, operator, terms, flat.expand(shape), recorded=recorded)

    def apply(self, values: Tensor, u: Tensor) -> Tensor:
        """Multiply ``[*batch, nnz]`` with ``[*batch, n]``; batches broadcast."""
        batch = np.broadcast_shapes(values.shape[:-1], u.shape[:-1])
        if not values.shape[:-1]:
            A = SparseTensor.from_pattern(self.numbering.pattern, values)
            columns: Tensor = A @ u.reshape(-1, u.shape[-1]).T
            return columns.T.reshape(*batch, -1)
        each = values.expand(*batch, -1).reshape(-1, values.shape[-1])
        full = u.expand(*batch, -1).reshape(-1, u.shape[-1])
        product: Tensor = SparseTensor.from_pattern(self.numbering.pattern, each) @ full
        return product.reshape(*batch, -1)

    def check(self) -> Mesh:
        """Check everything that needs no value: level, selections, tags, places, laws; return the mesh.

        Raises
        ------
        SpecError, MeshError, ArgumentError
            At the first thing that is wrong.
        """
        if not self.determined:
            raise SpecError(self.undetermined, path="boundary")
        if self.timed:
            self.refuse_time()
        return self.check_acting()

    def check_acting(self) -> Mesh:
        """Check what `check` does, of a body that need not be held and laws that may use the time."""
        mesh = self.check_places()
        check_told(self)
        return mesh

    def check_places(self) -> Mesh:
        """Check selections, tags, axes and places, and evaluate nothing."""
        for name, parameter in self.declared.items():
            if isinstance(parameter.default, Formula):
                check_default(name, parameter.default, self.mesh.dim)
        for law in laws(self.spec):
            for path, leaf in leaves(law.value):
                for name in sorted(names_of(leaf) & set(AXES[self.mesh.dim :])):
                    raise no_such_axis(name, self.mesh.dim, dotted((*law.path, *path)))
            if isinstance(law.value, FrozenMap):
                self.tag_entries(tuple(law.value), ".".join(str(part) for part in law.path))
        for i, condition in self.conditions(PointLoad, Spring):
            if condition.at is not None:
                at = positions(self, condition.at, f"boundary.{i}.at")
                with at_path(f"boundary.{i}.at"):
                    self.geometry.located(at, self.dofs)
        for i, output in enumerate(self.spec.outputs):
            check_places(self, output, f"outputs.{i}")
        return self.mesh
