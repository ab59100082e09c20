"""Heat, bodies, waves and flows at rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch_sla import (
    PML,
    BoxMesh,
    Dirichlet,
    ElasticityProblem,
    Energy,
    Flux,
    HelmholtzProblem,
    HyperelasticityProblem,
    Integral,
    Line,
    Maximum,
    Minimum,
    Neumann,
    Parameter,
    PointLoad,
    PoissonProblem,
    Probe,
    Radiation,
    Reaction,
    RectangleMesh,
    Robin,
    Spring,
    StokesProblem,
)

if TYPE_CHECKING:
    from torch_sla.problems.specs.problem import Problem

__all__ = [
    "diffusion",
    "enclosed",
    "energy",
    "flow",
    "orthotropic",
    "plate",
    "radiating",
    "rubber",
    "wave",
]


def diffusion() -> Problem:
    """Linear, every home of a parameter, an advection, an output of each kind."""
    return PoissonProblem(
        mesh=RectangleMesh(cells=(4, 3), size=(1.0, 1.3)),
        diffusivity="(1 + kc)*k*kn*kq",
        parameters=[
            Parameter("k", on="cells", default=1.0),
            Parameter("kc", default=0.2),
            Parameter("kn", on="nodes", default=1.0),
            Parameter("kq", on="quadrature", default=1.0),
        ],
        advection=[Parameter("a", default=0.8), 0.3],
        reaction=Parameter("c", default=0.7),
        source=Parameter("f", on="nodes", default=2.0),
        boundary=[
            Dirichlet("left", Parameter("g", on="nodes", default=1.5)),
            Neumann("top", flux=Parameter("q", on="facets", default=0.3)),
            Robin("right", Parameter("h", default=3.0), Parameter("Ta", on="nodes", default=2.0)),
        ],
        outputs=[
            Probe("p", at=[(0.33, 0.41)]),
            Integral("i", "u*kc"),
            Flux("out", "left"),
            Energy("e"),
            Maximum("m", "u", p=8.0),
            Minimum("low", "u"),
            Line("cut", at=[(0.1, 0.1), (0.9, 0.8)], n=4),
        ],
    )


def radiating() -> Problem:
    """Nonlinear in the body and on the boundary."""
    return PoissonProblem(
        mesh=RectangleMesh(cells=(3, 3), size=(1.0, 1.3), cell="quad"),
        diffusivity="k*(1 + b*u**2)",
        parameters=[
            Parameter("k", on="cells", default=1.0),
            Parameter("b", default=0.4),
            Parameter("f", on="nodes", default=2.0),
            Parameter("q", default=0.3),
        ],
        advection=[Parameter("a", default=0.8), "0.1*u"],
        source="f - 0.2*exp(0.3*u)",
        boundary=[
            Dirichlet("left", Parameter("g", on="nodes", default=1.5)),
            Neumann("top", flux="q*u"),
            Radiation(
                "right",
                Parameter("eps", on="facets", default=0.8),
                Parameter("Ta", default=1.2),
                constant=0.5,
            ),
        ],
        outputs=[Probe("p", at=[(0.33, 0.41)]), Flux("out", "left"), Energy("e")],
    )


def plate() -> Problem:
    """Plane strain with all loads."""
    return ElasticityProblem(
        mesh=RectangleMesh(cells=(3, 3), size=(2.0, 1.0)),
        model="plane_strain",
        young_modulus=Parameter("E", on="cells", default=1.0),
        poisson_ratio=Parameter("nu", on="nodes", default=0.3),
        thickness=Parameter("th", default=1.2),
        thermal_expansion=Parameter("al", default=0.1),
        temperature=Parameter("T", on="nodes", default=1.0),
        body_force=["x", Parameter("b", on="quadrature", default=-1.0)],
        boundary=[
            Dirichlet("left", Parameter("d", shape=(2,), default=[0.1, 0.2])),
            Neumann("right", pressure=Parameter("p", on="facets", default=0.3)),
            Spring("top", Parameter("ks", default=1.5)),
            PointLoad(at=[(1.13, 0.41)], value=Parameter("P", shape=(2,), default=[0.3, 0.2])),
        ],
        outputs=[
            Probe("tip", at=[(1.71, 0.52)]),
            Probe("s", at=[(0.91, 0.52)], quantity="von_mises(stress)"),
            Reaction("r", "left"),
            Energy("e"),
        ],
    )


def orthotropic() -> Problem:
    """A block of wood."""
    return ElasticityProblem(
        mesh=BoxMesh(cells=(2, 1, 1), cell="hexahedron"),
        young_modulus=Parameter("E", shape=(3,), default=[10.0, 1.0, 2.0]),
        poisson_ratio=Parameter("nu", shape=(3,), default=[0.3, 0.2, 0.25]),
        shear_modulus=Parameter("G", shape=(3,), default=[0.7, 0.4, 0.6]),
        boundary=[
            Dirichlet("left", 0.0),
            Neumann("right", traction=Parameter("tr", shape=(3,), default=[0.1, 0.2, 0.3])),
        ],
        outputs=[Probe("s", at=[(0.61, 0.52, 0.3)], quantity="stress"), Energy("e")],
    )


def wave() -> Problem:
    """A source in a layer, an impedance, a lossy medium."""
    return HelmholtzProblem(
        mesh=RectangleMesh(cells=(4, 4), size=(1.4, 1.3)),
        stiffness=Parameter("r", on="cells", default=1.0),
        wavenumber=Parameter("k", default=3.0),
        refraction="n*(1 + 0.1j)",
        parameters=[
            Parameter("n", on="nodes", default=1.1),
            Parameter("f", on="cells", default=1.0),
            Parameter("g", default=0.7),
            Parameter("amb", default=0.5),
        ],
        source="f*(1 + 1j*x)",
        layer=PML(lower=[0.0, 0.0], upper=[1.0, 2.0], thickness=0.4),
        boundary=[
            Dirichlet("left", "g*exp(1j*y)"),
            Neumann("top", flux=Parameter("q", on="facets", default=0.3)),
            Robin("bottom", "-1j*k", "amb + 0.2j"),
        ],
        outputs=[
            Probe("p", at=[(0.33, 0.41)]),
            Integral("power", "abs(u)**2"),
            Flux("out", "bottom"),
        ],
    )


def rubber() -> Problem:
    """Large strain under a dead traction and a following pressure."""
    return HyperelasticityProblem(
        mesh=RectangleMesh(cells=(2, 2), size=(2.0, 1.0)),
        law="mooney_rivlin",
        constants={
            "c1": Parameter("c1", on="cells", default=0.3),
            "c2": Parameter("c2", on="nodes", default=0.2),
            "kappa": Parameter("bulk", default=2.0),
        },
        body_force=[0.0, Parameter("b", on="quadrature", default=-0.02)],
        boundary=[
            Dirichlet("left", Parameter("d", shape=(2,), default=[0.02, 0.01])),
            Neumann("right", traction=[Parameter("tx", on="facets", default=0.1), -0.1]),
            Neumann("top", pressure=Parameter("p", default=0.1)),
        ],
        outputs=[
            Probe("tip", at=[(1.71, 0.52)]),
            Probe("s", at=[(0.91, 0.52)], quantity="von_mises(stress)"),
            Energy("e"),
            Integral("volume", "J"),
        ],
    )


def energy() -> Problem:
    """A law given as an energy, in space."""
    return HyperelasticityProblem(
        mesh=BoxMesh(cells=(1, 1, 1), cell="hexahedron"),
        law="a/2*(I1 - 3 - 2*log(J)) + k/2*(J - 1)**2",
        constants={"a": Parameter("a", on="cells", default=1.0), "k": Parameter("k", default=2.0)},
        boundary=[
            Dirichlet("left", 0.0),
            Dirichlet("right", Parameter("stretch", default=0.3), component=0),
        ],
        outputs=[Reaction("r", "right"), Energy("e")],
    )


def flow() -> Problem:
    """A channel with an outlet."""
    return StokesProblem(
        mesh=RectangleMesh(cells=(3, 3)),
        viscosity=Parameter("mu", on="cells", default=1.0),
        body_force=["x*y", Parameter("b", on="nodes", default=0.5)],
        boundary=[
            Dirichlet(["bottom", "top"], 0.0),
            Dirichlet("left", ["4*v0*y*(1 - y)", 0.0]),
            Neumann("right", pressure=Parameter("p0", on="facets", default=0.3)),
        ],
        parameters=[Parameter("v0", default=1.0)],
        outputs=[
            Probe("p1", at=[(0.13, 0.41)], quantity="p"),
            Probe("s", at=[(0.13, 0.41)], quantity="stress"),
            Integral("through", "dot(u, normal)", on="right"),
            Energy("e"),
        ],
    )


def enclosed() -> Problem:
    """A cavity, whose pressure has no level of its own."""
    return StokesProblem(
        mesh=RectangleMesh(cells=(3, 3)),
        viscosity=Parameter("mu", on="cells", default=1.0),
        boundary=[
            Dirichlet(["left", "right", "bottom"], 0.0),
            Dirichlet("top", ["16*lid*x**2*(1 - x)**2", 0.0]),
        ],
        parameters=[Parameter("lid", default=1.0)],
        outputs=[Probe("p1", at=[(0.13, 0.81)], quantity="p"), Energy("e")],
    )
