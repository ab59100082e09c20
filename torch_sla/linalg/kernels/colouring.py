"""Kernel that colours the rows of a pattern; face of ``csrc/bindings/colouring.cpp``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torch_sla._core import extension
from torch_sla.linalg.kernels.arguments import empty, indices
from torch_sla.linalg.kernels.patterns import transpose_csr

__all__ = ["colour_rows"]

_compiled: Any = None if extension is None else extension.colouring


def colour_rows(crow: Tensor, ccol: Tensor, n_cols: int) -> tuple[Tensor, int]:
    """Colour rows so that rows of one colour share no column.

    Returns
    -------
    colour, count
        ``[n_rows]`` with values in ``[0, count)``.

    Examples
    --------
    >>> import torch
    >>> colour_rows(torch.tensor([0, 1, 3, 4]), torch.tensor([0, 0, 2, 1]), 3)[0].tolist()
    [0, 1, 0]
    """
    crow, ccol = indices(crow.cpu(), ccol.cpu())
    crow_t, ccol_t, _ = transpose_csr(crow, ccol, n_cols)
    if _compiled is not None:
        colour = empty((crow.numel() - 1,), crow.dtype)
        arrays = (t.numpy() for t in (crow, ccol, crow_t, ccol_t, colour))
        return colour, _compiled.colour_rows(*arrays)
    rows, cols = crow.tolist(), ccol.tolist()
    rows_t, cols_t = crow_t.tolist(), ccol_t.tolist()
    found: list[int] = []
    for i in range(len(rows) - 1):
        near = {
            found[r]
            for j in cols[rows[i] : rows[i + 1]]
            for r in cols_t[rows_t[j] : rows_t[j + 1]]
            if r < i
        }
        found.append(next(c for c in range(len(near) + 1) if c not in near))
    return torch.tensor(found, dtype=crow.dtype), max(found, default=-1) + 1
