from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.helpers.tours import MESH, tour
from torch_sla import (
    Dirichlet,
    ElasticityProblem,
    Energy,
    HyperelasticityProblem,
    Integral,
    Measured,
    MeshArrays,
    Neumann,
    Parameter,
    PoissonProblem,
    Probe,
    Problem,
    RectangleMesh,
    Robin,
    Solver,
    Spring,
    TransientProblem,
    load_problem,
)
from torch_sla.errors import SpecError

if TYPE_CHECKING:
    from pathlib import Path


def test_positional_arguments() -> None:
    assert Dirichlet("left", 1.0) == Dirichlet(on="left", value=1.0)
    assert Robin("right", 2.0, 3.0).ambient == 3.0
    assert Probe("p", [(0.1, 0.2)]).at == ((0.1, 0.2),)
    assert Integral("i", "u").expression == "u"
    with pytest.raises(TypeError, match="positional"):
        Dirichlet("left", 1.0, 2.0, 3.0)
    with pytest.raises(TypeError, match="by name: unknown flux traction pressure"):
        Neumann("right", 1.0)
    with pytest.raises(TypeError, match="twice"):
        Dirichlet("left", 1.0, value=2.0)


def test_problem_builds_the_matching_class() -> None:
    problem = Problem(type="poisson", mesh=MESH)
    assert isinstance(problem, PoissonProblem)
    assert isinstance(problem, Problem)
    with pytest.raises(SpecError, match="did you mean 'poisson'"):
        Problem(type="poison", mesh=MESH)


def test_frozen_all_the_way_down() -> None:
    problem = tour(diffusivity={"*": 2.0})
    with pytest.raises(Exception, match="frozen"):
        problem.order = 2
    with pytest.raises(TypeError, match="cannot be changed"):
        problem.diffusivity["*"] = 3.0
    mesh = MeshArrays(points=[[0.0], [1.0]], cells=[[0, 1]], cell="line")
    with pytest.raises(ValueError, match="read-only"):
        mesh.points.array[0] = 1.0


def test_arrays_are_copied() -> None:
    points = np.array([[0.0], [1.0]])
    mesh = MeshArrays(points=points, cells=[[0, 1]], cell="line")
    points[0] = 5.0
    assert mesh.points.array[0, 0] == 0.0


def test_updated_checks_again() -> None:
    assert tour().updated(source=2.0).source == 2.0
    with pytest.raises(SpecError, match="sourse"):
        tour().updated(sourse=2.0)


def test_pickles() -> None:
    problem = tour(diffusivity={"*": 2.0})
    again = pickle.loads(pickle.dumps(problem))
    assert again == problem
    assert again.spec_hash == problem.spec_hash


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"difusivity": 1.0}, r"difusivity: unknown field .* \(did you mean 'diffusivity'\?\)"),
        ({"advection": 1.0}, "a scalar; a vector is needed"),
        ({"boundary": [Neumann("top", traction=[1.0, 0.0])]}, "'neumann.traction' has no meaning"),
        ({"boundary": [Dirichlet("top", 1.0, component=1)]}, "scalar and has no components"),
        ({"diffusivity": "1.0e-"}, "1.0e-"),
        ({"diffusivity": True}, "should be a number"),
        ({"diffusivity": float("nan")}, "finite"),
        ({"diffusivity": torch.ones(3)}, r"holds no tensor: declare Parameter"),
        ({"source": np.ones(3)}, "arrays belong in a file"),
        ({"source": "open(x)"}, "not a function"),
        ({"source": "__import__('os')"}, "not allowed"),
        ({"source": "x.real"}, "attributes"),
        ({"capacity": "u"}, "does not see the solution"),
        ({"source": "kapa"}, "did you mean 'kappa'"),
        (
            {"source": {"type": "parameter", "name": "f", "default": [1.0, 2.0, 3.0]}},
            "source.default: received 3 numbers for one",
        ),
        ({"source": [1.0, 2.0]}, "a vector; a scalar is needed"),
        ({"source": "grad(u)"}, "a vector; a scalar is needed"),
        ({"order": 3}, "order"),
        ({"order": "1"}, "order"),
        ({"mesh": {"type": "rectangel", "cells": (2, 2)}}, "did you mean 'rectangle'"),
        ({"boundary": [{"type": "robbin", "on": "left"}]}, "did you mean 'robin'"),
        ({"diffusivity": {"type": "tabel", "of": "x"}}, "diffusivity: .*did you mean 'table'"),
        ({"source": {"*": {"type": "gird"}}}, "did you mean 'grid'"),
        ({"boundary": [{"on": "left"}]}, "'type' is required"),
        (
            {"boundary": [{"type": "dirichlet", "on": 7, "value": 0.0}]},
            r"on: a tag is text; received 7: write it in quotes, '7'",
        ),
        ({"boundary": [{"type": "robin", "on": ["left", 1.5], "coefficient": 2.0}]}, "'1.5'"),
        ({"outputs": [{"type": "flux", "name": "q", "on": True}]}, "a tag is text; received True"),
        (
            {"boundary": [Neumann("top", flux=Parameter("q", on="quadrature"))]},
            "no meaning on facets",
        ),
        ({"diffusivity": Parameter("k", on="facets")}, "no meaning on cells"),
        ({"boundary": [Dirichlet("left", Parameter("g", on="cells"))]}, "no meaning on dofs"),
        ({"diffusivity": Parameter("x")}, "has a meaning already"),
        ({"diffusivity": Parameter("points")}, "has a meaning already"),
        ({"diffusivity": Parameter("u")}, "has a meaning already"),
        ({"diffusivity": Parameter("sin")}, "has a meaning already"),
        (
            {"parameters": [Parameter("kappa", default=2.0)]},
            "'kappa' is defined differently at parameters.0",
        ),
        ({"outputs": [Energy("a"), Energy("a")]}, "two outputs are called 'a'"),
        ({"outputs": [Energy("u")]}, "field itself"),
        ({"outputs": [Integral("a", "grad(u)")]}, "a vector; a scalar is needed"),
        (
            {"solver": {"method": "choleski"}},
            r"solver.method: .*did you mean 'cholesky'.*one of: auto bicgstab cg",
        ),
        (
            {"solver": {"preconditioner": "jakobi"}},
            r"solver.preconditioner: .*did you mean 'jacobi'",
        ),
        (
            {"solver": {"backend": "scipy", "method": "cholesky"}},
            "solver.method: backend 'scipy' has no method 'cholesky'; it has superlu",
        ),
        (
            {"solver": {"method": "cholesky", "preconditioner": "jacobi"}},
            "is direct and uses no preconditioner",
        ),
        ({"outputs": [{"type": "probe", "name": "a", "at": []}]}, "at: it must not be empty"),
        ({"outputs": [{"type": "probe", "name": "a", "at": [[0.1, float("inf")]]}]}, "finite"),
    ],
)
def test_bad_declarations(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        tour(**changes)


def test_signs_of_declared_numbers_are_checked_before_anything_is_solved(tmp_path) -> None:
    plate: dict[str, Any] = {"mesh": MESH, "model": "plane_stress"}
    heat = PoissonProblem(mesh=MESH)
    body = ElasticityProblem(**plate)
    for problem, name, value, message in (
        (heat, "diffusivity", -1.0, "diffusivity: it must be positive; received -1"),
        (heat, "diffusivity", 0, "diffusivity: it must be positive; received 0"),
        (heat, "diffusivity", {"a": 1.0, "*": -2.0}, r"diffusivity.\*: it must be positive"),
        (heat, "capacity", -3.0, "capacity: it must not be negative; received -3"),
        (body, "young_modulus", -1.0, "young_modulus: it must be positive; received -1"),
        (body, "thickness", 0.0, "thickness: it must be positive; received 0"),
        (body, "poisson_ratio", 1.0, "poisson_ratio: plane_stress needs -1 < nu < 1.0; received 1"),
        (body, "poisson_ratio", -1.0, "poisson_ratio: plane_stress needs -1 < nu < 1.0"),
        (body, "density", -1.0, "density: it must not be negative; received -1"),
        (body, "young_modulus", [1.0, -2.0, 1.0], r"young_modulus.1: it must be positive"),
        (body, "shear_modulus", [1.0, 1.0, 0.0], r"shear_modulus.2: it must be positive"),
        (body, "boundary", [Spring("left", [1.0, -1.0])], r"stiffness.1: it must not be negative"),
        (heat, "diffusivity", [[2.0, 0.0], [0.0, -2.0]], r"diffusivity.1.1: it must be positive"),
    ):
        with pytest.raises(SpecError, match=message):
            problem.updated(**{name: value})
    with pytest.raises(SpecError, match="mass_damping: it must not be negative"):
        TransientProblem(of=body, end=1.0, steps=2, mass_damping=-0.1)
    # What may be a number of either sign, or of a part without cells, stays so.
    heat.updated(reaction=-1.0, capacity=0.0, diffusivity={"a": 1.0, "*": 0.0})
    body.updated(poisson_ratio=0.6)
    with pytest.raises(SpecError, match=r"poisson_ratio: plane_strain needs -1 < nu < 0\.5"):
        body.updated(poisson_ratio=0.6, model="plane_strain")
    for model in ("plane_strain", "axisymmetric"):
        remedy = r"; 0\.4999 stands for 0\.5, with dilatation: averaged$"
        with pytest.raises(SpecError, match=remedy):
            body.updated(poisson_ratio=0.5, model=model)
    heat.updated(diffusivity=[[2.0, -1.0], [-1.0, 2.0]])
    path = tmp_path / "plate.yaml"
    path.write_text(
        "version: 2\ntype: poisson\nmesh: {type: interval, cells: 2}\ndiffusivity: -1\n"
    )
    with pytest.raises(SpecError, match=r"plate.yaml:4: diffusivity: it must be positive"):
        load_problem(path)


@pytest.mark.parametrize(
    "asked",
    [
        {"method": "llt"},  # an alias
        {"backend": "cudss", "method": "cholesky"},  # of a machine that this one may not be
        {"method": "minres", "preconditioner": "schur"},  # of a problem in parts
        {"method": "cholesky", "preconditioner": "none"},
    ],
)
def test_requests_that_some_solve_takes_are_declared(asked: dict[str, Any]) -> None:
    assert tour(solver=asked).solver == Solver(**asked)


def test_several_faults_are_told_together() -> None:
    with pytest.raises(SpecError, match=r"cells(.|\n)*and size"):
        RectangleMesh(cells=(0, 2), size=(1.0, -1.0))


def test_integers_of_numpy_are_integers() -> None:
    mesh = RectangleMesh(cells=tuple(np.array([3, 4])))
    assert mesh == RectangleMesh(cells=(3, 4))
    with pytest.raises(SpecError, match="integer"):
        RectangleMesh(cells=(np.float64(3.0), 4))


def test_a_wrong_entry_of_a_list_is_one_fault() -> None:
    with pytest.raises(SpecError) as found:
        Probe("there", at=[["0.31", 0.47]])
    message = "a text, which is no number; write it without quotes"
    assert str(found.value) == f"at.0.0: should be a number; received '0.31' (str): {message}"
    with pytest.raises(SpecError, match="at: it must not be empty"):
        Probe("there", at=[])


def test_numbers_in_quotes_are_told_apart(tmp_path: Path) -> None:
    head = "version: 2\ntype: poisson\nmesh: {type: interval, cells: 2}\n"
    path = tmp_path / "rod.yaml"
    path.write_text(head + "solver: {rtol: 1e-3, atol: 2E-9}\n")
    assert load_problem(path).solver == Solver(rtol=1e-3, atol=2e-9)
    for line, where in (("solver: {rtol: '1e-3'}", "solver.rtol"), ("order: '2'", "order")):
        path.write_text(head + line + "\n")
        with pytest.raises(SpecError, match=rf"rod.yaml:4: {where}: .*write it without quotes"):
            load_problem(path)


def test_what_would_have_no_effect_is_refused() -> None:
    square = RectangleMesh(cells=(2, 2))
    body = ElasticityProblem(mesh=square, model="plane_stress", thermal_expansion=1e-5)
    body.updated(temperature=100.0)
    with pytest.raises(SpecError, match=r"temperature: it strains nothing .*thermal_expansion"):
        body.updated(temperature=100.0, thermal_expansion=0.0)
    with pytest.raises(SpecError, match="stabilization: supg is of advection, and there is none"):
        PoissonProblem(mesh=square, stabilization="supg")
    constants = {"mu": 1.0, "lam": 1.0}
    rubber = HyperelasticityProblem(mesh=square, constants=constants, control="arc_length")
    with pytest.raises(SpecError, match=r"of\.control: arc_length .*leave control out"):
        TransientProblem(of=rubber, end=1.0, steps=2)


@pytest.mark.parametrize("noise", [0, 0.0, -0.1])
def test_data_without_noise(noise: float) -> None:
    with pytest.raises(
        SpecError, match=r"noise: a standard deviation is positive; .*give relative"
    ):
        Measured([1.0, 2.0], noise=noise)
