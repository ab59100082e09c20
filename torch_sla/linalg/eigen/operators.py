"""Operators for eigenvalue iterations: products and shifted inverses, as SciPy and torch want them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, PlanError, Result, SolveError
from torch_sla.linalg.adjoint.solve import Whole
from torch_sla.linalg.eigen.convention import leading_rows
from torch_sla.linalg.factorize import LUFactorization, factorize
from torch_sla.linalg.kernels import sparse as kernels
from torch_sla.linalg.methods.space import VectorSpace
from torch_sla.linalg.sparse.tensor import SparseTensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.linalg.direct_solver import DirectSolver
    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = [
    "INFINITE",
    "WholeSpace",
    "factor_near",
    "linear_operator",
    "mass_inverse",
    "max_norm",
    "product",
    "shift_step",
    "shifted",
    "solver_of",
]

INFINITE = (
    "`M` is singular, so the largest eigenvalues are infinite; ask for 'SM' or those near `sigma`"
)


class WholeSpace(Whole):
    """A matrix that one process holds whole, and the space its vectors live in."""

    space = VectorSpace()

    def extend_mass(self, x: Tensor) -> Tensor:
        """Return `x`."""
        return x

    def phase_rows(self, V: Tensor) -> Tensor:
        """Return the rows ``[1, k]`` of the entries that decide the phases of vectors."""
        return leading_rows(V)


def product(pattern: Pattern, values: Tensor) -> Callable[[Tensor], Tensor]:
    """Return ``X -> A X`` on ``[n, K]``."""
    return lambda X: kernels.spmm(
        pattern.crow, pattern.ccol, values, X, longest=pattern.longest_row
    )


def max_norm(pattern: Pattern, values: Tensor) -> float:
    """Largest row sum of absolute values, a bound on every eigenvalue."""
    rows = pattern.sum_rows(values.abs())
    return float(rows.max()) if rows.numel() else 0.0


def shifted(
    pattern: Pattern,
    values: Tensor,
    mass: tuple[Pattern, Tensor] | None,
    sigma: complex,
) -> SparseTensor:
    """Return ``A - σ M`` (``M`` the identity when there is none)."""
    A = SparseTensor.from_pattern(pattern, values)
    if sigma == 0:
        return A
    if mass is None:
        unit = SparseTensor.eye(pattern.shape[0], dtype=values.dtype, device=values.device)
    else:
        unit = SparseTensor.from_pattern(*mass)
    return A - unit * sigma


def solver_of(S: SparseTensor) -> DirectSolver:
    """Factorise, and make sure that the factor solves.

    Raises
    ------
    SolveError
        ``SINGULAR`` when the matrix is, to working precision.
    """
    n, eps = S.flat_shape[0], torch.finfo(S.dtype).eps
    pattern, values = S.flat_slots()
    probe = torch.cos(torch.arange(n, device=S.device, dtype=torch.float64)).to(S.dtype)
    probe = probe.unsqueeze(1)
    apply, scale = product(pattern, values), max_norm(pattern, values)
    refusals: list[PlanError] = []
    makers = (factorize, LUFactorization)
    for make in makers:
        try:
            (solver,) = make(S)._solvers
        except PlanError as error:
            refusals.append(error)
            continue
        x = solver.raw(probe)
        size = torch.linalg.vector_norm(x, ord=float("inf"))
        r = torch.linalg.vector_norm(apply(x) - probe, ord=float("inf"))
        if not torch.isfinite(size) or float(size) * scale * eps > 1e-2:
            raise SolveError(Result.SINGULAR, "the shifted matrix has an eigenvalue at the shift")
        if float(r) <= 1e4 * eps * (scale * float(size) + 1):
            return solver
    if len(refusals) == len(makers):
        raise refusals[0]
    raise SolveError(Result.RESIDUAL, "no factorisation of the shifted matrix solves accurately")


def shift_step(pattern: Pattern, values: Tensor, mass: tuple[Pattern, Tensor] | None) -> float:
    """Return how far a shift is moved off an eigenvalue: a small share of the largest of ``A``, in units of ``M``."""
    step: float = (max_norm(pattern, values) or 1.0) * torch.finfo(values.dtype).eps ** 0.5
    return step if mass is None else step / max(max_norm(*mass), torch.finfo(values.dtype).tiny)


def factor_near(
    pattern: Pattern, values: Tensor, mass: tuple[Pattern, Tensor] | None, sigma: complex
) -> tuple[DirectSolver, Any]:
    """Return a factor of ``A - σ M`` and σ, moved a little to the left off an eigenvalue that it may have hit.

    Raises
    ------
    SolveError
        ``SINGULAR`` where that does not help, as for a singular pencil.
    """
    step = shift_step(pattern, values, mass)
    for shift in (sigma, sigma - step, sigma - 100 * step):
        try:
            return solver_of(shifted(pattern, values, mass, shift)), shift
        except SolveError as error:
            failure = error
    if mass is not None and failure.result is Result.SINGULAR:
        raise SolveError(
            Result.SINGULAR,
            f"`A - σ M` at σ = {sigma:.3g} and beside it; where `A` and `M` have a common null vector (a part without "
            "mass that nothing holds), the pencil has no eigenvalues",
        ) from failure
    raise failure


def mass_inverse(pattern: Pattern, mass: Tensor) -> Callable[[Tensor], Tensor]:
    """Return ``X -> M⁻¹ X``.

    Raises
    ------
    ArgumentError
        When ``M`` is singular: what it is needed for are the largest eigenvalues.
    """
    try:
        return solver_of(SparseTensor.from_pattern(pattern, mass)).raw
    except SolveError as error:
        raise ArgumentError(INFINITE) from error


def linear_operator(
    apply: Callable[[Tensor], Tensor], n: int, dtype: torch.dtype, device: torch.device
) -> Any:
    """Wrap ``[n, K] -> [n, K]`` on a device for SciPy, whose vectors live on the host."""
    from scipy.sparse.linalg import LinearOperator

    def matmat(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        block = torch.from_numpy(np.ascontiguousarray(x.reshape(n, -1))).to(device, dtype)
        return apply(block).cpu().numpy().reshape(x.shape)

    kind = torch.empty(0, dtype=dtype).numpy().dtype
    return LinearOperator((n, n), matvec=matmat, matmat=matmat, dtype=kind)
