"""Laws without a derivative, energies that cannot begin and shapes beyond the memory say where they stand."""

from __future__ import annotations

import pytest
import torch

from torch_sla import (
    DesignProblem,
    Dirichlet,
    HyperelasticityProblem,
    Integral,
    LinearProblem,
    Neumann,
    NonlinearProblem,
    Parameter,
    PoissonProblem,
    RectangleMesh,
    Root,
    Variable,
)
from torch_sla.errors import ArgumentError, GradientError

ROOT = "sqrt(a*(y + 1))"


def plate(value: str = ROOT, **changes) -> PoissonProblem:
    """A plate whose lower edge is where the root is zero."""
    fields = {
        "mesh": RectangleMesh(cells=(4, 4), origin=(0.0, -1.0)),
        "parameters": [Parameter("a", default=1.0)],
        "source": 1.0,
        "boundary": [Dirichlet(["left", "bottom"], value)],
        "outputs": [Integral("i", "u")],
    }
    return PoissonProblem(**{**fields, **changes})


def test_a_root_at_zero_is_named() -> None:
    a = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    loss = plate().solve(a=a)["i"]
    assert torch.isfinite(loss)
    with pytest.raises(GradientError, match=r"boundary\.0\.value.*derivative with respect to 'a'"):
        loss.backward()
    with pytest.raises(GradientError, match=r"boundary\.0\.value"):
        plate().value_and_grad("i", a=1.0)
    assert plate("sqrt(a*(y + 1) + 1e-12)").check_gradients(a=1.0).passed


def test_a_law_is_not_blamed_for_what_arrives_broken() -> None:
    a = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    problem = plate(0.0, outputs=[Integral("i", "a*(y + 1)")])
    (problem.solve(a=a)["i"] - 0.5).sqrt().backward()
    assert not torch.isfinite(a.grad)


def test_where_masks_what_has_no_derivative() -> None:
    value, gradient = plate("where(y > -0.9, sqrt(a*(y + 1)), 0)").value_and_grad("i", a=1.0)
    assert torch.isfinite(gradient["a"])
    assert value > 0


def test_moved_points_are_watched_too() -> None:
    problem = plate("sqrt(y + 1)", parameters=[])
    points = problem.mesh_data().points.clone().requires_grad_()
    with pytest.raises(GradientError, match=r"boundary\.0\.value.*'y'"):
        problem.solve(points=points)["i"].backward()


def test_a_search_rejects_such_points_and_says_so_at_the_start() -> None:
    def problem(initial: float) -> DesignProblem:
        return DesignProblem(
            of=plate("sqrt(a)"),
            variables=[Variable("a", bounds=(0.0, 2.0), initial=initial)],
            objective="i",
            optimizer="lbfgs",
        )

    with pytest.raises(GradientError, match=r"boundary\.0\.value"):
        problem(0.0).solve()
    assert float(problem(1.0).solve().design["a"]) < 1e-3


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"diffusivity": "1 + sqrt(u)"}, r"diffusivity: .*derivative with respect to 'u'"),
        ({"diffusivity": "1 + sqrt(dot(grad(u), grad(u)))"}, r"diffusivity: .*'grad\(u\)'"),
        ({"source": "1 + abs(u)**0.5"}, r"source: .*'u'"),
        (
            {"boundary": [Dirichlet("left", 0.0), Neumann("right", flux="sqrt(u)")]},
            r"boundary\.1\..*'u'",
        ),
    ],
    ids=["value", "slope", "source", "side"],
)
def test_laws_of_the_solution_are_named_where_newton_cannot_begin(changes, what: str) -> None:
    with pytest.raises(ArgumentError, match=f"(?s){what}.*start="):
        plate(0.0, parameters=[], **changes).solve()


@pytest.mark.parametrize("law", ["1/u", "sqrt(u)"], ids=["infinite", "not positive"])
def test_a_law_without_a_meaning_where_newton_begins_asks_for_a_start(law: str) -> None:
    problem = plate(1.0, parameters=[], diffusivity=law)
    with pytest.raises(ArgumentError, match=r"diffusivity.*start="):
        problem.solve()
    assert problem.solve(start=torch.ones(len(problem.dof_points())).double()).info.converged
    with pytest.raises(ArgumentError, match=r"diffusivity") as found:
        plate(1.0, parameters=[], diffusivity="1/(x - x)", reaction="u").solve()
    assert "start=" not in str(found.value)


def test_a_law_that_breaks_elsewhere_is_not_blamed() -> None:
    problem = plate(0.0, parameters=[], diffusivity="1 + sqrt(u + 0.01)")
    assert problem.solve().info.converged


@pytest.mark.parametrize(
    ("law", "what"),
    [("mu*sqrt(I1 - 3)", "stress"), ("mu*(I1 - 3)**1.2 + 5*(J - 1)**2", "stiffness")],
)
def test_energies_that_are_singular_at_rest(law: str, what: str) -> None:
    problem = HyperelasticityProblem(
        mesh=RectangleMesh(cells=(2, 2), cell="quad"),
        model="plane_strain",
        law=law,
        constants={"mu": 1.0},
        boundary=[Dirichlet("left", 0.0), Neumann("right", traction=[0.01, 0.0])],
    )
    with pytest.raises(ArgumentError, match=f"law: its {what} is NaN or infinite where"):
        problem.solve()
    assert not problem.solve(throw=False).info.converged


def test_shapes_beyond_the_memory_are_refused_before_anything_is_allocated() -> None:
    big = 10**6
    problem = LinearProblem(
        matrix=Parameter("A", shape=(big, big), default=1.0),
        rhs=Parameter("b", shape=(big,), default=1.0),
    )
    with pytest.raises(ArgumentError, match=r"'A' has the shape \[1000000, 1000000\]: 8e\+03 GB"):
        problem.solve()
    problem = NonlinearProblem(unknowns=[Root("x", size=10**12)], residual=["x**2 - 1"])
    with pytest.raises(ArgumentError, match=r"unknowns\.0 has the shape"):
        problem.solve()
