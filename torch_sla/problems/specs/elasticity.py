"""Linear elasticity at small strain."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from torch_sla.errors import SpecError
from torch_sla.problems.specs.field_problem import FieldProblem
from torch_sla.problems.specs.place import NONNEGATIVE, POSITIVE, Place
from torch_sla.problems.specs.value import Load, Value  # noqa: TC001

__all__ = ["ElasticityProblem"]


class ElasticityProblem(FieldProblem):
    """−∇·σ = body_force, σ = C : (ε(u) − ε_thermal); u is the displacement, a vector.

    Boundary facets without a condition are free of traction. Outputs may use ``stress`` and ``strain``,
    3 by 3 in every model: index 2 is out of the plane, or the hoop of a body of revolution.

    Examples
    --------
    >>> from torch_sla import BoxMesh, Dirichlet, ElasticityProblem, Neumann, Probe
    >>> bar = ElasticityProblem(
    ...     mesh=BoxMesh(cells=(4, 1, 1), size=(4.0, 1.0, 1.0), cell="hexahedron"),
    ...     young_modulus=200.0,
    ...     poisson_ratio=0.0,
    ...     boundary=[Dirichlet("left", 0.0), Neumann("right", traction=[2.0, 0.0, 0.0])],
    ...     outputs=[Probe("end", at=[(4.0, 0.5, 0.5)])],
    ... )
    >>> [round(x, 9) + 0.0 for x in bar.solve()["end"][0].tolist()]
    [0.04, 0.0, 0.0]
    """

    fields_of: ClassVar[dict[str, int]] = {"u": 1}
    derived_of: ClassVar[dict[str, int]] = {"stress": 2, "strain": 2}
    conditions: ClassVar[tuple[str, ...]] = (
        *("dirichlet", "neumann.traction", "neumann.pressure", "spring", "point_load", "periodic"),
    )
    refused: ClassVar[dict[str, str]] = {
        "flux": "a flux has no meaning in elasticity; reaction gives the force that a boundary takes"
    }

    evolves: ClassVar[frozenset[int]] = frozenset({2})
    still: ClassVar[str] = "a body resists acceleration (density), not velocity"

    type: Literal["elasticity"] = "elasticity"
    model: Literal["plane_stress", "plane_strain", "solid", "axisymmetric"] | None = Field(
        default=None,
        description="What the mesh stands for; solid in 3D. axisymmetric: x is the radius, y the axis.",
    )
    young_modulus: Annotated[Value, Place("cells", (0, 1), within=POSITIVE, size=3)] = Field(
        default=1.0, description="E (Pa), positive; a vector [Ex, Ey, Ez] makes it orthotropic."
    )
    poisson_ratio: Annotated[Value, Place("cells", (0, 1), size=3)] = Field(
        default=0.3, description="ν; with orthotropy [ν_xy, ν_yz, ν_xz], ν_ij/E_i = ν_ji/E_j."
    )
    shear_modulus: Annotated[Value | None, Place("cells", (1,), within=POSITIVE, size=3)] = Field(
        default=None, description="[G_xy, G_yz, G_xz] (Pa), with orthotropy only."
    )
    dilatation: Literal["pointwise", "averaged"] = Field(
        default="pointwise",
        description="averaged takes the mean volume change of each cell, on quad and hexahedron of order 2 a "
        "linear one, which keeps nearly incompressible bodies from locking (not in plane_stress; quad, hexahedron, "
        "or order 2).",
    )
    density: Annotated[Value, Place("cells", within=NONNEGATIVE)] = Field(
        default=1.0, description="Mass per volume (kg/m³); makes the mass matrix."
    )
    thickness: Annotated[Value | None, Place("cells", within=POSITIVE)] = Field(
        default=None, description="Thickness of plane models (m); 1 when left out."
    )
    body_force: Annotated[Load | None, Place("cells", (1,), size="space")] = Field(
        default=None, description="Force per volume (N/m³); {value: v, on: tag} acts there alone."
    )
    thermal_expansion: Annotated[Value, Place("cells")] = Field(
        default=0.0, description="Linear expansion per temperature (1/K)."
    )
    temperature: Annotated[Value | None, Place("cells")] = Field(
        default=None, description="Temperature above that of the stress-free state (K)."
    )

    @model_validator(mode="after")
    def _check_dilatation(self) -> Self:
        if self.dilatation == "averaged" and self.model == "plane_stress":
            raise SpecError(
                "averaged is not for plane_stress: a sheet is free to change its thickness, so it does not lock; "
                "leave dilatation out",
                path="dilatation",
            )
        return self

    @model_validator(mode="after")
    def _check_expansion(self) -> Self:
        if self.temperature is not None and self.thermal_expansion == 0.0:
            raise SpecError(
                "it strains nothing where thermal_expansion is 0, as it is when left out; give thermal_expansion",
                path="temperature",
            )
        return self

    @model_validator(mode="after")
    def _check_ratio(self) -> Self:
        nu, most = self.poisson_ratio, 1.0 if self.model in (None, "plane_stress") else 0.5
        if isinstance(nu, int | float) and not -1.0 < nu < most:
            remedy = "; 0.4999 stands for 0.5, with dilatation: averaged"
            raise SpecError(
                f"{self.model or 'a body'} needs -1 < nu < {most}; received {nu:g}"
                f"{remedy if most < 1.0 and nu == most else ''}",
                path="poisson_ratio",
            )
        return self
