"""SuperLU with the settings that suit the structure, and a safer second try.

Li, "An overview of SuperLU", ACM TOMS 31(3), 2005, pages 302-325.

Where every row has a diagonal entry, rows and columns are ordered alike, by our own ordering of ``A +
Aᵀ``, and a diagonal pivot is kept while it is at least a tenth of its column: two to seven times
faster than the library's defaults, and the ordering serves all values on the pattern. Definite
matrices keep every diagonal pivot. Growth is not bounded as it is by partial pivoting, so one solve
proves the factors, and factors that fail are made again with the defaults: columns ordered for any
choice of rows, and the largest pivot of each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from torch_sla.errors import Result, SolveError
from torch_sla.linalg.backends.analyses import analyses_of, with_mirror
from torch_sla.linalg.factor_cache import count
from torch_sla.linalg.kernels import unavailable
from torch_sla.linalg.kernels.arguments import plain
from torch_sla.linalg.scaling import largest_entries

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure

__all__ = ["SuperLU", "SymmetricOrder", "Transposed", "factorize", "symmetric_order"]

# Pivots on the diagonal are kept from this fraction of the largest of their column.
_THRESHOLD = 0.1
# A diagonal entry below this fraction of its row is no pivot to rely on: rows will roam.
_ABSENT = 1e-8
# Backward error, in eps, above which the factors are made again.
_UNSTABLE = 1e5

Transposed = tuple["np.ndarray[Any, Any]", "np.ndarray[Any, Any]", "np.ndarray[Any, Any]"]


class SymmetricOrder:
    """An ordering of rows and columns alike, and the CSC arrays of ``P Aᵀ Pᵀ`` but for the values.

    Parameters
    ----------
    pattern
        Square, with a full diagonal.
    structure
        May bring an ordering.
    """

    def __init__(self, pattern: Pattern, structure: Structure) -> None:
        from scipy.sparse import csc_array

        self.order = analyses_of(with_mirror(pattern), structure).get().order.numpy()
        slots = np.arange(pattern.nnz_csr, dtype=np.int64)
        turned = csc_array((slots, pattern.ccol.numpy(), pattern.crow.numpy()), shape=pattern.shape)
        turned = turned[self.order][:, self.order].tocsc()
        turned.sort_indices()
        self.slots = torch.from_numpy(turned.data)
        self.indices, self.starts = turned.indices.astype(np.int32), turned.indptr.astype(np.int32)
        self.nbytes = 12 * pattern.nnz_csr + 8 * pattern.shape[0]


def symmetric_order(pattern: Pattern, structure: Structure) -> SymmetricOrder | None:
    """Order a pattern, or return None where rows cannot be expected to stay with their columns."""
    if unavailable() is not None or pattern.shape[0] != pattern.shape[1]:
        return None
    if not bool((pattern.diagonal_slots >= 0).all()):
        return None
    return SymmetricOrder(pattern, structure)


class SuperLU:
    """Factors of ``Aᵀ``, permuted or not.

    Parameters
    ----------
    lu
        SciPy's object.
    order
        ``[n]``, row and column of ``A`` that is k-th in it; None where nothing was permuted.
    note
        What there is to say about it.
    """

    def __init__(
        self, lu: Any, order: np.ndarray[Any, Any] | None, itemsize: int, note: str = ""
    ) -> None:
        self.lu, self.order, self.note = lu, order, note
        self.nbytes = lu.nnz * (itemsize + 4)

    def solve(self, b: Tensor, mode: str) -> Tensor:
        """Solve ``op(A) x = b`` for ``b`` ``[n, K]``."""
        rhs = b.resolve_conj().numpy()
        rhs = np.asfortranarray(rhs if self.order is None else rhs[self.order])
        adjoint = mode == "h"
        y = self.lu.solve(rhs.conj() if adjoint else rhs, "T" if mode == "n" else "N")
        y = y.conj() if adjoint else y
        x = np.empty(y.shape, dtype=y.dtype)
        x[slice(None) if self.order is None else self.order] = y
        return torch.from_numpy(x)


def factorize(
    pattern: Pattern, values: Tensor, order: SymmetricOrder | None, *, definite: bool
) -> SuperLU:
    """Factorise slot values ``[nnz_csr]`` of a square matrix.

    Raises
    ------
    SolveError
        ``SINGULAR``, with the structural rank where that is the reason, or ``OUT_OF_MEMORY``.
    """
    if order is not None and (definite or _has_pivots(pattern, values)):
        settings = {
            "permc_spec": "NATURAL",
            "diag_pivot_thresh": 0.0 if definite else _THRESHOLD,
            "options": {"SymmetricMode": True},
        }
        arrays = (values[order.slots].numpy(), order.indices, order.starts)
        try:
            made = SuperLU(_splu(arrays, pattern, settings), order.order, values.element_size())
            if _stable(made, pattern, values):
                return made
            why = "growth"
        except RuntimeError:
            why = "a zero pivot"
        count("analyze")
        return _safely(pattern, values, f"factorised again with partial pivoting after {why}")
    count("analyze")
    return _safely(pattern, values, "")


def _safely(pattern: Pattern, values: Tensor, note: str) -> SuperLU:
    arrays = (plain(values).numpy(), pattern.ccol.numpy(), pattern.crow.numpy())
    try:
        return SuperLU(_splu(arrays, pattern, {}), None, values.element_size(), note)
    except RuntimeError as error:
        raise SolveError(Result.SINGULAR, _singular(arrays, pattern, error)) from error


def _splu(arrays: Transposed, pattern: Pattern, settings: dict[str, Any]) -> Any:
    from scipy.sparse import csc_array
    from scipy.sparse.linalg import splu

    try:
        return splu(csc_array(arrays, shape=pattern.shape[::-1]), **settings)
    except MemoryError as error:
        raise SolveError(Result.OUT_OF_MEMORY, "SuperLU could not allocate its factors") from error


def _singular(arrays: Transposed, pattern: Pattern, error: RuntimeError) -> str:
    """Say why, and where it is the pattern already: how many rows can be matched with columns, and one that cannot."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    data, col, start = arrays
    ones = np.where(data != 0, 1.0, 0.0)
    # A copy: leaving zeros out rewrites the index arrays, and these are the pattern's.
    stored = csr_array((ones, col, start), shape=pattern.shape, copy=True)
    stored.eliminate_zeros()
    match = maximum_bipartite_matching(stored, perm_type="column")
    free = np.flatnonzero(match < 0)
    if not len(free):
        return f"SuperLU: {error}"
    n = pattern.shape[0]
    return (
        f"structurally singular: the {n} rows can be matched with {n - len(free)} columns only; row "
        f"{int(free[0])} has none left"
    )


def _has_pivots(pattern: Pattern, values: Tensor) -> bool:
    """Whether every diagonal entry is more than noise beside its row."""
    size = values.abs()
    largest = largest_entries(pattern.csr_row, size, pattern.shape[0])
    return bool((size[pattern.diagonal_slots.long()] > _ABSENT * largest).all())


def _stable(made: SuperLU, pattern: Pattern, values: Tensor) -> bool:
    """Whether one solve leaves a backward error that refinement makes small."""
    from torch_sla.linalg.kernels import sparse

    b = torch.ones(pattern.shape[0], 1, dtype=values.dtype)
    x = made.solve(b, "n")
    r = b - sparse.spmm(pattern.crow, pattern.ccol, values, x)
    scale = pattern.sum_rows(values.abs()).amax() * x.abs().amax() + 1
    return bool(r.abs().amax() <= _UNSTABLE * torch.finfo(values.dtype).eps * scale)
