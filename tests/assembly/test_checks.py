"""Indices, elements and functions that do not fit are refused by name."""

from __future__ import annotations

import pytest
import torch

import torch_sla.assembly as fem
from torch_sla.errors import ArgumentError, DTypeError, MeshError

MESH = fem.rectangle_mesh((3, 3))
P1 = fem.lagrange("triangle", 1)
DOFS = fem.Dofs(MESH, P1)
PAIR = fem.MixedDofs({"u": DOFS, "p": DOFS})

TAKERS = {
    "cells of a basis": ("cells", 18, lambda i: fem.CellBasis(MESH, P1, cells=i)),
    "facets of a basis": ("facets", 12, lambda i: fem.FacetBasis(MESH, P1, i)),
    "facets of dofs": ("facets", 12, DOFS.facet_dofs),
    "cells of a sum": (
        "cells",
        18,
        lambda i: DOFS.assemble_vector(torch.ones(len(i), 3, dtype=torch.float64), cells=i),
    ),
    "facets of a sum": (
        "facets",
        12,
        lambda i: DOFS.assemble_vector(torch.ones(len(i), 3, dtype=torch.float64), facets=i),
    ),
    "marked": ("marked", 18, lambda i: fem.refine(MESH, i)),
    "a submesh": ("cells", 18, lambda i: fem.submesh(MESH, i)),
    "a place": ("dofs", 16, lambda i: PAIR.place("p", i)),
}


@pytest.mark.parametrize("case", TAKERS)
def test_indices_that_do_not_exist(case: str) -> None:
    name, count, take = TAKERS[case]
    for bad in (count, -1, 10**6):
        with pytest.raises(MeshError, match=rf"{name}: got {bad}; .* from 0 to {count - 1}"):
            take(torch.tensor([0, bad]))
    with pytest.raises(MeshError, match=f"{name}: got torch.float32"):
        take(torch.tensor([0.0]))
    take(torch.tensor([0, count - 1], dtype=torch.int32))


@pytest.mark.parametrize("case", ["cells of a basis", "facets of a basis", "facets of dofs"])
def test_masks_and_what_is_no_tensor(case: str) -> None:
    name, count, take = TAKERS[case]
    take(torch.ones(count, dtype=torch.bool))
    with pytest.raises(MeshError, match=rf"{name}: the mask has shape \(1,\)"):
        take(torch.tensor([True]))
    with pytest.raises(MeshError, match=f"{name}: got 'left'"):
        take("left")


def test_a_mask_is_its_indices() -> None:
    mask = torch.zeros(12, dtype=torch.bool)
    mask[[1, 4]] = True
    basis = fem.FacetBasis(MESH, P1, mask)
    assert basis.facets.tolist() == [1, 4]
    assert torch.equal(basis.dx, fem.FacetBasis(MESH, P1, torch.tensor([1, 4])).dx)


@pytest.mark.parametrize("basis", [fem.CellBasis, fem.FacetBasis, fem.InteriorBasis, fem.Dofs])
def test_elements_of_other_cells(basis) -> None:
    with pytest.raises(MeshError, match=r"element: .* does not fit the mesh's triangle cells"):
        basis(MESH, fem.lagrange("quad", 1))
    with pytest.raises(MeshError, match="element: 'P1' does not fit"):
        basis(MESH, "P1")
    for bad in (0, 1.5):
        with pytest.raises(ArgumentError, match=f"components: got {bad}"):
            basis(MESH, P1, components=bad)


def test_values_and_functions_that_do_not_fit() -> None:
    with pytest.raises(ArgumentError, match=r"degree: got 2\.5"):
        fem.CellBasis(MESH, P1, degree=2.5)
    with pytest.raises(DTypeError, match=r"u has dtype torch\.int64"):
        fem.CellBasis(MESH, P1).interpolate(DOFS, torch.zeros(16, dtype=torch.int64))
    with pytest.raises(ArgumentError, match="returns nothing"):
        fem.BilinearForm(lambda u, v, w: None)(fem.CellBasis(MESH, P1))
    with pytest.raises(ArgumentError, match="estimate holds NaN"):
        fem.mark(torch.tensor([float("nan"), 1.0]))
    zero = torch.zeros(16, dtype=torch.float64)
    with pytest.raises(ArgumentError, match="exact gives the shape"):
        fem.l2_error(DOFS, zero, lambda x: x)
    with pytest.raises(ArgumentError, match="exact_gradient gives the shape"):
        fem.h1_seminorm_error(DOFS, zero, lambda x: x[..., 0])
