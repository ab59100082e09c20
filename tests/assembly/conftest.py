from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import spsolve

import torch_sla.assembly as fem

if TYPE_CHECKING:
    from collections.abc import Callable

CELLS = ("line", "triangle", "quad", "tetra", "hexahedron")


def structured(cell: str, n: int) -> fem.Mesh:
    """A unit line, square or cube cut n times per direction."""
    if cell == "line":
        return fem.interval_mesh(n)
    if cell in ("triangle", "quad"):
        return fem.rectangle_mesh((n, n), cell=cell)
    return fem.box_mesh((n, n, n), cell=cell)


def distorted(cell: str, n: int, amount: float = 0.15, seed: int = 7321) -> fem.Mesh:
    """The same with interior points moved at random by a fraction of the cell size."""
    mesh = structured(cell, n)
    generator = torch.Generator().manual_seed(seed)
    shift = torch.rand(mesh.points.shape, generator=generator, dtype=torch.float64) - 0.5
    inside = ((mesh.points > 1e-9) & (mesh.points < 1 - 1e-9)).all(1, keepdim=True)
    points = mesh.points + torch.where(inside, 2 * amount / n * shift, 0.0)
    tags = {name: mesh.facets[index] for name, index in mesh.facet_tags.items()}
    return fem.make_mesh(points, mesh.cells, mesh.cell, facet_tags=tags)


def matrix(dofs: fem.Dofs, values: torch.Tensor) -> sp.csr_array:
    pattern = dofs.pattern
    parts = (values.detach().numpy(), pattern.ccol.numpy(), pattern.crow.numpy())
    return sp.csr_array(parts, shape=(dofs.n, dofs.n))


def solve_dirichlet(
    dofs: fem.Dofs, values: torch.Tensor, load: torch.Tensor, fixed: torch.Tensor, g: torch.Tensor
) -> torch.Tensor:
    constraint = fem.DirichletConstraint(dofs.pattern, fixed)
    constrained, right = constraint.apply(values, load, g)
    x = spsolve(matrix(dofs, constrained).tocsc(), right.numpy())
    return constraint.recover(torch.from_numpy(np.asarray(x)), g)


def onto(radius: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """Project points onto a cylinder about the z axis."""

    def project(x: torch.Tensor) -> torch.Tensor:
        flat = x[:, :2]
        return torch.cat([radius * flat / flat.norm(dim=1, keepdim=True), x[:, 2:]], 1)

    return project


@pytest.fixture(scope="session")
def tools():
    """Mesh makers and a SciPy solve, shared by the assembly tests."""

    class Tools:
        cells = CELLS

    Tools.structured = staticmethod(structured)
    Tools.distorted = staticmethod(distorted)
    Tools.matrix = staticmethod(matrix)
    Tools.onto = staticmethod(onto)
    Tools.solve_dirichlet = staticmethod(solve_dirichlet)
    return Tools


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(90217)
