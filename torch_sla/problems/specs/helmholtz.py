"""Waves of one frequency: acoustics, membranes, electromagnetics in the plane."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from torch_sla.problems.specs.base import Spec
from torch_sla.problems.specs.field_problem import FieldProblem
from torch_sla.problems.specs.place import Place
from torch_sla.problems.specs.value import Load, Value  # noqa: TC001
from torch_sla.problems.specs.written import Listed

__all__ = ["PML", "HelmholtzProblem"]


class PML(Spec):
    """A perfectly matched layer: everything outside a box, up to the end of the mesh, absorbs waves.

    Examples
    --------
    >>> PML(lower=[0.0, 0.0], upper=[1.0, 1.0], thickness=0.2).reflection
    1e-06
    """

    type: Literal["pml"] = "pml"
    lower: Annotated[Listed[float], Field(min_length=1, max_length=3)] = Field(
        description="Corner of the box of physical space with least coordinates."
    )
    upper: Annotated[Listed[float], Field(min_length=1, max_length=3)] = Field(
        description="Opposite corner."
    )
    thickness: Annotated[float, Field(gt=0)] = Field(
        description="Thickness of the layer; on each side the mesh ends with the box, or goes on as far as this."
    )
    reflection: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=1e-6,
        description="Amplitude that comes back at normal incidence, before discretisation, of waves of the "
        "wavenumber k n / √r; where n or r vary in space, of the wavenumber k.",
    )


class HelmholtzProblem(FieldProblem):
    """−∇·(r ∇u) − k² n² u = source; u is complex, the time factor is e^(−iωt).

    Waves leave through ``Robin(on, coefficient="-1j*k")`` (impedance, first order) or a layer. Boundary
    facets without a condition are rigid (r ∂u/∂n = 0).

    Examples
    --------
    >>> from torch_sla import Dirichlet, HelmholtzProblem, IntervalMesh, Parameter, Probe, Robin
    >>> tube = HelmholtzProblem(
    ...     mesh=IntervalMesh(cells=200),
    ...     order=2,
    ...     wavenumber=Parameter("k", default=6.0),
    ...     boundary=[Dirichlet("left", 1.0), Robin("right", "-1j*k", 0.0)],
    ...     outputs=[Probe("end", at=[1.0], quantity="abs(u)")],
    ... )
    >>> round(float(tube.solve()["end"]), 6)
    1.0
    """

    fields_of: ClassVar[dict[str, int]] = {"u": 0}
    is_complex: ClassVar[bool] = True
    conditions: ClassVar[tuple[str, ...]] = (
        "dirichlet",
        "neumann.flux",
        "robin",
        "point_load",
        "periodic",
    )
    refused: ClassVar[dict[str, str]] = {
        "energy": "name what is meant, such as integral: abs(u)**2",
    }

    timeless: ClassVar[str | None] = "this problem is steady: its time is a harmonic"
    still: ClassVar[str] = "its field is the amplitude of one harmonic, and time is gone already"

    type: Literal["helmholtz"] = "helmholtz"
    stiffness: Annotated[Value, Place("cells")] = Field(
        default=1.0, description="r (acoustics: 1 / density), not zero; may be complex."
    )
    wavenumber: Annotated[Value, Place("cells")] = Field(
        description="k = ω / c (1/m); an imaginary part damps."
    )
    refraction: Annotated[Value, Place("cells")] = Field(
        default=1.0, description="n: by how much waves are slower than in the reference."
    )
    source: Annotated[Load, Place("cells")] = Field(
        default=0.0, description="Right-hand side per volume; may be complex."
    )
    layer: PML | None = Field(default=None, description="A perfectly matched layer around a box.")
