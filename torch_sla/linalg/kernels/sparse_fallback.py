"""The kernels of `torch_sla.linalg.kernels.sparse` in torch and SciPy.

They serve tensors that are not on the CPU, dtypes the extension does not know, and installations
without it. Arguments are as the faces prepare them: detached, resolved, contiguous, with a leading
batch dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "coo_to_csr",
    "diagonal_slots",
    "expand_rows",
    "fingerprint",
    "sampled_product",
    "segment_order",
    "segment_sum",
    "spmm",
    "transpose_csr",
]

_COLUMNS = 16  # columns handled at a time by the sampled product
_WORDS = 1 << 22  # words hashed at a time


def offsets_of(ordered: Tensor, n_targets: int) -> Tensor:
    """Where the sources of each target begin ``[n_targets + 1]``, targets in order."""
    wanted = torch.arange(n_targets + 1, dtype=ordered.dtype, device=ordered.device)
    return torch.searchsorted(ordered, wanted).to(ordered.dtype)


def coo_to_csr(
    row: Tensor, col: Tensor, n_rows: int, n_cols: int, *, disorder: bool = False
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Sort and merge coordinates by one integer key per position; `disorder` says that they need it."""
    key = row.long() * n_cols + col.long()
    if not disorder and bool((key.diff() > 0).all()):
        return offsets_of(row, n_rows), col.clone(), None
    unique, slot = torch.unique(key, return_inverse=True)
    del key
    slot = slot.to(row.dtype)
    rows = torch.div(unique, n_cols, rounding_mode="floor")
    ccol = (unique - rows * n_cols).to(row.dtype)
    return offsets_of(rows.to(row.dtype), n_rows), ccol, slot


def expand_rows(crow: Tensor, nnz: int) -> Tensor:
    """Repeat each row number by its count."""
    rows = torch.arange(crow.numel() - 1, dtype=crow.dtype, device=crow.device)
    return torch.repeat_interleave(rows, crow.diff().long(), output_size=nnz)


def segment_order(target: Tensor, n_targets: int) -> tuple[Tensor, Tensor]:
    """Stable sort by target."""
    ordered, order = target.sort(stable=True)
    return offsets_of(ordered, n_targets), order.to(target.dtype)


def transpose_csr(crow: Tensor, ccol: Tensor, n_cols: int) -> tuple[Tensor, Tensor, Tensor]:
    """Stable sort by column."""
    offsets, order = segment_order(ccol, n_cols)
    return offsets, expand_rows(crow, ccol.numel())[order.long()], order


def diagonal_slots(crow: Tensor, ccol: Tensor, n: int) -> Tensor:
    """Find the slots whose row is their column."""
    slots = (expand_rows(crow, ccol.numel()) == ccol).nonzero().squeeze(1)
    out = ccol.new_full((n,), -1)
    out[ccol[slots].long()] = slots.to(out.dtype)
    return out


def segment_sum(x: Tensor, offsets: Tensor, order: Tensor) -> Tensor:
    """Sum by segment: a product with the incidence matrix (CPU), or a segmented reduction."""
    batch, _, k = x.shape
    if x.device.type == "cpu":
        ones = torch.ones(order.numel(), dtype=_computed(x.dtype))
        columns = x.movedim(1, 0).reshape(x.shape[1], batch * k)
        total = _scipy_matmul(offsets, order, ones, columns)
    else:
        columns = x.index_select(1, order).movedim(1, 0).reshape(order.numel(), batch * k)
        total = _reduce(columns, offsets)
    return total.reshape(offsets.numel() - 1, batch, k).movedim(0, 1).contiguous().to(x.dtype)


def _reduce(rows: Tensor, offsets: Tensor) -> Tensor:
    """Sum runs of rows; one accumulator per segment, hence the same bits every time."""
    if rows.is_complex():
        parts = _reduce(torch.view_as_real(rows).flatten(1), offsets)
        return torch.view_as_complex(parts.reshape(parts.shape[0], rows.shape[1], 2))
    return torch.segment_reduce(rows, "sum", offsets=offsets.long(), axis=0, unsafe=True, initial=0)


def spmm(
    crow: Tensor, ccol: Tensor, slots: Tensor | None, values: Tensor, x: Tensor, conj: bool
) -> Tensor:
    """Multiply: one matrix with all columns at once, or each member of a batch with its own."""
    if slots is not None:
        values = values.index_select(1, slots)
    if conj:
        values = values.conj().resolve_conj()
    n_rows, (batch, n_cols, k) = crow.numel() - 1, x.shape
    if values.shape[0] == 1:
        columns = x.movedim(1, 0).reshape(n_cols, batch * k)
        y = _matmul(crow, ccol, values[0], columns)
        return y.reshape(n_rows, batch, k).movedim(0, 1).contiguous()
    members = (_matmul(crow, ccol, a, x[b if batch > 1 else 0]) for b, a in enumerate(values))
    return torch.stack(list(members)) if values.shape[0] else x.new_empty(0, n_rows, k)


def _matmul(crow: Tensor, ccol: Tensor, values: Tensor, x: Tensor) -> Tensor:
    if x.device.type == "cpu":
        return _scipy_matmul(crow, ccol, values, x)
    terms = values.unsqueeze(1) * x.index_select(0, ccol)
    return _reduce(terms, crow)


def _computed(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype SciPy computes in for values of `dtype`."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def _scipy_matmul(crow: Tensor, ccol: Tensor, values: Tensor, x: Tensor) -> Tensor:
    from scipy.sparse import csr_array

    dtype = _computed(x.dtype)
    A = csr_array(
        (values.to(dtype).numpy(), ccol.numpy(), crow.numpy()), shape=(crow.numel() - 1, x.shape[0])
    )
    return torch.from_numpy(A @ x.to(dtype).numpy()).to(x.dtype)


def sampled_product(crow: Tensor, ccol: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Gather both factors, a few columns at a time, multiply and sum."""
    row = expand_rows(crow, ccol.numel())
    out = u.new_zeros(u.shape[0], ccol.numel())
    for first in range(0, u.shape[2], _COLUMNS):
        part = slice(first, first + _COLUMNS)
        left, right = u[..., part].index_select(1, row), v[..., part].index_select(1, ccol)
        out += (left * right).sum(-1)
    return out


def fingerprint(data: Tensor) -> int:
    """Hash bytes ``[n]`` (uint8) where they live: sums of words mixed with their positions.

    Two sums with different constants give 128 bits. Integer sums wrap, hence no order of reduction
    changes them; the position inside each mixed word makes the hash sensitive to order.
    """
    return finished(sums_of(data).tolist(), data.numel())  # read once: a device is waited for


def sums_of(data: Tensor) -> Tensor:
    """Return the two sums of `fingerprint`, int64, where the bytes live."""
    data = torch.nn.functional.pad(data, (0, -data.numel() % 8)).view(torch.int64)
    totals = [torch.zeros((), dtype=torch.int64, device=data.device) for _ in CONSTANTS]
    for first in range(0, data.numel(), _WORDS):
        words = data[first : first + _WORDS]
        place = torch.arange(first + 1, first + 1 + words.numel(), device=data.device)
        for i, (a, b) in enumerate(CONSTANTS):
            mixed = (words ^ (place * a)) * b
            mixed = (mixed ^ (mixed >> 32)) * a
            mixed = (mixed ^ (mixed >> 29)) * b
            totals[i] += (mixed ^ (mixed >> 32)).sum()
    return torch.stack(totals)


def finished(sums: list[int], size: int) -> int:
    """Join the two sums of a hash of `size` bytes."""
    low, high = ((s + size * a) % 2**64 for s, (a, _) in zip(sums, CONSTANTS, strict=True))
    return high << 64 | low


# Odd, without pattern, and below 2**63 so that torch takes them as int64.
CONSTANTS = (
    (0x1E3779B97F4A7C15, 0x5851F42D4C957F2D),
    (0x3C6EF372FE94F82B, 0x2545F4914F6CDD1D),
)
