"""Chebyshev's polynomial in a matrix in parts over its diagonal: a smoother of levels, and an inverse of masses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from torch_sla.errors import ArgumentError
from torch_sla.linalg.distributed.precond.tied import Ties
from torch_sla.linalg.distributed.sharding import Product
from torch_sla.linalg.distributed.space import PartSpace
from torch_sla.linalg.precond.multigrid.device.smoothers import (
    LOWER,
    chebyshev_steps,
    scattered,
    weight_of_sums,
)

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.distributed.sharding import Sharding

__all__ = ["Chebyshev", "PartChebyshev"]

_POWER_STEPS = 12
_SAFETY = 1.05  # covers what later steps of the power method would still have found


@dataclass(frozen=True)
class PartChebyshev:
    """The inverse of a matrix whose eigenvalues over its diagonal are close to each other, as those of a mass.

    Parameters
    ----------
    degree
        Steps, a product each.
    ratio
        Largest eigenvalue over the smallest that the polynomial is for. That of a mass depends neither on the mesh nor
        on coefficients that are constant in cells: 4 on triangles, 5 on tetrahedra, 9 on quadrilaterals and 27 on
        hexahedra of first order (Wathen, IMA J. Numer. Anal. 7, 1987, pages 449-457).
    """

    name: ClassVar[str] = "chebyshev"

    degree: int = 6
    ratio: float = 27.0

    def __post_init__(self) -> None:
        if self.degree < 1:
            raise ArgumentError(f"`degree` must be at least 1, got {self.degree}")
        if not self.ratio > 1:
            raise ArgumentError(f"`ratio` must be above 1, got {self.ratio!r}")

    def build_parts(
        self, sharding: Sharding, values: Tensor, near_nullspace: Tensor | None
    ) -> Chebyshev:
        """Make it for slot values ``[nnz_csr]``."""
        del near_nullspace
        # Sums of rows bound the spectrum, for masses sharply; beyond the bound the polynomial may be negative.
        _, top = _row_sums(sharding, values)
        return Chebyshev(sharding, values, self.degree, 1.0 / self.ratio, radius=float(top) or 1.0)


class Chebyshev:
    """Steps of the polynomial that is smallest between two bounds, from zero or from a guess.

    Parameters
    ----------
    sharding, values
        The matrix, slot values.
    degree
        Steps.
    lower
        Lower bound over the upper one.
    radius
        Upper bound; None: what the power method sees of it, and a little more.
    edge
        Unknowns of a node, where rows that values tie together have one block in ``D``, see `Ties`.

    Attributes
    ----------
    A
        Product with the matrix.
    radius
        Largest eigenvalue of ``D⁻¹ A``, estimated where it was not given.
    """

    def __init__(
        self,
        sharding: Sharding,
        values: Tensor,
        degree: int,
        lower: float = LOWER,
        radius: float | None = None,
        *,
        edge: int | None = None,
    ) -> None:
        self.A, d = Product(sharding, values), sharding.diagonal(values)
        self._inverse = torch.where(d != 0, 1 / torch.where(d != 0, d, 1), 0).unsqueeze(1)
        self._ties = None if edge is None else Ties.of(sharding, values, edge)
        self.radius = radius or self._radius(values)
        self._steps = chebyshev_steps(self.radius, degree, lower)

    def smooth(self, b: Tensor, x: Tensor | None = None, *, adjoint: bool = False) -> Tensor:
        """Take the steps for ``A x = b``, or its adjoint, ``[n_held, K]``."""
        A = self.A.turned(adjoint=adjoint)
        change = None
        for length, momentum in self._steps:
            r = b if x is None else b - A(x)
            step = self._divided(r, adjoint=adjoint).mul_(length)
            change = step if change is None or not momentum else step + momentum * change
            x = change if x is None else x + change
        return b if x is None else x

    def apply(self, r: Tensor) -> Tensor:
        """Return ``B r``."""
        return self.smooth(r)

    def apply_adjoint(self, r: Tensor) -> Tensor:
        """Return ``Bᴴ r``: the same polynomial in the adjoint matrix."""
        return self.smooth(r, adjoint=True)

    def _divided(self, r: Tensor, *, adjoint: bool = False) -> Tensor:
        """Return ``D⁻¹ r``, or that of the adjoint."""
        z = r * self._inverse
        if self._ties is not None:
            self._ties.put(z, r, adjoint=adjoint)
        return z

    def _radius(self, values: Tensor) -> float:
        """Estimate the largest eigenvalue of ``D⁻¹ A`` from a fixed start, as `spectral_radius` does."""
        sharding = self.A.sharding
        space = PartSpace(sharding.rows)
        start = scattered(
            sharding.rows.start + torch.arange(sharding.rows.n_held, device=values.device),
            self._inverse.dtype,
        )
        sums, top = _row_sums(sharding, values)
        tiny = torch.finfo(start.dtype).tiny
        usual, heavy = (
            v.unsqueeze(1) / space.norm(v.unsqueeze(1)).clamp(min=tiny)
            for v in (start, start * weight_of_sums(sums, top))
        )
        return max(self._growth(space, usual + heavy) * _SAFETY, tiny)

    def _growth(self, space: PartSpace, start: Tensor) -> float:
        """Return by how much ``D⁻¹ A`` stretches a vector ``[n_held, 1]`` after some steps."""
        v, size = start, space.norm(start)
        for _ in range(_POWER_STEPS):
            v = self._divided(self.A(v / size.clamp(min=torch.finfo(v.dtype).tiny)))
            size = space.norm(v)
        return float(size)


def _row_sums(sharding: Sharding, values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums of rows of ``|D⁻¹ A|`` ``[n_held]``, 0 where D is, and the largest of all processes."""
    d = sharding.diagonal(values).abs()
    sums = sharding.row_sums(values.abs()) / torch.where(d > 0, d, torch.inf)
    return sums, PartSpace(sharding.rows).largest(sums.unsqueeze(1))
