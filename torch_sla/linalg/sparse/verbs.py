"""The methods of `SparseTensor` whose work is done by the rooms above: each names who does it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from torch_sla.linalg.sparse.transforms import outside_compiler

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

    import torch
    from torch import Tensor

    from torch_sla.linalg.distributed.tensor import DSparseTensor
    from torch_sla.linalg.factorize import (
        CholeskyFactorization,
        Factorization,
        LDLTFactorization,
        LUFactorization,
    )
    from torch_sla.linalg.plan.plan import SolvePlan
    from torch_sla.linalg.sparse.tensor import SparseTensor

__all__ = [
    "cholesky",
    "condition_number",
    "det",
    "eigs",
    "eigsh",
    "factorize",
    "is_positive_definite",
    "ldlt",
    "load",
    "logdet",
    "lu",
    "nonlinear_solve",
    "partition",
    "plan",
    "save",
    "slogdet",
    "solve",
    "solve_batch",
    "svd",
]


@outside_compiler
def solve(
    A: SparseTensor,
    b: Tensor,
    backend: str = "auto",
    method: str = "auto",
    preconditioner: Any = "auto",
    rtol: float | None = None,
    atol: float = 0.0,
    maxiter: int | None = None,
    x0: Tensor | None = None,
    plan: SolvePlan | None = None,
    nullspace: Tensor | tuple[Tensor, Tensor] | None = None,
    info: bool = False,
    throw: bool = True,
    verbose: bool = False,
    tol: float | None = None,
    adjoint_rtol: float | None = None,
    repeats: int = 1,
) -> Any:
    """Solve ``A x = b``, differentiable in the values and in `b` to any order.

    Parameters
    ----------
    b
        ``[M]`` or ``[M, K]``; for a batched matrix ``[*batch, M]`` or ``[*batch, M, K]``,
        broadcasting, or ``[M]``.
    backend, method, preconditioner
        ``"auto"`` leaves the choice to the plan. Anything else is obeyed or refused with a reason.
    rtol, atol
        Stop when ``‖b - A x‖ <= max(rtol ‖b‖, atol)``, the true residual. `rtol` defaults to
        1e-10 in double and 1e-5 in single precision; `tol` is another name for it. Direct
        methods are checked too. Derivatives, which are of another size than `b`, are solved for
        to a relative tolerance alone.
    maxiter
        Limit on iterations.
    x0
        Starting value of an iterative method; carries no gradient. A direct one finds the same without it, so that
        a loop may pass it whatever the plan chooses.
    plan
        A plan made by `plan`, to be carried out as it is.
    nullspace
        ``[N]`` or ``[N, k]``, a basis of the nullspace of a singular matrix, or a pair of right and
        left ones where it is not Hermitian; the one in `structure` unless given. The shortest
        solution for the part of `b` in the range is found.
    info
        Whether to return the report as well.
    throw
        Whether failure raises; with False the report is returned and tells, and what did not converge has no
        derivative.
    verbose
        Whether to write plan and report to the logger ``torch_sla`` (level INFO).
    adjoint_rtol
        Tolerance of the adjoint solve, `rtol` unless given.
    repeats
        How often new values on this pattern are expected, for the plan.

    Returns
    -------
    Tensor or (Tensor, SolveInfo)
        The solution, with the layout of `b`; with ``info=True`` or ``throw=False`` also the
        report.

    Raises
    ------
    SolveError
        When the system could not be solved to the tolerance; carries result code, iterations,
        residual, remedy.
    PlanError
        When nothing can solve this system, or the request cannot be honoured.
    ArgumentError, DTypeError
        When `b` does not fit.
    """
    from torch_sla.linalg.solve import asked_rtol, solve

    x, report = solve(
        A,
        b,
        backend=backend,
        method=method,
        preconditioner=preconditioner,
        rtol=asked_rtol(rtol, tol),
        atol=atol,
        maxiter=maxiter,
        adjoint_rtol=adjoint_rtol,
        x0=x0,
        plan=plan,
        nullspace=nullspace,
        repeats=repeats,
        throw=throw,
    )
    if verbose:
        report.log()
    return (x, report) if info or not throw else x


@outside_compiler
def plan(
    A: SparseTensor,
    b_shape: tuple[int, ...] | None = None,
    *,
    repeats: int = 1,
    needs_grad: bool = False,
    backend: str = "auto",
    method: str = "auto",
    preconditioner: Any = "auto",
) -> SolvePlan:
    """Plan a solve without doing it; ``print(A.plan())`` shows the choice and the reasons.

    Parameters
    ----------
    b_shape
        Shape of the right-hand side, as `solve` takes it; one vector by default.
    repeats
        How many times the matrix will get new values on its pattern.
    needs_grad
        Whether each solve is followed by one with the adjoint.
    backend, method, preconditioner
        Requests, which are obeyed or refused; ``"auto"`` leaves the choice to the plan.

    Raises
    ------
    PlanError
        When no backend can do what is asked; it says why of each.
    """
    from torch_sla.linalg.solve import plan

    return plan(
        A,
        b_shape,
        repeats=repeats,
        needs_grad=needs_grad,
        backend=backend,
        method=method,
        preconditioner=preconditioner,
    )


@outside_compiler
def solve_batch(A: SparseTensor, values: Tensor, b: Tensor, **options: Any) -> Any:
    """Solve with other values on the pattern of `A`: one matrix for each member of a batch.

    Parameters
    ----------
    values
        ``[*batch, nnz, *block]``, entries in the order of ``A.values``.
    b
        ``[*batch, M]``, ``[*batch, M, K]`` or ``[M]``.
    options
        As for `solve`.
    """
    return solve(A.from_pattern(A.pattern, values, A.declared), b, **options)


def save(
    A: SparseTensor, path: str | PathLike[str], metadata: dict[str, Any] | None = None
) -> None:
    """Write to ``.npz``, ``.safetensors`` or ``.mtx``; see `torch_sla.linalg.save_sparse`."""
    from torch_sla.linalg.sparse.files import save_sparse

    save_sparse(A, path, metadata)


def load(
    cls: type[SparseTensor],
    path: str | PathLike[str],
    device: torch.device | str | None = None,
) -> SparseTensor:
    """Read what `save` wrote, or a Matrix Market file."""
    from torch_sla.linalg.sparse.files import load_sparse

    del cls
    return load_sparse(path, device)


@outside_compiler
def factorize(A: SparseTensor, method: str = "auto", backend: str = "auto") -> Factorization:
    """Factorise once, to solve often; see `torch_sla.linalg.factorize`."""
    from torch_sla.linalg.factorize import factorize

    return factorize(A, method, backend)


@outside_compiler
def lu(A: SparseTensor, backend: str = "auto") -> LUFactorization:
    """LU factorisation with pivoting, for any square nonsingular matrix."""
    from torch_sla.linalg.factorize import LUFactorization

    return LUFactorization(A, backend=backend)


@outside_compiler
def cholesky(A: SparseTensor, backend: str = "auto") -> CholeskyFactorization:
    """Cholesky factorisation of a Hermitian positive definite matrix."""
    from torch_sla.linalg.factorize import CholeskyFactorization

    return CholeskyFactorization(A, backend=backend)


@outside_compiler
def ldlt(A: SparseTensor, backend: str = "auto") -> LDLTFactorization:
    """Factorisation ``L D Lᴴ`` of a Hermitian matrix, or ``L D Lᵀ`` of a complex symmetric one."""
    from torch_sla.linalg.factorize import LDLTFactorization

    return LDLTFactorization(A, backend=backend)


@outside_compiler
def is_positive_definite(A: SparseTensor) -> bool:
    """Whether the matrix is Hermitian positive definite, every member of a batch.

    Diagonal dominance and signs of the diagonal decide where they can; otherwise a Cholesky
    factorisation is tried, which is an exact test up to rounding.
    """
    from torch_sla.linalg.factorize import is_positive_definite

    return is_positive_definite(A)


@outside_compiler
def det(A: SparseTensor) -> Tensor:
    """Return the determinant ``[*batch]``, exact and differentiable; see `torch_sla.linalg.determinant`."""
    from torch_sla.linalg.determinant import det

    return det(A)


@outside_compiler
def slogdet(A: SparseTensor) -> tuple[Tensor, Tensor]:
    """Sign (or phase) and logarithm of the absolute value of the determinant, each ``[*batch]``."""
    from torch_sla.linalg.determinant import slogdet

    return slogdet(A)


@outside_compiler
def logdet(A: SparseTensor) -> Tensor:
    """Logarithm of the determinant ``[*batch]``; NaN where a real determinant is negative."""
    from torch_sla.linalg.determinant import logdet

    return logdet(A)


@outside_compiler
def eigsh(
    A: SparseTensor,
    k: int = 6,
    which: str = "LM",
    sigma: float | None = None,
    M: SparseTensor | None = None,
    return_eigenvectors: bool = True,
    *,
    method: Literal["auto", "arpack", "lobpcg", "dense"] = "auto",
    preconditioner: Callable[[Tensor], Tensor] | None = None,
    v0: Tensor | None = None,
    tol: float | None = None,
    maxiter: int | None = None,
) -> Any:
    """Compute some eigenvalues and eigenvectors of a Hermitian matrix; see `torch_sla.linalg.eigsh`."""
    from torch_sla.linalg.eigen.hermitian import eigsh

    return eigsh(
        A,
        k,
        which,
        sigma,
        M,
        return_eigenvectors,
        method=method,
        preconditioner=preconditioner,
        v0=v0,
        tol=tol,
        maxiter=maxiter,
    )


@outside_compiler
def eigs(
    A: SparseTensor,
    k: int = 6,
    which: str = "LM",
    sigma: complex | None = None,
    return_eigenvectors: bool = True,
    *,
    M: SparseTensor | None = None,
    tol: float | None = None,
    maxiter: int | None = None,
) -> Any:
    """Compute some eigenvalues and eigenvectors of a general matrix or pencil; see `torch_sla.linalg.eigs`."""
    from torch_sla.linalg.eigen.general import eigs

    return eigs(A, k, which, sigma, return_eigenvectors, M=M, tol=tol, maxiter=maxiter)


@outside_compiler
def svd(
    A: SparseTensor,
    k: int = 6,
    which: str = "LM",
    *,
    tol: float | None = None,
    maxiter: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute some singular values and vectors ``U, S, Vt``; see `torch_sla.linalg.svd`."""
    from torch_sla.linalg.eigen.singular import svd

    return svd(A, k, which, tol=tol, maxiter=maxiter)


@outside_compiler
def condition_number(A: SparseTensor, ord: int = 2) -> Tensor:
    """Ratio of the largest to the smallest singular value ``[*batch]``; inf when singular."""
    from torch_sla.linalg.eigen.singular import condition_number

    return condition_number(A, ord)


@partial(outside_compiler, calls_back=True)
def nonlinear_solve(
    A: SparseTensor,
    residual: Callable[..., Tensor],
    u0: Tensor,
    *params: Any,
    **options: Any,
) -> Any:
    """Solve ``residual(u, A, *params) = 0``; see `torch_sla.linalg.nonlinear_solve`.

    The Jacobian is taken to have the pattern of `A` and its diagonal (checked), the fixed-point
    methods are preconditioned by a factor of `A`, and gradients reach ``A.values`` and `params`.
    """
    from torch_sla.linalg.nonlinear.solve import nonlinear_solve_with

    return nonlinear_solve_with(A, residual, u0, *params, **options)


def partition(A: SparseTensor, num_partitions: int = 4, **options: Any) -> DSparseTensor:
    """Cut into parts that this process holds all of; see `torch_sla.linalg.DSparseTensor`.

    Parameters
    ----------
    num_partitions
        Number of parts.
    options
        ``coords partition_method partition_ids near_nullspace``; coordinates and near-nullspace that travel with
        the matrix are used by themselves.
    """
    from torch_sla.linalg.distributed.tensor import DSparseTensor

    return DSparseTensor.from_sparse_tensor(A, num_partitions, **options)
