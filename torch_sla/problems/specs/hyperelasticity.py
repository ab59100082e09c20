"""Elasticity at large strain."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from torch_sla.errors import ExpressionError, SpecError
from torch_sla.problems.expression import degree
from torch_sla.problems.specs.field_problem import FieldProblem
from torch_sla.problems.specs.place import NONNEGATIVE, Place
from torch_sla.problems.specs.value import Load, Value  # noqa: TC001
from torch_sla.problems.specs.written import FormulaText, FrozenMap, Text, thaw

__all__ = ["LAWS", "HyperelasticityProblem"]

LAWS = {
    "neo_hookean": ("mu", "lam"),
    "saint_venant_kirchhoff": ("mu", "lam"),
    "mooney_rivlin": ("c1", "c2", "kappa"),
}
"""Constants of each law. Young's modulus and Poisson's ratio may stand for mu and lam."""

INVARIANTS = ("I1", "I2", "I3", "J", "J1", "J2")


class HyperelasticityProblem(FieldProblem):
    """−∇·P = body_force on the undeformed body, P = ∂W/∂F, F = 1 + ∇u; u is the displacement, a vector.

    Loads are forces per undeformed area and volume, except a ``pressure``, which follows the surface.
    They are applied in `load_steps`, and a step that fails is halved; ``control="arc_length"`` goes past limit
    points of the load. The gradient is that of the
    converged state. Outputs may use ``F``, ``J`` = det F, ``piola`` (first Piola-Kirchhoff stress), the
    Cauchy ``stress``, ``strain`` (Green-Lagrange) and ``energy_density``, tensors 3 by 3.

    Examples
    --------
    >>> from torch_sla import BoxMesh, Dirichlet, HyperelasticityProblem, Reaction
    >>> block = HyperelasticityProblem(
    ...     mesh=BoxMesh(cells=(1, 1, 1), cell="hexahedron"),
    ...     law="neo_hookean",
    ...     constants={"mu": 1.0, "lam": 0.0},
    ...     boundary=[
    ...         Dirichlet("left", 0.0, component=0),
    ...         Dirichlet("front", 0.0, component=1),
    ...         Dirichlet("bottom", 0.0, component=2),
    ...         Dirichlet("right", 1.0, component=0),
    ...     ],
    ...     outputs=[Reaction("force", "right")],
    ... )
    >>> round(float(block.solve()["force"][0]), 9)  # mu (a - 1/a) at a stretch of 2
    1.5
    """

    fields_of: ClassVar[dict[str, int]] = {"u": 1}
    derived_of: ClassVar[dict[str, int]] = {
        "F": 2,
        "J": 0,
        "piola": 2,
        "stress": 2,
        "strain": 2,
        "energy_density": 0,
    }
    conditions: ClassVar[tuple[str, ...]] = (
        *("dirichlet", "neumann.traction", "neumann.pressure", "point_load", "periodic"),
    )
    refused: ClassVar[dict[str, str]] = {
        "flux": "a flux has no meaning in elasticity; reaction gives the force that a boundary takes"
    }

    evolves: ClassVar[frozenset[int]] = frozenset({2})
    still: ClassVar[str] = "a body resists acceleration (density), not velocity"

    type: Literal["hyperelasticity"] = "hyperelasticity"
    model: Literal["plane_strain", "solid"] | None = Field(
        default=None, description="What the mesh stands for: plane_strain in 2D, solid in 3D."
    )
    law: FormulaText = Field(
        default="neo_hookean",
        description="neo_hookean, saint_venant_kirchhoff, mooney_rivlin, or the energy per undeformed "
        "volume: an expression of I1 I2 I3 J, J1 J2 (of unit volume) and the constants.",
    )
    constants: Annotated[
        dict[Text, Value],
        BeforeValidator(thaw),
        AfterValidator(FrozenMap),
        Place("cells", named=True),
    ] = Field(
        default_factory=FrozenMap,
        description="The constants of the law, by name (moduli in Pa); none for an energy in numbers.",
    )
    dilatation: Literal["pointwise", "averaged"] = Field(
        default="pointwise",
        description="averaged takes the mean volume change of each cell, on quad and hexahedron of order 2 a "
        "linear one, which keeps nearly incompressible bodies from locking (quad, hexahedron, or order 2; laws with J1 "
        "and J2, or I1 and I2 linearly).",
    )
    body_force: Annotated[Load | None, Place("cells", (1,), size="space")] = Field(
        default=None, description="Force per undeformed volume (N/m³)."
    )
    density: Annotated[Value, Place("cells", within=NONNEGATIVE)] = Field(
        default=1.0, description="Mass per undeformed volume (kg/m³); makes the mass matrix."
    )
    load_steps: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=1,
        description="In how many equal steps the loads are applied, to begin with; in time they are what their laws "
        "say, and this has no effect.",
    )
    control: Literal["load", "arc_length"] = Field(
        default="load",
        description="arc_length follows the path of equilibria over limit points (snap-through) until the whole "
        "load is carried; load_steps is then about how many steps it takes without any.",
    )

    @model_validator(mode="after")
    def _check_law(self) -> Self:
        given = set(self.constants)
        if self.law in LAWS:
            wanted = set(LAWS[self.law])
            moduli = {"young_modulus", "poisson_ratio"}
            either = f"{' '.join(LAWS[self.law])}"
            if "lam" in wanted:
                either += ", or young_modulus poisson_ratio"
                wanted = moduli if given & moduli else wanted
            if given != wanted:
                raise SpecError(
                    f"the constants of {self.law} are {either}; received {' '.join(sorted(given)) or 'none'}",
                    path="constants",
                )
            return self
        taken = given & {*INVARIANTS, "x", "y", "z", "u", "F"}
        if taken:
            raise SpecError(f"{sorted(taken)[0]!r} has a meaning already", path="constants")
        try:
            self.law.expression.check(dict.fromkeys([*INVARIANTS, *given], 0))  # type: ignore[attr-defined]
        except ExpressionError as error:
            known = " ".join(LAWS)
            message = f"{error.message}\n(a law is one of {known}, or an energy)"
            raise ExpressionError(message, path="law") from None
        if not self.law.expression.names & {*INVARIANTS}:  # type: ignore[attr-defined]
            raise SpecError(
                f"the energy does not depend on the deformation; write it with {' '.join(INVARIANTS)}",
                path="law",
            )
        unused = given - self.law.expression.names  # type: ignore[attr-defined]
        if unused:
            raise SpecError(f"the law does not use {sorted(unused)[0]!r}", path="constants")
        return self

    @model_validator(mode="after")
    def _check_dilatation(self) -> Self:
        if self.dilatation == "averaged" and not self.splits:
            raise SpecError(
                "averaged needs a law that resists the change of volume by functions of J, and this one has I1 or "
                "I2 other than linearly; write it with J1 and J2 (J1 = I1/J**(2/3), J2 = I2/J**(4/3)), as in "
                "mu/2*(J1 - 3) + k/2*(J - 1)**2, or take neo_hookean or mooney_rivlin",
                path="dilatation",
            )
        return self

    @property
    def splits(self) -> bool:
        """Whether the law resists a change of volume by functions of J, so that this can be averaged."""
        if self.law in LAWS:
            return self.law != "saint_venant_kirchhoff"
        known = {*INVARIANTS, *self.constants}
        return degree(self.law.expression, {"I1", "I2"}, known) <= 1  # type: ignore[attr-defined]
