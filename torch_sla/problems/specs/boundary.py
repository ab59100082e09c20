"""Boundary conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from annotated_types import MinLen
from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from torch_sla.problems.specs.base import Spec
from torch_sla.problems.specs.value import Place, Text, Value

__all__ = ["Boundary", "Dirichlet", "Neumann", "Robin", "Selector"]


class _OneOrMore:
    """Reads a single text as a list of one, and says so in the JSON Schema."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(_names, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        several = handler(schema)
        return {"anyOf": [several["items"], several]}


def _names(value: Any) -> Any:
    return (
        (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value
    )


if TYPE_CHECKING:
    Selector: TypeAlias = Any
else:
    Selector: TypeAlias = Annotated[tuple[Text, ...], MinLen(1), _OneOrMore()]
"""A tag, a list of tags, or a predicate that holds at all vertices of a facet (``"x < 1e-9"``)."""


class Dirichlet(Spec):
    """The solution is given: u = value.

    Where two conditions meet (at a shared corner), the later one in the list holds.

    Examples
    --------
    >>> Dirichlet(on="left", value=0.0)
    Dirichlet(on=('left',), value=0.0)
    """

    type: Literal["dirichlet"] = "dirichlet"
    on: Selector = Field(kw_only=False, description="Tag, tags or predicate.")
    value: Annotated[Value, Place("dofs")] = Field(
        kw_only=False, description="Value of the solution."
    )


class Neumann(Spec):
    """The flux is given: κ ∂u/∂n = flux, positive into the body."""

    type: Literal["neumann"] = "neumann"
    on: Selector = Field(kw_only=False, description="Tag, tags or predicate.")
    flux: Annotated[Value, Place("facets")] = Field(
        description="κ ∂u/∂n, into the body, per area (heat: W/m²)."
    )


class Robin(Spec):
    """Exchange with surroundings: κ ∂u/∂n = coefficient (ambient − u)."""

    type: Literal["robin"] = "robin"
    on: Selector = Field(kw_only=False, description="Tag, tags or predicate.")
    coefficient: Annotated[Value, Place("facets")] = Field(
        kw_only=False, description="Exchange coefficient (heat: W/(m² K)), not negative."
    )
    ambient: Annotated[Value, Place("facets")] = Field(
        default=0.0, kw_only=False, description="Value of u in the surroundings."
    )


Boundary: TypeAlias = Annotated[Dirichlet | Neumann | Robin, Field(discriminator="type")]
