"""Levels of a lattice, made ahead of what the host knows of them.

Which axes are halved, and whether a matrix can be coarsened at all, is read from surveys of the levels.
Waiting for each would leave the device idle most of the time where levels are small, so axes are
guessed, everything is queued, and all surveys are read at once. From the first wrong guess on, levels
are made again. Large levels are waited for: making them twice would cost more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import Result, SolveError
from torch_sla.linalg.kernels import lattice as kernels
from torch_sla.linalg.kernels.lattice import Survey
from torch_sla.linalg.precond.multigrid.device.coarse import (
    CoarseInverse,
    coarse_inverse,
    is_inverse,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch_sla.linalg.kernels.stencils import AxisWeights, Stencil
    from torch_sla.linalg.precond.multigrid.options import AMG

__all__ = ["SEMICOARSENING", "Coarsening", "LatticeLevel"]

Axes = tuple[int, ...]

SEMICOARSENING = 0.3  # an axis is halved when its coupling is this share of the largest
_GUESSED = 1 << 22  # points up to which axes are guessed
_HEAD = 6  # numbers before the surveys: largest entry, contrary rows, pivot, asymmetry, two of none


@dataclass(eq=False)
class LatticeLevel:
    """One level: its stencil, smoother, transfers to the next; right-hand side and two work vectors."""

    A: Stencil
    M: Tensor
    weights: list[AxisWeights] = field(default_factory=list)
    vectors: tuple[Tensor, Tensor, Tensor] = ()  # type: ignore[assignment]
    transposed: Stencil | None = None

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        held = [self.M, *self.vectors]
        size = self.A.nbytes + sum(v.numel() * v.element_size() for v in held)
        size += 0 if self.transposed is None else self.transposed.nbytes
        return size + sum(w.nbytes for w in self.weights)


class Coarsening:
    """The levels below a matrix on a lattice.

    Parameters
    ----------
    A
        The finest matrix.
    largest
        Scalar, which is read with the surveys: the largest entry of what `A` was made from.
    options
        Sizes and numbers of levels.
    known
        Axes of each level that were halved before; nothing is guessed then.
    go_on
        Asked once, with the survey of the finest level: whether the others are worth making.

    Attributes
    ----------
    levels
        Finest first.
    axes
        Axes of each level that are halved below it.
    contrary
        Share of rows whose anisotropy contradicts the axes of the first level; 0 where they were known.
    finest
        Survey of the finest level.
    largest
        The number.
    coarse
        Inverse of the last matrix; None where it is too large, or `go_on` said no.

    Raises
    ------
    SolveError
        ``BREAKDOWN`` when a row has a zero diagonal, ``NONFINITE`` for NaN or infinity.
    """

    def __init__(
        self,
        A: Stencil,
        largest: Tensor,
        options: AMG,
        known: Sequence[Axes] | None,
        go_on: Callable[[float, Survey], bool],
    ) -> None:
        self._options, self._known, self._go_on = options, known, go_on
        self._numbers = torch.zeros(
            options.max_levels + 1, _HEAD, dtype=torch.float64, device=A.device
        )
        self._head = self._numbers[0]
        self._head[0] = largest
        self.levels = [self._surveyed(A, 0)]
        self.axes: list[Axes] = []
        self.contrary = 0.0
        self.coarse: CoarseInverse | None = None
        self._inverse: Tensor | None = None
        checked = 0  # levels whose axes are right
        while True:
            checked = self._descend(checked)
            if checked < 0 or self._check(checked):
                return
            checked = len(self.axes)

    def _surveyed(self, A: Stencil, level: int) -> LatticeLevel:
        return LatticeLevel(A, kernels.survey(A, self._numbers[1 + level]))

    def _is_last(self) -> bool:
        smallest = min(self._options.coarse_size, kernels.INVERTED)
        return self.levels[-1].A.n <= smallest or len(self.levels) >= self._options.max_levels

    # --- on the device -------------------------------------------------------------------------

    def _descend(self, checked: int) -> int:
        """Make all levels below the last; return how many have axes that are right, -1 to give up."""
        while not self._is_last():
            i, level = len(self.levels) - 1, self.levels[-1]
            if i == len(self.axes):
                if self._known is not None:
                    self.axes.append(self._known[i])
                elif level.A.n > _GUESSED:
                    if not self._read_early(i):
                        return -1
                    checked = i + 1
                else:
                    self.axes.append(self._guess(level.A))
            if i == 0 and self._known is None:
                chosen = self.axes[0]
                kernels.contrary(level.A, (0 in chosen, 1 in chosen, 2 in chosen), self._head[1])
            A = level.A
            for axis in self.axes[i]:
                level.weights.append(kernels.axis_weights(A, axis))
                A = kernels.galerkin(A, level.weights[-1])
            self.levels.append(self._surveyed(A, i + 1))
        last = self.levels[-1].A
        if last.n <= kernels.INVERTED:
            self._inverse = kernels.invert(last, self._head[2:4])
        return checked

    def _guess(self, A: Stencil) -> Axes:
        """Those halved last, at first all along which points are joined."""
        there = tuple(axis for axis in range(3) if A.lattice.shape[axis] > 1)
        before = self.axes[-1] if self.axes else A.lattice.joined
        return tuple(axis for axis in before if axis in there) or there

    def _read_early(self, i: int) -> bool:
        numbers = self._numbers[: 2 + i].tolist()
        seen = Survey.of(self.levels[i].A.n, numbers[1 + i])
        if i == 0:
            self.largest, self.finest = numbers[0][0], seen
            _refuse_zero_diagonal(seen)
            if not self._go_on(self.largest, seen):
                return False
        self.axes.append(_halved(self.levels[i].A, seen))
        return True

    # --- on the host ---------------------------------------------------------------------------

    def _check(self, checked: int) -> bool:
        """Read everything; where axes were wrong, forget what is below them and return False."""
        numbers = self._numbers[: 1 + len(self.levels)].tolist()
        self.largest = numbers[0][0]
        for i, level in enumerate(self.levels):
            seen = Survey.of(level.A.n, numbers[1 + i])
            if i == 0:
                self.finest = seen
                if not self._go_on(self.largest, seen):
                    return True
            _refuse_zero_diagonal(seen)
            if self._known is not None or i < checked or i == len(self.axes):
                continue
            right = _halved(level.A, seen)
            if right != self.axes[i]:
                level.weights.clear()
                del self.levels[i + 1 :]
                self.axes[i:] = [right]
                return False
        self.contrary = numbers[0][1] / self.levels[0].A.n
        self._take_inverse(numbers[0][2], numbers[0][3])
        return True

    def _take_inverse(self, pivot: float, asymmetry: float) -> None:
        A = self.levels[-1].A
        if self._inverse is not None and is_inverse(pivot, asymmetry, A.dtype):
            self.coarse = CoarseInverse(self._inverse, 0, pivot)
        elif A.n <= 4 * self._options.coarse_size:
            self.coarse = coarse_inverse(_dense(A), A.dtype, A.device)


def _refuse_zero_diagonal(seen: Survey) -> None:
    if seen.zero_diagonal:
        raise SolveError(Result.BREAKDOWN, "multigrid: the diagonal of a row is zero")


def _halved(A: Stencil, seen: Survey) -> Axes:
    """Axes that couple strongly enough to be halved."""
    shape = A.lattice.shape
    most = max((c for c, n in zip(seen.coupling, shape, strict=True) if n > 1), default=0.0)
    if most != most:
        raise SolveError(Result.NONFINITE, "multigrid: a coarse matrix is not finite")
    couplings = zip(seen.coupling, shape, strict=True)
    strong = [n > 1 and c >= SEMICOARSENING * most for c, n in couplings]
    return tuple(axis for axis in range(3) if strong[axis])


def _dense(A: Stencil) -> Tensor:
    """Write a small stencil out, on the host in double precision."""
    n, planes = A.n, A.planes[:, : A.n].to("cpu", torch.float64)
    dense = torch.zeros(n, n, dtype=torch.float64)
    for plane, offset in zip(planes, A.lattice.offsets, strict=True):
        if abs(offset) < n:
            dense.diagonal(offset).add_(plane[max(0, -offset) : n - max(0, offset)])
    return dense
