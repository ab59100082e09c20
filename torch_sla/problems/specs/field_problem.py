"""The base of problems on meshes: conditions, and the verbs that see the operators."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from torch_sla.errors import DTypeError, SpecError
from torch_sla.problems.specs.boundary import Boundary
from torch_sla.problems.specs.given import joined, state
from torch_sla.problems.specs.mesh import MeshSpec
from torch_sla.problems.specs.problem import Problem
from torch_sla.problems.specs.written import Listed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from torch_sla.assembly.mesh import Mesh
    from torch_sla.linalg import SparseTensor
    from torch_sla.problems.lowering.operators import Assembled

__all__ = ["FieldProblem"]


class FieldProblem(Problem):
    """A problem for a field on a mesh."""

    timeless: ClassVar[str | None] = None

    mesh: MeshSpec = Field(description="The mesh of the body.")
    order: Literal[1, 2] = Field(default=1, description="Polynomial order of the elements.")
    quadrature_degree: Annotated[int, Field(ge=1, le=60)] | None = Field(
        default=None,
        description="Degree of the polynomials of which integrals over cells and facets are exact (on quads and "
        "hexahedra, in each direction); twice the highest order of the elements when left out, and no less.",
    )
    boundary: Listed[Boundary] = Field(
        default=(), description="Conditions; facets without one are free of flux."
    )

    conditions: ClassVar[tuple[str, ...]] = ()
    """Kinds of conditions that have a meaning here."""

    _untransformed: ClassVar[bool] = True

    @model_validator(mode="after")
    def _check_conditions(self) -> Self:
        for i, condition in enumerate(self.boundary):
            kind = condition.kind
            if kind not in self.conditions:
                known = " ".join(self.conditions)
                raise SpecError(
                    f"{kind!r} has no meaning in {self.type!r}; its conditions are: {known}",
                    path=f"boundary.{i}",
                )
            name = condition.unknown or next(iter(self.fields))
            if name not in self.fields:
                known = " ".join(self.fields)
                raise SpecError(
                    f"there is no unknown {name!r}; unknowns: {known}", path=f"boundary.{i}.unknown"
                )
            if getattr(condition, "component", None) is not None and not self.fields[name]:
                raise SpecError(
                    f"{name!r} is a scalar and has no components", path=f"boundary.{i}.component"
                )
        return self

    def assemble(
        self,
        values: Mapping[str, Any] | None = None,
        /,
        *,
        points: Tensor | None = None,
        **named: Any,
    ) -> Assembled:
        """Return the operators themselves: ``matrix load mass free lift``, differentiable."""
        with self._located() as model:
            return model.assemble(joined(values, named), points=state("points", points))

    def residual(
        self,
        u: Tensor,
        values: Mapping[str, Any] | None = None,
        /,
        *,
        points: Tensor | None = None,
        constrained: bool = True,
        **named: Any,
    ) -> Tensor:
        """Return K u − F; in constrained rows u − g, or the reactions where ``constrained=False``."""
        at = state("u", u)
        if at is None:
            raise DTypeError("u is None; a tensor or an array is needed")
        with self._located() as model:
            given = joined(values, named)
            return model.residual(
                at, given, points=state("points", points), constrained=constrained
            )

    def jacobian(
        self,
        u: Tensor | None = None,
        values: Mapping[str, Any] | None = None,
        /,
        *,
        points: Tensor | None = None,
        constrained: bool = True,
        **named: Any,
    ) -> SparseTensor:
        """Return the derivative of `residual` with respect to u."""
        with self._located() as model:
            given = joined(values, named)
            return model.jacobian(
                state("u", u), given, points=state("points", points), constrained=constrained
            )

    def mesh_data(self) -> Mesh:
        """Return the mesh: points ``[n, dim]`` (a copy, yours to change), cells, facets, tags."""
        with self._located() as model:
            return replace(model.mesh, points=model.mesh.points.clone())

    def dof_points(self) -> Tensor:
        """Return where the unknowns live ``[n_dofs, dim]``."""
        with self._located() as model:
            return model.dof_points().clone()

    def sites(self, name: str) -> Tensor:
        """Return the coordinates ``[n, dim]`` where a parameter lives."""
        with self._located() as model:
            return model.sites(name).clone()
