"""Element matrices from pulled-back coefficients and a table that all cells share.

``local[batch, cell, i, a, j, b] = sum_k R[a, b, batch, cell, k] table[k, i, j]``: a matrix product and a permutation.
The compiled kernel does both in one pass and skips coefficients that vanish; it serves double precision on the CPU
while the table stays in cache. Elsewhere the product is torch's, with the same result up to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from torch_sla._core import extension
from torch_sla.linalg.adjoint.linear import LinearMap
from torch_sla.linalg.kernels.threads import resolve_threads
from torch_sla.linalg.sparse.transforms import outside_compiler

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LARGEST_TABLE", "contract"]

_compiled: Any = None if extension is None else extension.assembly

# Tables beyond this many entries (48 KiB) leave the first-level caches: a blocked product is faster.
LARGEST_TABLE = 6144


def contract(R: Tensor, table: Tensor) -> Tensor:
    """Contract coefficients with a table.

    Parameters
    ----------
    R
        ``[cv, cu, *batch, n, terms]``, with components of the test and the trial function first.
    table
        ``[terms, nbv, nbu]``, real, not differentiated.

    Returns
    -------
    Tensor ``[*batch, n, nbv * cv, nbu * cu]``.
    """
    fits = table.numel() <= LARGEST_TABLE and R.numel() > 0
    known = R.dtype in (torch.float64, torch.complex128) and table.dtype == torch.float64
    if _compiled is None or not fits or not known or R.device.type != "cpu":
        return _torch_contract(R, table)
    batch = R.shape[2:-2]
    folded = R.flatten(2, -3) if batch else R.unsqueeze(2)
    local = _Contract(table)(folded)
    return local.unflatten(0, batch) if batch else local.squeeze(0)


def _torch_contract(R: Tensor, table: Tensor) -> Tensor:
    local = (R @ table.flatten(1).to(R.dtype)).unflatten(-1, table.shape[1:])
    # [cv, cu, *batch, n, i, j] -> [*batch, n, i, cv, j, cu]
    if local.shape[0] * local.shape[1] == 1:
        return local[0, 0]
    return local.movedim((0, 1), (-3, -1)).flatten(-2).flatten(-3, -2)


@outside_compiler
def _run(
    name: str, source: Tensor, table: Tensor, shape: tuple[int, ...], sizes: list[int]
) -> Tensor:
    source = source.detach().resolve_conj().resolve_neg().contiguous()
    result = torch.from_numpy(
        np.empty(shape, dtype=np.complex128 if source.is_complex() else np.float64)
    )
    threads = resolve_threads(None, sizes[4] * result.numel())
    getattr(_compiled, name)(source.numpy(), table.numpy(), result.numpy(), sizes, threads)
    return result


@dataclass(eq=False)
class _Contract(LinearMap):
    """R ``[cv, cu, batch, n, terms]`` -> element matrices."""

    table: Tensor
    members = (2, 0)

    def run(self, R: Tensor) -> Tensor:
        cv, cu, batch, n, terms = R.shape
        _, nbv, nbu = self.table.shape
        sizes = [cv, cu, batch, n, terms, nbv, nbu]
        return _run("contract", R, self.table.contiguous(), (batch, n, nbv * cv, nbu * cu), sizes)

    def adjoint(self, shape: torch.Size) -> _Spread:
        return _Spread(self.table, shape[:2])


@dataclass(eq=False)
class _Spread(LinearMap):
    """``R[a, b, batch, cell, k] = sum_ij local[batch, cell, i, a, j, b] table[k, i, j]``."""

    table: Tensor
    components: tuple[int, ...]
    members = (0, 2)

    def run(self, local: Tensor) -> Tensor:
        (cv, cu), (batch, n) = self.components, local.shape[:2]
        terms, nbv, nbu = self.table.shape
        sizes = [cv, cu, batch, n, terms, nbv, nbu]
        columns = self.table.flatten(1).T.contiguous()
        return _run("contract_adjoint", local, columns, (cv, cu, batch, n, terms), sizes)

    def adjoint(self, shape: torch.Size) -> _Contract:
        del shape
        return _Contract(self.table)
