"""What a law of rubber declares."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from torch_sla import Dirichlet, Energy, Field, HyperelasticityProblem, RectangleMesh, load_problem
from torch_sla.errors import SpecError


def pulled(**more: Any) -> HyperelasticityProblem:
    return HyperelasticityProblem(
        mesh=RectangleMesh(cells=(3, 3)),
        boundary=[Dirichlet("bottom", 0.0), Dirichlet("top", [0.3, 0.2])],
        outputs=[Energy("energy"), Field("stress", "stress", on="cells")],
        **more,
    )


def test_a_law_in_numbers_needs_no_constants(tmp_path) -> None:
    numbers = pulled(law="0.5*(J1 - 3) + 10*(J - 1)**2")
    named = pulled(law="mu/2*(J1 - 3) + k/2*(J - 1)**2", constants={"mu": 1.0, "k": 20.0})
    found, expected = numbers.solve(), named.solve()
    for name in expected.outputs:
        torch.testing.assert_close(found[name], expected[name])
    numbers.to_yaml(tmp_path / "rubber.yaml")
    assert "constants" not in (tmp_path / "rubber.yaml").read_text()
    assert load_problem(tmp_path / "rubber.yaml").spec_hash == numbers.spec_hash


@pytest.mark.parametrize(
    ("law", "message"),
    [
        ("neo_hookean", "the constants of neo_hookean are mu lam, .*; received none"),
        ("mu*(I1 - 3)", "unknown name 'mu'"),
        ("2*pi", "law: the energy does not depend on the deformation; write it with I1 I2"),
    ],
)
def test_other_laws_miss_them(law: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        pulled(law=law)
