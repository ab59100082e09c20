"""``module:function`` in a file: refused without trust and without importing anything, run with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from typer.testing import CliRunner

from torch_sla import Parameter, Problem, load_problem
from torch_sla.cli.app import app
from torch_sla.errors import SpecError

if TYPE_CHECKING:
    from pathlib import Path

CODE = """
from pathlib import Path
from torch_sla.assembly.forms.vocabulary import dot, grad
Path(__file__).with_name("was_run").touch()

def residual(u, v, w):
    return w.k * dot(grad(u), grad(v)) + u**3 * v - v

def conductivity(seen):
    return 1 + seen[..., -1:] ** 2

def stiffness(x):
    return 1 + x[..., 0]

broken = 3
"""

HEAD = """
type: poisson
mesh: {type: interval, cells: 8}
boundary:
  - {type: dirichlet, on: left, value: 0.0}
source: 1.0
outputs:
  - {type: integral, name: total, expression: u}
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "laws.py").write_text(CODE)
    return tmp_path


def law(folder: Path, name: str, more: str = "") -> Path:
    path = folder / "bar.yaml"
    path.write_text(
        f"{HEAD}diffusivity: {{type: parameter, name: k, on: quadrature, default: '{name}'{more}}}\n"
    )
    return path


def test_without_trust_nothing_is_imported(folder: Path) -> None:
    path = law(folder, "laws:stiffness")
    with pytest.raises(SpecError, match="--trust") as caught:
        load_problem(path)
    assert caught.value.line is not None
    assert not (folder / "was_run").exists()
    done = CliRunner().invoke(app, ["validate", str(path)])
    assert done.exit_code == 2
    assert not (folder / "was_run").exists()
    with pytest.raises(SpecError, match="names Python code"):
        load_problem(law(folder, "os:getcwd"))


def test_a_law_of_place(folder: Path) -> None:
    path = law(folder, "laws:stiffness")
    problem = load_problem(path, trust=True)
    # u' = (1 - x)/(1 + x), so the integral of u over the bar is 4 ln 2 - 5/2.
    assert float(problem.solve()["total"]) == pytest.approx(4 * 0.6931471805599453 - 2.5, rel=2e-2)
    expression = Problem.from_yaml(law(folder, "1 + x"))
    torch.testing.assert_close(problem.solve()["total"], expression.solve()["total"])
    done = CliRunner().invoke(
        app,
        [
            "solve",
            str(law(folder, "laws:stiffness")),
            "--trust",
            "-o",
            str(folder),
            "--no-picture",
            "--no-report",
        ],
    )
    assert done.exit_code == 0, done.output


def test_a_law_of_the_solution(folder: Path) -> None:
    problem = load_problem(law(folder, "laws:conductivity", ", of: [x, u]"), trust=True)
    assert problem.compile().nonlinear
    (folder / "plain.yaml").write_text(f"{HEAD}diffusivity: 1 + u**2\n")
    same = load_problem(folder / "plain.yaml")
    torch.testing.assert_close(problem.solve()["total"], same.solve()["total"])


def test_the_trip_through_a_file_keeps_hash_and_needs_trust_again(folder: Path) -> None:
    problem = load_problem(law(folder, "laws:stiffness"), trust=True)
    problem.to_yaml(folder / "again.yaml")
    assert load_problem(folder / "again.yaml", trust=True).spec_hash == problem.spec_hash
    with pytest.raises(SpecError, match="--trust"):
        load_problem(folder / "again.yaml")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("laws:absent", "has no function 'absent'"),
        ("laws:broken", "has no function 'broken'"),
        ("nowhere_at_all:f", "cannot be imported"),
    ],
)
def test_what_is_not_there_is_named(folder: Path, name: str, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        load_problem(law(folder, name), trust=True)


def test_a_residual(folder: Path) -> None:
    text = HEAD.replace("source: 1.0\n", "").replace("poisson", "weak_form")
    text += "unknowns: [{type: unknown, name: u, test: v}]\n"
    text += "parameters: [{type: parameter, name: k, default: 2.0}]\n"
    (folder / "form.yaml").write_text(f"{text}residual: 'laws:residual'\n")
    (folder / "plain.yaml").write_text(f"{text}residual: k*dot(grad(u), grad(v)) + u**3*v - v\n")
    with pytest.raises(SpecError, match="--trust"):
        load_problem(folder / "form.yaml")
    problem = load_problem(folder / "form.yaml", trust=True)
    torch.testing.assert_close(
        problem.solve()["total"], load_problem(folder / "plain.yaml").solve()["total"]
    )
    assert problem.to_yaml().count("laws:residual") == 1


def test_in_python_a_function_is_given_itself(folder: Path) -> None:
    with pytest.raises(SpecError, match="give the function itself"):
        Parameter("k", on="cells", default="laws:stiffness")
    file = law(folder, "1 + x")
    ones = Parameter("k", on="quadrature", default=lambda x: 1 + x[..., 0])
    problem = load_problem(file).updated(diffusivity=ones)
    torch.testing.assert_close(problem.solve()["total"], load_problem(file).solve()["total"])
    with pytest.raises(SpecError, match="lives in this process only"):
        problem.to_yaml()
