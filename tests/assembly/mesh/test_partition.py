"""Parts of a mesh with a halo."""

from __future__ import annotations

import pytest
import torch

import torch_sla.assembly as fem
from torch_sla.assembly import weak
from torch_sla.errors import ArgumentError, BackendUnavailableError

CELLS = ["line", "triangle", "quad", "tetra", "hexahedron"]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("method", ["coordinates", "auto"])
def test_owned_rows_are_complete(tools, cell, method):
    mesh = tools.distorted(cell, 4 if cell in ("line", "triangle", "quad") else 2)
    element = fem.lagrange(cell)
    whole = fem.Dofs(mesh, element)
    K = tools.matrix(
        whole, whole.assemble_matrix(weak.diffusion(fem.CellBasis(mesh, element), kappa=1.0))
    )
    parts = fem.partition(mesh, 3, method)
    cells = torch.cat([p.cells[p.owned_cells] for p in parts])
    points = torch.cat([p.points[p.owned_points] for p in parts])
    assert torch.equal(cells.sort().values, torch.arange(mesh.n_cells))
    assert torch.equal(points.sort().values, torch.arange(mesh.n_points))
    for i, part in enumerate(parts):
        dofs = fem.Dofs(part.mesh, element)
        local = dofs.assemble_matrix(weak.diffusion(fem.CellBasis(part.mesh, element), kappa=1.0))
        A = tools.matrix(dofs, local)
        mine = part.owned_points.numpy()
        rows = K[part.points.numpy()[mine]]
        gap = A[mine] - rows[:, part.points.numpy()]
        assert abs(gap).max() < 1e-13
        assert rows.sum() == pytest.approx(A[mine].sum(), abs=1e-12)
        assert bool((part.neighbours[part.owned_points] == i).all())


def test_parts_are_balanced_and_compact():
    mesh = fem.rectangle_mesh((20, 20))
    for method in ("coordinates", "auto"):
        owner = fem.partition_cells(mesh, 7, method)
        count = owner.bincount(minlength=7)
        assert count.max() < 1.1 * mesh.n_cells / 7
        inside = mesh.interior
        cut = (owner[inside.owner] != owner[inside.neighbour]).sum()
        assert cut < 160
    assert fem.partition_cells(mesh, 1).sum() == 0


def test_metis_is_asked_for_by_name(monkeypatch):
    mesh = fem.rectangle_mesh((4, 4))
    monkeypatch.setattr("torch_sla.assembly.mesh.parts.find_spec", lambda name: None)
    with pytest.raises(BackendUnavailableError, match="needs pymetis"):
        fem.partition_cells(mesh, 2, "metis")
    assert fem.partition_cells(mesh, 2).sum() == 16
    with pytest.raises(ArgumentError, match="between 1 and the 32 cells"):
        fem.partition_cells(mesh, 33)
    with pytest.raises(ArgumentError, match="use 'auto', 'metis' or 'coordinates'"):
        fem.partition_cells(mesh, 2, "best")
