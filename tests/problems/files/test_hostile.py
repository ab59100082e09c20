"""A stranger's file: valid ones survive, corrupted ones are located, hostile ones are refused quickly."""

from __future__ import annotations

import random
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from tests.helpers.samples import SAMPLES
from torch_sla import (
    Dirichlet,
    Integral,
    Parameter,
    PoissonProblem,
    Probe,
    RectangleMesh,
    Robin,
    load_problem,
)
from torch_sla.errors import SpecError
from torch_sla.problems.specs.problem import Problem

EXAMPLES = Path(__file__).parents[3] / "examples"

numbers = st.floats(min_value=1e-6, max_value=1e6) | st.integers(1, 9)
formulas = st.sampled_from(
    ["1 + x", "2*x*y", "where(x < 0.5, 1, 2)", "exp(-x**2)", "k0*(1 + y)", "1e-3 + x/7", "-(-x)"]
)
parameters = st.builds(
    Parameter,
    name=st.sampled_from(["alpha", "on", "yes", "null", "e1"]),
    on=st.sampled_from(["constant", "nodes"]),
    default=numbers,
    unit=st.none() | st.sampled_from(["W/(m K)", "#1", "a: b", "'"]),
)
scalars = numbers | formulas
problems = st.builds(
    PoissonProblem,
    mesh=st.builds(
        RectangleMesh,
        cells=st.tuples(st.integers(1, 5), st.integers(1, 5)),
        size=st.tuples(numbers, numbers),
        cell=st.sampled_from(["triangle", "quad"]),
    ),
    order=st.sampled_from([1, 2]),
    name=st.none() | st.text(max_size=30).filter(lambda s: s.isprintable()),
    diffusivity=scalars | parameters | st.fixed_dictionaries({"*": scalars}),
    reaction=st.none() | scalars,
    source=scalars,
    parameters=st.just([Parameter("k0", default=1.5)]),
    boundary=st.lists(
        st.builds(Dirichlet, on=st.sampled_from(["left", "x < 0.1"]), value=scalars)
        | st.builds(Robin, on=st.just(["right", "top"]), coefficient=numbers, ambient=scalars),
        max_size=3,
    ),
    outputs=st.lists(
        st.builds(
            Probe,
            name=st.just("p"),
            at=st.lists(st.tuples(numbers, numbers), min_size=1, max_size=2),
        )
        | st.builds(Integral, name=st.just("i"), expression=st.just("u**2")),
        max_size=1,
    ),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(problem=problems)
def test_any_valid_declaration_survives_yaml(problem: Problem, tmp_path_factory) -> None:
    path = tmp_path_factory.mktemp("p") / "p.yaml"
    text = problem.to_yaml(path)
    again = load_problem(path)
    assert again == problem
    assert again.spec_hash == problem.spec_hash
    assert again.to_yaml() == text


def originals() -> list[tuple[str, str]]:
    made = [
        (f"{kind} {name}", sample.make().to_yaml())
        for kind, samples in SAMPLES.items()
        for name, sample in samples.items()
    ]
    return made + [(p.stem, p.read_text()) for p in sorted(EXAMPLES.glob("*.yaml"))]


def read(path: Path, text: str) -> Problem | SpecError:
    """Read a text; anything but a problem or a located error fails the test by being raised."""
    path.write_text(text, encoding="utf-8", newline="")
    try:
        return load_problem(path)
    except SpecError as error:
        return error


@pytest.mark.parametrize(("name", "text"), originals(), ids=[n for n, _ in originals()])
def test_one_wrong_character(name: str, text: str, tmp_path) -> None:
    """A corruption gives a located error or a valid declaration, and never a traceback."""
    for file in EXAMPLES.glob("*.msh"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    path = tmp_path / "p.yaml"
    assert isinstance(read(path, text), Problem)
    generator = random.Random(f"corrupt {name}")
    refused = 0
    for _ in range(60):
        at = generator.randrange(len(text))
        kind = generator.randrange(3)
        other = generator.choice("abz019 .,:;-+*/()[]{}<>=!&|%@#'\"\\\n\t_~^$?éX\x00\ufeff")
        head, tail = text[:at], text[at + 1 :]
        changed = (head + other + tail, head + tail, head + other + text[at:])[kind]
        found = read(path, changed)
        if isinstance(found, SpecError):
            refused += 1
            assert found.file is not None
            assert str(path) in str(found)
            # Structure is checked without a value being computed.
    assert refused > 5


HOSTILE = {
    "a tag": "version: 1\ntype: !!python/object/apply:os.system ['true']\n",
    "a bomb of aliases": "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(
        f"{c}: &{c} [{', '.join([f'*{p}'] * 9)}]\n"
        for p, c in zip("abcdefgh", "bcdefghi", strict=True)
    ),
    "deep nesting": "a: " + "[" * 5000 + "]" * 5000,
    "deep mappings": "\n".join("  " * i + "a:" for i in range(3000)),
    "an import": "version: 1\ntype: poisson\nmesh: {type: interval, cells: 2}\nsource: \"__import__('os')\"\n",
    "an attribute": "version: 1\ntype: poisson\nmesh: {type: interval, cells: 2}\nsource: x.__class__\n",
    "a call": "version: 1\ntype: poisson\nmesh: {type: interval, cells: 2}\nsource: eval(x)\n",
    "a huge exponent": "version: 1\ntype: poisson\nmesh: {type: interval, cells: 2}\nsource: 9**9**9**9\n",
    "a power tower": "version: 1\ntype: poisson\nmesh: {type: interval, cells: 2}\nsource: x**1e300\n",
    "a huge number": "version: 1\ntype: poisson\nmesh: {type: interval, cells: "
    + "9" * 5000
    + "}\n",
    "many cells": "version: 1\ntype: poisson\nmesh: {type: interval, cells: 99999999999}\n",
    "a long expression": "version: 1\ntype: poisson\nmesh: {type: interval, cells: 2}\nsource: "
    + "+".join(["x"] * 100_000)
    + "\n",
    "a deep expression": "version: 1\ntype: poisson\nmesh: {type: interval, cells: 2}\nsource: "
    + "(" * 1500
    + "x"
    + ")" * 1500
    + "\n",
    "an include that leaves": "version: 1\ntype: poisson\nmesh: {include: ../../../etc/passwd}\n",
    "an absolute include": "version: 1\ntype: poisson\nmesh: {include: /etc/passwd}\n",
    "an include of itself": "version: 1\ntype: poisson\nmesh: {include: p.yaml}\n",
    "a residual with strings": "version: 1\ntype: weak_form\nmesh: {type: interval, cells: 2}\n"
    "residual: \"u*v*open('/etc/passwd')\"\n",
    "a residual that is a function": "version: 1\ntype: weak_form\nmesh: {type: interval, cells: 2}\n"
    "residual: os:system\n",
    "a matrix that is a script": "version: 1\ntype: linear\nmatrix: {type: matrix_file, file: p.yaml}\nrhs: [1.0]\n",
    "not text": "\udcff",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_quickly(name: str, tmp_path) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes(HOSTILE[name].encode("utf-8", "surrogateescape"))
    tracemalloc.start()
    began = time.perf_counter()
    with pytest.raises(SpecError):
        load_problem(path)
    seconds = time.perf_counter() - began
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 5.0
    assert peak < 100e6


def test_includes(tmp_path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "mesh.yaml").write_text("{type: rectangle, cells: [2, 2]}\n")
    (tmp_path / "parts" / "walls.yaml").write_text(
        "- {type: dirichlet, on: left, value: 1.0}\n- {type: dirichlet, on: right, value: {include: parts/v.yaml}}\n"
    )
    (tmp_path / "parts" / "v.yaml").write_text("2.0\n")
    path = tmp_path / "p.yaml"
    path.write_text(
        "version: 1\ntype: poisson\nmesh: {include: parts/mesh.yaml}\nboundary: {include: parts/walls.yaml}\n"
    )
    problem = load_problem(path)
    assert problem == PoissonProblem(
        mesh=RectangleMesh(cells=(2, 2)), boundary=[Dirichlet("left", 1.0), Dirichlet("right", 2.0)]
    )
    (tmp_path / "parts" / "v.yaml").write_text("{include: parts/v.yaml}\n")
    with pytest.raises(SpecError, match="includes itself"):
        load_problem(path)
    (tmp_path / "parts" / "v.yaml").write_text("[1.0\n")
    with pytest.raises(SpecError, match=r"v\.yaml"):
        load_problem(path)
