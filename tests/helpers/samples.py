"""One small problem for each physics in the registry, with every kind of parameter it can have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from torch_sla import (
    PML,
    BoxMesh,
    Component,
    Dirichlet,
    EigenProblem,
    ElasticityProblem,
    Energy,
    Entries,
    Flux,
    HelmholtzProblem,
    HyperelasticityProblem,
    Integral,
    Line,
    LinearProblem,
    Maximum,
    Minimum,
    Neumann,
    NonlinearProblem,
    Parameter,
    PointLoad,
    PoissonProblem,
    Probe,
    Radiation,
    Reaction,
    RectangleMesh,
    Robin,
    Root,
    Spring,
    StokesProblem,
    SweepProblem,
    TransientProblem,
    Unknown,
    WeakFormProblem,
)
from torch_sla.problems.specs.arrays import Array

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.problems.specs.problem import Problem


@dataclass(frozen=True)
class Sample:
    """A problem, and the values it is solved with where defaults would not do.

    Parameters
    ----------
    make
        Declares the problem.
    second
        Fields that have second derivatives; None means all.
    """

    make: Callable[[], Problem]
    second: tuple[str, ...] | None = None

    def values(self, problem: Problem) -> dict[str, torch.Tensor]:
        """Return random values around the defaults, one per site."""
        model = problem.compile()
        generator = torch.Generator().manual_seed(90210)
        found = {}
        names = list(getattr(model, "unvaried", problem.declared))
        for name, default in model.defaults(names).items():
            noise = torch.rand(default.shape, generator=generator, dtype=torch.float64)
            found[name] = default * (0.9 + 0.2 * noise)
        return found


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


def written() -> Problem:
    """A linear weak form over cells and facets."""
    return WeakFormProblem(
        mesh=RectangleMesh(cells=(3, 3)),
        residual="k*dot(grad(u), grad(v)) + c*u*v*ds('right') - f*v*(1 + x) - g*v*ds('top')",
        parameters=[
            Parameter("k", on="cells", default=2.0),
            Parameter("c", on="facets", default=1.0),
            Parameter("f", on="nodes", default=3.0),
            Parameter("g", default=0.5),
        ],
        boundary=[Dirichlet("left", Parameter("d", default=0.3))],
        outputs=[Probe("p", at=[(0.33, 0.41)]), Reaction("r", "left")],
    )


def written_pair() -> Problem:
    """A nonlinear pair of a vector and a scalar."""
    return WeakFormProblem(
        mesh=RectangleMesh(cells=(2, 2)),
        unknowns=[Unknown("w", shape="vector", test="v"), Unknown("s", order=2, test="q")],
        residual=(
            "(1 + a*s**2)*inner(grad(w), grad(v)) - dot(normal, v)*ds('right') + b*v[1]"
            " + dot(grad(s), grad(q)) - c*(1 + dot(w, w))*q"
        ),
        parameters=[
            Parameter("a", on="cells", default=0.5),
            Parameter("b", default=0.4),
            Parameter("c", on="nodes", default=1.0),
        ],
        boundary=[Dirichlet("left", 0.1), Dirichlet("top", 0.2, unknown="s")],
        outputs=[Probe("p", at=[(0.33, 0.41)], quantity="s*w"), Integral("i", "div(w)")],
    )


def vibrating() -> Problem:
    """A plate with a spring, held at one side."""
    return EigenProblem(
        of=ElasticityProblem(
            mesh=RectangleMesh(cells=(3, 2), size=(2.0, 1.0)),
            model="plane_stress",
            young_modulus=Parameter("E", on="cells", default=1.0),
            poisson_ratio=Parameter("nu", default=0.3),
            density=Parameter("rho", on="nodes", default=1.0),
            boundary=[Dirichlet("left", 0.0), Spring("right", Parameter("ks", default=0.2))],
        ),
        k=3,
        outputs=[Component("first", index=[0])],
    )


def heating() -> Problem:
    """A body heated in time, by laws and values of every kind."""
    return TransientProblem(
        of=PoissonProblem(
            mesh=RectangleMesh(cells=(3, 3), size=(1.0, 1.3)),
            diffusivity=Parameter("k", on="cells", default=1.0),
            capacity=Parameter("c", on="nodes", default=1.0),
            source="f*(1 + t)",
            boundary=[
                Dirichlet("left", "g*cos(t)"),
                Robin("right", Parameter("h", default=3.0), "2 + sin(5*t)"),
            ],
            parameters=[
                Parameter("f", default=2.0, time="steps"),
                Parameter("g", default=0.7),
            ],
            outputs=[Probe("p", at=[(0.33, 0.41)]), Flux("out", "left"), Energy("e")],
        ),
        initial=Parameter("u0", on="nodes", default=0.6),
        end=0.5,
        steps=3,
        scheme="crank_nicolson",
    )


def swinging() -> Problem:
    """A body that is let go."""
    return TransientProblem(
        of=ElasticityProblem(
            mesh=RectangleMesh(cells=(3, 2), size=(2.0, 1.0)),
            model="plane_strain",
            young_modulus=Parameter("E", on="cells", default=1.0),
            density=Parameter("rho", default=1.0),
            body_force=[0.0, Parameter("b", default=-0.1)],
            boundary=[Dirichlet("left", 0.0)],
            outputs=[Probe("tip", at=[(1.71, 0.52)]), Reaction("r", "left"), Energy("e")],
        ),
        initial=[Parameter("stretch", default=0.1), "0.2*x**2"],
        initial_velocity=["0.0*x", "v0*x"],
        parameters=[Parameter("v0", default=0.1)],
        end=2.0,
        steps=4,
        checkpoints=2,
        save=["velocity"],
    )


def hot() -> Problem:
    """A body that conducts better the hotter it is."""
    return TransientProblem(
        of=PoissonProblem(
            mesh=RectangleMesh(cells=(2, 3)),
            diffusivity="k*(1 + b*u**2)",
            capacity=Parameter("c", default=1.0),
            parameters=[Parameter("k", on="cells", default=1.0), Parameter("b", default=0.4)],
            boundary=[Dirichlet("left", "1 + t")],
            outputs=[Probe("p", at=[(0.33, 0.41)]), Energy("e")],
        ),
        initial="u0*(1 + y)",
        parameters=[Parameter("u0", default=0.5)],
        end=0.4,
        steps=3,
    )


def cases() -> Problem:
    """Three loads on one stiffness."""
    return SweepProblem(
        of=PoissonProblem(
            mesh=RectangleMesh(cells=(3, 3)),
            diffusivity=Parameter("k", on="cells", default=1.0),
            source=Parameter("f", on="nodes", default=1.0),
            boundary=[Dirichlet("left", Parameter("g", default=0.2))],
            outputs=[Probe("p", at=[(0.33, 0.41)]), Flux("out", "left")],
        ),
        cases={"f": [1.0, -0.5, 2.0]},
    )


ROWS, COLS = Array([0, 0, 1, 1, 1, 2, 2]), Array([0, 1, 0, 1, 2, 1, 2])
DIAGONAL = Array([0, 1, 2])


def system() -> Problem:
    """An unsymmetric matrix by entries."""
    return LinearProblem(
        matrix=Entries(
            rows=ROWS,
            cols=COLS,
            shape=[3, 3],
            values=Parameter("a", shape=(7,), default=[2.0, -0.5, -1.0, 2.5, -0.7, -0.4, 3.0]),
        ),
        rhs=Parameter("b", shape=(3,), default=[1.0, 2.0, 0.5]),
        outputs=[Component("last", index=[2, 0])],
    )


def spectrum() -> Problem:
    """A generalised eigenproblem; the two equal entries off the diagonal are one parameter."""
    return EigenProblem(
        matrix=Entries(
            rows=DIAGONAL,
            cols=DIAGONAL,
            shape=[3, 3],
            values=Parameter("a", shape=(3,), default=[2.0, 3.5, 6.0]),
        ),
        mass=Entries(
            rows=DIAGONAL,
            cols=DIAGONAL,
            shape=[3, 3],
            values=Parameter("m", shape=(3,), default=[1.0, 1.2, 0.9]),
        ),
        k=2,
        outputs=[Component("first", index=[0])],
    )


def equations() -> Problem:
    """Two equations."""
    return NonlinearProblem(
        unknowns=[Root("x", start=1.0), Root("y", start=2.0)],
        residual=["x**2 + y**2 - r2", "x - a*y + sin(x)*c"],
        parameters=[
            Parameter("r2", default=8.0),
            Parameter("a", default=1.1),
            Parameter("c", default=0.2),
        ],
        outputs=[Component("y", index=[1])],
    )


SAMPLES: dict[str, dict[str, Sample]] = {
    "poisson": {"linear": Sample(diffusion), "nonlinear": Sample(radiating)},
    "helmholtz": {"layer": Sample(wave)},
    "linear": {"entries": Sample(system)},
    "eigen": {
        "pair": Sample(spectrum, second=("eigenvalues",)),
        "modes": Sample(vibrating, second=("eigenvalues",)),
    },
    "transient": {
        "heating": Sample(heating),
        "swinging": Sample(swinging),
        "nonlinear": Sample(hot),
    },
    "sweep": {"loads": Sample(cases)},
    "nonlinear": {"two": Sample(equations)},
    "hyperelasticity": {"pressed": Sample(rubber), "energy": Sample(energy)},
    "stokes": {"channel": Sample(flow), "cavity": Sample(enclosed)},
    "weak_form": {"linear": Sample(written), "pair": Sample(written_pair)},
    "elasticity": {"plane": Sample(plate), "orthotropic": Sample(orthotropic)},
}
"""By type of the registry: what the contract suite walks."""
