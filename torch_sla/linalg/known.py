"""What the solves with one matrix find out about its values, found out once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from torch_sla.lazy import cached_property
from torch_sla.linalg.kernels import sparse as kernels
from torch_sla.linalg.kernels.detection import largest_entry, largest_row_sum

if TYPE_CHECKING:
    from collections.abc import Hashable

    from torch import Tensor

    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["Known", "largest_row"]


class Known:
    """Values of a matrix that nobody changes any more, and what is known about them.

    Every solve looks at its values, which anybody may have written to: whether factors of them are kept, whether
    they are finite, how large they are. Who alone holds them, as a loop over right-hand sides does, gives this to
    all of its solves, and they look once.
    """

    def __init__(self) -> None:
        self._given: Tensor | None = None
        self._slots: tuple[Pattern, Tensor] | None = None

    def see(self, given: Tensor) -> None:
        """Take the values of a matrix as they were given, the same ones each time.

        Raises
        ------
        ValueError
            If they are others.
        """
        if self._given is None:
            self._given = given.detach()  # held, so that no other comes to lie where it was
        elif self._given.data_ptr() != given.data_ptr():
            raise ValueError("what is known of one matrix was given to the solve with another")

    def arrange(self, pattern: Pattern, values: Tensor) -> None:
        """Take them as they are solved with: slots ``[nnz_csr]``."""
        if self._slots is None:
            self._slots = (pattern, values)

    @property
    def _matrix(self) -> tuple[Pattern, Tensor]:
        if self._slots is None:
            raise ValueError("no matrix was seen yet")
        return self._slots

    @cached_property
    def mark(self) -> Hashable:
        """Fingerprint of the values."""
        return kernels.fingerprint(self._matrix[1])

    @cached_property
    def entry(self) -> Tensor:
        """Largest absolute value, a scalar; NaN where there is one."""
        return largest_entry(self._matrix[1])

    @cached_property
    def largest(self) -> Tensor:
        """Largest sum of absolute values along a row, a scalar."""
        return largest_row(*self._matrix)


def largest_row(pattern: Pattern, values: Tensor) -> Tensor:
    """Largest sum of absolute values along a row, a scalar: the norm of the matrix in the maximum norm."""
    found = largest_row_sum(pattern.crow, values)
    if found is not None:
        return found
    if not pattern.shape[0]:
        return torch.zeros((), dtype=values.real.dtype, device=values.device)
    return pattern.sum_rows(values.abs()).amax()
