"""Meshes with faults: right, or refused with the offender named."""

from __future__ import annotations

import re

import meshio
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

import torch_sla.assembly as fem
from torch_sla.assembly import weak
from torch_sla.errors import MeshError

CELLS = ["line", "triangle", "quad", "tetra", "hexahedron"]
MAKE = {1: fem.interval_mesh, 2: fem.rectangle_mesh, 3: fem.box_mesh}
DIM = {"line": 1, "triangle": 2, "quad": 2, "tetra": 3, "hexahedron": 3}


def structured(cell, n):
    dim = DIM[cell]
    return fem.interval_mesh(n) if dim == 1 else MAKE[dim]((n,) * dim, cell=cell)


def bent(cell, n, seed):
    """A distorted mesh with shuffled points and cells."""
    mesh = structured(cell, n)
    rng = np.random.default_rng(seed)
    x = mesh.points.numpy()
    inside = ((x > 1e-9) & (x < 1 - 1e-9)).all(1)[:, None]
    x = x + np.where(inside, 0.3 / n * (rng.random(x.shape) - 0.5), 0.0)
    order = rng.permutation(len(x))
    renumber = np.argsort(order)
    cells = renumber[mesh.cells.numpy()][rng.permutation(mesh.n_cells)]
    return x[order], cells


def energy(mesh):
    """Dirichlet energy of x + 2 y + 3 z: exact on any sound mesh of the unit box."""
    dofs = fem.Dofs(mesh, fem.lagrange(mesh.cell))
    u = mesh.points @ torch.arange(1.0, mesh.dim + 1).double()
    K = dofs.assemble_matrix(weak.diffusion(fem.CellBasis(mesh, dofs.element), kappa=1.0))
    return float(u @ fem.residual(dofs.pattern, K, torch.zeros(dofs.n).double(), u))


FAULTS = ["none", "flip", "repeat", "isolate", "dangle", "degenerate", "double", "nan", "flat"]


@settings(max_examples=60, deadline=None)
@given(
    cell=st.sampled_from(CELLS),
    n=st.integers(1, 3),
    fault=st.sampled_from(FAULTS),
    seed=st.integers(0, 2**16),
)
def test_right_or_refused(cell, n, fault, seed):
    points, cells = bent(cell, n, seed)
    rng = np.random.default_rng(seed + 1)
    which = int(rng.integers(len(cells)))
    exact = {1: 1.0, 2: 5.0, 3: 14.0}[DIM[cell]]
    named = None
    if fault == "flip":
        mirror = {
            "line": [1, 0],
            "triangle": [0, 2, 1],
            "quad": [0, 3, 2, 1],
            "tetra": [0, 2, 1, 3],
        }
        mirror["hexahedron"] = [0, 3, 2, 1, 4, 7, 6, 5]
        some = rng.random(len(cells)) < 0.5
        cells[some] = cells[some][:, mirror[cell]]
    elif fault == "repeat":
        points = np.concatenate([points, points[cells[which, :1]]])
        cells[which, 0] = len(points) - 1
        named = rf"points \d+ and {len(points) - 1} are both at|no cell uses point"
    elif fault == "isolate":
        points = np.concatenate([points, 0.5 + 0 * points[:1]])
        named = f"no cell uses point {len(points) - 1}"
    elif fault == "dangle":
        cells[which, 0] = len(points) + 3
        named = f"cell {which} refers to points"
    elif fault == "degenerate":
        cells[which, 1] = cells[which, 0]
        named = f"cell {which} uses a point twice"
    elif fault == "double":
        cells = np.concatenate([cells, cells[which : which + 1]])
        named = r"cells \[.*\] share the facet|cells \d+ and \d+ lie on the same side"
    elif fault == "nan":
        points[int(rng.integers(len(points)))] = np.nan
        named = r"point \d+"
    elif fault == "flat":
        # Squeeze every corner of one cell onto its first.
        points[cells[which, 1:]] = points[cells[which, :1]]
        named = r"are both at|cell \d+|cells \d+"
    if named is None:
        assert energy(fem.make_mesh(points, cells, cell)) == pytest.approx(exact, rel=1e-10)
    else:
        with pytest.raises(MeshError, match=named):
            fem.make_mesh(points, cells, cell)


@pytest.mark.parametrize("cell", ["triangle", "quad", "tetra", "hexahedron"])
def test_hanging_nodes_are_named(cell):
    """Half of the mesh refined, half not."""
    mesh = structured(cell, 2)
    low = mesh.centroids[:, 0] < 0.5
    coarse = fem.submesh(mesh, ~low).mesh
    fine = fem.refine(fem.submesh(mesh, low).mesh)
    points = torch.cat([coarse.points, fine.points])
    cells = torch.cat([coarse.cells, fine.cells + coarse.n_points])
    first, number = np.unique(points.numpy().round(9), axis=0, return_inverse=True)
    cells = number.reshape(-1)[cells.numpy()]
    with pytest.raises(
        MeshError, match=r"point \d+ at .* hangs on the facet .* of cell \d+"
    ) as caught:
        fem.make_mesh(first, cells, cell)
    place = [float(t) for t in re.search(r"at \[(.*?)\]", str(caught.value)).group(1).split(",")]
    assert place[0] == pytest.approx(0.5)
    assert fem.make_mesh(first, cells, cell, hanging_nodes="allow").n_cells == len(cells)


def test_repeated_cells_and_touching_bodies():
    """Two cells that share a point only are fine; a crack is a crack."""
    points = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1], [2, 1], [2, 2], [1, 2]])
    cells = np.array([[0, 1, 2, 3], [2, 4, 5, 6]])
    mesh = fem.make_mesh(points, cells, "quad")
    assert mesh.n_facets == 8
    assert len(mesh.interior.owner) == 0


@pytest.mark.parametrize("cell", CELLS)
def test_one_cell_is_a_mesh(cell):
    mesh = structured(cell, 1) if cell in ("line", "quad", "hexahedron") else None
    if mesh is None:
        corners = fem.lagrange(cell).cell.vertices
        mesh = fem.make_mesh(corners, torch.arange(len(corners))[None], cell)
    assert mesh.n_cells == 1
    dofs = fem.Dofs(mesh, fem.lagrange(cell, 2), interior=True)
    K = dofs.assemble_matrix(weak.diffusion(fem.CellBasis(mesh, dofs.element), kappa=1.0))
    ones = torch.ones(dofs.n).double()
    assert float(fem.residual(dofs.pattern, K, 0 * ones, ones).abs().max()) < 1e-12
    facets = fem.InteriorBasis(mesh, dofs.element)
    form = fem.BilinearForm(lambda u, v, w: fem.jump(u) * fem.jump(v))
    assert float(dofs.assemble_matrix(form(facets), interior=True).abs().sum()) == 0.0
    assert fem.refine(mesh).n_cells == 2**mesh.dim
    assert fem.partition_cells(mesh, 1).tolist() == [0]


@pytest.mark.parametrize("cell", ["triangle", "quad", "tetra", "hexahedron"])
def test_second_order_files(cell, tmp_path):
    mesh = fem.curved(structured(cell, 2))
    x = mesh.points
    mesh = fem.make_mesh(x + 0.02 * torch.sin(3 * x.flip(1)), mesh.cells, mesh.cell)
    volume = float(fem.CellBasis(mesh, mesh.geometry, 6).dx.sum())
    for suffix in (".vtu", ".msh"):
        path = tmp_path / f"mesh{suffix}"
        if suffix == ".msh":
            points = np.pad(x.numpy() * 0 + mesh.points.numpy(), ((0, 0), (0, 3 - mesh.dim)))
            meshio.write(
                path, meshio.Mesh(points, [(mesh.cell, mesh.cells.numpy())]), file_format="gmsh"
            )
        else:
            fem.write_mesh(path, mesh)
        again = fem.read_mesh(path)
        assert again.cell == mesh.cell
        assert float(fem.CellBasis(again, again.geometry, 6).dx.sum()) == pytest.approx(volume)


def test_incomplete_second_order_cells_and_empty_tags(tmp_path):
    points = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    middle = 0.5 * (points + np.roll(points, -1, 0))
    eight = meshio.Mesh(np.concatenate([points, middle]), [("quad8", np.arange(8)[None])])
    eight.write(tmp_path / "eight.vtu")
    with pytest.raises(MeshError, match="made of quad8 cells, which are not supported"):
        fem.read_mesh(tmp_path / "eight.vtu")
    square = fem.rectangle_mesh()
    with pytest.raises(MeshError, match="'none' is empty"):
        fem.make_mesh(
            square.points, square.cells, "triangle", facet_tags={"none": torch.zeros(0, 2).long()}
        )
    with pytest.raises(MeshError, match="nothing is selected for tag 'none'"):
        fem.make_mesh(
            square.points, square.cells, "triangle", cell_tags={"none": torch.zeros(2).bool()}
        )
