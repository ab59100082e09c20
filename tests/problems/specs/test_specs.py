from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from torch_sla import (
    BoxMesh,
    Compliance,
    Dirichlet,
    ElasticityProblem,
    Energy,
    Field,
    Flux,
    Integral,
    IntervalMesh,
    Line,
    Maximum,
    MeshArrays,
    Minimum,
    Neumann,
    Parameter,
    PoissonProblem,
    Probe,
    Problem,
    Reaction,
    RectangleMesh,
    Robin,
    Solver,
    Spring,
    TransientProblem,
    load_problem,
)
from torch_sla.errors import SpecError

MESH = RectangleMesh(cells=(4, 4))


def tour(**changes: object) -> PoissonProblem:
    fields: dict[str, object] = {
        "mesh": MESH,
        "diffusivity": Parameter("kappa", on="cells", default=1.0),
        "source": "sin(pi*x)*sin(pi*y)",
        "boundary": [
            Dirichlet(on="left", value=0.0),
            Neumann(on="top", flux=1.0),
            Robin(on="right", coefficient=10.0, ambient=Parameter("T_air", default=0.0)),
        ],
        "outputs": [Probe("sensors", at=[(0.3, 0.4), (0.7, 0.2)])],
    }
    return PoissonProblem(**{**fields, **changes})


def test_positional_arguments() -> None:
    assert Dirichlet("left", 1.0) == Dirichlet(on="left", value=1.0)
    assert Robin("right", 2.0, 3.0).ambient == 3.0
    assert Probe("p", [(0.1, 0.2)]).at == ((0.1, 0.2),)
    assert Integral("i", "u").expression == "u"
    with pytest.raises(TypeError, match="positional"):
        Dirichlet("left", 1.0, 2.0, 3.0)
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
        ({"outputs": [{"type": "probe", "name": "a", "at": []}]}, "at: .*at least 1"),
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


def test_hash_ignores_spelling_and_defaults() -> None:
    base = tour()
    assert base.spec_hash == tour(source=" sin( pi*x )*sin(pi * y)").spec_hash
    assert base.spec_hash == tour(order=1, solver=Solver()).spec_hash
    assert tour(source=1).spec_hash == tour(source=1.0).spec_hash
    assert tour(source=0.0).spec_hash == tour(source=-0.0).spec_hash


@pytest.mark.parametrize(
    "changes",
    [
        {"source": 2.0},
        {"order": 2},
        {"name": "plate"},
        {"diffusivity": Parameter("kappa", on="cells", default=2.0)},
        {"mesh": RectangleMesh(cells=(4, 5))},
        {"outputs": []},
        {"solver": Solver(rtol=1e-9)},
        {"boundary": [Dirichlet("left", 0.0)]},
    ],
)
def test_hash_sees_every_difference(changes: dict[str, object]) -> None:
    assert tour(**changes).spec_hash != tour().spec_hash


def test_hash_covers_the_content_of_files(tmp_path) -> None:
    np.save(tmp_path / "a.npy", np.ones(32))
    np.save(tmp_path / "b.npy", np.ones(32))
    first = tour(diffusivity={"file": str(tmp_path / "a.npy")})
    second = tour(diffusivity={"file": str(tmp_path / "b.npy")})
    assert first.spec_hash == second.spec_hash
    np.save(tmp_path / "b.npy", 2 * np.ones(32))
    assert tour(diffusivity={"file": str(tmp_path / "b.npy")}).spec_hash != first.spec_hash


def test_hash_of_a_solution_is_that_of_the_content_it_was_solved_with(tmp_path) -> None:
    np.save(tmp_path / "a.npy", np.ones(32))
    problem = tour(diffusivity={"file": str(tmp_path / "a.npy")})
    expected = tour(diffusivity={"file": str(tmp_path / "a.npy")}).spec_hash
    solution = problem.solve()
    np.save(tmp_path / "a.npy", 2 * np.ones(32))
    assert solution.identity["spec_hash"] == problem.solve().spec_hash == expected
    assert tour(diffusivity={"file": str(tmp_path / "a.npy")}).solve().spec_hash != expected


def test_long_arrays_go_beside_the_file(tmp_path) -> None:
    points = np.linspace(0.0, 1.0, 101)[:, None]
    cells = np.stack([np.arange(100), np.arange(1, 101)], 1)
    problem = PoissonProblem(
        mesh=MeshArrays(points=points, cells=cells, cell="line", facet_tags={"end": [[0]]}),
        source=1.0,
        boundary=[Dirichlet("end", 0.0)],
    )
    with pytest.raises(SpecError, match="too many for a line"):
        problem.to_yaml()
    problem.to_yaml(tmp_path / "p.yaml")
    again = load_problem(tmp_path / "p.yaml")
    assert again.spec_hash == problem.spec_hash
    torch.testing.assert_close(again.solve().u, problem.solve().u)


def test_paths_are_relative_to_the_file(tmp_path) -> None:
    (tmp_path / "sub").mkdir()
    np.save(tmp_path / "k.npy", np.ones(32))
    problem = tour(diffusivity={"file": str(tmp_path / "k.npy")})
    text = problem.to_yaml(tmp_path / "sub" / "p.yaml")
    assert "../k.npy" in text
    assert load_problem(tmp_path / "sub" / "p.yaml") == problem


def test_files_name_line_and_path(tmp_path) -> None:
    path = tmp_path / "p.yaml"
    text = tour().to_yaml(path)
    for old, new, needle, message in (
        ("flux: 1.0", "flux: 1 + kapa", "flux", "boundary.1.flux: unknown name 'kapa'"),
        ("diffusivity:", "difusivity:", "difusivity", "unknown field 'difusivity'"),
        ("cells: [4, 4]", "cells: [4, 4.5]", "4.5", "mesh.cells.1"),
        ("version: 2", "version: 3", "version", "update torch_sla"),
        ("version: 2", "version: one", "version", "whole number"),
        ("type: poisson", "type: heat", "type: heat", "one of: .*poisson"),
    ):
        changed = text.replace(old, new)
        path.write_text(changed)
        number = next(i for i, s in enumerate(changed.splitlines(), 1) if needle in s)
        with pytest.raises(SpecError, match=message) as caught:
            load_problem(path)
        assert (caught.value.file, caught.value.line) == (str(path), number)
    path.write_text("[1, 2]")
    with pytest.raises(SpecError, match="mapping"):
        load_problem(path)
    path.write_text("mesh: 1")
    with pytest.raises(SpecError, match="'type' is required"):
        load_problem(path)


# -- any valid declaration survives a trip through YAML -----------------------------------------

_number = st.floats(-1e6, 1e6, allow_subnormal=False)
_formula = st.sampled_from(["x", "1 + x*y", "where(x < 0.5, 1, k)", "exp(-k*x**2)", "1e-3", "k"])
_parameter = st.just(Parameter("k", default=2.0))
_value = st.one_of(
    _number,
    st.integers(-5, 5),
    _formula,
    _parameter,
    st.dictionaries(st.sampled_from(["steel", "on", "*", "7"]), _number, min_size=1),
)
_points = st.lists(st.tuples(_number, _number), min_size=1, max_size=3)
_on = st.one_of(
    st.sampled_from(["left", "fluid-wall", "x < 0.5 and y > 1"]),
    st.lists(st.sampled_from(["left", "top"]), min_size=1, max_size=2),
)
_boundary = st.one_of(
    st.builds(lambda on, value: Dirichlet(on, value), _on, st.one_of(_number, _formula)),
    st.builds(lambda on, flux: Neumann(on, flux=flux), _on, _value),
    st.builds(lambda on, h, ambient: Robin(on, h, ambient), _on, _value, _value),
)
_output = st.one_of(
    st.builds(lambda at, q: Probe("a", at, q), _points, st.sampled_from(["u", "-k*grad(u)"])),
    st.builds(lambda e, on: Integral("b", e, on), st.sampled_from(["u*k", "1"]), st.none() | _on),
    st.builds(lambda on: Flux("c", on), _on),
    st.builds(lambda on: Reaction("d", on), _on),
    st.just(Energy("e")),
    st.just(Compliance("f", unit="W m²")),
    st.builds(lambda p: Maximum("g", "u", p=p), st.one_of(st.none(), st.floats(1, 100))),
    st.just(Minimum("i", "u")),
    st.builds(lambda n: Line("j", at=[(0.1, 0.2), (0.5, 0.5)], n=n), st.integers(2, 9)),
    st.builds(lambda on: Field("h", "u*x", on=on), st.sampled_from(["cells", "nodes"])),
)
_mesh = st.one_of(
    st.builds(
        lambda n, s, c: RectangleMesh(cells=n, size=s, cell=c),
        st.tuples(st.integers(1, 99), st.integers(1, 99)),
        st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)),
        st.sampled_from(["triangle", "quad"]),
    ),
    st.builds(lambda n: IntervalMesh(cells=n), st.integers(1, 99)),
    st.builds(lambda n: BoxMesh(cells=(n, 1, 2)), st.integers(1, 9)),
)


def _negative(value: object) -> bool:
    """Whether a value is, or holds, a number that is no diffusivity."""
    entries = value.values() if isinstance(value, dict) else [value]
    return any(isinstance(x, int | float) and x <= 0 for x in entries)


@settings(max_examples=80, deadline=None)
@given(
    mesh=_mesh,
    diffusivity=_value.filter(lambda v: not _negative(v)),
    source=_value,
    reaction=st.one_of(st.none(), _value),
    boundary=st.lists(_boundary, max_size=3),
    outputs=st.lists(_output, max_size=3, unique_by=lambda o: o.name),
    name=st.one_of(st.none(), st.text("abc :#-é'\"", max_size=8)),
)
def test_round_trip_keeps_the_hash(tmp_path_factory, **fields: object) -> None:
    problem = PoissonProblem(**fields, parameters=[Parameter("k", default=2.0)])
    path = tmp_path_factory.mktemp("trip") / "p.yaml"
    problem.to_yaml(path)
    again = load_problem(path)
    assert again == problem
    assert again.spec_hash == problem.spec_hash
    assert again.to_yaml() == problem.to_yaml()


def test_integers_of_numpy_are_integers() -> None:
    mesh = RectangleMesh(cells=tuple(np.array([3, 4])))
    assert mesh == RectangleMesh(cells=(3, 4))
    with pytest.raises(SpecError, match="integer"):
        RectangleMesh(cells=(np.float64(3.0), 4))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_one_wrong_character_is_a_located_error_or_another_problem(tmp_path_factory, data) -> None:
    text = tour().to_yaml()
    at = data.draw(st.integers(0, len(text) - 1))
    new = data.draw(st.characters(max_codepoint=0x17F, exclude_categories=["Cs"]))
    path = tmp_path_factory.mktemp("noise") / "p.yaml"
    path.write_text(text[:at] + new + text[at + 1 :], encoding="utf-8")
    error = None
    try:
        load_problem(path)
    except SpecError as caught:
        error = caught
    assert error is None or (error.file == str(path) and error.line is not None)


def test_a_wrong_entry_of_a_list_is_one_fault() -> None:
    with pytest.raises(SpecError) as found:
        Probe("there", at=[["0.31", 0.47]])
    assert str(found.value) == "at.0.0: should be a valid number; received '0.31' (str)"
    with pytest.raises(SpecError, match="at least 1 item"):
        Probe("there", at=[])
