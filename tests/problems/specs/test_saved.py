"""Files written by earlier versions still mean the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from torch_sla import load_problem

SAVED = Path(__file__).with_name("saved")

# By file: the hash of the declaration in the present format, and outputs of its solution.
MEANING = {
    "format_1.yaml": (
        "d8fd82a12ee0f52356252c0e485e1a33",
        {
            "total": 1.39099564127,
            "lost": 1.27150628116,
            "energy": 1.65977696495,
            "peak": 1.35006513343,
        },
    ),
    "poisson_1.yaml": (
        "f844f9786c9ca514b04498fb8faddf4a",
        {"p": 1.5893867469574585, "out": 1.2145832833778667, "e": 0.11516593961657459},
    ),
    "helmholtz_1.yaml": (
        "b40f49865d8c7c8a76074ccdaf7dc94d",
        # Since walls inside a layer are stretched with it; the spec is what it was.
        {"p": 0.12607182027800107, "power": 0.9860464019353323, "out": -3.074333695260117},
    ),
    "linear_1.yaml": (
        "4f4a6125ca8a3266a534813e1fbfc7a9",
        {},
    ),
    "eigen_1.yaml": (
        "8b4c62731f7d34b84c70b6cb63ee0cb8",
        {"first": 2.0},
    ),
    "nonlinear_1.yaml": (
        "247ff752898b54586cf604b0a65eb654",
        {"y": 1.9909831428222338},
    ),
    "hyperelasticity_1.yaml": (
        "0a08bd3aaebe3d72a3332e802e64dbdb",
        {"e": 0.12316117214874636},
    ),
    "stokes_1.yaml": (
        "22e77f57fc87e3912957fac2159e471d",
        {"p1": 6.737056940471895, "through": 0.6666666666666667, "e": 2.591033253306494},
    ),
    "weak_form_1.yaml": (
        "e5c5fa9eb5c31f181b5c322a6720d005",
        {"i": 0.8080699052845323},
    ),
    "elasticity_1.yaml": (
        "b155a40ba1af78b52fd738b8ad933379",
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
