"""Multigrid for a matrix in parts."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, DTypeError
from torch_sla.linalg.distributed.precond.aggregation import Coarser, coarsen
from torch_sla.linalg.distributed.precond.chebyshev import Chebyshev
from torch_sla.linalg.distributed.precond.coarse import GatheredInverse
from torch_sla.linalg.distributed.precond.galerkin import without_lost
from torch_sla.linalg.distributed.precond.kept_points import keep_points, spread_and_jumps
from torch_sla.linalg.distributed.precond.lattice import LatticeHierarchy, power_scale
from torch_sla.linalg.distributed.sharding import Product, Sharding
from torch_sla.linalg.precond.multigrid.levels import default_strength, node_size
from torch_sla.linalg.sparse.transforms import outside_transforms

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Hierarchy", "PartMultigrid"]

_METHODS = ("auto", "smoothed_aggregation", "classical", "lattice")
_GATHERED, _LATTICE_GATHERED = 600, 4096  # unknowns that every process has whole
_ROUNDED_PIVOT = (
    1e-5  # eigenvalues of the last matrix, over the largest, that float32 does not tell from zero
)
_SMOOTHING_STEPS = 8  # where the last level is too large to be inverted


@dataclass(frozen=True)
class PartMultigrid:
    """Smoothed aggregation whose levels are in the same parts, down to one that every process has.

    Iterations do not grow with the number of parts: only the shape of the aggregates depends on them.

    Parameters
    ----------
    method
        ``"smoothed_aggregation"``; ``"classical"``, which keeps points instead of aggregating them; ``"lattice"``, the
        stencils of `AMG`, where entries join neighbours of a lattice, whatever parts own of it;
        or ``"auto"``: the second for scalar matrices with short rows whose diagonal jumps between neighbours, the third
        for others that allow it and are symmetric.
    strength
        As for `AMG`: 0.25 for scalars, 0.08 for nodes of several unknowns.
    damping
        Of the step that smooths the transfer, over the spectral radius.
    degree
        Of the Chebyshev smoother, before and after the coarse correction.
    coarse_size
        Unknowns at which a level is gathered and inverted on every process; None: 600. Of a lattice all levels below
        are on every process; None: 4096.
    max_levels
        Limit on the number of levels.
    block
        Unknowns of a node; None: 2 or 3 where there are three or six near-nullspace vectors, else 1. Parts must not
        cut nodes.
    dtype
        Of the levels, and of what is exchanged in a cycle; None: float32 unless the diagonal spreads so widely, or the
        last level is so close to singular, that rounding would show.
    renewable
        Whether what other values can use is kept, some 50 bytes an unknown; see `DSparseTensor.preconditioner`, which
        asks for it.
    """

    name: ClassVar[str] = "multigrid"

    method: Literal["auto", "smoothed_aggregation", "classical", "lattice"] = "auto"
    strength: float | None = None
    damping: float = 4.0 / 3.0
    degree: int = 2
    coarse_size: int | None = None
    max_levels: int = 20
    block: int | None = None
    dtype: Literal["float32", "float64"] | None = None
    renewable: bool = False

    def __post_init__(self) -> None:
        if self.method not in _METHODS:
            raise ArgumentError(
                f"`method` must be one of {', '.join(_METHODS)}, got {self.method!r}"
            )
        if self.method in ("classical", "lattice") and self.block not in (None, 1):
            raise ArgumentError(
                f"method={self.method!r} is for scalars: `block` must be 1, got {self.block}"
            )
        if self.strength is not None and not 0 <= self.strength <= 1:
            raise ArgumentError(f"`strength` must be between 0 and 1, got {self.strength!r}")
        if not 0 <= self.damping < 2:
            raise ArgumentError(f"`damping` must be at least 0 and below 2, got {self.damping!r}")
        if self.dtype not in (None, "float32", "float64"):
            raise ArgumentError(f"`dtype` must be float32, float64 or None, got {self.dtype!r}")
        for name in ("degree", "coarse_size", "max_levels"):
            if (limit := getattr(self, name)) is not None and limit < 1:
                raise ArgumentError(f"`{name}` must be at least 1, got {getattr(self, name)}")

    def build_parts(
        self, sharding: Sharding, values: Tensor, near_nullspace: Tensor | None
    ) -> Hierarchy | LatticeHierarchy:
        """Set a hierarchy up for real slot values ``[nnz_csr]``."""
        if values.is_complex():
            raise DTypeError(
                "multigrid in parts is for real matrices; use preconditioner='schwarz' for complex ones"
            )
        edge = 1 if self.method == "classical" else _edge(self, sharding, near_nullspace)
        wide, jumping = spread_and_jumps(sharding, values)
        free = self.method == "auto" and edge == 1 and near_nullspace is None
        if self.method == "lattice" or (free and not jumping and self.strength is None):
            made = self._structured(sharding, values, wide)
            if made is not None:
                return made
        points = self.method == "classical" or (free and jumping)
        return Hierarchy(
            sharding, values, self, near_nullspace, edge=edge, wide=wide, points=points
        )

    def _structured(
        self, sharding: Sharding, values: Tensor, wide: bool
    ) -> LatticeHierarchy | None:
        """Set a hierarchy of stencils up, where there is a lattice and it suits the matrix."""
        asked, found = self.method == "lattice", sharding.lattice
        if found is None:
            if asked:
                raise ArgumentError(
                    "method='lattice' needs entries that join neighbours of a lattice, and this matrix has others; "
                    "method='smoothed_aggregation' takes any"
                )
            return None
        if wide and self.dtype is None:
            dtype: torch.dtype | None = torch.float64
        else:
            dtype = None if self.dtype is None else getattr(torch, self.dtype)
        made = LatticeHierarchy(
            sharding,
            found,
            gathered=self.coarse_size or _LATTICE_GATHERED,
            max_levels=self.max_levels,
            asked=asked,
            dtype=dtype,
        )
        return made if made.set_up(values) else None


@dataclass(frozen=True)
class _Level:
    """Smoother, with its matrix, and transfer to the next level."""

    smoother: Chebyshev
    P: Product


class Hierarchy:
    """Levels in parts, applied as a V cycle.

    Attributes
    ----------
    sizes
        Unknowns of each level, over all parts.
    """

    @outside_transforms
    def __init__(
        self,
        sharding: Sharding,
        values: Tensor,
        options: PartMultigrid,
        near_nullspace: Tensor | None,
        *,
        edge: int,
        wide: bool,
        points: bool,
    ) -> None:
        self._options, self._points, self._edge = options, points, edge
        self._sharding, self._vectors = sharding, near_nullspace
        self.dtype = values.dtype
        self._chosen: list[Callable[[Sharding, Tensor, float], Coarser]] = []
        self._begin(values, wide)

    def _begin(self, values: Tensor, wide: bool) -> None:
        """Set up in single precision, and again in that of the values where that is not enough."""
        options = self._options
        # What was chosen in full precision is kept in it.
        wide = wide or (bool(self._chosen) and self.dtype is values.dtype)
        wanted = options.dtype or ("float64" if wide else "float32")
        dtype = torch.float32 if wanted == "float32" else values.dtype
        self._scale = power_scale(self._sharding.rows.comm, values)
        pivot = self._set_up(values, dtype)
        if options.dtype is None and dtype is not values.dtype and pivot < _ROUNDED_PIVOT:
            self._set_up(values, values.dtype)

    @outside_transforms
    def renewed(self, values: Tensor, wanted: object = None) -> Hierarchy:
        """Return a hierarchy for other slot values, which keeps what was chosen: aggregates or points, if `renewable`.

        Positions and plans of exchange are shared with this one, which stays what it is.
        """
        del wanted
        out = copy(self)
        out._begin(values, spread_and_jumps(self._sharding, values)[0])
        return out

    def _set_up(self, values: Tensor, dtype: torch.dtype) -> float:
        """Make all levels; returns the smallest eigenvalue of the last over its largest."""
        A, vectors = self._sharding, self._vectors
        known = self._chosen if dtype is self.dtype else []
        options, edge = self._options, self._edge
        coarse_size = options.coarse_size or _GATHERED
        theta = default_strength(edge) if options.strength is None else options.strength
        self.dtype, a = dtype, (values.detach() * self._scale).to(dtype)
        if vectors is not None:
            vectors = vectors.detach().to(dtype)
        self._levels: list[_Level] = []
        self._chosen = []
        self._last: Callable[[Tensor, bool], Tensor]
        self.sizes = [A.rows.n]
        while A.rows.n > coarse_size and len(self.sizes) < options.max_levels:
            smoother = Chebyshev(A, a, options.degree, edge=edge)
            at = len(self._levels)
            made: Coarser | None = None
            if at < len(known):
                made = known[at](A, a, smoother.radius)
            elif not known and self._points:
                made = keep_points(A, a, theta)
            elif not known:
                made = coarsen(
                    A,
                    a,
                    vectors,
                    edge,
                    theta,
                    options.damping,
                    smoother.radius,
                    renewable=options.renewable,
                )
            if made is None:
                break
            self._levels.append(_Level(smoother, Product(made.P, made.transfer)))
            if options.renewable and made.again is not None:
                self._chosen.append(made.again)
            coarse = without_lost(
                *(made.A, made.values, made.P, made.transfer),
                *(A.diagonal(a), at, made.energy),
            )
            A, a, vectors, edge = made.A, coarse, made.vectors, made.edge
            self.sizes.append(A.rows.n)
        if A.rows.n <= max(coarse_size, 2000):
            gathered = GatheredInverse(A, a)
            self._last = gathered.turned
            return gathered.pivot
        last = Chebyshev(A, a, _SMOOTHING_STEPS, edge=edge)
        self._last = lambda r, adjoint: last.smooth(r, adjoint=adjoint)
        return 1.0

    def apply(self, r: Tensor) -> Tensor:
        """Return ``B r`` for ``[n_held, K]``."""
        return self._applied(r, False)

    def apply_adjoint(self, r: Tensor) -> Tensor:
        """Return ``Bᴴ r``: the same cycle for the adjoint matrix, smoothing being the same before and after."""
        return self._applied(r, True)

    def _applied(self, r: Tensor, adjoint: bool) -> Tensor:
        return self._cycle(0, r.to(self.dtype), adjoint).to(r.dtype) * self._scale

    def _cycle(self, index: int, b: Tensor, adjoint: bool) -> Tensor:
        if index == len(self._levels):
            return self._last(b, adjoint)
        level = self._levels[index]
        smoother, P = level.smoother, level.P
        x = smoother.smooth(b, adjoint=adjoint)
        r = b - smoother.A.turned(adjoint=adjoint)(x)
        x = x + P(self._cycle(index + 1, P.adjoint(r), adjoint))
        return smoother.smooth(b, x, adjoint=adjoint)

    def __repr__(self) -> str:
        return f"Hierarchy({' > '.join(str(n) for n in self.sizes)} unknowns)"


def _edge(options: PartMultigrid, sharding: Sharding, vectors: Tensor | None) -> int:
    """Unknowns of a node, and whether parts leave them together."""
    edge = options.block
    if edge is None:
        edge = node_size(vectors)
    if edge == 1:
        return 1
    rows = sharding.rows
    torn = bool((rows.offsets % edge != 0).any())
    if not torn:
        names = rows.names.reshape(-1, edge)
        torn = bool((names != names[:, :1] + torch.arange(edge, device=names.device)).any())
    flag = rows.names.new_tensor([int(torn)])
    if int(rows.comm.reduce(flag, "max")):
        raise ArgumentError(
            f"parts cut nodes of {edge} unknowns; choose `partition_ids` by nodes, repeated {edge} times"
        )
    return edge
