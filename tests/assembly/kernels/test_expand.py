from __future__ import annotations

import pytest
import torch

import torch_sla.assembly as fem
from torch_sla.assembly.kernels import expand as module

needs_extension = pytest.mark.skipif(module._compiled is None, reason="no compiled extension")


@needs_extension
@pytest.mark.parametrize("index", [torch.int32, torch.int64])
def test_kernel_and_torch_agree(tools, monkeypatch, index):
    mesh = tools.structured("triangle", 3)
    velocity = fem.Dofs(mesh, fem.lagrange("triangle", 2), 2)
    pressure = fem.Dofs(mesh, fem.lagrange("triangle", 1))
    for dofs in (velocity, fem.MixedDofs({"u": velocity, "p": pressure})):
        nodes, _ = dofs._node_pattern
        starts, columns = nodes.crow.to(index), nodes.ccol.to(index)
        first, before, rows = dofs.node_starts, dofs._columns_before, dofs.pattern.crow.long()
        mine = module.expand_columns(starts, columns, first, rows, before)
        monkeypatch.setattr(module, "_compiled", None)
        theirs = module.expand_columns(starts, columns, first, rows, before)
        monkeypatch.undo()
        assert mine.dtype == theirs.dtype == torch.int32
        assert torch.equal(mine, theirs)
        # Dofs couple where a cell has both.
        expected = torch.zeros(dofs.n, dofs.n, dtype=torch.bool)
        for cell in dofs.cell_dofs:
            expected[cell[:, None], cell] = True
        row = torch.repeat_interleave(torch.arange(dofs.n), rows.diff())
        found = torch.zeros_like(expected)
        found[row, mine.long()] = True
        assert torch.equal(found, expected)
