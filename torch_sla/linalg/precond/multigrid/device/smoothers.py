"""Smoothers that are polynomials in a diagonal times the matrix: parallel, and symmetric.

Unknowns in nodes have the diagonal block of their node in place of the diagonal, as in compiled hierarchies. Rows that
values tie together have one block in place of their entries of the diagonal, see `tied`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from torch_sla.errors import ArgumentError
from torch_sla.linalg.checks import read
from torch_sla.linalg.kernels.multigrid import STABLE_BOUND, STABLE_RADIUS
from torch_sla.linalg.kernels.pointers import pointers
from torch_sla.linalg.kernels.rows import (
    Rows,
    product,
    relax,
    residual,
    row_sizes,
    row_sums,
    scaled_product,
    weighted,
)
from torch_sla.linalg.kernels.sparse import diagonal, expand_rows, transpose_csr
from torch_sla.linalg.precond.multigrid.device.blocks import BlockRows, multiply
from torch_sla.linalg.precond.multigrid.device.coarse import SINGULAR
from torch_sla.linalg.precond.multigrid.device.nodes import inverse_blocks, least_squares_blocks
from torch_sla.linalg.precond.multigrid.device.tied import compressed

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.precond.multigrid.device.tied import Groups

__all__ = [
    "LOWER",
    "Smoother",
    "chebyshev_steps",
    "make_smoother",
    "scattered",
    "spectral_radius",
    "weight_of_sums",
]

_POWER_STEPS = 12
_SAFETY = 1.1  # over what the power method has seen
LOWER = 0.25  # end of the interval of Chebyshev's polynomial, over the radius, which is the other


@dataclass(frozen=True)
class Tied:
    """Blocks in place of the diagonal, for groups of tied rows.

    Parameters
    ----------
    rows
        Which ``[m]``.
    own
        These rows of the matrix ``[m, n]``.
    inverse
        Inverse blocks ``[m, m]``.
    """

    rows: Tensor
    own: Rows
    inverse: Rows

    def put(self, z: Tensor, r: Tensor) -> None:
        """Replace tied rows of ``z`` by the blocks times ``r``, both ``[n, K]``."""
        z.index_copy_(0, self.rows, product(self.inverse, r.index_select(0, self.rows)))

    def step(self, y: Tensor, x: Tensor, b: Tensor, alpha: float) -> None:
        """Add ``alpha M (b - A x)`` to tied rows of ``y``, where nothing was added yet."""
        r = residual(self.own, x, b.index_select(0, self.rows))
        there = y.index_select(0, self.rows)
        y.index_copy_(0, self.rows, there.add_(product(self.inverse, r), alpha=alpha))

    def adjoint(self, A: Rows) -> Tied:
        """Return the blocks of the transposed matrix, which is given."""
        return Tied(self.rows, some_rows(A, self.rows), _turned(self.inverse))

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that it holds."""
        kept = (t for part in (self.own, self.inverse) for t in (part.crow, part.ccol, part.values))
        return self.rows, *kept


@dataclass(frozen=True)
class Smoother:
    """Steps ``x += momentum (x - before) + alpha w (b - A x)``.

    Parameters
    ----------
    weight
        ``w`` ``[n]``, or a block for each node ``[n / edge, edge, edge]``, zero at tied rows.
    steps
        ``(alpha, momentum)`` of each, short enough for kernels that take them in single precision.
    tied
        Blocks in place of ``w`` at tied rows; None where there are none.
    """

    weight: Tensor
    steps: tuple[tuple[float, float], ...]
    tied: Tied | None = None

    def __post_init__(self) -> None:
        short = tuple((_short(alpha), _short(momentum)) for alpha, momentum in self.steps)
        object.__setattr__(self, "steps", short)

    def from_zero(self, A: Rows, b: Tensor) -> Tensor:
        """Smooth from a zero guess, ``b`` ``[n, K]``."""
        first = self.steps[0][0]
        x, before = weighted(self.weight, b, first), None
        if self.tied is not None:
            self.tied.put(x, first * b)
        for alpha, momentum in self.steps[1:]:
            x, before = self._step(A, x, b, alpha, before, momentum), x
        return x

    def __call__(self, A: Rows, x: Tensor, b: Tensor) -> Tensor:
        """Smooth from ``x``, which is left as it is."""
        before: Tensor | None = None
        for alpha, momentum in self.steps:
            x, before = self._step(A, x, b, alpha, before, momentum), x
        return x

    def _step(
        self, A: Rows, x: Tensor, b: Tensor, alpha: float, before: Tensor | None, momentum: float
    ) -> Tensor:
        y = relax(A, x, b, self.weight, alpha, before=before, momentum=momentum)
        if self.tied is not None:
            self.tied.step(y, x, b, alpha)
        return y

    def adjoint(self, A: Rows) -> Smoother:
        """Return the smoother of the transposed matrix, which is given."""
        w, tied = self.weight, self.tied
        return replace(
            self,
            weight=w if w.ndim == 1 else w.mT.contiguous(),
            tied=None if tied is None else tied.adjoint(A),
        )

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that it holds."""
        return (self.weight,) if self.tied is None else (self.weight, *self.tied.tensors)


def _turned(blocks: Rows) -> Rows:
    """Transpose a matrix of blocks on the diagonal."""
    crow, ccol, perm = transpose_csr(blocks.crow, blocks.ccol, blocks.n_cols)
    return replace(blocks, crow=crow, ccol=ccol, values=blocks.values[perm.long()])


def _short(x: float) -> float:
    """Round to a multiple of ``2**-20``: ``x`` and ``1 + x`` are then exact in float32."""
    return round(x * 2**20) / 2**20


def scattered(i: Tensor, dtype: torch.dtype) -> Tensor:
    """Return numbers between -1/2 and 1/2 that depend on the integers `i` without any pattern."""
    h = i * 0x1E3779B97F4A7C15
    h = (h ^ (h >> 31)) * 0x3F58476D1CE4E5B9  # products alone have no second differences
    return ((h >> 40) & 0xFFFF).to(dtype) / 65536.0 - 0.5


def spectral_radius(A: Rows, weight: Tensor, size: Tensor, tied: Tied | None = None) -> float:
    """Estimate the largest eigenvalue of ``M A`` by the power method, ``M`` being a diagonal or blocks of nodes.

    Starts from a fixed vector; the safety factor covers most of what the last steps would still have found. A larger
    eigenvalue of a few rows among many would not be seen from there. The largest entry of its vector is at a row whose
    sum of ``|M A|`` is no less, so the start is as much again on rows of large sums: `size` are those of ``|A|``
    ``[n]``. What grows faster outgrows the rest within the steps.
    """
    return _safe(float(_largest(A, weight, size, tied)), A)


def _safe(found: float, A: Rows) -> float:
    return max(found * _SAFETY, torch.finfo(A.values.dtype).tiny)


def _largest(A: Rows, weight: Tensor, size: Tensor, tied: Tied | None = None) -> Tensor:
    start = scattered(torch.arange(A.n_rows, device=A.values.device), A.values.dtype)
    sums = _bounds(weight, size)
    top = sums.max() if A.n_rows else sums.sum()
    both = _unit(start) + _unit(start * weight_of_sums(sums, top))
    return _growth(A, weight, tied, both)


def _bounds(weight: Tensor, size: Tensor) -> Tensor:
    """Return what sums of ``|M A|`` along rows do not exceed, from those of ``|A|`` ``[n]``."""
    return weighted(weight.abs(), size.unsqueeze(1)).squeeze(1)


def _stable(A: Rows, weight: Tensor, size: Tensor, tied: Tied | None) -> float:
    """Return the factor of least-squares weights with which no error grows, 1 for M-matrices.

    A cycle with a smoother that lets errors grow is not definite.
    """
    sums = _bounds(weight, size)
    if tied is not None:
        blocks = replace(tied.inverse, values=tied.inverse.values.abs())
        own = product(blocks, size[tied.rows].unsqueeze(1)).squeeze(1)
        sums = sums.index_copy(0, tied.rows, own)
    if not len(sums) or float(sums.max()) < STABLE_BOUND:
        return 1.0
    return min(1.0, STABLE_RADIUS / spectral_radius(A, weight, size, tied))


def _unit(v: Tensor) -> Tensor:
    norm = torch.linalg.vector_norm(v)
    return v / torch.where(norm > 0, norm, 1.0)


def weight_of_sums(sums: Tensor, top: Tensor) -> Tensor:
    """Return the weight of each row in a start that looks for large eigenvalues of a few rows."""
    usable = (top > 0) & torch.isfinite(top)
    return torch.where(usable, sums / torch.where(usable, top, 1.0), 0.0) ** 8


def _growth(A: Rows, weight: Tensor, tied: Tied | None, start: Tensor) -> Tensor:
    """Return by how much ``M A`` stretches a vector ``[n]`` after some steps."""
    v = start.unsqueeze(1)
    norm = torch.linalg.vector_norm(v)
    for _ in range(_POWER_STEPS):
        before = v
        v = scaled_product(A, before, weight, norm)
        if tied is not None:
            r = product(tied.own, before) / torch.where(norm > 0, norm, 1.0)
            v.index_copy_(0, tied.rows, product(tied.inverse, r))
        norm = torch.linalg.vector_norm(v)
    return norm


def make_smoother(
    name: str,
    sweeps: int,
    A: Rows,
    groups: Groups | None = None,
    nodes: BlockRows | None = None,
    *,
    unsymmetric: bool = False,
) -> tuple[Smoother, float]:
    """Make a smoother for the scalar matrix of a level; also returns the spectral radius of ``D⁻¹ A``.

    Of unknowns in nodes, ``D`` are the diagonal blocks.

    Parameters
    ----------
    name
        ``"chebyshev"``, ``"jacobi"``, ``"l1_jacobi"`` or ``"spai0"``.
    sweeps
        Steps; Chebyshev uses degree ``sweeps + 1``.
    groups
        Rows that are tied.
    nodes
        The same matrix in blocks: each node has a block in place of its entries of the diagonal, but of
        ``"l1_jacobi"``, which knows rows only.
    unsymmetric
        Blocks of ``"spai0"`` are then not made symmetric, which would keep the cycle of a symmetric matrix symmetric.
    """
    d = diagonal(A.crow, A.ccol, A.values, A.n_cols)
    size = row_sizes(A)
    if nodes is not None and nodes.values.shape[1] > 1:
        inverse, sound = inverse_blocks(nodes, A.values.dtype)
        found, all_sound = read(_largest(A, inverse, size), sound)
        radius = _safe(found, A)
        if not all_sound:
            inverse, _ = inverse_blocks(nodes, A.values.dtype, singular=True)
            radius = spectral_radius(A, inverse, size)
    else:
        nodes = None
        inverse = torch.where(d != 0, 1.0 / torch.where(d != 0, d, 1.0), 0.0)
        radius = spectral_radius(A, inverse, size)
    tied = None if groups is None else _tied(name, A, groups)
    if name in ("chebyshev", "jacobi"):
        weight, largest = inverse, radius
        if tied is not None:
            largest = spectral_radius(A, inverse, size, tied)
        steps = (
            chebyshev_steps(largest, sweeps + 1)
            if name == "chebyshev"
            else ((4.0 / (3.0 * largest), 0.0),) * sweeps
        )
    elif name == "l1_jacobi":
        weight = torch.where(size > 0, d.sign() / torch.where(size > 0, size, 1.0), 0.0)
        steps = ((1.0, 0.0),) * sweeps
    elif name == "spai0" and nodes is not None:
        weight = least_squares_blocks(nodes, A.values.dtype, symmetric=not unsymmetric)
        weight = _without(tied, weight)
        steps = ((_stable(A, weight, size, tied), 0.0),) * sweeps
    elif name == "spai0":
        square = row_sizes(A, squares=True)
        weight = torch.where(square > 0, d / torch.where(square > 0, square, 1.0), 0.0)
        steps = ((_stable(A, weight, size, tied), 0.0),) * sweeps
    else:
        raise ArgumentError(
            f"`smoother` must be chebyshev, jacobi, l1_jacobi or spai0 on a device, got {name!r}; "
            "sweeps row after row have no parallel form"
        )
    return Smoother(_without(tied, weight), steps, tied), radius


def _without(tied: Tied | None, weight: Tensor) -> Tensor:
    """Put zeros at tied rows."""
    if tied is None:
        return weight
    rows = weight.flatten(0, weight.ndim - 2 if weight.ndim > 1 else 0)
    return rows.index_fill(0, tied.rows, 0.0).reshape(weight.shape)


def _tied(name: str, A: Rows, groups: Groups) -> Tied | None:
    """Invert the blocks of tied rows as a smoother wants them; rows whose block is singular stay on their own."""
    wanted = groups.heavier() if name == "l1_jacobi" else groups
    found = wanted.inverted(SINGULAR[A.values.dtype])
    if found is None:
        return None
    own = some_rows(A, found.rows)
    crow, ccol, there = compressed(found)
    crow, ccol = crow.to(A.crow.dtype), ccol.to(A.crow.dtype)
    longest = found.blocks.shape[1]
    inverse = Rows(crow, ccol, found.blocks[there], len(found.rows), longest)
    if name == "spai0":
        # The factor w that brings w Z A closest to the identity on the rows of a group.
        left = BlockRows(crow, ccol, inverse.values.reshape(-1, 1, 1), inverse.n_cols)
        right = BlockRows(own.crow, own.ccol, own.values.double().reshape(-1, 1, 1), own.n_cols)
        whole = multiply(left, right)
        square = whole.values.flatten().square()
        # Rows of a group follow each other, so do their entries.
        ends = whole.crow[pointers(found.size)]
        total = row_sums(ends, square)
        weight = (found.size / total).clamp(max=1.0)[found.group]  # 1 on pseudo-inverses
        inverse = replace(
            inverse, values=inverse.values * weight[expand_rows(crow, found.entries).long()]
        )
    return Tied(found.rows, own, replace(inverse, values=inverse.values.to(A.values.dtype)))


def some_rows(A: Rows, rows: Tensor) -> Rows:
    """Take some rows ``[m]`` of a matrix."""
    length = A.crow.diff()[rows].long()
    crow = pointers(length)
    count, longest = (int(x) for x in read(crow[-1], length.amax()))
    k = expand_rows(crow, count)
    slot = torch.arange(count, device=rows.device) + (A.crow[rows].long() - crow[:-1])[k]
    return Rows(crow.to(A.crow.dtype), A.ccol[slot], A.values[slot], A.n_cols, longest)


def chebyshev_steps(
    radius: float, degree: int, lower: float = LOWER
) -> tuple[tuple[float, float], ...]:
    """Return the steps of the polynomial that is smallest from ``lower * radius`` on (Saad, algorithm 12.1)."""
    theta = 0.5 * (1.0 + lower) * radius
    delta = 0.5 * (1.0 - lower) * radius
    sigma = theta / delta
    rho = 1.0 / sigma
    steps = [(1.0 / theta, 0.0)]
    for _ in range(degree - 1):
        following = 1.0 / (2.0 * sigma - rho)
        steps.append((2.0 * following / delta, following * rho))
        rho = following
    return tuple(steps)
