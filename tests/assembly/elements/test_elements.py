from __future__ import annotations

import pytest
import torch

from torch_sla.assembly import P1, lagrange
from torch_sla.errors import ArgumentError, MeshError

ELEMENTS = [(c, o) for c in ("line", "triangle", "quad", "tetra", "hexahedron") for o in (0, 1, 2)]


@pytest.mark.parametrize(("cell", "order"), ELEMENTS)
def test_basis_is_nodal_sums_to_one_and_has_the_right_gradients(cell, order, generator):
    element = lagrange(cell, order)
    X = torch.rand(5, element.cell.dim, generator=generator, dtype=torch.float64)
    if order:
        eye = torch.eye(element.n_nodes, dtype=torch.float64)
        torch.testing.assert_close(element.values(element.nodes), eye, rtol=0, atol=1e-14)
    ones = torch.ones(5, dtype=torch.float64)
    torch.testing.assert_close(element.values(X).sum(-1), ones, rtol=0, atol=1e-14)
    slopes = torch.func.vmap(torch.func.jacrev(element.values))(X)
    torch.testing.assert_close(element.gradients(X), slopes, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("cell", "order"), [e for e in ELEMENTS if e[1]])
def test_facet_nodes_carry_exactly_the_functions_that_do_not_vanish_there(cell, order):
    element = lagrange(cell, order)
    for facet, nodes in zip(element.cell.facets, element.facet_nodes.tolist(), strict=True):
        corners = element.cell.vertices[list(facet)]
        weights = torch.linspace(0.2, 0.4, len(facet), dtype=torch.float64)
        inside = (weights / weights.sum()) @ corners
        present = torch.nonzero(element.values(inside).abs() > 1e-12)[:, 0].tolist()
        assert set(present) <= set(nodes)
        assert set(element.cell.facets[0]) <= set(range(element.n_nodes))
        assert set(facet) <= set(nodes)


def test_wrong_cell_and_order_are_refused():
    with pytest.raises(MeshError, match="P1 is not defined on 'quad'"):
        P1("quad")
    with pytest.raises(ArgumentError, match="got 3"):
        lagrange("triangle", 3)
