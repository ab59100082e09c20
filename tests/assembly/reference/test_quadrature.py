from __future__ import annotations

from itertools import product
from math import factorial, prod

import pytest
import torch

from torch_sla.assembly.reference import quadrature, reference_cell
from torch_sla.errors import ArgumentError, MeshError

CELLS = ("line", "triangle", "quad", "tetra", "hexahedron")


def exact(cell, powers):
    if reference_cell(cell).is_simplex:
        return prod(factorial(p) for p in powers) / factorial(sum(powers) + len(powers))
    return prod(1.0 / (p + 1) for p in powers)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("degree", range(9))
def test_rules_integrate_every_monomial_up_to_their_degree(cell, degree):
    rule = quadrature(cell, degree)
    dim = reference_cell(cell).dim
    for powers in product(range(degree + 1), repeat=dim):
        if reference_cell(cell).is_simplex and sum(powers) > degree:
            continue
        monomial = torch.stack([rule.points[:, d] ** p for d, p in enumerate(powers)]).prod(0)
        assert abs(float((rule.weights * monomial).sum()) - exact(cell, powers)) < 1e-14


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("degree", range(9))
def test_points_are_inside_and_weights_positive(cell, degree):
    rule = quadrature(cell, degree)
    assert (reference_cell(cell).slack(rule.points) > 0).all()
    assert (rule.weights > 0).all()


def test_unknown_cell_and_degree_are_refused():
    with pytest.raises(MeshError, match=r"'pentagon'.*triangle"):
        quadrature("pentagon", 2)
    with pytest.raises(ArgumentError, match="got -1"):
        quadrature("line", -1)
