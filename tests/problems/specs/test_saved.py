"""Files written by earlier versions still mean the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from torch_sla import load_problem

SAVED = Path(__file__).with_name("saved")

# By file: the hash of the declaration, and outputs of its solution.
MEANING = {
    "format_1.yaml": (
        "5ea44f5dc4a5d56b98c32e99d7b0bccf",
        {
            "total": 1.39099564127,
            "lost": 1.27150628116,
            "energy": 1.65977696495,
            "peak": 1.35006513343,
        },
    ),
    "poisson_1.yaml": (
        "55078cd581c7af122c42f92798689a79",
        {"p": 1.5893867469574585, "out": 1.2145832833778667, "e": 0.11516593961657459},
    ),
    "helmholtz_1.yaml": (
        "706068e14bba05dd39d4a60efb729584",
        {"p": 0.15565734405819404, "power": 1.3549213595148224, "out": -0.662213466877551},
    ),
    "linear_1.yaml": (
        "4c0f8655a98ed315db8ce0f034050b00",
        {},
    ),
    "eigen_1.yaml": (
        "8c846a52ac1612f0f138735e7654fa29",
        {"first": 2.0},
    ),
    "nonlinear_1.yaml": (
        "1343816713c9b9f5546c7f460e9ddd7a",
        {"y": 1.9909831428222338},
    ),
    "hyperelasticity_1.yaml": (
        "271dea507ae62abcac1b5b20466ab382",
        {"e": 0.12316117214874636},
    ),
    "stokes_1.yaml": (
        "ba44f7f1eb1c58293b1f6a4edb5bc171",
        {"p1": 6.737056940471895, "through": 0.6666666666666667, "e": 2.591033253306494},
    ),
    "weak_form_1.yaml": (
        "0829a34a9f69f47241bb6389e6b9cc05",
        {"i": 0.8080699052845323},
    ),
    "elasticity_1.yaml": (
        "394c92b0ab1e17c0b5b8a80c144947c7",
        {"s": 0.5301155649705149, "e": 0.9158352650176951},
    ),
}


@pytest.mark.parametrize("name", sorted(path.name for path in SAVED.glob("*.yaml")))
def test_an_old_file_means_the_same(name: str) -> None:
    problem = load_problem(SAVED / name)
    identity, numbers = MEANING[name]
    assert problem.spec_hash == identity
    solution = problem.solve()
    found = {output: solution[output].real.item() for output in numbers}
    assert found == pytest.approx(numbers, rel=1e-7)
