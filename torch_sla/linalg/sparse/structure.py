"""What is known about a matrix, travelling beside its values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import floor, log10
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.linalg.kernels.components import component_labels
from torch_sla.linalg.kernels.detection import StructureCounts, counted_structure
from torch_sla.linalg.kernels.sparse import fingerprint, spmm
from torch_sla.linalg.kernels.structure import descends, matrix_flags
from torch_sla.linalg.sparse.mirrors import ROUNDINGS, holds, steep
from torch_sla.linalg.sparse.transforms import outside_transforms, physical

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["Structure", "detect"]

# Entries that `detect` looks at together: as many as stay in a cache, and as keep a device busy.
_AT_ONCE, _AT_ONCE_ON_DEVICE = 1 << 17, 1 << 24
# Steps of smoothing that look for a proof of indefiniteness, and what is more than rounding.
_SMOOTHINGS, _SURE = 6, 1e-5


@dataclass(frozen=True, eq=False)
class Structure:
    """Known properties of a matrix; ``None`` means unknown, never "no".

    Parameters
    ----------
    symmetric
        ``A = Aᵀ``.
    hermitian
        ``A = Aᴴ``; the same as `symmetric` for real values.
    positive_definite
        ``xᴴ A x > 0`` for every nonzero ``x``; implies Hermitian.
    dominance
        Smallest share of a diagonal entry that its row leaves over, ``1 - Σ|a_ij| / a_ii``, to two
        digits; 0 where some row leaves nothing.
    nullspace
        ``[M, k]``, a basis of the null space of a Hermitian singular matrix; solves are then
        projected.
    near_nullspace
        ``[M, k]``, vectors with small ``‖A x‖ / ‖x‖`` (constants, rigid-body modes), for multigrid.
    coordinates
        ``[M_nodes, dim]``, where the unknowns live.
    ordering
        How direct methods shall eliminate: ``"amd"``, ``"dissection"``, ``"metis"`` (where pymetis is
        installed), ``"natural"``, or a permutation ``[M]``, the row eliminated k-th. None leaves it to
        them.
    """

    symmetric: bool | None = None
    hermitian: bool | None = None
    positive_definite: bool | None = None
    dominance: float | None = None
    nullspace: Tensor | None = None
    near_nullspace: Tensor | None = None
    coordinates: Tensor | None = None
    ordering: Tensor | str | None = None

    def __post_init__(self) -> None:
        for name in ("symmetric", "hermitian", "positive_definite"):
            flag = getattr(self, name)
            if isinstance(flag, np.bool_):  # rules ask whether it *is* False
                object.__setattr__(self, name, bool(flag))
            elif flag is not None and not isinstance(flag, bool):
                raise ArgumentError(f"`{name}` must be True, False or None, got {flag!r}")
        share = self.dominance
        if share is not None and not (isinstance(share, int | float) and 0 <= share <= 1):
            raise ArgumentError(f"`dominance` must be a number from 0 to 1, got {share!r}")
        pair = self.nullspace if isinstance(self.nullspace, tuple | list) else (self.nullspace,)
        given = [("nullspace", v) for v in pair]
        given += [(name, getattr(self, name)) for name in ("near_nullspace", "coordinates")]
        for name, vectors in given:
            if vectors is not None and not isinstance(vectors, Tensor):
                raise ArgumentError(f"`{name}` must be a tensor, got {type(vectors).__name__}")
        self._check_ordering()

    def _check_ordering(self) -> None:
        known = ("auto", "amd", "dissection", "metis", "natural")
        order = self.ordering
        if isinstance(order, str):
            if order not in known:
                raise ArgumentError(
                    f"`ordering` must be one of {', '.join(known)} or a permutation, got {order!r}"
                )
        elif isinstance(order, Tensor):
            whole = not (order.is_floating_point() or order.is_complex())
            if order.ndim != 1 or not whole or order.dtype == torch.bool:
                raise ArgumentError(
                    f"a permutation in `ordering` must be [M] and of integers, got {list(order.shape)} of {order.dtype}"
                )
        elif order is not None:
            raise ArgumentError(
                f"`ordering` must be a name or a tensor that holds a permutation, got {type(order).__name__}"
            )

    @property
    def ordering_mark(self) -> Hashable:
        """What tells one `ordering` from another."""
        if isinstance(self.ordering, Tensor):
            return _mark(self.ordering)
        return None if self.ordering == "auto" else self.ordering

    @property
    def vectors_mark(self) -> Hashable:
        """What tells one near-nullspace and one set of coordinates from others, by their content."""
        vectors = (self.near_nullspace, self.coordinates)
        return tuple(None if v is None else _mark(v) for v in vectors)

    def updated(self, **changes: Any) -> Structure:
        """Return a copy with some fields changed."""
        return replace(self, **changes)

    def repeated(self, times: int) -> Structure:
        """Return what is known of the block diagonal matrix of so many like this; no order to eliminate in."""

        def copies(v: Tensor | None) -> Tensor | None:
            return None if v is None else v.repeat(times, 1)

        return replace(
            self,
            near_nullspace=copies(self.near_nullspace),
            coordinates=copies(self.coordinates),
            nullspace=None,
            ordering=None,
        )

    def merged(self, found: Structure) -> Structure:
        """Return this with unknown flags filled in from `found`."""
        names = ("symmetric", "hermitian", "positive_definite", "dominance")
        return replace(self, **{n: getattr(found, n) for n in names if getattr(self, n) is None})


@outside_transforms
def _mark(known: Tensor) -> Hashable:
    """Return what tells one tensor from others, by its content."""
    known = physical(known)
    return tuple(known.shape), known.dtype, fingerprint(known)


@outside_transforms
def detect(pattern: Pattern, values: Tensor, counted: Sequence[float] | None = None) -> Structure:
    """Find symmetry and, where it is cheap to prove, positive definiteness.

    Two entries count as equal when they differ by rounding: at most ``8 eps`` of the larger of
    themselves and of the two diagonal entries, and, where that is more than rounding of the smaller
    row, at most ``eps**0.6`` of the geometric mean of both rows (see `mirrors.asymmetry`).
    Definiteness is proved by diagonal dominance (strict in at least one row of every connected
    component, Varga, Matrix Iterative Analysis, 2nd ed., section 1.4) and disproved by a diagonal
    entry that is not positive, or by a smooth vector with ``xᵀ A x < 0``, as waves have; otherwise it
    stays unknown.

    Parameters
    ----------
    pattern
        Scalar pattern.
    values
        ``[*batch, nnz_csr]`` slot values; a property holds when it holds for every member of the
        batch.
    counted
        Numbers of `counted_structure`, where they have been read.
    """
    found = _detect(pattern, values, counted)
    if found.hermitian and found.positive_definite is None and values.ndim == 1:
        return found.updated(positive_definite=False) if _descends(pattern, values) else found
    return found


def _without_meant(pattern: Pattern, values: Tensor, found: Structure) -> Structure:
    """Take back a symmetry for which differences were taken for rounding that matter to the smaller of two rows."""
    if not (found.symmetric or found.hermitian) or not steep(pattern, values):
        return found
    symmetric = bool(found.symmetric) and holds(pattern, values, hermitian=False)
    hermitian = symmetric
    if values.is_complex():
        hermitian = bool(found.hermitian) and holds(pattern, values, hermitian=True)
    definite = found.positive_definite if hermitian else False
    return found.updated(symmetric=symmetric, hermitian=hermitian, positive_definite=definite)


def _descends(pattern: Pattern, values: Tensor) -> bool:
    """Whether a vector of ones, smoothed a few times, proves that a symmetric matrix is not positive definite.

    Damped Jacobi steps shrink what is rough and let grow what belongs to negative eigenvalues.
    """
    if values.is_complex() or not values.numel():
        return False
    found = descends(pattern.crow, pattern.ccol, values, _SMOOTHINGS, _SURE)
    if found is not None:
        return found
    d = values[pattern.diagonal_slots.long()].unsqueeze(1)
    x, signs = torch.ones_like(d), []
    for _ in range(_SMOOTHINGS + 1):
        image = spmm(pattern.crow, pattern.ccol, values, x)
        size = (x * x * d).sum()
        signs.append((x * image).sum() < -_SURE * size)  # rounding is far below
        x = x - 0.5 * image / d
        x = x / x.abs().amax()
    return bool(torch.stack(signs).any())  # read once: a device is waited for


_GENERAL = Structure(symmetric=False, hermitian=False, positive_definite=False)


def _detect(pattern: Pattern, values: Tensor, counted: Sequence[float] | None = None) -> Structure:
    M, N = pattern.shape
    if M != N or pattern.block:
        return _GENERAL
    if counted is None:
        unread = counted_structure(pattern.crow, pattern.ccol, values)
        counted = None if unread is None else unread.tolist()
    counts = None if counted is None else StructureCounts.of(counted)
    if counts is not None:
        pattern.longest_row = counts.longest
        return _from_counts(pattern, values, counts)
    known = _in_one_pass(pattern, values)
    if known is not None:
        return known
    together = _AT_ONCE if values.is_cpu else _AT_ONCE_ON_DEVICE
    flat = values.reshape(-1, values.shape[-1]) if values.numel() > together else values[None]
    if len(flat) == 1:
        return _at_once(pattern, values)
    # Large batches in parts.
    found = [_detect(pattern, part) for part in flat.split(max(1, together // flat.shape[-1]))]
    return Structure(
        symmetric=_all([part.symmetric for part in found]),
        hermitian=_all([part.hermitian for part in found]),
        positive_definite=_all([part.positive_definite for part in found]),
        dominance=min(part.dominance or 0.0 for part in found),
    )


def _from_counts(pattern: Pattern, values: Tensor, counts: StructureCounts) -> Structure:
    if counts.one_sided or counts.unequal:
        return _GENERAL
    definite: bool | None = False
    if not counts.not_positive:
        definite = counts.definite
        if definite is None:
            slots = pattern.diagonal_slots.long()
            off = values.abs().index_fill_(-1, slots, 0)
            definite = _dominant(pattern, values[..., slots], off, pattern.sum_rows(off))
        definite = definite or None
    known = Structure(symmetric=True, hermitian=True, positive_definite=definite)
    return _without_meant(pattern, values, known) if counts.rounded else known


def _at_once(pattern: Pattern, values: Tensor) -> Structure:
    """Compare with the transpose, in operations of torch."""
    if not pattern.symmetric:
        return _GENERAL
    slots = pattern.diagonal_slots.long()
    diagonal = values.new_zeros((*values.shape[:-1], len(slots)))
    if values.shape[-1]:
        diagonal = values[..., slots.clamp(min=0)] * (slots >= 0)
    mirrored = pattern.transpose_values(values)
    row, col = pattern.csr_row.long(), pattern.ccol.long()
    size, rounding = diagonal.abs(), ROUNDINGS * torch.finfo(values.dtype).eps
    own = rounding * torch.maximum(values.abs(), mirrored.abs())
    beside = torch.maximum(own, rounding * torch.maximum(size[..., row], size[..., col]))
    turned = (mirrored, mirrored.conj()) if values.is_complex() else (mirrored,)
    gaps = [(values - other).abs() for other in turned]
    flags = [(gap <= beside).all() for gap in gaps]
    flags += [((gap > own) & (gap <= beside)).any() for gap in gaps]
    found = torch.stack(flags).tolist()  # read once: a device is waited for
    symmetric, hermitian, rounded = found[0], found[len(gaps) - 1], any(found[len(gaps) :])
    if values.is_complex():
        diagonal = diagonal.real
    off = torch.where(row == col, torch.zeros_like(own), values.abs())
    sums = pattern.sum_rows(off)
    definite: bool | None = False
    if hermitian and bool((diagonal > 0).all()):
        definite = _dominant(pattern, diagonal, off, sums) or None
    known = Structure(
        symmetric=symmetric,
        hermitian=hermitian,
        positive_definite=definite,
        dominance=_left_over(size, sums),
    )
    return _without_meant(pattern, values, known) if rounded else known


def _in_one_pass(pattern: Pattern, values: Tensor) -> Structure | None:
    """Do the same by the compiled kernel, which needs no transpose; None where there is none."""
    if values.shape[:-1].numel() == 0:
        return None
    found = matrix_flags(pattern.crow, pattern.ccol, values)
    if found is None:
        return None
    if not found.pattern:
        return _GENERAL
    positive = found.hermitian and found.positive
    known = Structure(
        symmetric=found.symmetric,
        hermitian=found.hermitian,
        positive_definite=(found.dominant or None) if positive else False,
        dominance=_rounded(found.left_over if pattern.shape[0] else 0.0),
    )
    return _without_meant(pattern, values, known) if found.rounded else known


def _left_over(size: Tensor, sums: Tensor) -> float:
    """Return the dominance of a matrix with diagonal and row sums of these sizes, rounded down to two digits."""
    if not size.numel() or not bool((size > 0).all()):
        return 0.0
    return _rounded(float((1 - sums / size).amin()))


def _rounded(share: float) -> float:
    """Round down to two digits."""
    if not share > 1e-12:
        return 0.0
    step = 10.0 ** (floor(log10(share)) - 1)
    return floor(share / step) * step


def _all(known: list[bool | None]) -> bool | None:
    """Conjunction of what may be unknown."""
    return False if False in known else None if None in known else True


def _dominant(pattern: Pattern, d: Tensor, off: Tensor, sums: Tensor) -> bool:
    """Whether every row is diagonally dominant, and one row of each component strictly so."""
    slack = 4 * torch.finfo(d.dtype).eps * d
    if not bool((d >= sums - slack).all()):
        return False
    # "Strictly" leaves rounding behind: a singular Neumann matrix must not pass by noise.
    strict = d > sums * (1 + 1e-8) + slack
    if bool(strict.all()):
        return True
    # Stored zeros connect nothing.
    linked = (off > 0).reshape(-1, off.shape[-1]).all(0)
    linked[pattern.diagonal_slots.long()] = True
    flat = strict.reshape(-1, d.shape[-1]).int()
    label = component_labels(pattern.crow, pattern.ccol, linked).expand_as(flat)
    reached = torch.zeros_like(flat).scatter_reduce(1, label, flat, "amax")
    return bool(reached.gather(1, label).all())
