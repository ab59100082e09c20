"""Compressed rows with their values, and the fused products that smoothers and cycles are made of.

Plain torch on every device; on CUDA, where triton is there, each is one pass over the matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Any

import torch

from torch_sla.linalg.kernels import triton as kernels_in_triton
from torch_sla.linalg.kernels.sparse import expand_rows, segment_sum, spmm

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Rows",
    "add_product",
    "product",
    "relax",
    "residual",
    "row_max",
    "row_sizes",
    "row_sums",
    "scaled_product",
    "weighted",
]

_RUN = 1 << 21  # entries that are worked on at a time


@dataclass(frozen=True)
class Rows:
    """A matrix in compressed rows.

    Parameters
    ----------
    crow, ccol
        ``[n_rows + 1]`` and ``[nnz]``, int32 or int64.
    values
        ``[nnz]``, float32 or float64; sums run in the dtype of the vectors.
    n_cols
        Number of columns.
    longest
        Entries of the longest row.
    """

    crow: Tensor
    ccol: Tensor
    values: Tensor
    n_cols: int
    longest: int

    @classmethod
    def of(
        cls, crow: Tensor, ccol: Tensor, values: Tensor, n_cols: int, longest: int | None = None
    ) -> Rows:
        """Make one, measuring the longest row unless it is known."""
        if longest is None:
            longest = int(crow.diff().amax()) if crow.numel() > 1 else 0
        return cls(crow, ccol, values, n_cols, longest)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.crow.numel() - 1

    @property
    def nnz(self) -> int:
        """Number of entries."""
        return self.ccol.numel()


def product(A: Rows, x: Tensor, out: Tensor | None = None) -> Tensor:
    """Return ``A x`` for ``x`` ``[n_cols, K]``, in the dtype of `x`, written to `out` where that is given.

    Examples
    --------
    >>> import torch
    >>> A = Rows.of(torch.tensor([0, 1, 2]), torch.tensor([1, 0]), torch.tensor([2.0, 3.0]), 2)
    >>> product(A, torch.tensor([[1.0], [10.0]])).flatten().tolist()
    [20.0, 3.0]
    """
    if kernels_in_triton.runs(A.values, x):
        return _fused(A, x, {}, out)
    y = spmm(A.crow, A.ccol, A.values.to(x.dtype), x)
    return y if out is None else out.copy_(y)


def residual(A: Rows, x: Tensor, b: Tensor) -> Tensor:
    """Return ``b - A x``.

    Examples
    --------
    >>> import torch
    >>> A = Rows.of(torch.tensor([0, 1, 2]), torch.tensor([1, 0]), torch.tensor([2.0, 3.0]), 2)
    >>> residual(A, torch.tensor([[1.0], [10.0]]), torch.ones(2, 1)).flatten().tolist()
    [-19.0, -2.0]
    """
    if kernels_in_triton.runs(A.values, x):
        return _fused(A, x, {"finish": "affine", "b": b, "alpha": -1.0})
    return b - product(A, x)


def add_product(A: Rows, x: Tensor, b: Tensor) -> Tensor:
    """Return ``b + A x``.

    Examples
    --------
    >>> import torch
    >>> A = Rows.of(torch.tensor([0, 1, 2]), torch.tensor([1, 0]), torch.tensor([2.0, 3.0]), 2)
    >>> add_product(A, torch.tensor([[1.0], [10.0]]), torch.ones(2, 1)).flatten().tolist()
    [21.0, 4.0]
    """
    if kernels_in_triton.runs(A.values, x):
        return _fused(A, x, {"finish": "affine", "b": b, "alpha": 1.0})
    return b + product(A, x)


def scaled_product(A: Rows, x: Tensor, w: Tensor, size: Tensor) -> Tensor:
    """Return ``w A x / size``: a step of the power method with weights ``w`` as in `relax`, and a norm ``size``.

    Examples
    --------
    >>> import torch
    >>> A = Rows.of(torch.tensor([0, 1, 2]), torch.tensor([1, 0]), torch.tensor([2.0, 3.0]), 2)
    >>> x, w = torch.tensor([[1.0], [10.0]]), torch.tensor([0.5, 1.0])
    >>> scaled_product(A, x, w, torch.tensor(10.0)).flatten().tolist()
    [1.0, 0.30000001192092896]
    """
    if kernels_in_triton.runs(A.values, x):
        if w.ndim == 1:
            return _fused(A, x, {"finish": "scaled", "w": w, "b": size.reshape(1, 1)})
        if _in_one_step(A, x.shape[1]):
            return _node_step(A, w, x, {"finish": "scaled", "x": x, "size": size})
    return weighted(w, product(A, x)) / torch.where(size > 0, size, 1.0)


def relax(
    A: Rows,
    x: Tensor,
    b: Tensor,
    w: Tensor,
    alpha: float,
    *,
    before: Tensor | None = None,
    momentum: float = 0.0,
) -> Tensor:
    """Return ``x + momentum (x - before) + alpha w (b - A x)``: one step of a polynomial smoother.

    Parameters
    ----------
    A
        Square.
    x, b, before
        ``[n, K]``; `before` None stands for zero.
    w
        ``[n]``, or blocks of nodes ``[n / edge, edge, edge]``.

    Examples
    --------
    >>> import torch
    >>> A = Rows.of(torch.tensor([0, 1, 2]), torch.tensor([0, 1]), torch.tensor([2.0, 4.0]), 2)
    >>> x, b = torch.zeros(2, 1), torch.tensor([[2.0], [4.0]])
    >>> relax(A, x, b, torch.tensor([0.5, 0.25]), 1.0).flatten().tolist()
    [1.0, 1.0]
    >>> relax(A, x, b, torch.tensor([[[0.0, 0.25], [0.5, 0.0]]]), 1.0).flatten().tolist()
    [1.0, 1.0]
    """
    if kernels_in_triton.runs(A.values, x):
        finish = {"finish": "relax", "b": b, "alpha": alpha, "gamma": 1.0 + momentum}
        if before is not None and momentum:
            finish |= {"z": before, "delta": -momentum}
        if w.ndim == 1:
            return _fused(A, x, {"w": w, **finish})
        if _in_one_step(A, x.shape[1]):
            return _node_step(A, w, x, {"x": x, **finish})
    r = b - product(A, x)
    one = w.ndim == 1
    step = torch.addcmul(x, w.unsqueeze(1), r, value=alpha) if one else x + weighted(w, r, alpha)
    if not momentum:
        return step
    return step + momentum * (x if before is None else x - before)


def weighted(w: Tensor, b: Tensor, alpha: float = 1.0) -> Tensor:
    """Return ``alpha w b`` for ``b`` ``[n, K]`` and weights ``w`` as in `relax`.

    Examples
    --------
    >>> import torch
    >>> b = torch.tensor([[1.0], [10.0]])
    >>> weighted(torch.tensor([[[1.0, 2.0], [3.0, 0.0]]]), b).flatten().tolist()
    [21.0, 3.0]
    """
    if w.ndim == 1:
        return (w if alpha == 1.0 else alpha * w).unsqueeze(1) * b
    if kernels_in_triton.runs(w, b):
        return _node_step(None, w, b, {"b": b, "alpha": alpha})
    nodes = b.reshape(*w.shape[:2], -1) if b.numel() else b.new_zeros(*w.shape[:2], b.shape[1])
    out = torch.zeros_like(nodes)
    for column in range(w.shape[2]):  # in this order, whatever the number of columns
        out.addcmul_(w[:, :, column, None], nodes[:, column, None], value=alpha)
    return out.reshape(b.shape)


def row_max(crow: Tensor, source: Tensor, index: Tensor | None, least: float) -> Tensor:
    """Return the largest of ``source[index[e]]`` over the entries ``e`` of each row.

    Parameters
    ----------
    crow
        Row pointers ``[n_rows + 1]``.
    source
        ``[m]``, integer or real.
    index
        ``[nnz]``; None stands for ``e`` itself.
    least
        What an empty row gets, and the smallest result.

    Examples
    --------
    >>> import torch
    >>> row_max(torch.tensor([0, 2, 2]), torch.tensor([5, 7]), None, -1).tolist()
    [7, -1]
    """
    out = source.new_full((crow.numel() - 1,), least)
    if kernels_in_triton.runs(crow, source):
        from torch_sla.linalg.kernels.triton.rows import row_max as fused

        return fused(crow, source, index, out)
    size = source.numel() if index is None else index.numel()
    bounds = [0, crow.numel() - 1]
    if size > _RUN:
        # In runs of rows: the temporaries are many times the size of a pattern.
        wanted = torch.arange(0, size + _RUN, _RUN, dtype=crow.dtype, device=crow.device)
        bounds = torch.unique(torch.searchsorted(crow, wanted).clamp_(max=bounds[1])).tolist()
    for first, last in pairwise(bounds):
        here = crow[first : last + 1]
        begin, end = int(here[0]), int(here[-1])
        taken = source[begin:end] if index is None else source.index_select(0, index[begin:end])
        row = expand_rows(here - here[0]).long()
        out[first:last].scatter_reduce_(0, row, taken, "amax", include_self=True)
    return out


def row_sums(crow: Tensor, x: Tensor, longest: int | None = None) -> Tensor:
    """Sum entries ``[nnz, *]`` by row, in their order: ``[n_rows, *]``.

    Parameters
    ----------
    crow, x
        Row pointers ``[n_rows + 1]``, and what is summed.
    longest
        Entries of the longest row, where it is known: saves CUDA a second launch.

    Examples
    --------
    >>> import torch
    >>> row_sums(torch.tensor([0, 2, 2, 3]), torch.tensor([1.0, 2.0, 5.0])).tolist()
    [3.0, 0.0, 5.0]
    """
    order = torch.arange(x.shape[0], dtype=crow.dtype, device=crow.device)
    columns = prod(x.shape[1:])  # -1 has no meaning where there are no entries
    total = segment_sum(x.reshape(1, x.shape[0], columns), crow, order, longest=longest)
    return total.reshape(crow.numel() - 1, *x.shape[1:])


def row_sizes(A: Rows, *, squares: bool = False) -> Tensor:
    """Sum the sizes of the entries of each row, or their squares: ``[n_rows]``, one launch unless a row is long.

    Examples
    --------
    >>> import torch
    >>> A = Rows.of(torch.tensor([0, 2, 2]), torch.tensor([0, 1]), torch.tensor([3.0, -4.0]), 2)
    >>> row_sizes(A).tolist(), row_sizes(A, squares=True).tolist()
    ([7.0, 0.0], [25.0, 0.0])
    """
    if kernels_in_triton.runs(A.values, A.crow) and _in_one_step(A, 1):
        from torch_sla.linalg.kernels.triton.rows import row_sizes as fused

        return fused(A.crow, A.values, squares=squares)
    return row_sums(A.crow, A.values.square() if squares else A.values.abs(), A.longest)


def _fused(A: Rows, x: Tensor, finish: dict[str, Any], out: Tensor | None = None) -> Tensor:
    from torch_sla.linalg.kernels.triton.csr import product as fused

    stacked = {k: v[None] if k in ("b", "z") else v for k, v in finish.items()}
    y = x.new_empty(A.n_rows, x.shape[1]) if out is None else out
    fused(A.crow, A.ccol, A.values[None], x[None], y[None], longest=A.longest, **stacked)
    return y


def _in_one_step(A: Rows, columns: int) -> bool:
    """Whether no row is so long that it would hold up the program that has it."""
    from torch_sla.linalg.kernels.triton.csr import long_from, plan_tile

    _, width, _ = plan_tile(A.n_rows, A.nnz, columns)
    return A.longest <= long_from(A.n_rows, A.nnz, width)


def _node_step(A: Rows | None, w: Tensor, like: Tensor, finish: dict[str, Any]) -> Tensor:
    from torch_sla.linalg.kernels.triton.nodes import step

    crow, ccol, values = (w, w, None) if A is None else (A.crow, A.ccol, A.values)
    return step(crow, ccol, values, w, like.new_empty(like.shape), **finish)
