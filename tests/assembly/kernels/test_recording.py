"""What records operations of torch does not take what kernels compute for constants."""

from __future__ import annotations

import pytest
import torch

import torch_sla.assembly as fem
from torch_sla.errors import GradientError
from torch_sla.linalg.sparse.segments import SegmentMap


@pytest.mark.parametrize("linear", [(), ("k",)])
def test_forms_are_refused(linear: tuple[str, ...]) -> None:
    mesh = fem.rectangle_mesh((3, 3))
    dofs = fem.Dofs(mesh, fem.lagrange("triangle"))
    form = fem.BilinearForm(lambda u, v, w: w.k * fem.dot(fem.grad(u), fem.grad(v)), linear=linear)
    k = torch.linspace(1.0, 2.0, mesh.n_cells, dtype=torch.float64)[:, None]
    basis = fem.CellBasis(mesh, dofs.element)
    fem.assemble(form, dofs, basis=basis, k=k)
    with pytest.raises(GradientError, match="linearize"):
        torch.func.linearize(lambda k: fem.assemble(form, dofs, basis=basis, k=k), k)


def test_sums_into_segments_are_refused() -> None:
    sums = SegmentMap(torch.tensor([0, 1, 0]), 2)
    with pytest.raises(GradientError, match="linearize"):
        torch.func.linearize(lambda x: sums.sum(x), torch.ones(3))
