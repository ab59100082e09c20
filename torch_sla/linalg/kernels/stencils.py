"""What lattice kernels work on: a lattice, the stencils of a matrix on it, weights of one axis."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import prod

import torch
from torch import Tensor

from torch_sla.lazy import cached_property

__all__ = ["CENTRE", "AxisWeights", "Lattice", "Stencil", "step"]

CENTRE = 13
_ALIGNED = 32  # rows; planes begin at multiples of it


def step(code: int) -> tuple[int, int, int]:
    """Step along each axis that a neighbour's code ``d0 + 3 d1 + 9 d2 + 13`` stands for.

    Examples
    --------
    >>> step(13), step(14), step(4)
    ((0, 0, 0), (1, 0, 0), (0, 0, -1))
    """
    return code % 3 - 1, code // 3 % 3 - 1, code // 9 - 1


@dataclass(frozen=True)
class Lattice:
    """Points along each axis, fastest first, and the neighbours that entries join a point to.

    Parameters
    ----------
    shape
        ``(n0, n1, n2)``, 1 along axes that are not there.
    codes
        Neighbours, increasing; symmetric, and with the point itself.

    Examples
    --------
    >>> Lattice((5, 4, 1), (10, 12, 13, 14, 16)).offsets
    (-5, -1, 0, 1, 5)
    """

    shape: tuple[int, int, int]
    codes: tuple[int, ...]

    @cached_property
    def n(self) -> int:
        """Number of points."""
        return prod(self.shape)

    @property
    def dimension(self) -> int:
        """Axes with more than one point."""
        return sum(n > 1 for n in self.shape)

    @property
    def joined(self) -> tuple[int, ...]:
        """Axes along which points have neighbours."""
        return tuple(axis for axis in range(3) if any(step(code)[axis] for code in self.codes))

    def stride(self, axis: int) -> int:
        """Distance of neighbours on an axis in the numbering."""
        return prod(self.shape[:axis])

    def offset(self, code: int) -> int:
        """Column minus row of an entry."""
        return sum(d * self.stride(axis) for axis, d in enumerate(step(code)))

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Of all neighbours, in the order of `codes`."""
        return tuple(self.offset(code) for code in self.codes)

    @cached_property
    def slots(self) -> tuple[int, ...]:
        """Plane of each of the 27 neighbours, -1 where it is absent."""
        return _slots(self.codes)

    def halved(self, axis: int) -> tuple[int, int, int]:
        """Shape of the even points of an axis."""
        n = list(self.shape)
        n[axis] = (n[axis] + 1) // 2
        return n[0], n[1], n[2]

    def coarsened(self, axis: int) -> Lattice:
        """Lattice of the even points of an axis, with the neighbours that ``Pᵀ A P`` has."""
        shape = self.halved(axis)
        return Lattice(shape, _coarse_codes(self.codes, axis, shape[axis] > 1))

    def repeated(self, times: int) -> Lattice:
        """Put so many copies beside each other: along an axis that is not there, else along the last.

        Examples
        --------
        >>> Lattice((5, 4, 1), (10, 12, 13, 14, 16)).repeated(3).shape
        (5, 4, 3)
        """
        n = list(self.shape)
        free = next((axis for axis in range(3) if n[axis] == 1), 2)
        n[free] *= times
        return Lattice((n[0], n[1], n[2]), self.codes)

    def odd(self, axis: int) -> tuple[int, int, int]:
        """Shape of the odd points of an axis."""
        n = list(self.shape)
        n[axis] //= 2
        return n[0], n[1], n[2]


@dataclass(frozen=True, eq=False)
class Stencil:
    """A matrix on a lattice.

    Parameters
    ----------
    lattice
        Where its rows are.
    planes
        ``[len(codes), n and a little more]``: coefficients of each neighbour. What is beyond ``n`` is
        only there to align the planes, and never read.
    """

    lattice: Lattice
    planes: Tensor

    @classmethod
    def empty(cls, lattice: Lattice, dtype: torch.dtype, device: torch.device) -> Stencil:
        """Make room for the coefficients."""
        length = -(-lattice.n // _ALIGNED) * _ALIGNED
        return cls(lattice, torch.empty(len(lattice.codes), length, dtype=dtype, device=device))

    @property
    def n(self) -> int:
        """Rows."""
        return self.lattice.n

    @property
    def dtype(self) -> torch.dtype:
        """Of the coefficients."""
        return self.planes.dtype

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.planes.device

    @property
    def nbytes(self) -> int:
        """Bytes of the coefficients."""
        return self.planes.numel() * self.planes.element_size()

    def plane(self, code: int) -> Tensor:
        """Coefficients ``[n]`` of one neighbour."""
        return self.planes[self.lattice.slots[code], : self.n]


@dataclass(frozen=True, eq=False)
class AxisWeights:
    """Interpolation along one axis.

    Parameters
    ----------
    axis
        Which.
    fine
        Shape before the axis is halved.
    low, high
        Weights of the even point before and after each odd point, ``[points of the odd lattice]``.
    """

    axis: int
    fine: Lattice
    low: Tensor
    high: Tensor

    @classmethod
    def empty(cls, A: Stencil, axis: int) -> AxisWeights:
        """Make room for the weights."""
        n = prod(A.lattice.odd(axis))
        low, high = (torch.empty(n, dtype=A.dtype, device=A.device) for _ in range(2))
        return cls(axis, A.lattice, low, high)

    @property
    def nbytes(self) -> int:
        """Bytes of the weights."""
        return 2 * self.low.numel() * self.low.element_size()

    @property
    def across(self) -> tuple[int, ...]:
        """Neighbours without a step along the axis, or that one leads to."""
        return _across(self.fine.codes, self.axis)


@cache
def _slots(codes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(codes.index(c) if c in codes else -1 for c in range(27))


@cache
def _across(codes: tuple[int, ...], axis: int) -> tuple[int, ...]:
    unit, slots = 3**axis, _slots(codes)
    return tuple(
        c
        for c in range(27)
        if step(c)[axis] == 0 and any(slots[c + t * unit] >= 0 for t in (-1, 0, 1))
    )


@cache
def _coarse_codes(codes: tuple[int, ...], axis: int, several: bool) -> tuple[int, ...]:
    steps = (-1, 0, 1) if several else (0,)
    return tuple(sorted(c + t * 3**axis for c in _across(codes, axis) for t in steps))
