"""Sizes and memory of the levels that a plan counts on are those of levels that are made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from scipy.sparse import csr_array

from torch_sla import BoxMesh, Dirichlet, ElasticityProblem, RectangleMesh
from torch_sla.assembly import box_mesh, rectangle_mesh
from torch_sla.linalg import SparseTensor, Structure
from torch_sla.linalg.kernels import unavailable
from torch_sla.linalg.plan.levels import level_sizes, levels_memory
from torch_sla.linalg.precond.multigrid.hierarchy import Hierarchy

if TYPE_CHECKING:
    from torch_sla.assembly import Mesh
    from torch_sla.problems.specs.mesh import MeshSpec

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=f"{unavailable()}")
BODIES = {
    "quadrilaterals": (
        RectangleMesh(cells=(48, 48), cell="quad"),
        rectangle_mesh((48, 48), cell="quad"),
    ),
    "triangles": (RectangleMesh(cells=(48, 48)), rectangle_mesh((48, 48))),
    "hexahedra": (
        BoxMesh(cells=(14, 14, 14), cell="hexahedron"),
        box_mesh((14, 14, 14), cell="hexahedron"),
    ),
    "tetrahedra": (BoxMesh(cells=(14, 14, 14)), box_mesh((14, 14, 14))),
}


def body(given: MeshSpec, mesh: Mesh) -> SparseTensor:
    problem = ElasticityProblem(
        mesh=given,
        model="solid" if mesh.points.shape[1] == 3 else "plane_strain",
        young_modulus=1.0,
        poisson_ratio=0.3,
        boundary=[Dirichlet("bottom", 0.0)],
    )
    whole = problem.assemble()
    free, d = whole.free.numpy(), mesh.points.shape[1]
    plain = SparseTensor.from_scipy(csr_array(whole.matrix.to_scipy())[free][:, free])
    nodes = mesh.points[whole.free[::d]]
    known = Structure(hermitian=True, positive_definite=True, coordinates=nodes)
    return SparseTensor.from_pattern(plain.pattern, plain.csr_values, known)


@pytest.mark.parametrize("name", BODIES)
def test_levels_of_bodies_are_foreseen(name: str) -> None:
    A = body(*BODIES[name])
    n, d = A.shape[0], A.structure.coordinates.shape[1]  # type: ignore[union-attr]
    made = Hierarchy(A.pattern, A.csr_values, structure=A.structure)
    made.apply(torch.ones(n, dtype=torch.float64))  # with the vectors of a cycle
    expected = level_sizes(n, A.nnz, float(d), lattice=False, block=d)
    assert [level.block for level in made.levels][:2] == [level.block for level in expected][:2]
    entries = sum(level.nonzeros for level in made.levels)
    assert sum(level.entries for level in expected) == pytest.approx(entries, rel=0.25)
    kept, passing = levels_memory(expected, float(d))
    assert kept == pytest.approx(made.nbytes, rel=0.2)
    assert 0.1 * kept < passing < kept
