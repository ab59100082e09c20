"""What is asked of a matrix before it is solved with: its fingerprint, and beside it what a device tells at once."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from torch_sla.linalg.checks import read
from torch_sla.linalg.kernels.detection import counted_structure
from torch_sla.linalg.kernels.lattice_detect import sampled_offsets
from torch_sla.linalg.kernels.sparse import fingerprint, unread_fingerprints

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from torch import Tensor

    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["Marked", "look_at"]


class Marked(NamedTuple):
    """Values as they were a moment ago: who holds this knows that nothing else lies where they do.

    Parameters
    ----------
    values
        ``[*batch, nnz_csr]``.
    mark
        Their fingerprint.
    beside
        What was to be read with it.
    """

    values: Tensor
    mark: Hashable
    beside: Sequence[float] = ()

    def mark_of(self, values: Tensor) -> Hashable | None:
        """Return the mark where `values` are these in memory, else None."""
        own = self.values
        same = own.data_ptr() == values.data_ptr() and own.dtype == values.dtype
        return self.mark if same and own.shape == values.shape else None


def look_at(
    pattern: Pattern,
    values: Tensor,
    beside: Callable[[], Sequence[Tensor]] | None,
    *,
    new: bool,
) -> tuple[Marked, Sequence[float] | None]:
    """Hash values; of a device, read at once with that what else is asked of a matrix.

    Parameters
    ----------
    pattern, values
        Scalar pattern and slots ``[*batch, nnz_csr]``.
    beside
        Real numbers that a solve wants to be read with it, which asks for more of the pattern; None where none is
        meant.
    new
        Whether nothing has been asked about earlier values.

    Returns
    -------
    marked, counted
        Values and their fingerprint, and what `detect` takes.
    """
    if values.is_cpu:
        return Marked(values, fingerprint(values)), None
    solves = beside is not None
    square = pattern.shape[0] == pattern.shape[1] and not pattern.block
    arrays = (pattern.crow, pattern.ccol) if solves and "key" not in vars(pattern) else ()
    unread, *marks = unread_fingerprints(values, *arrays)
    more = [] if beside is None else list(beside())
    counts = None
    if new and square:
        counts = counted_structure(pattern.crow, pattern.ccol, values)
    sample = None
    if solves and square and not {"lattice", "sample"} & vars(pattern).keys():
        sample = sampled_offsets(pattern.crow, pattern.ccol)
    asked = [unread.words, *more, counts, *(other.words for other in marks), sample]
    parts = [part for part in asked if part is not None]
    numbers = iter(read(*parts))
    told = iter([list(islice(numbers, part.numel())) for part in parts])
    mark = unread.told(next(told))
    others = [number for _ in more for number in next(told)]
    counted = None if counts is None else next(told)
    if marks:
        pattern.key = pattern.key_of([other.told(next(told)) for other in marks])
    if sample is not None:
        vars(pattern)["sample"] = sorted(set(next(told)))
    return Marked(values, mark, others), counted
