"""Diffusion and what goes with it: advection, radiation, laws, tags, periodic sides."""

from __future__ import annotations

from typing import Any

import torch

import torch_sla as sla
from tests.helpers.shared.values import TIGHT, net, number, rand
from torch_sla.problems.specs.arrays import Array

__all__ = ["bar", "corner", "disk", "learned", "rolled", "stream", "two_materials"]


def disk() -> tuple[Any, dict[str, Any]]:
    """Diffusion on an irregular mesh, every kind of output, conditions by predicates."""
    problem = sla.PoissonProblem(
        mesh=sla.DiskMesh(cells=5),
        diffusivity=sla.Parameter("kappa", on="cells"),
        source=sla.Parameter("f", default=1.0),
        boundary=[
            sla.Dirichlet(on="x < 0", value=sla.Parameter("g", on="nodes")),
            sla.Robin(on="x > 0.3", coefficient=sla.Parameter("h", on="facets"), ambient="1 + x*y"),
        ],
        outputs=[
            sla.Probe("at", at=[(0.1, 0.2), (-0.3, 0.1), (0.0, 0.0)]),
            sla.Line("cut", at=[(-0.5, 0.0), (0.5, 0.1)], n=7, quantity="kappa*grad(u)"),
            sla.Integral("heat", "u**2"),
            sla.Integral("rim", "kappa*u", on="x > 0.3"),
            sla.Flux("out", on="rim"),
            sla.Reaction("held", on="x < 0"),
            sla.Energy("energy"),
            sla.Compliance("work"),
            sla.Maximum("most", "u"),
            sla.Minimum("least", "u"),
            sla.Maximum("mean", "u", p=8),
            sla.Field("flow", "kappa*grad(u)", on="cells"),
            sla.Field("slope", "grad(u)", on="nodes"),
            sla.Field("square", "u**2", on="nodes"),
        ],
        solver=TIGHT,
    )
    mesh = problem.mesh_data()
    values = {
        "kappa": rand(mesh.n_cells),
        "f": number(1.3),
        "g": rand(mesh.n_points),
        "h": rand(mesh.n_facets),
    }
    return problem, values


def corner() -> tuple[Any, dict[str, Any]]:
    """A nonlinear law, radiation, elements of second order, a corner that reenters."""
    problem = sla.PoissonProblem(
        mesh=sla.LShapeMesh(cells=3),
        order=2,
        diffusivity="k0*(1 + u**2)",
        source=sla.Parameter("f", on="nodes"),
        parameters=[sla.Parameter("k0")],
        boundary=[
            sla.Dirichlet(on="x < 1e-9", value=0.1),
            sla.Radiation(on="x > 0.999", emissivity=0.3, ambient=1.0, constant=1.0),
        ],
        outputs=[
            sla.Integral("heat", "u"),
            sla.Flux("out", on="x > 0.999"),
            sla.Compliance("work"),
        ],
        solver=TIGHT,
    )
    return problem, {"k0": number(1.2), "f": rand(problem.mesh_data().n_points)}


def stream() -> tuple[Any, dict[str, Any]]:
    """Advection, whose matrix has no symmetry; a network as coefficient; values at quadrature points."""
    problem = sla.PoissonProblem(
        mesh=sla.RectangleMesh(cells=(6, 4), cell="quad"),
        diffusivity=sla.Parameter("kappa", on="quadrature"),
        advection=[sla.Parameter("speed"), 0.3],
        boundary=[sla.Dirichlet(on="left", value=0.0), sla.Neumann(on="right", flux="1 + y")],
        outputs=[sla.Integral("top", "u", on="top"), sla.Maximum("most", "u")],
        solver=TIGHT,
    )
    return problem, {"kappa": net(2), "speed": number(3.0)}


def learned() -> tuple[Any, dict[str, Any]]:
    """A network as a law of the solution."""
    problem = sla.PoissonProblem(
        mesh=sla.RectangleMesh(cells=(4, 4)),
        diffusivity=sla.Parameter("kappa", on="quadrature", of=("x", "u")),
        source=1.0,
        boundary=[sla.Dirichlet(on=["left", "top"], value=0.0)],
        outputs=[sla.Integral("heat", "u")],
        solver=TIGHT,
    )
    return problem, {"kappa": net(3)}


def two_materials() -> tuple[Any, dict[str, Any]]:
    """Coefficients by cell tags, some of which parts do not have; a tagged facet inside the body."""
    plain = sla.PoissonProblem(mesh=sla.RectangleMesh(cells=(8, 3))).mesh_data()
    x = plain.points[plain.cells].mean(1)[:, 0]
    on_line = torch.nonzero((plain.points[:, 0] - 0.5).abs() < 1e-9)[:, 0]
    upwards = on_line[plain.points[on_line, 1].argsort()]
    middle = torch.stack([upwards[:-1], upwards[1:]], 1)
    problem = sla.PoissonProblem(
        mesh=sla.MeshArrays(
            points=Array(plain.points.numpy()),
            cells=Array(plain.cells.numpy()),
            cell="triangle",
            cell_tags={"hot": Array(torch.nonzero(x < 0.2)[:, 0].numpy())},
            facet_tags={
                "left": Array(plain.facets[plain.facet_tags["left"]].numpy()),
                "middle": Array(middle.numpy()),
            },
        ),
        diffusivity={"hot": sla.Parameter("k_hot"), "*": 2.0},
        source=1.0,
        boundary=[sla.Dirichlet(on="left", value=0.0)],
        outputs=[
            sla.Integral("crossing", "dot(grad(u), normal)*u", on="middle"),
            sla.Integral("hot", "u", on="hot"),
        ],
        solver=TIGHT,
    )
    return problem, {"k_hot": number(3.0)}


def bar() -> tuple[Any, dict[str, Any]]:
    """Three cells, for more parts than there are."""
    problem = sla.PoissonProblem(
        mesh=sla.IntervalMesh(cells=3),
        source=sla.Parameter("f"),
        boundary=[sla.Dirichlet(on="left", value=0.0)],
        outputs=[
            sla.Integral("heat", "u"),
            sla.Probe("at", at=[(0.5,), (1.0,)]),
            sla.Maximum("most", "u"),
            sla.Field("flow", "grad(u)", on="cells"),
        ],
        solver=TIGHT,
    )
    return problem, {"f": number(2.0)}


def rolled() -> tuple[Any, dict[str, Any]]:
    """A lattice that repeats itself in both directions, with elements of second order and a reaction."""
    problem = sla.PoissonProblem(
        mesh=sla.RectangleMesh(cells=(6, 4)),
        order=2,
        diffusivity=sla.Parameter("kappa", on="cells"),
        reaction=2.0,  # the mean is held by it: rounding has room below 1e-10
        source="1 + x",
        boundary=[sla.Periodic(on="right", to="left"), sla.Periodic(on="top", to="bottom")],
        outputs=[
            sla.Integral("heat", "u**2"),
            sla.Probe("at", at=[(0.0, 0.3), (0.55, 1.0)]),
            sla.Field("slope", "grad(u)", on="nodes"),
        ],
        solver=TIGHT,
    )
    return problem, {"kappa": rand(48)}
