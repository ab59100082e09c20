"""The matrix as an undirected graph: components, and its picture."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.linalg.kernels.components import component_labels
from torch_sla.linalg.sparse.pattern import Pattern
from torch_sla.linalg.sparse.transforms import outside_transforms, physical

if TYPE_CHECKING:
    from torch_sla.linalg.sparse.list import SparseTensorList
    from torch_sla.linalg.sparse.tensor import SparseTensor

__all__ = [
    "connected_components",
    "has_isolated_components",
    "spy",
    "to_connected_components",
]


def connected_components(A: SparseTensor) -> tuple[Tensor, int]:
    """Label the rows of a square matrix by component of its undirected graph.

    Rows i and j are neighbours when the entry (i, j) or (j, i) is not zero; stored zeros connect
    nothing. In a block matrix rows are block rows.

    Returns
    -------
    labels, count
        int64 ``[M]`` with values in ``[0, count)``, numbered in the order of their first row.
    """
    M, N = A.sparse_shape
    if M != N:
        raise ArgumentError(f"components are those of a square matrix, this one is {M} x {N}")
    nonzero = physical(A.csr_values) != 0
    return _components(A.pattern, nonzero)


@outside_transforms
def _components(pattern: Pattern, nonzero: Tensor) -> tuple[Tensor, int]:
    """Label rows by component, given which of ``[*batch, nnz_csr, *block]`` entries are not zero."""
    device, M = pattern.device, pattern.shape[0]
    if pattern.block:
        nonzero = nonzero.flatten(-2).any(-1)
    linked = nonzero.reshape(prod(nonzero.shape[:-1]), pattern.nnz_csr).any(0).cpu()
    pattern = pattern.to("cpu")  # where entries need not have a mirror image
    label, row = component_labels(pattern.crow, pattern.ccol, linked), torch.arange(M)
    first = torch.full_like(row, M).scatter_reduce(0, label, row, "amin")
    found, labels = first[label].unique(return_inverse=True)
    return labels.to(device), len(found)


def has_isolated_components(A: SparseTensor) -> bool:
    """Whether the graph of the matrix falls apart into several components."""
    return connected_components(A)[1] > 1


def to_connected_components(A: SparseTensor) -> SparseTensorList:
    """Split into the square matrices of its components, rows in their old order; differentiable."""
    from torch_sla.linalg.sparse.list import SparseTensorList

    labels, count = connected_components(A)
    values, dim = A.csr_values, -1 - len(A.block_shape)
    parts = []
    for c in range(count):
        pattern, slots = _induced(A.pattern.slots, labels == c)
        parts.append(A.from_pattern(pattern, values.index_select(dim, slots)))
    return SparseTensorList(parts)


@outside_transforms
def _induced(pattern: Pattern, members: Tensor) -> tuple[Pattern, Tensor]:
    """Pattern among the member rows, renumbered, and the slots it takes from the whole."""
    number = members.cumsum(0) - 1
    row, col = pattern.csr_row.long(), pattern.ccol.long()
    slots = (members[row] & members[col]).nonzero().squeeze(1)
    n = int(members.sum())
    return Pattern.from_coo(number[row[slots]], number[col[slots]], (n, n), pattern.block), slots


def spy(A: SparseTensor, ax: Any = None, **options: Any) -> Any:
    """Draw the positions of the stored entries with matplotlib; returns the axes.

    Parameters
    ----------
    ax
        Axes to draw into; new ones by default.
    options
        Passed to `matplotlib.axes.Axes.spy`, such as ``markersize=2``.

    Raises
    ------
    ArgumentError
        When matplotlib is not installed.
    """
    from scipy.sparse import coo_array

    try:
        import matplotlib.figure
    except ImportError as error:
        raise ArgumentError(
            "`spy` needs matplotlib; install the extra `plot`, or matplotlib itself"
        ) from error
    if ax is None:
        ax = matplotlib.figure.Figure().add_subplot()
    pattern = A.pattern.slots if not A.is_block else A.pattern.flat[0]
    index = (pattern.csr_row.cpu().numpy(), pattern.ccol.cpu().numpy())
    ones = torch.ones(pattern.nnz_csr).numpy()
    ax.spy(coo_array((ones, index), shape=pattern.shape), **{"markersize": 1.0, **options})
    return ax
