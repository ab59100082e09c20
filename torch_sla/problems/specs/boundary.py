"""Boundary conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

from annotated_types import MinLen
from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema, core_schema

from torch_sla.problems.specs.base import Spec
from torch_sla.problems.specs.faults import fault
from torch_sla.problems.specs.place import NONNEGATIVE, SHARE, Place
from torch_sla.problems.specs.value import Value
from torch_sla.problems.specs.written import Points, Text

__all__ = [
    "Boundary",
    "Condition",
    "Dirichlet",
    "Neumann",
    "Periodic",
    "PointLoad",
    "Radiation",
    "Robin",
    "Selector",
    "Spring",
]


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
    several = (value,) if isinstance(value, str | int | float) else value
    for name in several if isinstance(several, list | tuple) else ():
        if isinstance(name, int | float):
            raise fault(f"a tag is text; received {name}: write it in quotes, '{name}'")
    return tuple(several) if isinstance(several, list) else several


if TYPE_CHECKING:
    Selector: TypeAlias = Any
else:
    Selector: TypeAlias = Annotated[tuple[Text, ...], MinLen(1), _OneOrMore()]
"""A tag, a list of tags, or a predicate that holds at all vertices of a facet (``"x < 1e-9"``)."""


class Condition(Spec):
    """The base of all conditions."""

    unknown: Text | None = Field(
        default=None,
        description="Which unknown, where a problem has several; the first when left out.",
    )

    @property
    def kind(self) -> str:
        """What a physics allows or refuses: the type, and which law is given."""
        return str(self.type)  # type: ignore[attr-defined]


class Dirichlet(Condition):
    """The solution is given: u = value.

    Where two conditions give a value to the same unknown (at a shared corner, or on the same facets), the later
    one in the list holds, as in most libraries: a value for all sides can be followed by exceptions. A condition
    that others replace everywhere has no effect. A scalar value for a vector unknown holds for each of its
    components.

    Examples
    --------
    >>> Dirichlet(on="left", value=0.0)
    Dirichlet(on=('left',), value=0.0)
    >>> Dirichlet(at=[(1.0, 0.0)], value=0.0, component=1).at
    ((1.0, 0.0),)
    """

    type: Literal["dirichlet"] = "dirichlet"
    on: Selector | None = Field(
        default=None, kw_only=False, description="Tag, tags or predicate of facets."
    )
    value: Annotated[Value, Place("dofs", (0, 1))] = Field(  # type: ignore[misc]
        kw_only=False, description="Value of the solution."
    )
    component: Annotated[int, Field(ge=0, le=2)] | None = Field(
        default=None, kw_only=False, description="Component of a vector unknown; all when left out."
    )
    at: Points | None = Field(
        default=None, description="Mesh points [n, dim] that are held, instead of facets."
    )

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if (self.on is None) == (self.at is None):
            raise ValueError("give exactly one of on (facets) and at (mesh points)")
        return self


class Neumann(Condition):
    """What enters through the boundary is given: exactly one of a flux, a traction, a pressure.

    ``flux`` is κ ∂u/∂n, positive into the body; ``traction`` is force per area; a ``pressure`` that is
    positive pushes on the body.

    Examples
    --------
    >>> Neumann("top", flux=1.0)
    Neumann(on=('top',), flux=1.0)
    >>> Neumann("right", traction=[0.0, -0.1])
    Neumann(on=('right',), traction=(0.0, -0.1))
    """

    type: Literal["neumann"] = "neumann"
    on: Selector = Field(kw_only=False, description="Tag, tags or predicate.")
    flux: Annotated[Value | None, Place("facets")] = Field(
        default=None, description="κ ∂u/∂n, into the body, per area (heat: W/m²)."
    )
    traction: Annotated[Value | None, Place("facets", (1,), size="space")] = Field(
        default=None, description="Force per area (N/m²), a vector."
    )
    pressure: Annotated[Value | None, Place("facets")] = Field(
        default=None, description="Pressure (N/m²), positive on the body."
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [n for n in ("flux", "traction", "pressure") if getattr(self, n) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"give exactly one of flux, traction, pressure; received {found}")
        return self

    @property
    def kind(self) -> str:
        """``"neumann.flux"``, ``"neumann.traction"`` or ``"neumann.pressure"``."""
        names = ("flux", "traction", "pressure")
        return "neumann." + next(n for n in names if getattr(self, n) is not None)


class Robin(Condition):
    """Exchange with surroundings: κ ∂u/∂n = coefficient (ambient − u).

    Examples
    --------
    >>> Robin("fins", coefficient=30.0, ambient=20.0)
    Robin(on=('fins',), coefficient=30.0, ambient=20.0)
    """

    type: Literal["robin"] = "robin"
    on: Selector = Field(kw_only=False, description="Tag, tags or predicate.")
    coefficient: Annotated[Value, Place("facets")] = Field(
        kw_only=False,
        description="Exchange coefficient (heat: W/(m² K), not negative). A negative one lets in what grows with u, "
        "and the matrix may be indefinite or singular.",
    )
    ambient: Annotated[Value, Place("facets")] = Field(
        default=0.0, kw_only=False, description="Value of u in the surroundings."
    )


class Radiation(Condition):
    """Radiation to surroundings: κ ∂u/∂n = σ emissivity (ambient⁴ − u⁴), u an absolute temperature.

    Below zero, where u is none, |u|³ u stands for u⁴, so that iterations find their way back.

    Examples
    --------
    >>> Radiation("right", emissivity=0.8, ambient=300.0)
    Radiation(on=('right',), emissivity=0.8, ambient=300.0)
    """

    type: Literal["radiation"] = "radiation"
    on: Selector = Field(kw_only=False, description="Tag, tags or predicate.")
    emissivity: Annotated[Value, Place("facets", within=SHARE)] = Field(
        kw_only=False, description="Between 0 and 1."
    )
    ambient: Annotated[Value, Place("facets", within=NONNEGATIVE)] = Field(
        kw_only=False, description="Absolute temperature of the surroundings (K), not negative."
    )
    constant: Annotated[float, Field(gt=0)] = Field(
        default=5.670374419e-8,
        description="σ, the constant of Stefan and Boltzmann (W/(m² K⁴), CODATA 2018).",
    )


class Spring(Condition):
    """Springs to the ground: force = −stiffness u; a vector has one stiffness per direction.

    Examples
    --------
    >>> Spring(on="bottom", stiffness=1e6)
    Spring(on=('bottom',), stiffness=1000000.0)
    """

    type: Literal["spring"] = "spring"
    on: Selector | None = Field(
        default=None, kw_only=False, description="Tag, tags or predicate: an elastic foundation."
    )
    stiffness: Annotated[Value, Place("facets", (0, 1), within=NONNEGATIVE, size="space")] = Field(  # type: ignore[misc]
        kw_only=False,
        description="Force per area and displacement (N/m³) on facets, force per displacement (N/m) "
        "at points; not negative.",
    )
    at: Points | None = Field(default=None, description="Positions [n, dim] of single springs.")

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if (self.on is None) == (self.at is None):
            raise ValueError("give exactly one of on (facets) and at (points)")
        return self


class Periodic(Condition):
    """The values on some facets repeat those on others, which are the same facets moved.

    Values may be given on these sides, too: all conditions hold at once, so a value given on one side holds on both,
    and two that differ are an error.

    Examples
    --------
    >>> Periodic(on="right", to="left").to
    ('left',)
    """

    type: Literal["periodic"] = "periodic"
    on: Selector = Field(kw_only=False, description="Facets whose values are repeated ones.")
    to: Selector = Field(kw_only=False, description="Facets whose values they repeat.")


class PointLoad(Condition):
    """Concentrated forces (or sources) at points of the body, on nodes or off.

    Examples
    --------
    >>> PointLoad(at=[(1.0, 0.5)], value=[0.0, -1.0]).at
    ((1.0, 0.5),)
    """

    type: Literal["point_load"] = "point_load"
    at: Points = Field(kw_only=False, description="Positions [n, dim].")
    value: Annotated[Value, Place("points", (0, 1))] = Field(
        kw_only=False,
        description="Force at each of them (N), a vector; a number for scalar unknowns.",
    )


Boundary: TypeAlias = Annotated[
    Dirichlet | Neumann | Robin | Radiation | Spring | PointLoad | Periodic,
    Field(discriminator="type"),
]
