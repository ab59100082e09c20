"""Kernels on the indices of sparse matrices: building, transposing, sorting; and content hashes.

Faces of ``csrc/bindings/sparse.cpp``; `torch_sla.linalg.kernels.sparse` says what holds for all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from torch_sla.linalg.kernels import sparse_fallback as fallback, triton as device
from torch_sla.linalg.kernels.arguments import compiled, empty, indices, plain, runs_compiled
from torch_sla.linalg.kernels.threads import resolve_threads

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "Unread",
    "coo_to_csr",
    "diagonal_slots",
    "expand_rows",
    "fingerprint",
    "fingerprints",
    "fingerprints_of",
    "segment_order",
    "transpose_csr",
    "unread_fingerprints",
]


def coo_to_csr(
    row: Tensor, col: Tensor, n_rows: int, n_cols: int, *, threads: int | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Sort coordinates into compressed rows and merge equal ones.

    Parameters
    ----------
    row, col
        Integer ``[nnz]``, in range.
    n_rows, n_cols
        Shape of the matrix.
    threads
        Number of threads; None chooses.

    Returns
    -------
    crow, ccol
        CSR row pointers ``[n_rows + 1]`` and sorted unique columns ``[n_slots]``.
    slot
        Slot of each entry ``[nnz]``, or None when entry ``e`` is slot ``e``.

    Examples
    --------
    >>> import torch
    >>> crow, ccol, slot = coo_to_csr(torch.tensor([1, 0, 1]), torch.tensor([0, 1, 0]), 2, 2)
    >>> crow.tolist(), ccol.tolist(), slot.tolist()
    ([0, 1, 2], [1, 0], [1, 0, 1])
    """
    row, col = indices(row, col)
    if device.runs(row, col) and row.numel():
        from torch_sla.linalg.kernels.triton.patterns import sorted_rows

        pointers = sorted_rows(row, col, n_rows)
        if pointers is not None:
            return pointers, col.clone(), None
        return fallback.coo_to_csr(row, col, n_rows, n_cols, disorder=True)
    if not runs_compiled(row):
        return fallback.coo_to_csr(row, col, n_rows, n_cols)
    crow = empty((n_rows + 1,), row.dtype)
    if compiled.sorted_unique(row.numpy(), col.numpy()):
        compiled.count_offsets(row.numpy(), n_rows, crow.numpy())
        return crow, col.clone(), None
    ccol, slot = empty((row.numel(),), row.dtype), empty((row.numel(),), row.dtype)
    n_slots = compiled.coo_to_csr(
        row.numpy(),
        col.numpy(),
        n_rows,
        n_cols,
        crow.numpy(),
        ccol.numpy(),
        slot.numpy(),
        resolve_threads(threads, 8 * row.numel()),
    )
    return crow, ccol if n_slots == ccol.numel() else ccol[:n_slots].clone(), slot


def expand_rows(crow: Tensor, nnz: int | None = None, *, threads: int | None = None) -> Tensor:
    """Row of each slot ``[nnz]`` from row pointers ``[n_rows + 1]``; a device that is told how many need not say.

    Examples
    --------
    >>> import torch
    >>> expand_rows(torch.tensor([0, 2, 2, 3])).tolist()
    [0, 0, 2]
    """
    (crow,) = indices(crow)
    nnz = int(crow[-1]) if nnz is None else nnz
    if not runs_compiled(crow):
        return fallback.expand_rows(crow, nnz)
    row = empty((nnz,), crow.dtype)
    compiled.expand_rows(crow.numpy(), row.numpy(), resolve_threads(threads, nnz))
    return row


def transpose_csr(
    crow: Tensor, ccol: Tensor, n_cols: int, *, threads: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Compressed rows of the transpose.

    Returns
    -------
    crow_t, ccol_t
        ``[n_cols + 1]`` and ``[nnz]``, sorted.
    perm
        ``[nnz]``, with ``values_of_transpose = values[perm]``.

    Examples
    --------
    >>> import torch
    >>> crow_t, ccol_t, perm = transpose_csr(torch.tensor([0, 2, 3]), torch.tensor([0, 1, 0]), 2)
    >>> crow_t.tolist(), ccol_t.tolist(), perm.tolist()
    ([0, 2, 3], [0, 1, 0], [0, 2, 1])
    """
    crow, ccol = indices(crow, ccol)
    if crow.numel() == n_cols + 1 and ccol.numel() and device.runs(crow, ccol):
        from torch_sla.linalg.kernels.triton.patterns import mirrored_slots

        mirrored = mirrored_slots(crow, ccol)
        if mirrored is not None:
            return crow, ccol, mirrored
    if not runs_compiled(crow):
        return fallback.transpose_csr(crow, ccol, n_cols)
    crow_t, ccol_t, perm = (
        empty((n_cols + 1,), ccol.dtype),
        empty((ccol.numel(),), ccol.dtype),
        empty((ccol.numel(),), ccol.dtype),
    )
    compiled.transpose_csr(
        crow.numpy(),
        ccol.numpy(),
        n_cols,
        crow_t.numpy(),
        ccol_t.numpy(),
        perm.numpy(),
        resolve_threads(threads, 4 * ccol.numel()),
    )
    return crow_t, ccol_t, perm


def segment_order(
    target: Tensor, n_targets: int, *, threads: int | None = None
) -> tuple[Tensor, Tensor]:
    """Sort sources by target, keeping the order within each target.

    Returns
    -------
    offsets
        ``[n_targets + 1]``, where the sources of each target begin in `order`.
    order
        ``[n_sources]``.

    Examples
    --------
    >>> import torch
    >>> offsets, order = segment_order(torch.tensor([2, 0, 2]), 3)
    >>> offsets.tolist(), order.tolist()
    ([0, 1, 1, 3], [1, 0, 2])
    """
    (target,) = indices(target)
    if not runs_compiled(target):
        return fallback.segment_order(target, n_targets)
    offsets, order = empty((n_targets + 1,), target.dtype), empty((target.numel(),), target.dtype)
    compiled.segment_order(
        target.numpy(),
        n_targets,
        offsets.numpy(),
        order.numpy(),
        resolve_threads(threads, 2 * target.numel()),
    )
    return offsets, order


def diagonal_slots(
    crow: Tensor, ccol: Tensor, n_cols: int, *, threads: int | None = None
) -> Tensor:
    """Slot of each diagonal position ``[min(n_rows, n_cols)]``, -1 where there is none.

    Examples
    --------
    >>> import torch
    >>> diagonal_slots(torch.tensor([0, 2, 3]), torch.tensor([0, 1, 0]), 2).tolist()
    [0, -1]
    """
    crow, ccol = indices(crow, ccol)
    n = min(crow.numel() - 1, n_cols)
    if device.runs(crow, ccol):
        from torch_sla.linalg.kernels.triton.rows import diagonal_slots as in_triton

        return in_triton(crow, ccol, n)
    if not runs_compiled(crow):
        return fallback.diagonal_slots(crow, ccol, n)
    slot = empty((n,), crow.dtype)
    compiled.diagonal_slots(
        crow.numpy(), ccol.numpy(), slot.numpy(), resolve_threads(threads, 8 * n)
    )
    return slot


def fingerprint(tensor: Tensor, *, threads: int | None = None) -> int:
    """128-bit hash of the bytes of a tensor, in order, at memory speed.

    Shape and dtype are not part of it. Values are meant for keys within one process: they differ
    between devices and between installations with and without the extension. Not cryptographic.

    Examples
    --------
    >>> import torch
    >>> a = torch.tensor([1.0, 2.0])
    >>> fingerprint(a) == fingerprint(a.clone()), fingerprint(a) == fingerprint(a.flip(0))
    (True, False)
    """
    return fingerprints(tensor.reshape(1, -1), threads=threads)[0]


def fingerprints(tensor: Tensor, *, threads: int | None = None) -> list[int]:
    """`fingerprint` of each row of a matrix ``[B, n]``, looking at a device once.

    Examples
    --------
    >>> import torch
    >>> a = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> fingerprints(a) == [fingerprint(a[0]), fingerprint(a[1])]
    True
    """
    data = plain(tensor)
    data = data.as_strided(data.shape, (data.shape[1], 1))  # rows of one entry may have any stride
    size = data.shape[1] * data.element_size()
    if _hashed_on_a_device(data):
        return _on_a_device([data])
    if not runs_compiled(data):
        return [fallback.fingerprint(row.view(torch.uint8)) for row in data]
    team = resolve_threads(threads, size // 8)
    found = (compiled.fingerprint(row, team) for row in data.view(torch.uint8).numpy())
    return [int(high) << 64 | int(low) for low, high in found]


def fingerprints_of(*tensors: Tensor) -> list[int]:
    """`fingerprint` of each of some tensors, looking at a device once.

    Examples
    --------
    >>> import torch
    >>> a, b = torch.tensor([1.0, 2.0]), torch.tensor([3])
    >>> fingerprints_of(a, b) == [fingerprint(a), fingerprint(b)]
    True
    """
    parts = [plain(t).reshape(1, -1) for t in tensors]
    if all(_hashed_on_a_device(part) for part in parts):
        return _on_a_device(parts)
    return [fingerprint(t) for t in tensors]


def _hashed_on_a_device(data: Tensor) -> bool:
    words = data.shape[1] * data.element_size() % 4 == 0
    return device.runs(data) and data.numel() > 0 and words and len(data) < 65536


def _on_a_device(parts: list[Tensor]) -> list[int]:
    sizes = [part.shape[1] * part.element_size() for part in parts]
    each = [size for part, size in zip(parts, sizes, strict=True) for _ in range(len(part))]
    sums = _sums(parts).tolist()
    return [fallback.finished(row, size) for row, size in zip(sums, each, strict=True)]


def _sums(parts: list[Tensor]) -> Tensor:
    from torch_sla.linalg.kernels.triton.patterns import hash_words

    words = [_words(part, part.shape[1] * part.element_size()) for part in parts]
    return hash_words(words, fallback.CONSTANTS)


class Unread(NamedTuple):
    """A fingerprint that lies on a device.

    Parameters
    ----------
    words
        int32 ``[4]``, which any float of 64 bits holds exactly.
    size
        Bytes that were hashed.
    """

    words: Tensor
    size: int

    def told(self, numbers: Sequence[float]) -> int:
        """Return the fingerprint whose words these are."""
        low, high, *others = (int(number) for number in numbers)
        both = ((low, high), tuple(others))
        return fallback.finished([high << 32 | low & 0xFFFFFFFF for low, high in both], self.size)


def unread_fingerprints(*tensors: Tensor) -> list[Unread]:
    """Return what `fingerprint` reads of each tensor on a device, without waiting for it.

    Examples
    --------
    >>> import torch
    >>> a, b = torch.tensor([1.0, 2.0], dtype=torch.float64), torch.tensor([3])
    >>> one, other, again = unread_fingerprints(a, b, a.clone())
    >>> one.told(one.words.tolist()) == again.told(again.words.tolist())
    True
    """
    parts = [plain(t).reshape(1, -1) for t in tensors]
    on_device = [_hashed_on_a_device(part) for part in parts]
    if all(on_device):
        sums = list(_sums(parts))
    else:  # each as `fingerprint` takes it
        sums = [
            _sums([part])[0] if there else fallback.sums_of(part[0].view(torch.uint8))
            for part, there in zip(parts, on_device, strict=True)
        ]
    sizes = [part.shape[1] * part.element_size() for part in parts]
    return [Unread(row.view(torch.int32), size) for row, size in zip(sums, sizes, strict=True)]


def _words(data: Tensor, size: int) -> Tensor:
    """Rows as integers of the widest kind that divides them, copied where they begin between two of these."""
    if data.is_complex():
        data = torch.view_as_real(data).flatten(1)
    word = torch.int64 if size % 8 == 0 else torch.int32
    begin = data.storage_offset() * data.element_size()
    if begin % word.itemsize or data.data_ptr() % word.itemsize:
        data = data.clone()
    return data.view(word)
