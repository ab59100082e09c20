"""The scatter map: the one mechanism behind every sum of entries in the library."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.lazy import cached_property
from torch_sla.linalg.adjoint.linear import LinearMap
from torch_sla.linalg.adjoint.unmapped import refuse_old_vmap
from torch_sla.linalg.kernels import sparse as kernels
from torch_sla.linalg.sparse.transforms import (
    is_outside,
    outside_compiler,
    outside_transforms,
    physical,
)

__all__ = ["SegmentMap"]


@dataclass(eq=False)
class _Incidence(LinearMap):
    """``y = E x`` with ``E[t, j] = 1`` where source ``j`` belongs to segment ``t``, or the gather ``x = Eᵀ y``."""

    segments: SegmentMap
    back: bool
    members = (0, 0)

    def run(self, x: Tensor) -> Tensor:
        refuse_old_vmap(x)
        return self.segments.gather_values(x) if self.back else self.segments.sum_values(x)

    def adjoint(self, shape: torch.Size) -> _Incidence:
        del shape
        return _Incidence(self.segments, not self.back)


class SegmentMap:
    """A map ``source -> segment``: summing adds source ``j`` to segment ``target[j]``.

    Duplicates of a COO matrix, element matrices into CSR values, element vectors into loads are all
    sums of this kind. The order of summation is fixed, so results repeat bit for bit whatever the
    number of threads.

    Parameters
    ----------
    target
        Integer tensor ``[n_sources]`` with values in ``[0, n_targets)``.
    n_targets
        Number of segments; a segment without sources sums to zero.

    Raises
    ------
    ArgumentError
        When a target is out of range or `target` is not a vector of integers.

    Examples
    --------
    >>> import torch
    >>> m = SegmentMap(torch.tensor([0, 2, 0]), 3)
    >>> m.sum(torch.tensor([1.0, 2.0, 3.0]))
    tensor([4., 0., 2.])
    >>> m.gather(torch.tensor([4.0, 0.0, 2.0]))
    tensor([4., 2., 4.])
    """

    @outside_transforms
    def __init__(self, target: Tensor, n_targets: int) -> None:
        target = physical(target)
        if target.ndim != 1 or target.dtype not in (torch.int32, torch.int64):
            raise ArgumentError(
                f"`target` must be a vector of int32 or int64, got {target.dtype} {list(target.shape)}"
            )
        if target.numel():
            low, high = (int(v) for v in target.aminmax())
            if low < 0 or high >= n_targets:
                raise ArgumentError(
                    f"`target` must lie in [0, {n_targets}), got values from {low} to {high}"
                )
        self.target = target
        self.n_targets = n_targets

    @classmethod
    def permutation(cls, perm: Tensor) -> SegmentMap:
        """Wrap a permutation known to be one: `gather` is then ``y[perm]``."""
        out = cls.__new__(cls)
        out.target, out.n_targets = perm, perm.numel()
        return out

    @classmethod
    def rows(cls, crow: Tensor, row: Tensor) -> SegmentMap:
        """Wrap the map of the entries of compressed rows to their rows: it is in order."""
        out = cls.__new__(cls)
        out.target, out.n_targets = row, crow.numel() - 1
        order = torch.arange(row.numel(), dtype=row.dtype, device=row.device)
        out.__dict__["_order"] = (crow, order)
        return out

    @property
    def n_sources(self) -> int:
        """Number of sources."""
        return self.target.numel()

    @cached_property
    @outside_transforms
    def _order(self) -> tuple[Tensor | None, Tensor]:
        """Offsets of segments, and sources by segment; no offsets where every segment has one source."""
        offsets, order = kernels.segment_order(self.target, self.n_targets)
        one = self.n_sources == self.n_targets and bool((offsets[1:] - offsets[:-1] == 1).all())
        return None if one else offsets, order

    @cached_property
    @outside_transforms
    def _longest(self) -> int | None:
        """Sources of the largest segment; None on the CPU, where nothing asks for it."""
        if self.target.is_cpu or not self.n_targets:
            return None
        offsets = self._order[0]
        return 1 if offsets is None else int(offsets.diff().amax())

    @property
    def nbytes(self) -> int:
        """Bytes held, the lazily made sorted order included once it exists."""
        held = [self.target, *self.__dict__.get("_order", ())]
        return sum(t.numel() * t.element_size() for t in held if t is not None)

    def sum_values(self, x: Tensor) -> Tensor:
        """Sum without recording: ``[B, n_sources, k] -> [B, n_targets, k]``."""
        offsets, order = self._order
        if offsets is None:
            return kernels.gather(x, order)
        return kernels.segment_sum(x, offsets, order, longest=self._longest)

    def gather_values(self, y: Tensor) -> Tensor:
        """Gather without recording: ``[B, n_targets, k] -> [B, n_sources, k]``."""
        return kernels.gather(y, self.target)

    @outside_compiler
    def sum(self, x: Tensor, dim: int = -1) -> Tensor:
        """Sum the sources of each segment along `dim`, differentiably to any order."""
        return self._along(x, dim, self.n_sources, back=False)

    @outside_compiler
    def gather(self, y: Tensor, dim: int = -1) -> Tensor:
        """Copy each segment's value to its sources along `dim`; the adjoint of `sum`."""
        return self._along(y, dim, self.n_targets, back=True)

    def _along(self, x: Tensor, dim: int, n: int, *, back: bool) -> Tensor:
        dim = dim % x.ndim
        if x.shape[dim] != n:
            raise ArgumentError(
                f"dimension {dim} must have length {n}, got a tensor of shape {list(x.shape)}"
            )
        lead, trail = x.shape[:dim], x.shape[dim + 1 :]
        folded = x.reshape(prod(lead), n, prod(trail))
        incidence = _Incidence(self, back)
        out = incidence.run(folded) if is_outside() else incidence(folded)
        return out.reshape(*lead, out.shape[1], *trail)
