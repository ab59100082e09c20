"""Sparse tensors from and to dense, torch and SciPy matrices, and the standard small families."""

from __future__ import annotations

import warnings
from functools import reduce
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, DTypeError
from torch_sla.linalg.adjoint.torch_sparse import entries_of, matrix_of
from torch_sla.linalg.sparse.indices import check_compressed
from torch_sla.linalg.sparse.members import common_batch
from torch_sla.linalg.sparse.pattern import Pattern
from torch_sla.linalg.sparse.structure import Structure
from torch_sla.linalg.sparse.transforms import is_transformed, outside_transforms, physical

if TYPE_CHECKING:
    from torch_sla.linalg.sparse.tensor import SparseTensor

__all__ = [
    "diag",
    "eye",
    "from_dense",
    "from_scipy",
    "from_torch_sparse",
    "to_csr",
    "to_dense",
    "to_scipy",
    "to_torch",
    "tridiagonal",
]


@outside_transforms
def _support(dense: Tensor, threshold: float) -> Pattern:
    """Positions where some member of a batch exceeds the threshold."""
    kept = ~(physical(dense).abs() <= threshold)  # NaN is kept, to be noticed
    kept = kept[None].flatten(0, -3).any(0)  # of an empty one no size can be inferred
    row, col = kept.nonzero().unbind(1)
    return Pattern.from_coo(row, col, (dense.shape[-2], dense.shape[-1]))


def from_dense(cls: type[SparseTensor], dense: Tensor, threshold: float = 0.0) -> SparseTensor:
    """Make a sparse tensor of the nonzeros of a dense one, differentiable.

    Parameters
    ----------
    dense
        ``[*batch, M, N]``, floating point or complex. A position is stored where any member of the
        batch is not zero.
    threshold
        Entries of absolute value at most this are dropped.

    Examples
    --------
    >>> import torch
    >>> from torch_sla.linalg import SparseTensor
    >>> SparseTensor.from_dense(torch.tensor([[1.0, 0.0], [0.0, 2.0]])).nnz
    2
    """
    if not isinstance(dense, Tensor) or dense.layout != torch.strided:
        raise ArgumentError(
            "`dense` must be a dense tensor; `from_torch_sparse` and `from_scipy` take sparse ones"
        )
    if not (dense.is_floating_point() or dense.is_complex()):
        raise DTypeError(
            f"`dense` must be floating point or complex, got {dense.dtype}; use dense.double()"
        )
    if dense.ndim < 2:
        raise ArgumentError(f"`dense` must be [*batch, M, N], got shape {list(dense.shape)}")
    pattern = _support(dense, threshold)
    values = dense[..., pattern.csr_row.long(), pattern.ccol.long()]
    return cls.from_pattern(pattern, values)


def from_torch_sparse(cls: type[SparseTensor], matrix: Tensor) -> SparseTensor:
    """Take over a torch sparse matrix ``[M, N]``, blocks written out; gradients flow to it.

    Values are shared with it, where it is one of compressed rows on a device also int32 indices.

    Raises
    ------
    ArgumentError
        When the tensor is dense, of another layout, or no matrix of scalars.
    """
    if not isinstance(matrix, Tensor) or matrix.layout not in (
        torch.sparse_coo,
        torch.sparse_csr,
        torch.sparse_csc,
        torch.sparse_bsr,
        torch.sparse_bsc,
    ):
        what = matrix.layout if isinstance(matrix, Tensor) else type(matrix).__name__
        raise ArgumentError(
            f"`matrix` must be a sparse COO, CSR, CSC, BSR or BSC tensor, got {what}"
        )
    if matrix.layout == torch.sparse_csr and matrix.ndim == 2 and not matrix.requires_grad:
        crow, ccol, values = matrix.crow_indices(), matrix.col_indices(), matrix.values()
        if values.ndim == 1:  # no index is widened
            size = (matrix.shape[0], matrix.shape[1])
            return cls.from_pattern(Pattern.from_csr(crow, ccol, size), values)
    if matrix.ndim != 2 or matrix.dense_dim() != 0:
        raise ArgumentError(
            f"`matrix` must have two sparse and no dense dimensions, got shape {list(matrix.shape)} with "
            f"{matrix.dense_dim()} dense"
        )
    if matrix.layout != torch.sparse_coo:
        by_rows = matrix.layout in (torch.sparse_csr, torch.sparse_bsr)
        at, name = ("crow_indices", "col_indices") if by_rows else ("ccol_indices", "row_indices")
        block = matrix.values().shape[1:] or (1, 1)
        M, N = (n // b for n, b in zip(matrix.shape, block, strict=True))
        size = (M, N) if by_rows else (N, M)
        check_compressed(at, getattr(matrix, at)(), name, getattr(matrix, name)(), size)
        matrix = matrix.to_sparse_coo()
    matrix = matrix.coalesce()
    row, col = matrix.indices()
    M, N = matrix.shape
    followed = matrix.requires_grad or is_transformed()
    values = entries_of(matrix, matrix.indices()) if followed else matrix.values()
    return cls.from_pattern(Pattern.from_coo(row, col, (M, N)), values)


def from_scipy(
    cls: type[SparseTensor],
    matrix: Any,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> SparseTensor:
    """Copy a SciPy sparse matrix or array of any format.

    Parameters
    ----------
    matrix
        Two-dimensional; integers and booleans need `dtype`.
    dtype, device
        Of the result; those of the input and the CPU by default.

    Examples
    --------
    >>> from scipy.sparse import diags_array
    >>> from torch_sla.linalg import SparseTensor
    >>> SparseTensor.from_scipy(diags_array([1.0, 2.0, 3.0])).nnz
    3
    """
    from scipy.sparse import issparse

    if not issparse(matrix) or matrix.ndim != 2:
        raise ArgumentError(f"`matrix` must be a SciPy sparse matrix, got {type(matrix).__name__}")
    coo: Any = matrix
    if coo.format in ("csr", "csc"):
        size = coo.shape if coo.format == "csr" else coo.shape[::-1]
        indptr, indices = (torch.from_numpy(index) for index in (coo.indptr, coo.indices))
        check_compressed("indptr", indptr, "indices", indices, size)
    coo = coo.tocoo()
    try:
        values = torch.from_numpy(coo.data.copy())
    except TypeError as error:
        raise DTypeError(
            f"`matrix` holds {coo.dtype}, which torch does not have; convert it, `matrix.astype(float)`"
        ) from error
    if dtype is not None:
        if values.is_complex() and not dtype.is_complex:
            raise DTypeError(f"`dtype` {dtype} would lose the imaginary parts of {values.dtype}")
        values = values.to(dtype)
    elif not (values.is_floating_point() or values.is_complex()):
        raise DTypeError(f"`matrix` holds {coo.dtype}; say which `dtype` to compute in")
    row, col = (torch.from_numpy(index.copy()) for index in (coo.row, coo.col))
    made = cls(values, row, col, tuple(coo.shape))
    return made if device is None else made.to(device)


def eye(
    cls: type[SparseTensor],
    n: int,
    m: int | None = None,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> SparseTensor:
    """Identity matrix ``[n, n]``, or ``[n, m]`` with ones on the diagonal.

    Examples
    --------
    >>> from torch_sla.linalg import SparseTensor
    >>> SparseTensor.eye(2).to_dense()
    tensor([[1., 0.],
            [0., 1.]])
    """
    columns = n if m is None else m
    i = torch.arange(max(0, min(n, columns)), device=device)
    pattern = Pattern.from_coo(i, i, (n, columns))
    values = torch.ones(len(i), dtype=dtype or torch.get_default_dtype(), device=i.device)
    square = n == columns
    known = Structure(symmetric=True, hermitian=True, positive_definite=True) if square else None
    return cls.from_pattern(pattern, values, known)


def diag(cls: type[SparseTensor], diagonal: Tensor, offset: int = 0) -> SparseTensor:
    """Square matrix with ``[*batch, n]`` on one diagonal, differentiable.

    Parameters
    ----------
    diagonal
        Its entries.
    offset
        Positive above, negative below the main diagonal.
    """
    if not isinstance(diagonal, Tensor):
        raise ArgumentError(
            f"`diagonal` must be a tensor [*batch, n], got {type(diagonal).__name__}; make one by torch.tensor"
        )
    if diagonal.ndim < 1:
        raise ArgumentError("`diagonal` must be [*batch, n], got a tensor without dimensions")
    n = diagonal.shape[-1]
    i = torch.arange(n, device=diagonal.device)
    size = n + abs(offset)
    pattern = Pattern.from_coo(i + max(-offset, 0), i + max(offset, 0), (size, size))
    return cls.from_pattern(pattern, diagonal)


def _bands(*given: Tensor | complex) -> list[Tensor]:
    """Turn numbers into tensors with the digits that the others have, as torch's arithmetic does."""
    tensors = [t for t in given if isinstance(t, Tensor)]
    if not tensors:
        return [torch.as_tensor(t) for t in given]
    like = torch.zeros(1, dtype=reduce(torch.promote_types, [t.dtype for t in tensors]))
    out = []
    for t in given:
        number = isinstance(t, int | float | complex)
        dtype = torch.result_type(like, t) if number else None
        out.append(torch.as_tensor(t, dtype=dtype, device=tensors[0].device if number else None))
    return out


def tridiagonal(
    cls: type[SparseTensor],
    lower: Tensor | complex,
    diagonal: Tensor | complex,
    upper: Tensor | complex,
) -> SparseTensor:
    """Square tridiagonal matrix, differentiable.

    Parameters
    ----------
    lower, diagonal, upper
        ``[*batch, n - 1]``, ``[*batch, n]``, ``[*batch, n - 1]``; numbers and zero-dimensional ones are
        repeated (one of them must have a length).

    Examples
    --------
    >>> import torch
    >>> from torch_sla.linalg import SparseTensor
    >>> off = torch.tensor(-1.0)
    >>> SparseTensor.tridiagonal(off, torch.full((3,), 2.0), off).to_dense()
    tensor([[ 2., -1.,  0.],
            [-1.,  2., -1.],
            [ 0., -1.,  2.]])
    """
    lower, diagonal, upper = _bands(lower, diagonal, upper)
    if diagonal.ndim:
        n = diagonal.shape[-1]
    elif lower.ndim or upper.ndim:
        n = (lower if lower.ndim else upper).shape[-1] + 1
    else:
        raise ArgumentError("one of `lower`, `diagonal`, `upper` must have a length")
    beside = max(0, n - 1)
    for name, band, size in (
        ("lower", lower, beside),
        ("diagonal", diagonal, n),
        ("upper", upper, beside),
    ):
        if band.ndim and band.shape[-1] != size:
            raise ArgumentError(f"`{name}` must have length {size}, got {band.shape[-1]}")
    batch = common_batch("the bands", *(t.shape[:-1] for t in (lower, diagonal, upper)))
    i = torch.arange(n, device=diagonal.device)
    row, col = torch.cat([i[1:], i, i[:-1]]), torch.cat([i[:-1], i, i[1:]])
    bands = [
        t.expand(*batch, size) for t, size in ((lower, beside), (diagonal, n), (upper, beside))
    ]
    return cls.from_pattern(Pattern.from_coo(row, col, (n, n)), torch.cat(bands, -1))


def to_dense(A: SparseTensor) -> Tensor:
    """Return ``[*batch, M, N]`` with blocks written out, differentiable."""
    pattern, values = A.flat_slots()
    M, N = pattern.shape
    out = values.new_zeros(*A.batch_shape, M * N)
    where = pattern.csr_row.long() * N + pattern.ccol.long()
    return out.index_add(-1, where, values).reshape(*A.batch_shape, M, N)


def _one(A: SparseTensor, name: str) -> tuple[Pattern, Tensor]:
    if A.is_batched:
        raise ArgumentError(f"`{name}` takes one matrix; this is a batch of {list(A.batch_shape)}")
    return A.flat_slots()


def to_torch(A: SparseTensor, layout: str = "coo") -> Tensor:
    """Return a torch sparse tensor, blocks written out; differentiable in the COO layout.

    Parameters
    ----------
    layout
        ``"coo"`` or ``"csr"``.
    """
    pattern, values = _one(A, "to_torch")
    with warnings.catch_warnings():
        # Of checks that are left out, which is asked for: the pattern has been checked.
        warnings.filterwarnings("ignore", "Sparse invariant checks", UserWarning)
        if layout == "coo":
            index = torch.stack([pattern.csr_row.long(), pattern.ccol.long()])
            return matrix_of(values, index, pattern.shape)
        if layout == "csr":
            rows = pattern.crow.long(), pattern.ccol.long()
            return torch.sparse_csr_tensor(*rows, values, pattern.shape, check_invariants=False)
    raise ArgumentError(f"`layout` must be 'coo' or 'csr', got {layout!r}")


def to_scipy(A: SparseTensor, format: str = "csr") -> Any:
    """Copy to a SciPy sparse array, blocks written out.

    Parameters
    ----------
    format
        ``"csr"``, ``"csc"``, ``"coo"`` ...
    """
    from scipy.sparse import csr_array

    pattern, values = _one(A, "to_scipy")
    if values.dtype in (torch.float16, torch.bfloat16):
        raise DTypeError(f"SciPy has no sparse matrices of {values.dtype}; convert to float32")
    data = values.detach().resolve_conj().resolve_neg().cpu().numpy().copy()
    index = (pattern.ccol.cpu().numpy().copy(), pattern.crow.cpu().numpy().copy())
    made: Any = csr_array((data, *index), shape=pattern.shape)
    return made.asformat(format)


def to_csr(A: SparseTensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``(crow, col, values)``: sorted, unique, blocks written out; values differentiable.

    Indices are copies on the CPU; on a device they are those of the matrix, which are not to be written to.
    """
    pattern, values = A.flat_slots()
    crow, ccol = (i.clone() if i.is_cpu else i for i in (pattern.crow, pattern.ccol))
    return crow, ccol, values
