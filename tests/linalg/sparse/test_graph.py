"""The graph of a matrix: symmetry of its values, its components, its picture."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.grids import grid
from torch_sla.linalg import (
    SparseTensor,
    SparseTensorList,
)


def test_symmetry_is_asked_of_the_values() -> None:
    A = grid(6)
    assert A.is_symmetric()
    assert A.is_hermitian()
    v = A.values.clone()
    v[1] += 1e-3
    B = SparseTensor.from_pattern(A.pattern, v)
    assert not B.is_symmetric()
    assert B.is_symmetric(rtol=1e-2)
    both = SparseTensor.from_pattern(A.pattern, torch.stack([A.values, v]))
    assert not both.is_symmetric()
    assert not both.is_symmetric(rtol=1e-6)
    assert both.is_symmetric(rtol=1e-2)
    assert not SparseTensor.from_dense(torch.ones(2, 3)).is_symmetric()
    C = SparseTensor.from_dense(torch.tensor([[1.0, 2.0j], [-2.0j, 1.0]], dtype=torch.complex128))
    assert C.is_hermitian()
    assert not C.is_symmetric()


def test_components() -> None:
    A = SparseTensorList([grid(3), grid(2)]).to_block_diagonal()
    labels, count = A.connected_components()
    assert labels.tolist() == [0, 0, 0, 1, 1]
    assert count == 2
    assert A.has_isolated_components()
    parts = A.to_connected_components()
    assert parts.shapes == [(3, 3), (2, 2)]
    for part, whole in zip(parts, (grid(3), grid(2)), strict=True):
        assert torch.equal(part.to_dense(), whole.to_dense())
    # A stored zero connects nothing.
    v = A.values.clone()
    v[(A.row_indices == 0) & (A.col_indices == 1)] = 0
    v[(A.row_indices == 1) & (A.col_indices == 0)] = 0
    assert SparseTensor.from_pattern(A.pattern, v).connected_components()[1] == 3


@pytest.mark.parametrize("block", [(), (2, 2)])
def test_components_within_transforms_are_those_of_all_members(block: tuple[int, ...]) -> None:
    A = SparseTensorList([grid(4), grid(2)]).to_block_diagonal()
    A = A.unflatten_blocks(block) if block else A

    def loss(v: torch.Tensor) -> torch.Tensor:
        parts = SparseTensor.from_pattern(A.pattern, v).to_connected_components()
        assert len(parts) == 2
        return (parts[1].values ** 3).sum()

    v = torch.stack([A.values, 0 * A.values])
    found = torch.func.vmap(torch.func.grad(loss))(v)
    torch.testing.assert_close(found[0], torch.func.grad(loss)(v[0]))
    assert not found[1].any()


def test_spy_draws_the_pattern() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    ax = grid(4).spy()
    assert len(ax.lines[0].get_xdata()) == grid(4).nnz
