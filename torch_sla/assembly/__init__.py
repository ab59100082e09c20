"""Finite elements: meshes, elements, forms and constraints become patterns and values.

The rooms, in the order a course teaches them: `mesh` (points, cells, tags), `reference` (cells and quadrature),
`elements`, `mapping`, `dofs` (numbering, pattern, scatter maps), `basis` (functions at quadrature points), `forms`
(weak forms as torch functions), `weak` (common ones), `constraints`, `interpolation`.

Examples
--------
>>> mesh = rectangle_mesh((8, 8))
>>> dofs = Dofs(mesh, lagrange("triangle", 1))
>>> basis = CellBasis(mesh, dofs.element)
>>> values = dofs.assemble_matrix(weak.diffusion(basis, kappa=1.0))
>>> values.shape[0] == dofs.pattern.nnz
True
"""

from __future__ import annotations

from torch_sla.assembly import weak
from torch_sla.assembly.assemble import assemble
from torch_sla.assembly.basis import Basis, CellBasis, FacetBasis, InteriorBasis
from torch_sla.assembly.chunked import ChunkedAssembly
from torch_sla.assembly.constraints import (
    Constraint,
    DirichletConstraint,
    Equations,
    Gauge,
    LinearConstraint,
    along,
    combine,
    constants,
    partners,
    periodic,
    prescribe,
    rigid_motions,
)
from torch_sla.assembly.dofs import Dofs, MixedDofs
from torch_sla.assembly.elements import P0, P1, P2, Q1, Q2, Element, Mini, lagrange
from torch_sla.assembly.forms import (
    BilinearForm,
    CellEnergy,
    Context,
    Energy,
    Field,
    Functional,
    LinearForm,
    ResidualForm,
)
from torch_sla.assembly.forms.vocabulary import (
    average,
    cofactor,
    curl,
    det,
    div,
    dot,
    grad,
    identity,
    inner,
    jump,
    matvec,
    normal,
    sym_grad,
    trace,
)
from torch_sla.assembly.interpolation import Interpolation
from torch_sla.assembly.measures import consistent_flux, h1_seminorm_error, l2_error, residual
from torch_sla.assembly.mesh import (
    Mesh,
    Part,
    Submesh,
    annulus_mesh,
    box_mesh,
    curved,
    disk_mesh,
    extrude,
    interval_mesh,
    lshape_mesh,
    make_mesh,
    partition,
    partition_cells,
    read_mesh,
    rectangle_mesh,
    refine,
    submesh,
    write_mesh,
)
from torch_sla.assembly.recovery import Projection, mark, transfer, zz_estimate
from torch_sla.assembly.summary import MeshSummary, mesh_summary, shape_quality

__all__ = [
    "P0",
    "P1",
    "P2",
    "Q1",
    "Q2",
    "Basis",
    "BilinearForm",
    "CellBasis",
    "CellEnergy",
    "ChunkedAssembly",
    "Constraint",
    "Context",
    "DirichletConstraint",
    "Dofs",
    "Element",
    "Energy",
    "Equations",
    "FacetBasis",
    "Field",
    "Functional",
    "Gauge",
    "InteriorBasis",
    "Interpolation",
    "LinearConstraint",
    "LinearForm",
    "Mesh",
    "MeshSummary",
    "Mini",
    "MixedDofs",
    "Part",
    "Projection",
    "ResidualForm",
    "Submesh",
    "along",
    "annulus_mesh",
    "assemble",
    "average",
    "box_mesh",
    "cofactor",
    "combine",
    "consistent_flux",
    "constants",
    "curl",
    "curved",
    "det",
    "disk_mesh",
    "div",
    "dot",
    "extrude",
    "grad",
    "h1_seminorm_error",
    "identity",
    "inner",
    "interval_mesh",
    "jump",
    "l2_error",
    "lagrange",
    "lshape_mesh",
    "make_mesh",
    "mark",
    "matvec",
    "mesh_summary",
    "normal",
    "partition",
    "partition_cells",
    "partners",
    "periodic",
    "prescribe",
    "read_mesh",
    "rectangle_mesh",
    "refine",
    "residual",
    "rigid_motions",
    "shape_quality",
    "submesh",
    "sym_grad",
    "trace",
    "transfer",
    "weak",
    "write_mesh",
    "zz_estimate",
]
