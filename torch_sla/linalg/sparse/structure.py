"""What is known about a matrix, travelling beside its values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.linalg.kernels.structure import matrix_flags
from torch_sla.linalg.sparse.transforms import outside_transforms

if TYPE_CHECKING:
    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["Structure", "detect"]


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
    nullspace
        ``[M, k]``, a basis of the null space of a Hermitian singular matrix; solves are then
        projected.
    near_nullspace
        ``[M, k]``, vectors with small ``‖A x‖ / ‖x‖`` (constants, rigid-body modes), for multigrid.
    coordinates
        ``[M_nodes, dim]``, where the unknowns live.
    """

    symmetric: bool | None = None
    hermitian: bool | None = None
    positive_definite: bool | None = None
    nullspace: Tensor | None = None
    near_nullspace: Tensor | None = None
    coordinates: Tensor | None = None

    def updated(self, **changes: Any) -> Structure:
        """Return a copy with some fields changed."""
        return replace(self, **changes)

    def merged(self, found: Structure) -> Structure:
        """Return this with unknown flags filled in from `found`."""
        names = ("symmetric", "hermitian", "positive_definite")
        return replace(self, **{n: getattr(found, n) for n in names if getattr(self, n) is None})


@outside_transforms
def detect(pattern: Pattern, values: Tensor) -> Structure:
    """Find symmetry and, where it is cheap to prove, positive definiteness.

    Two entries count as equal when they differ by rounding: at most ``8 eps`` of the larger of
    themselves and of the two diagonal entries. Definiteness is proved by diagonal dominance (strict
    in at least one row of every connected component, Varga, Matrix Iterative Analysis, 2nd ed.,
    section 1.4) and disproved by a diagonal entry that is not positive; otherwise it stays unknown.

    Parameters
    ----------
    pattern
        Scalar pattern.
    values
        ``[*batch, nnz_csr]`` slot values; a property holds when it holds for every member of the
        batch.
    """
    M, N = pattern.shape
    if M != N or pattern.block:
        return Structure(symmetric=False, hermitian=False, positive_definite=False)
    found = _in_one_pass(pattern, values)
    if found is not None:
        return found
    diagonal_slots = pattern.diagonal_slots.long()
    present = diagonal_slots >= 0
    diagonal = (
        values[..., diagonal_slots.clamp(min=0)] * present
        if values.shape[-1]
        else (values.new_zeros((*values.shape[:-1], M)))
    )
    real = not values.is_complex()
    if not pattern.symmetric:
        return Structure(symmetric=False, hermitian=False, positive_definite=False)
    mirrored = pattern.transpose_values(values)
    row, col = pattern.csr_row.long(), pattern.ccol.long()
    size = diagonal.abs()
    scale = torch.maximum(
        torch.maximum(values.abs(), mirrored.abs()),
        torch.maximum(size[..., row], size[..., col]),
    )
    tolerance = 8 * torch.finfo(values.dtype).eps * scale
    symmetric = bool(((values - mirrored).abs() <= tolerance).all())
    hermitian = symmetric if real else bool(((values - mirrored.conj()).abs() <= tolerance).all())
    if not hermitian:
        return Structure(symmetric=symmetric, hermitian=False, positive_definite=False)
    d = diagonal.real if not real else diagonal
    if not bool((d > 0).all()):
        return Structure(symmetric=symmetric, hermitian=True, positive_definite=False)
    definite = True if _dominant(pattern, values.abs(), d, row, col) else None
    return Structure(symmetric=symmetric, hermitian=True, positive_definite=definite)


def _in_one_pass(pattern: Pattern, values: Tensor) -> Structure | None:
    """Do the same by the compiled kernel, which needs no transpose; None where there is none."""
    symmetric, hermitian, definite = True, True, True
    positive = True
    for item in values.reshape(prod(values.shape[:-1]), values.shape[-1]):
        flags = matrix_flags(pattern.crow, pattern.ccol, item)
        if flags is None:
            return None
        if not flags.pattern:
            return Structure(symmetric=False, hermitian=False, positive_definite=False)
        symmetric &= flags.symmetric
        hermitian &= flags.hermitian
        positive &= flags.positive
        definite &= flags.dominant
    known = hermitian and positive
    return Structure(
        symmetric=symmetric,
        hermitian=hermitian,
        positive_definite=(definite or None) if known else False,
    )


def _dominant(pattern: Pattern, size: Tensor, d: Tensor, row: Tensor, col: Tensor) -> bool:
    """Whether every row is diagonally dominant, and one row of each component strictly so."""
    off = torch.where(row == col, torch.zeros_like(size), size)
    sums = pattern.sum_rows(off)
    slack = 4 * torch.finfo(d.dtype).eps * d
    if not bool((d >= sums - slack).all()):
        return False
    # "Strictly" leaves rounding behind: a singular Neumann matrix must not pass by noise.
    strict = d > sums * (1 + 1e-8) + slack
    if bool(strict.all()):
        return True
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    # Stored zeros connect nothing.
    linked = (off > 0).reshape(-1, off.shape[-1]).all(0)
    M = pattern.shape[0]
    ends = (row[linked].cpu().numpy(), col[linked].cpu().numpy())
    graph = coo_array((torch.ones(int(linked.sum())).numpy(), ends), shape=(M, M))
    _, label = connected_components(graph, directed=False)
    labels = torch.as_tensor(label, dtype=torch.long)
    flat = strict.reshape(-1, M).cpu()
    reached = torch.zeros(flat.shape[0], int(labels.max()) + 1, dtype=torch.bool)
    hits = flat.nonzero()
    reached[hits[:, 0], labels[hits[:, 1]]] = True
    return bool(reached.all())
