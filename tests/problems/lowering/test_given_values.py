"""What is given as a value: numbers of any type, arrays, loads on some cells, expressions of places."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.helpers.devices import NEEDS_CUDA, ON_CUDA
from tests.problems.lowering.test_values import declare
from torch_sla import (
    Dirichlet,
    ElasticityProblem,
    MeshArrays,
    Parameter,
    Solver,
)
from torch_sla.errors import ArgumentError, DTypeError, SpecError

TWO = MeshArrays(
    points=[[0, 0], [1, 0], [1, 1], [0, 1], [2, 0], [2, 1]],
    cells=[[0, 1, 2, 3], [1, 4, 5, 2]],
    cell="quad",
    cell_tags={"steel": [0], "copper": [1]},
)


@pytest.mark.parametrize(
    ("on", "tags"), [("steel", ["steel"]), (["steel", "copper"], ["*"]), ("*", ["*"])]
)
def test_a_load_on_some_cells(on: str | list[str], tags: list[str]) -> None:
    body = {
        "mesh": TWO,
        "model": "plane_strain",
        "young_modulus": 1.0,
        "poisson_ratio": 0.3,
        "boundary": [Dirichlet("x < 1e-9", [0.0, 0.0])],
    }
    rest = [] if tags == ["*"] else ["*"]
    for value in ([0.0, "-x"], Parameter("g", shape=(2,), default=[0.0, -1.0])):
        force = dict.fromkeys(tags, value) | dict.fromkeys(rest, (0.0, 0.0))
        expected = ElasticityProblem(**body, body_force=force).solve().u
        found = ElasticityProblem(**body, body_force={"value": value, "on": on}).solve().u
        assert torch.equal(found, expected)
        assert found.abs().max() > 0
    expected = declare(
        mesh=TWO, source=dict.fromkeys(tags, 1.0) | dict.fromkeys(rest, 0.0), boundary=[]
    )
    load = declare(mesh=TWO, source={"value": 1.0, "on": on}, boundary=[])
    assert torch.equal(load.solve().u, expected.solve().u)


@pytest.mark.parametrize("on", [[], None, True, ["steel", 0.5]])
def test_a_load_on_no_cells_is_refused(on: object) -> None:
    with pytest.raises(SpecError, match="source: on: names one cell tag or a list of them"):
        declare(mesh=TWO, source={"value": 1.0, "on": on})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"on": "cells", "default": "1 + q"}, "default: unknown name 'q'; known here: pi x y z"),
        ({"on": "cells", "default": "1 + t"}, "default: unknown name 't'"),
        ({"on": "quadrature", "of": ["u"], "default": "1 + u"}, "default: unknown name 'u'"),
        ({"on": "cells", "default": "1 + z"}, "the default of 'k': unknown name 'z'"),
        ({"default": "2*pi"}, "default: one constant has no places"),
        ({"on": "cells", "shape": (2, 2), "default": "x"}, r"has the shape \[2, 2\]"),
    ],
)
def test_defaults_are_expressions_of_places(options: dict[str, object], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        declare(diffusivity=Parameter("k", **options)).check()
    with pytest.raises(SpecError, match=said):
        declare(diffusivity=Parameter("k", **options)).solve()


@pytest.mark.parametrize("dtype", [">f8", "<f8", "longdouble", ">i2", "uint64"])
def test_numbers_of_any_type_are_those_numbers(dtype: str, tmp_path) -> None:
    numbers = np.arange(1, 33).astype(dtype)
    np.save(tmp_path / "k.npy", numbers)
    file = {"file": str(tmp_path / "k.npy")}
    given = declare(diffusivity=Parameter("k", on="cells"))
    expected = given.solve(k=torch.arange(1.0, 33.0)).u
    assert torch.equal(given.solve(k=numbers).u, expected)
    assert torch.equal(given.solve(k=list(numbers)).u, expected)
    assert torch.equal(declare(diffusivity=file).solve().u, expected)
    default = Parameter("k", on="cells", default=file)
    assert torch.equal(declare(diffusivity=default).solve().u, expected)


def test_points_starts_and_states_may_be_arrays() -> None:
    problem = declare()
    points = 1.5 * problem.mesh_data().points
    expected = problem.solve(points=points)
    u = expected.u
    for given in (points.numpy(), points.numpy().astype(">f8"), points.tolist()):
        assert torch.equal(problem.solve(points=given, start=u.numpy()).u, u)
        assert problem.residual(u.tolist(), points=given).abs().max() < 1e-12
        assert problem.jacobian(u.numpy(), points=given).shape == (len(u), len(u))
        assert torch.equal(
            problem.assemble(points=given).load, problem.assemble(points=points).load
        )
    for name in ("points", "start"):
        with pytest.raises(DTypeError, match=f"{name} is a float; a tensor or an array is needed"):
            problem.solve(**{name: 1.0})
    with pytest.raises(DTypeError, match="u is a float"):
        problem.residual(1.0)


@pytest.mark.parametrize(
    ("works", "lies"),
    [pytest.param(*at, marks=NEEDS_CUDA) for at in (("cuda", "cpu"), ("cpu", "cuda"))],
)
@pytest.mark.parametrize("law", ["1 + x", "1 + u**2"])
def test_states_may_lie_on_another_device(law: str, works: str, lies: str) -> None:
    """As what a solve returns does, where what it was given lies there; a residual lies where its state does."""
    here = declare(diffusivity=law)
    there = here.updated(solver=Solver(device=works))
    u = torch.linspace(0, 1, len(here.solve().u), dtype=torch.float64)
    moved = u.to(lies).requires_grad_()
    residual = there.residual(moved)
    assert residual.device.type == lies
    torch.testing.assert_close(residual.detach().cpu(), here.residual(u))
    assert torch.autograd.grad(residual.sum(), moved)[0].device.type == lies
    matrix = there.jacobian(moved).to_dense()
    torch.testing.assert_close(matrix.detach().cpu(), here.jacobian(u).to_dense())


@pytest.mark.parametrize("works", ["cpu", ON_CUDA])
@pytest.mark.parametrize("lies", ["cpu", ON_CUDA])
def test_results_return_to_where_points_are(works: str, lies: str) -> None:
    problem = declare(solver=Solver(device=works))
    points = problem.mesh_data().points.to(lies)
    assert problem.solve(points=points)["p"].device.type == lies
    assert problem.solve(points=torch.stack([points, 1.1 * points])).u.device.type == lies


def test_states_are_real_where_fields_are_and_of_the_shape_of_the_unknowns() -> None:
    linear, nonlinear = declare(), declare(diffusivity="1 + u**2")
    for problem in (linear, nonlinear):
        u = problem.solve().u
        for verb in (problem.residual, problem.jacobian, lambda u, p=problem: p.solve(start=u)):
            with pytest.raises(DTypeError, match=r"(u|start) is complex"):
                verb(u + 0.1j)
            with pytest.raises(ArgumentError, match=r"(u|start) has shape \(3,\)"):
                verb(u[:3])
    with pytest.raises(
        ArgumentError, match=r"start has the batch dimensions \[2\], and the solution"
    ):
        linear.solve(start=torch.zeros(2, len(u)))
    many = declare(source=Parameter("f"))
    f = torch.tensor([1.0, 2.0], dtype=torch.float64)
    found = many.solve(f=f, start=torch.zeros(2, len(u))).u
    torch.testing.assert_close(found, many.solve(f=f).u)


def test_values_are_given_by_name() -> None:
    problem = declare(diffusivity=Parameter("k", on="cells", default=1.0))
    for value in (torch.ones(32), 2.0, [("k", 2.0)]):
        with pytest.raises(ArgumentError, match=f"by name.*received a {type(value).__name__}"):
            problem.solve(value)
