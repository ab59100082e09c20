"""Weak forms are checked before they are solved."""

from __future__ import annotations

import pytest

from torch_sla import Dirichlet, RectangleMesh, Unknown, WeakFormProblem
from torch_sla.errors import SpecError


@pytest.mark.parametrize(
    ("measure", "said"),
    [
        ("ds('topp')", r"no facet tag 'topp' \(did you mean 'top'\?\)"),
        ("dx('steel')", "no cell tag 'steel'"),
        ("ds('x > 5')", "no boundary facet satisfies"),
    ],
)
def test_places_of_integrals_are_found_by_a_check(measure: str, said: str) -> None:
    problem = WeakFormProblem(
        mesh=RectangleMesh(cells=(2, 2)),
        unknowns=[Unknown("u", test="v")],
        residual=f"dot(grad(u), grad(v)) - v*{measure}",
        boundary=[Dirichlet("left", 0.0)],
    )
    with pytest.raises(SpecError, match=said):
        problem.check()
