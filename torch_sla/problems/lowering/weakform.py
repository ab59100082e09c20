"""Weak forms written out: integrands become duals and tangents by differentiation."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from torch_sla.assembly import weak
from torch_sla.errors import ArgumentError, SpecError
from torch_sla.lazy import cached_property
from torch_sla.problems.expression.measures import degrees
from torch_sla.problems.lowering.compiled import Unknown
from torch_sla.problems.lowering.model import Model
from torch_sla.problems.lowering.operators import Matrix
from torch_sla.problems.lowering.selection import select_cells
from torch_sla.problems.lowering.sites import Fields
from torch_sla.problems.lowering.terms import Term, duals_of_integrand, residual, tangent
from torch_sla.problems.lowering.timing import uses_time
from torch_sla.problems.specs.python import PythonFunction
from torch_sla.problems.specs.written import Formula

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.assembly.mesh import Mesh
    from torch_sla.problems.expression.measures import Integral
    from torch_sla.problems.lowering.scene import Scene
    from torch_sla.problems.lowering.sites import BasisSites
    from torch_sla.problems.lowering.terms import Duals
    from torch_sla.problems.specs.weakform import WeakFormProblem

__all__ = ["WeakForm"]


class WeakForm(Model):
    """Lowers `WeakFormProblem`.

    Terms of degree 0 in the unknowns are loads, of degree 1 the matrix; anything else makes the problem
    nonlinear. Symmetry and definiteness are seen from the values.
    """

    spec: WeakFormProblem
    definite: ClassVar[bool | None] = None  # type: ignore[misc]
    symmetric: ClassVar[bool | None] = None  # type: ignore[misc]
    inertial: ClassVar[frozenset[str]] = frozenset()

    @staticmethod
    def unknowns_of(spec: Any, dim: int) -> tuple[Unknown, ...]:
        """Take what each unknown says."""
        for i, u in enumerate(spec.unknowns):
            if u.shape == "vector" and dim == 1:
                raise SpecError(
                    "on a line a vector has one component; take shape: scalar",
                    path=f"unknowns.{i}.shape",
                )
        return tuple(
            Unknown(u.name, u.order or spec.order, dim if u.shape == "vector" else 0)
            for u in spec.unknowns
        )

    @cached_property
    def nonlinear(self) -> bool:  # type: ignore[override]
        """Whether some term is of higher degree than one, or a function that cannot be looked into."""
        return not self.spec.linear

    @cached_property
    def timed_matrix(self) -> bool:
        """Whether an integral that holds an unknown depends on time."""
        if self.nonlinear:
            return bool(self.timed)
        return any(
            uses_time(i.expression.names, self.declared)
            for i in self.spec.integrals
            if self._degree(i)[1] >= 1
        )

    def _degree(self, integral: Integral) -> tuple[float, float]:
        return degrees(integral.expression.root, self.ranks)

    def check_places(self) -> Mesh:
        """Check where integrals are as well."""
        for integral in self.spec.integrals:
            self._selected(integral)
        return super().check_places()

    # -- terms ----------------------------------------------------------------------------------

    def _selected(self, integral: Integral) -> Tensor | None:
        """Return the facets or cells an integral names; None where it names none."""
        if integral.on is None:
            return None
        on = (integral.on,)
        if integral.over == "ds":
            return self.select_facets(on, "residual")
        return select_cells(self.mesh, on, "residual")

    def _sites(self, scene: Scene, integral: Integral) -> tuple[BasisSites, Tensor | None]:
        """Return where an integral is, and a factor that is 0 outside the cells it names."""
        inside = self._selected(integral)
        if integral.over == "ds":
            return scene.facets(self.boundary if inside is None else inside), None
        if inside is None:
            return scene.cells(), None
        mask = torch.zeros(self.mesh.n_cells, 1, dtype=self.dtype, device=self.device)
        mask[inside] = 1.0
        return scene.cells(), mask

    def _term(self, scene: Scene, integral: Integral) -> Term:
        spec = self.spec
        names = integral.expression.names | {
            name for d in integral.expression.derivatives for name in (d.split("(")[1][:-1],)
        }
        tests = {u.name: u.test for u in spec.unknowns if u.test in names}
        trials = tuple(u.name for u in spec.unknowns if u.name in names)
        sites, mask = self._sites(scene, integral)
        text = Formula(integral.expression.canonical)

        def integrand(at: BasisSites, fields: Fields) -> Tensor:
            value = scene.evaluate(text, at.seeing(fields), "residual").tensor
            return value if mask is None else mask * value

        return Term(sites, self._duals(integrand, tests), trials)

    def _duals(
        self, integrand: Callable[[BasisSites, Fields], Tensor], tests: dict[str, str]
    ) -> Callable[[BasisSites], Duals]:
        ranks = {**self.ranks, **self.spec.tests}

        def duals(sites: BasisSites) -> Duals:
            if sites.fields is None:
                raise ArgumentError("a residual is evaluated where the solution is seen")
            like = sites.fields

            def value(test: Fields) -> Tensor:
                both = Fields(
                    lambda n: test[n] if n in test.ranks else like[n], ranks, like.solution
                )
                return integrand(sites, both)

            return duals_of_integrand(value, like, tests, sites.n, sites.q)

        return duals

    def _function_term(self, scene: Scene, law: PythonFunction) -> Term:
        spec = self.spec

        def integrand(sites: BasisSites, fields: Fields) -> Tensor:
            known = {name: scene.parameter(name, sites).tensor for name in self.declared}
            w = SimpleNamespace(x=sites.x, **known)
            arguments = [fields[u.name] for u in spec.unknowns]
            arguments += [fields[u.test] for u in spec.unknowns]
            value = law.function(*arguments, w)
            if not isinstance(value, Tensor) or value.ndim < 2:
                raise ArgumentError(
                    f"residual: {law.name} must return a tensor [*batch, n_cells, n_points]"
                )
            return value

        tests = {u.name: u.test for u in spec.unknowns}
        return Term(scene.cells(), self._duals(integrand, tests), tuple(tests))

    def terms(self, scene: Scene) -> list[Term]:
        """Return all integrals of a nonlinear residual; a linear one is in `operator`."""
        if not self.nonlinear:
            return []
        if isinstance(self.spec.form, PythonFunction):
            return [self._function_term(scene, self.spec.form)]
        return [self._term(scene, i) for i in self.spec.integrals]

    # -- operators ------------------------------------------------------------------------------

    def matrix(self, scene: Scene) -> Matrix:
        """Assemble the derivative of a linear residual."""
        numbering = self.numbering
        values = torch.zeros(numbering.pattern.nnz_csr, dtype=self.dtype, device=self.device)
        if self.nonlinear:
            return Matrix(values, None, None)
        zero = torch.zeros(numbering.n, dtype=self.dtype, device=self.device)
        recorded = torch.is_grad_enabled() and scene.requires_grad
        for term in (self._term(scene, i) for i in self.spec.integrals if self._degree(i)[1] >= 1):
            u = zero.expand(*self._batch(scene, term, zero), -1)
            more = tangent(scene, [term], u, recorded=recorded)
            values = values if more is None else values + more
        return Matrix(values if recorded else values.detach(), None, None)

    def load(self, scene: Scene) -> Tensor:
        """Assemble minus the value of a linear residual at zero."""
        zero = torch.zeros(self.numbering.n, dtype=self.dtype, device=self.device)
        if self.nonlinear:
            return zero
        loads = [self._term(scene, i) for i in self.spec.integrals if self._degree(i)[0] < 1]
        found = residual(scene, loads, zero)
        load = zero if found is None else -found
        return load if torch.is_grad_enabled() and scene.requires_grad else load.detach()

    def _batch(self, scene: Scene, term: Term, u: Tensor) -> tuple[int, ...]:
        """Batch dimensions of one term: what does not reach the matrix adds none to it."""
        with torch.no_grad():
            found = residual(scene, [term], u)
        return () if found is None else tuple(found.shape[:-1])

    def mass(self, scene: Scene) -> Tensor:
        """Assemble the products of all unknowns with their test functions."""
        one = torch.ones(1, 1, dtype=self.dtype, device=self.device)
        blocks = {}
        for name, rank in self.ranks.items():
            form = weak.vector_mass if rank else weak.mass
            blocks[name, name] = form(scene.geometry.basis(name), c=one)
        return self.numbering.matrix(blocks)

    def energy(self, scene: Scene, u: Tensor) -> Tensor:
        """Refuse: a weak form has no energy of its own."""
        del scene, u
        raise SpecError(self.spec.refused["energy"])
