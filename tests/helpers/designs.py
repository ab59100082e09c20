"""Small design problems of all kinds, for suites that walk over optimizers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch_sla import (
    Compliance,
    DesignProblem,
    Dirichlet,
    EigenProblem,
    ElasticityProblem,
    HelmholtzProblem,
    Integral,
    IntervalMesh,
    Measured,
    Neumann,
    NonlinearProblem,
    Parameter,
    PoissonProblem,
    Probe,
    RectangleMesh,
    Robin,
    Root,
    SweepProblem,
    TransientProblem,
    Variable,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CONSTRAINED", "DESIGNS", "SQUARES", "cantilever", "conductivity"]

GROUND = [Dirichlet("left", 0.0), Dirichlet("right", 0.0)]


def rod(**changes: Any) -> PoissonProblem:
    """Return a heated rod whose conductivity and heating vary."""
    fields: dict[str, Any] = {
        "mesh": IntervalMesh(cells=6),
        "diffusivity": Parameter("kappa", on="cells", default=1.0),
        "source": Parameter("f", default=1.0),
        "capacity": 0.3,
        "boundary": GROUND,
        "outputs": [Probe("T", at=[(0.2,), (0.45,), (0.8,)])],
    }
    return PoissonProblem(**{**fields, **changes})


def conductivity(optimizer: Any, **changes: Any) -> DesignProblem:
    """Least squares: three readings, six conductivities kept near 1."""
    fields: dict[str, Any] = {
        "of": rod(),
        "variables": [Variable("kappa", bounds=(0.05, 20.0), transform=["log"])],
        "objective": "misfit(T) + 0.5*tikhonov(log(kappa)) + 0.1*smoothness(log(kappa))",
        "data": {"T": Measured([0.05, 0.1, 0.09], noise=0.01)},
    }
    return DesignProblem(**{**fields, **changes}, optimizer=optimizer)


def cantilever(optimizer: Any, **changes: Any) -> DesignProblem:
    """Topology: the stiffest plate of half the material."""
    fields: dict[str, Any] = {
        "of": ElasticityProblem(
            mesh=RectangleMesh(cells=(6, 3), size=(2.0, 1.0), cell="quad"),
            young_modulus="1e-3 + 0.999*rho**3",
            model="plane_stress",
            poisson_ratio=0.3,
            parameters=[Parameter("rho", on="cells", default=0.5)],
            boundary=[
                Dirichlet("left", 0.0),
                Neumann("right", traction=(0.0, -1.0)),
            ],
            outputs=[Compliance("compliance"), Integral("volume", "rho/2")],
        ),
        "variables": [
            Variable("rho", bounds=(0.0, 1.0), transform=[{"type": "cone_filter", "radius": 0.5}])
        ],
        "objective": "compliance/10",
        "constraints": ["volume <= 0.5"],
    }
    return DesignProblem(**{**fields, **changes}, optimizer=optimizer)


def string(optimizer: Any) -> DesignProblem:
    """Eigenvalues: tension and stiffness that tune two frequencies."""
    of = EigenProblem(of=rod(source=0.0, outputs=[]), k=2)
    return DesignProblem(
        of=of,
        variables=[Variable("kappa", bounds=(0.2, 4.0))],
        objective="(frequencies[0] - 1.1)**2 + (frequencies[1] - 2.0)**2 + 0.01*tikhonov(kappa, 1.0)",
        optimizer=optimizer,
    )


def cooling(optimizer: Any) -> DesignProblem:
    """A transient: conductivities from a history."""
    of = TransientProblem(of=rod(source=0.0), initial="sin(pi*x)", end=0.05, steps=4)
    return DesignProblem(
        of=of,
        variables=[Variable("kappa", bounds=(0.05, 20.0), transform=["log"])],
        objective="sum((T[4, 1] - 0.4)**2) + 0.01*tikhonov(log(kappa))",
        optimizer=optimizer,
    )


def shape(optimizer: Any) -> DesignProblem:
    """A shape: the top of a plate moves until two readings are met."""
    of = PoissonProblem(
        mesh=RectangleMesh(cells=(5, 3), size=(1.0, 0.5), cell="quad"),
        source=1.0,
        boundary=[Dirichlet("bottom", 0.0)],
        outputs=[Integral("heat", "u"), Integral("area", "1.0")],
    )
    motion = {"type": "boundary_motion", "on": "top", "slide": ["left", "right"], "radius": 0.4}
    return DesignProblem(
        of=of,
        variables=[Variable("points", bounds=(-0.1, 0.1), transform=[motion])],
        objective="100*(heat - 0.05)**2 + (area - 0.5)**2",
        optimizer=optimizer,
    )


def loads(optimizer: Any) -> DesignProblem:
    """Cases of a sweep, which share one factor, and another problem beside them."""
    many = SweepProblem(of=rod(), cases={"f": [1.0, 2.0]})
    return DesignProblem(
        of={"cases": many, "still": rod(source=0.5, outputs=[Integral("mean", "u")])},
        variables=[Variable("kappa", bounds=(0.3, 3.0))],
        objective="sum((T - 0.1)**2) + mean**2 + 0.001*tikhonov(kappa, 1.0)",
        optimizer=optimizer,
    )


def waves(optimizer: Any) -> DesignProblem:
    """Complex results: where a source is, from pressures in a duct."""
    of = HelmholtzProblem(
        mesh=IntervalMesh(cells=20),
        wavenumber=6.0,
        source="exp(-50*(x - x0)**2)",
        parameters=[Parameter("x0", default=0.5)],
        boundary=[
            Dirichlet("left", 0.0),
            Robin("right", coefficient="-6j", ambient=0.0),
        ],
        outputs=[Probe("p", at=[(0.2,), (0.9,)])],
    )
    return DesignProblem(
        of=of,
        variables=[Variable("x0", bounds=(0.3, 0.7))],
        objective="misfit(p)",
        data={"p": Measured([0.02, 0.01], imaginary=[0.01, -0.01], noise=0.01)},
        optimizer=optimizer,
    )


def equations(optimizer: Any) -> DesignProblem:
    """An algebraic problem: a constant of two equations."""
    of = NonlinearProblem(
        unknowns=[Root("a", start=1.0), Root("b", start=2.0)],
        residual=["a**2 + b**2 - r2", "a - b"],
        parameters=[Parameter("r2", default=8.0)],
    )
    return DesignProblem(
        of=of,
        variables=[Variable("r2", bounds=(1.0, 20.0), transform=["log"])],
        objective="(x[0] - 1.5)**2",
        optimizer=optimizer,
    )


DESIGNS: dict[str, Callable[[Any], DesignProblem]] = {
    f.__name__: f
    for f in (conductivity, cantilever, string, cooling, shape, loads, waves, equations)
}
"""By name; each takes an optimizer."""

SQUARES = frozenset({"conductivity", "waves"})
"""Those whose objective is a sum of squares (and perhaps more)."""

CONSTRAINED = frozenset({"cantilever"})
"""Those with constraints besides bounds."""
