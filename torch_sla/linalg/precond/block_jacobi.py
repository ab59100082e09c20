"""Inverses of the diagonal blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, Result, SolveError

if TYPE_CHECKING:
    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure

__all__ = ["BlockJacobi", "BlockJacobiInverse"]

# Sizes tried when none is given: components of a field at a node, largest first.
_SIZES = (6, 5, 4, 3, 2)
_PLAIN = 8
# On several threads torch's LU of a batch (2.13 with MKL 2024.2) gives wrong numbers without a word, or hangs, from
# somewhat above 128 rows on; of one matrix at a time it does neither.
_TOGETHER = 64


@dataclass(frozen=True)
class BlockJacobi:
    """Block-diagonal scaling.

    Parameters
    ----------
    size
        Rows per block. None takes the largest of 2 to 6 for which every block of rows has the same
        columns (the components of a field at a node), and 8 where there is none.
    """

    size: int | None = None
    name = "block_jacobi"

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise ArgumentError(f"`size` must be at least 1, got {self.size}")

    def build(
        self,
        pattern: Pattern,
        values: Tensor,
        structure: Structure,  # noqa: ARG002
    ) -> BlockJacobiInverse:
        """Make it for a square scalar matrix."""
        return BlockJacobiInverse(pattern, values, self.size or natural_size(pattern))


def _inverses(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Return the inverses of ``blocks [count, size, size]``, and 0 or what failed of each."""
    if blocks.shape[-1] <= _TOGETHER or blocks.is_cuda:
        inverse, failed = torch.linalg.inv_ex(blocks)
        return inverse, failed
    each = [torch.linalg.inv_ex(block) for block in blocks]
    return torch.stack([one.inverse for one in each]), torch.stack([one.info for one in each])


class BlockJacobiInverse:
    """``B = blockdiag(A)⁻¹`` with blocks of `size` consecutive rows, the last one shorter.

    Raises
    ------
    SolveError
        ``BREAKDOWN`` when a block is singular; its first row is named.
    """

    def __init__(self, pattern: Pattern, values: Tensor, size: int) -> None:
        n = pattern.shape[0]
        self._n, self._size, count = n, size, -(-n // size)
        row, col = pattern.csr_row.long(), pattern.ccol.long()
        inside = torch.div(row, size, rounding_mode="floor") == torch.div(
            col, size, rounding_mode="floor"
        )
        blocks = values.new_zeros(count * size * size)
        row, col = row[inside], col[inside]
        blocks[row * size + col % size] = values[inside]
        # Rows beyond the last are the identity.
        extra = torch.arange(n, count * size, device=values.device)
        blocks[extra * size + extra % size] = 1
        inverse, failed = _inverses(blocks.reshape(count, size, size))
        bad = (failed != 0) | ~torch.isfinite(inverse).flatten(1).all(1)
        if bool(bad.any()):
            first = int(bad.nonzero()[0]) * size
            raise SolveError(
                Result.BREAKDOWN,
                f"block_jacobi needs invertible diagonal blocks; the one of rows {first} to "
                f"{min(first + size, n) - 1} is singular",
            )
        self._inverse: Tensor = inverse

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._inverse.numel() * self._inverse.element_size()

    def _multiply(self, inverse: Tensor, r: Tensor) -> Tensor:
        count, size = inverse.shape[:2]
        padded = r if count * size == self._n else r.new_zeros(count * size, r.shape[1])
        if padded is not r:
            padded[: self._n] = r
        out = inverse @ padded.reshape(count, size, r.shape[1])
        return out.reshape(count * size, r.shape[1])[: self._n]

    def apply(self, r: Tensor) -> Tensor:
        """Return ``B r``."""
        return self._multiply(self._inverse, r)

    def apply_adjoint(self, r: Tensor) -> Tensor:
        """Return ``Bᴴ r``."""
        return self._multiply(self._inverse.mH, r)


def natural_size(pattern: Pattern) -> int:
    """Return the block size that the pattern suggests.

    Examples
    --------
    >>> import torch
    >>> from torch_sla.linalg.sparse.pattern import Pattern
    >>> i = torch.arange(6)
    >>> natural_size(Pattern.from_coo(i, i, (6, 6)))
    8
    >>> row, col = i.repeat_interleave(3), (i // 3 * 3).repeat_interleave(3)
    >>> natural_size(Pattern.from_coo(row, col + torch.arange(3).repeat(6), (6, 6)))
    3
    """
    n = pattern.shape[0]
    crow, ccol = pattern.crow.long(), pattern.ccol.long()
    counts = crow.diff()
    for size in _SIZES:
        if n == 0 or n % size or bool((counts % size).any()):
            continue
        if not bool((counts.reshape(-1, size) == counts[::size].unsqueeze(1)).all()):
            continue
        # Columns come in whole aligned groups, and each row repeats the one before it in its block.
        groups = ccol.reshape(-1, size)
        aligned = (groups[:, 0] % size == 0) & (groups[:, -1] - groups[:, 0] == size - 1)
        row = pattern.csr_row.long()
        later = row % size != 0
        before = torch.arange(ccol.numel(), device=ccol.device) - counts[row]
        if bool(aligned.all()) and torch.equal(ccol[later], ccol[before[later]]):
            return size
    return _PLAIN
