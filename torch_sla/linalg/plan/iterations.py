"""How many iterations a method is expected to take."""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

from torch_sla.linalg.methods.outcome import default_rtol

if TYPE_CHECKING:
    from torch_sla.linalg.plan.facts import Facts

__all__ = ["cycles", "krylov_iterations", "wanted_rtol"]

# Coefficients and meshes are not those of a model problem.
_PESSIMISM = 2.0
# How much a preconditioner shortens the iteration, against Jacobi. `ilu` is without fill, `ilut` that of Eigen with it.
_GAIN = {
    "none": 0.5,
    "jacobi": 1.0,
    "ssor": 2.0,
    "ichol": 1.9,
    "ilu": 5.0,
    "ilut": 12.0,
    "block_jacobi": 1.2,
}
# What several unknowns of a node cost conjugate gradients: shear is softer than stretching.
_COUPLED = 2.0
# Iterations of bicgstab in terms of those of conjugate gradients, which are half the work each.
_SHORTER = 0.75
# Iterations within the bound of conjugate gradients, in terms of theirs; bicgstab where something flows.
_BOUND = {"cg": 1.0, "gmres": 1.0, "bicgstab": 0.55}


def wanted_rtol(facts: Facts) -> float:
    """Return the tolerance asked for, or the default of the dtype."""
    return facts.rtol if facts.rtol is not None and facts.rtol > 0 else default_rtol(facts.dtype)


def krylov_iterations(facts: Facts, method: str, preconditioner: str) -> float:
    """Return the iterations a Krylov method needs with a preconditioner of one level.

    On a Laplacian of n unknowns conjugate gradients reduce the error by a digit in about ``0.23
    n^(1/2)`` iterations in two dimensions and ``0.31 n^(1/3)`` in three. Where every row leaves a
    share δ of its diagonal over, the scaled matrix has its eigenvalues in ``[δ, 2 - δ]``, and the
    bound is the usual one, ``½ sqrt(κ) log(2 / rtol)`` (Saad, Iterative Methods, 2nd ed., 6.11.3).
    """
    n = float(max(facts.rows, facts.columns, 1))
    rtol, d = wanted_rtol(facts), max(facts.dimension, 1.0)
    digits = max(1.0, -log(rtol) / log(10.0))
    growth: float = (0.23 if d < 2.5 else 0.31) * n ** (1 / d) * digits * _PESSIMISM
    if facts.block > 1:
        growth *= _COUPLED
    if method in ("minres", "lsqr", "lsmr"):
        # Eigenvalues on both sides of zero, or a squared condition number.
        growth = min(growth**2, 5.0 * n) if facts.positive_definite is not True else growth
    elif facts.dtype.is_complex and facts.hermitian is False:
        # It may be a wave, whose eigenvalues lie around zero.
        growth = min(growth**2, 5.0 * n)
    elif method == "bicgstab":
        # Of two products each; where something flows, errors leave with it.
        growth *= 0.4 if facts.hermitian is False else _SHORTER
    elif method != "cg":
        growth *= 2
    if facts.positive_definite is None and facts.hermitian is not False:
        # It may be indefinite, and then plain iterations crawl.
        growth *= 3
    elif facts.hermitian and method in ("gmres", "bicgstab"):
        growth = growth if facts.positive_definite else min(growth**2, 5.0 * n)
    growth /= _GAIN.get(preconditioner, 1.0)
    if facts.dominance > 0 and preconditioner != "none":
        share = _BOUND.get(method, 1.5)
        if method == "bicgstab" and facts.hermitian is not False:
            share = _SHORTER
        growth = min(growth, _bound(facts.dominance, rtol) * share)
    return min(max(growth, 1.0), 10 * n)


def cycles(facts: Facts, method: str) -> float:
    """Return the cycles of multigrid that a method needs, of which bicgstab spends two in an iteration.

    For a matrix like that of diffusion they depend on the digits wanted, not on the size; where
    something flows, coarse levels see less of it than fine ones, and cycles grow slowly.
    """
    rtol = wanted_rtol(facts)
    digits = max(1.0, -log(rtol) / log(10.0))
    if facts.hermitian is False:
        found: float = 0.65 * digits * max(facts.rows, 1) ** (1 / 6)
        return found if method == "bicgstab" else 1.2 * found
    # Known to be a matrix like that of diffusion, or only known to be symmetric; of a body whose rigid motions the
    # levels keep.
    graph = 2.2 if facts.positive_definite else 2.6
    graph = 1.8 if facts.block > 1 and facts.positive_definite else graph
    lattice = 0.8 + 0.2 * min(max(facts.dimension, 2.0), 3.0)
    found = (lattice if facts.lattice else graph) * digits
    if facts.dominance > 0:
        found = min(found, 0.4 * _bound(facts.dominance, rtol))
    return found if method == "cg" else 1.3 * found


def _bound(dominance: float, rtol: float) -> float:
    """Return the iterations of conjugate gradients where the scaled matrix has its spectrum in ``[δ, 2 - δ]``."""
    return 0.5 * float(((2 - dominance) / dominance) ** 0.5) * log(2 / rtol)
