"""Finite eigenpairs of a Hermitian pencil whose mass is positive semidefinite, condensed to the rows with mass.

With ``M = L Lᴴ`` and a shift σ that is no eigenvalue, ``(A - σ M)⁻¹ M v = θ v`` with ``θ = 1 / (λ - σ)``, and θ = 0 of
infinite eigenvalues. The θ that are not zero are those of the small Hermitian matrix ``Lᴴ (A - σ M)⁻¹ L``, and from its
vectors x come ``v = (A - σ M)⁻¹ L x / θ``. They have no part in the null space of M beyond what belongs to them.

Ericsson, Ruhe, Mathematics of Computation 35, 1980, pages 1251-1268; Nour-Omid, Parlett, Ericsson, Jensen, Mathematics
of Computation 48, 1987, pages 663-673.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, Result, SolveError
from torch_sla.linalg.eigen.lanczos import EigenSettings, rayleigh_ritz
from torch_sla.linalg.eigen.operators import INFINITE, factor_near, product, shift_step

if TYPE_CHECKING:
    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["condensed_pencil", "massive_rows"]


def massive_rows(pattern: Pattern, mass: Tensor) -> Tensor:
    """Return the indices of the rows with mass ``[m]``, ascending.

    Parameters
    ----------
    pattern, mass
        ``M``.

    Raises
    ------
    SolveError
        ``NOT_POSITIVE_DEFINITE`` where the diagonal says that ``M`` is not even semidefinite.
    """
    slots = pattern.diagonal_slots.long()
    diagonal = torch.where(slots >= 0, mass[slots.clamp(min=0)], 0).real
    light = diagonal <= 0
    row, column, size = pattern.csr_row.long(), pattern.ccol.long(), mass.abs()
    top = float(size.amax()) if size.numel() else 0.0
    wrong = (light[row] | light[column]) & (size > 10 * torch.finfo(mass.dtype).eps * top)
    if bool(wrong.any()):
        at = int(wrong.nonzero()[0])
        i = int(row[at]) if bool(light[row[at]]) else int(column[at])
        raise SolveError(
            Result.NOT_POSITIVE_DEFINITE,
            f"`M` is not positive semidefinite: row {i} has entries, and {float(diagonal[i]):.3g} on the diagonal",
        )
    return torch.nonzero(~light)[:, 0]


def condensed_pencil(
    pattern: Pattern, values: Tensor, mass: tuple[Pattern, Tensor], settings: EigenSettings
) -> tuple[Tensor, Tensor]:
    """All finite eigenvalues, ascending, and M-orthonormal vectors of ``A v = λ M v`` with a singular ``M``.

    Raises
    ------
    ArgumentError
        When the wanted eigenvalues are infinite, or some of them.
    SolveError
        ``NOT_POSITIVE_DEFINITE`` when ``M`` is not semidefinite, ``SINGULAR`` when the pencil is.
    """
    s = settings
    if s.sigma is None and s.which != "SM":
        raise ArgumentError(INFINITE)
    w, V = _finite(pattern, values, mass, s)
    if len(w) < s.k:
        raise ArgumentError(
            f"`M` is singular and leaves {len(w)} finite eigenvalues, got k={s.k}; ask for no more"
        )
    order = s.nearest(w)
    far = (w - (s.sigma or 0.0)).abs()[order]
    # Those far beyond the wanted ones would drown them in rounding once more.
    near = far <= 1e3 * far[s.k - 1]
    near[: s.k + 1] = True
    V = V[:, order[near].sort().values].contiguous()
    return rayleigh_ritz(product(pattern, values), product(*mass), V)


def _finite(
    pattern: Pattern, values: Tensor, mass: tuple[Pattern, Tensor], settings: EigenSettings
) -> tuple[Tensor, Tensor]:
    """Return the eigenvalues that rounding tells from infinite ones, and their vectors, in no order."""
    L, rows = _root(*mass)
    n, m = pattern.shape[0], L.shape[1]
    wide = L.new_zeros(n, m).index_copy(0, rows, L)
    w, V = L.new_zeros(0).real, wide[:, :0]
    return _inverted(pattern, values, mass, wide, settings) if m else (w, V)


def _inverted(
    pattern: Pattern, values: Tensor, mass: tuple[Pattern, Tensor], L: Tensor, s: EigenSettings
) -> tuple[Tensor, Tensor]:
    """Return the finite eigenvalues and their vectors, from a shift that is none of them."""
    least, found = float("inf"), (L.new_zeros(0).real, L[:, :0])
    step = shift_step(pattern, values, mass)
    eps, first = torch.finfo(L.dtype).eps, s.sigma or 0.0
    for shift in (first, first - step, first - 100 * step):
        solver, sigma = factor_near(pattern, values, mass, shift)
        X = solver.raw(L)
        B = L.mH @ X
        theta, Q = torch.linalg.eigh((B + B.mH) / 2)
        size = theta.abs()
        # Of symmetry nothing is lost but to rounding, which zeros have no less of.
        lost = torch.linalg.vector_norm(B - B.mH)
        rounding = 10 * torch.maximum(len(B) * eps * size.max(), lost)
        # Beside an eigenvalue that the shift hits, the others that are wanted drown in rounding.
        wanted = size.sort(descending=True).values[min(s.k, len(B)) - 1]
        share = float(rounding / wanted.clamp(min=torch.finfo(size.dtype).tiny))
        if share < least:
            kept = size > rounding
            least = share
            found = sigma + 1 / theta[kept], (X @ (Q[:, kept] / theta[kept])).contiguous()
        if share < eps**0.5:
            break
    return found


def _root(pattern: Pattern, mass: Tensor) -> tuple[Tensor, Tensor]:
    """Return L ``[rows, rank]`` with ``M = L Lᴴ``, on the rows with mass, and these rows."""
    rows = massive_rows(pattern, mass)
    place = torch.full((pattern.shape[0],), -1, device=mass.device)
    place[rows] = torch.arange(len(rows), device=mass.device)
    row, column = place[pattern.csr_row.long()], place[pattern.ccol.long()]
    both = (row >= 0) & (column >= 0)
    M = mass.new_zeros(len(rows), len(rows))
    M[row[both], column[both]] = mass[both]
    # What is null is told after scaling to a unit diagonal: masses of different units are no rounding.
    unit = M.diagonal().real.sqrt()
    d, U = torch.linalg.eigh((M + M.mH) / 2 / unit / unit.unsqueeze(1))
    least = 10 * len(rows) * torch.finfo(d.dtype).eps
    if bool((d < -least).any()):
        raise SolveError(
            Result.NOT_POSITIVE_DEFINITE,
            f"`M` is not positive semidefinite: scaled to a unit diagonal it has the eigenvalue {float(d[0]):.3g}",
        )
    kept = d > least
    return unit.unsqueeze(1) * U[:, kept] * d[kept].sqrt(), rows
