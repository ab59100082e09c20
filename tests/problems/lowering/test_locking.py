"""Bodies whose cells lock are told so."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from torch_sla import (
    Dirichlet,
    ElasticityProblem,
    HyperelasticityProblem,
    Neumann,
    Parameter,
    RectangleMesh,
    TransientProblem,
)


def told(problem: Any, **values: Any) -> list[str]:
    return [n for n in problem.solve(**values).info.notes if "nearly incompressible" in n]


PULLED: dict[str, Any] = {
    "mesh": RectangleMesh(cells=(2, 1), cell="quad"),
    "dilatation": "pointwise",
    "boundary": [Dirichlet("left", 0.0), Neumann("right", traction=[0.0, 1e-4])],
}


@pytest.mark.parametrize(
    ("law", "soft", "stiff", "remedy"),
    [
        ("neo_hookean", {"mu": 2.0, "lam": 98.0}, {"mu": 2.0, "lam": 99.0}, "give dilatation"),
        (
            "neo_hookean",
            {"young_modulus": 1.0, "poisson_ratio": 0.49},
            {"young_modulus": 1.0, "poisson_ratio": "0.4 + 0.099*x"},
            "give dilatation",
        ),
        (
            "mooney_rivlin",
            {"c1": 0.3, "c2": 0.2, "kappa": 49.9},
            {"c1": 0.3, "c2": 0.2, "kappa": 52.0},
            "give dilatation",
        ),
        (
            "saint_venant_kirchhoff",
            {"mu": 1.0, "lam": 49.0},
            {"mu": 1.0, "lam": 50.0},
            "give a law of J1, J2 and J with dilatation",
        ),
        (
            "m*(J1 - 3) + k*log(J)**2",
            {"m": 0.5, "k": 24.0},
            {"m": 0.5, "k": 26.0},
            "give dilatation",
        ),
    ],
)
def test_bodies_that_lock_are_told(
    law: str, soft: dict[str, Any], stiff: dict[str, Any], remedy: str
) -> None:
    given: dict[str, Any] = {"law": law, **PULLED}
    assert not told(HyperelasticityProblem(constants=soft, **given))
    (note,) = told(HyperelasticityProblem(constants=stiff, order=2, **given))
    assert remedy in note
    assert "quad cells of order 2" in note
    if law != "saint_venant_kirchhoff":
        assert not told(
            HyperelasticityProblem(constants=stiff, **{**given, "dilatation": "averaged"})
        )


def test_elastic_bodies_that_lock_are_told() -> None:
    settings: dict[str, Any] = {
        **PULLED,
        "mesh": RectangleMesh(cells=(2, 2)),
        "model": "plane_strain",
        "poisson_ratio": Parameter("nu", default=0.3),
    }
    body = ElasticityProblem(**settings)
    assert not told(body)
    assert not told(body, nu=0.49)
    (note,) = told(body, nu=torch.tensor([0.3, 0.499], dtype=torch.float64))
    assert "up to 499.7 times" in note  # 2 (1 + ν) / 3 (1 - 2ν)
    assert note.endswith("give order: 2 and dilatation: averaged")
    assert not told(body.updated(model="plane_stress"), nu=0.499)
    assert not told(body.updated(order=2, dilatation="averaged"), nu=0.499)
    points = body.compile().mesh.points
    shapes = torch.stack([points, 1.1 * points])
    assert told(body, nu=0.499, points=shapes) == [note]
    some = torch.tensor([0.3, 0.499], dtype=torch.float64)
    assert told(body, nu=some, points=shapes) == [note]
    assert told(body, nu=some[:, None], points=shapes) == [note]
    assert told(TransientProblem(of=body, end=1.0, steps=2), nu=0.499) == [note]
