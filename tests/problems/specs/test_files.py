"""Declarations in files: there and back, and faults that are located."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from tests.helpers.tours import tour
from torch_sla import (
    BoxMesh,
    Compliance,
    Dirichlet,
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
    Reaction,
    RectangleMesh,
    Robin,
    load_problem,
)
from torch_sla.errors import SpecError


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
