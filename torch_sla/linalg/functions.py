"""Free functions for scripts that hold indices and values rather than a `SparseTensor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.linalg.sparse.pattern import Pattern
from torch_sla.linalg.sparse.structure import Structure
from torch_sla.linalg.sparse.tensor import SparseTensor

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ParallelBatchSolver",
    "spsolve",
    "spsolve_batch_coo_different_layout",
    "spsolve_batch_coo_same_layout",
    "spsolve_batch_different_layout",
    "spsolve_batch_same_layout",
    "spsolve_coo",
    "spsolve_csr",
]

_TYPES = {
    "auto": Structure(),
    "general": Structure(symmetric=False, hermitian=False, positive_definite=False),
    "symmetric": Structure(symmetric=True),
    "hermitian": Structure(hermitian=True),
    "spd": Structure(symmetric=True, hermitian=True, positive_definite=True),
    "hpd": Structure(hermitian=True, positive_definite=True),
}


def _structure(
    matrix_type: str, is_symmetric: bool | None, is_spd: bool | None, dtype: torch.dtype
) -> Structure:
    if matrix_type not in _TYPES:
        raise ArgumentError(
            f"`matrix_type` must be one of {', '.join(_TYPES)}, got {matrix_type!r}"
        )
    declared = _TYPES[matrix_type]
    if is_spd:
        declared = _TYPES["hpd" if dtype.is_complex else "spd"]
    elif is_symmetric is not None:
        declared = declared.updated(symmetric=is_symmetric)
    if not dtype.is_complex and declared.symmetric is not None and declared.hermitian is None:
        declared = declared.updated(hermitian=declared.symmetric)
    return declared


def _solve(
    A: SparseTensor,
    b: Tensor,
    matrix_type: str = "auto",
    is_symmetric: bool | None = None,
    is_spd: bool | None = None,
    **options: Any,
) -> Any:
    declared = _structure(matrix_type, is_symmetric, is_spd, A.dtype)
    return SparseTensor.from_pattern(A.pattern, A.values, declared).solve(b, **options)


def spsolve(
    values: Tensor,
    row: Tensor,
    col: Tensor,
    shape: tuple[int, ...],
    b: Tensor,
    *,
    matrix_type: str = "auto",
    is_symmetric: bool | None = None,
    is_spd: bool | None = None,
    **options: Any,
) -> Any:
    """Solve ``A x = b`` for a matrix in coordinates, differentiable in `values` and `b`.

    Parameters
    ----------
    values, row, col, shape
        As for `SparseTensor`.
    b
        As for `SparseTensor.solve`.
    matrix_type
        ``"auto"`` (detected), ``"general"``, ``"symmetric"``, ``"hermitian"``, ``"spd"``, ``"hpd"``.
    is_symmetric, is_spd
        The same, as flags. What is declared is trusted, and guarded by the check of the residual.
    options
        As for `SparseTensor.solve`: ``backend method preconditioner rtol atol maxiter x0 info throw`` ...

    Examples
    --------
    >>> import torch
    >>> i = torch.arange(2)
    >>> spsolve(torch.tensor([2.0, 4.0]), i, i, (2, 2), torch.ones(2))
    tensor([0.5000, 0.2500])
    """
    A = SparseTensor(values, row, col, shape)
    return _solve(A, b, matrix_type, is_symmetric, is_spd, **options)


def spsolve_coo(A: Tensor, b: Tensor, **options: Any) -> Any:
    """Solve with a torch sparse COO matrix; see `spsolve`.

    Examples
    --------
    >>> import torch
    >>> spsolve_coo((2 * torch.eye(2)).to_sparse_coo(), torch.ones(2))
    tensor([0.5000, 0.5000])
    """
    return _solve(SparseTensor.from_torch_sparse(A), b, **options)


def spsolve_csr(A: Tensor, b: Tensor, **options: Any) -> Any:
    """Solve with a torch sparse CSR matrix; see `spsolve`."""
    return _solve(SparseTensor.from_torch_sparse(A), b, **options)


def spsolve_batch_same_layout(
    values: Tensor, row: Tensor, col: Tensor, shape: tuple[int, ...], b: Tensor, **options: Any
) -> Any:
    """Solve many systems whose matrices share their positions.

    Parameters
    ----------
    values
        ``[*batch, nnz]``.
    row, col, shape
        Positions ``[nnz]``, and ``(M, N)`` or ``(*batch, M, N)``.
    b
        ``[*batch, M]``, ``[*batch, M, K]`` or ``[M]``.

    Returns
    -------
    Tensor
        With the layout of `b`.

    Examples
    --------
    >>> import torch
    >>> i, values = torch.arange(2), torch.tensor([[1.0, 2.0], [4.0, 8.0]])
    >>> spsolve_batch_same_layout(values, i, i, (2, 2), torch.ones(2, 2))
    tensor([[1.0000, 0.5000],
            [0.2500, 0.1250]])
    """
    batch = tuple(values.shape[:-1])
    if len(shape) != 2 and tuple(shape[:-2]) != batch:
        raise ArgumentError(
            f"`shape` must be (M, N) or {(*batch, 'M', 'N')} for values {list(values.shape)}, got {tuple(shape)}"
        )
    return spsolve(values, row, col, (*batch, *shape[-2:]), b, **options)


def spsolve_batch_different_layout(
    matrices: Sequence[tuple[Tensor, Tensor, Tensor, tuple[int, ...]]],
    b: Sequence[Tensor],
    **options: Any,
) -> list[Any]:
    """Solve with matrices of their own positions, one after the other.

    Parameters
    ----------
    matrices
        ``(values, row, col, shape)`` each, as for `spsolve`.
    b
        A right-hand side ``[M]`` or ``[M, K]`` for each.

    Raises
    ------
    ArgumentError
        When there are not as many right-hand sides as matrices.
    """
    if len(matrices) != len(b):
        raise ArgumentError(f"{len(matrices)} matrices need as many right-hand sides, got {len(b)}")
    return [spsolve(*matrix, rhs, **options) for matrix, rhs in zip(matrices, b, strict=True)]


def spsolve_batch_coo_same_layout(matrices: Sequence[Tensor], b: Tensor, **options: Any) -> Any:
    """Solve with torch sparse matrices of the same positions, all together.

    Parameters
    ----------
    matrices
        ``B`` matrices ``[M, N]``, COO, CSR or CSC.
    b
        ``[B, M]``, ``[B, M, K]`` or ``[M]``.

    Raises
    ------
    ArgumentError
        When the positions differ.
    """
    if not len(matrices):
        raise ArgumentError("`matrices` is empty")
    parts = [SparseTensor.from_torch_sparse(m) for m in matrices]
    pattern = parts[0].pattern
    for number, part in enumerate(parts[1:], 1):
        if part.pattern.key != pattern.key:
            raise ArgumentError(
                f"matrix {number} has other positions than matrix 0; use spsolve_batch_coo_different_layout"
            )
    values = torch.stack([part.values for part in parts])
    return _solve(SparseTensor.from_pattern(pattern, values), b, **options)


def spsolve_batch_coo_different_layout(
    matrices: Sequence[Tensor], b: Sequence[Tensor], **options: Any
) -> list[Any]:
    """Solve with torch sparse matrices of any positions; as `spsolve_batch_different_layout`."""
    if len(matrices) != len(b):
        raise ArgumentError(f"{len(matrices)} matrices need as many right-hand sides, got {len(b)}")
    return [spsolve_coo(A, rhs, **options) for A, rhs in zip(matrices, b, strict=True)]


class ParallelBatchSolver:
    """Solves batches on one set of positions; the analysis is done once, for all batches.

    Parameters
    ----------
    row, col, shape
        Positions ``[nnz]`` and ``(M, N)``.
    matrix_type, is_symmetric, is_spd
        As for `spsolve`.
    options
        Of every solve, as for `SparseTensor.solve`.

    Examples
    --------
    >>> import torch
    >>> solver = ParallelBatchSolver(torch.arange(2), torch.arange(2), (2, 2), is_spd=True)
    >>> solver.solve(torch.tensor([[1.0, 2.0], [4.0, 8.0]]), torch.ones(2))
    tensor([[1.0000, 0.5000],
            [0.2500, 0.1250]])
    """

    def __init__(
        self,
        row: Tensor,
        col: Tensor,
        shape: tuple[int, int],
        *,
        matrix_type: str = "auto",
        is_symmetric: bool | None = None,
        is_spd: bool | None = None,
        **options: Any,
    ) -> None:
        self.pattern = Pattern.from_coo(row, col, (shape[-2], shape[-1]))
        self._options = {
            "matrix_type": matrix_type,
            "is_symmetric": is_symmetric,
            "is_spd": is_spd,
            **options,
        }

    def solve(self, values: Tensor, b: Tensor) -> Any:
        """Solve for values ``[*batch, nnz]`` and `b` as for `SparseTensor.solve`."""
        return _solve(SparseTensor.from_pattern(self.pattern, values), b, **self._options)

    __call__ = solve
