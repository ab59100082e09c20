"""The verb: solve ``A x = b``, choosing how, and differentiable."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, BackendUnavailableError, PlanError
from torch_sla.linalg.adjoint.least_squares import least_squares
from torch_sla.linalg.adjoint.solve import linear_solve
from torch_sla.linalg.adjoint.unmapped import refuse_vmap
from torch_sla.linalg.backends.base import SolveOptions
from torch_sla.linalg.backends.registry import backend as get_backend
from torch_sla.linalg.extremes import unseen
from torch_sla.linalg.kernels.arguments import expect_rhs, expect_start
from torch_sla.linalg.kernels.detection import largest_entry
from torch_sla.linalg.kernels.memory import total_bytes
from torch_sla.linalg.methods.outcome import (
    asked_rtol as asked_rtol,
    default_rtol as default_rtol,
    limits,
)
from torch_sla.linalg.nullspace import Nullspace
from torch_sla.linalg.plan.facts import Facts
from torch_sla.linalg.plan.plan import SolvePlan
from torch_sla.linalg.plan.stages import plan_matrix
from torch_sla.linalg.precond.base import preconditioner_name
from torch_sla.linalg.sparse.members import common_batch
from torch_sla.linalg.sparse.structure import detect
from torch_sla.linalg.sparse.transforms import is_transformed, outside_compiler, physical
from torch_sla.linalg.state import SolverState

if TYPE_CHECKING:
    from os import PathLike

    from torch_sla.linalg.info import SolveInfo
    from torch_sla.linalg.known import Known
    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure
    from torch_sla.linalg.sparse.tensor import SparseTensor

__all__ = ["plan", "solve"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Layout:
    """How ``b`` was laid out, to give ``x`` the same form."""

    batch: tuple[int, ...]
    vector: bool
    columns: int

    def restore(self, x: Tensor) -> Tensor:
        x = x.reshape(*self.batch, x.shape[-2], self.columns)
        return x.squeeze(-1) if self.vector else x


@outside_compiler
def solve(
    A: SparseTensor,
    b: Tensor,
    *,
    backend: str = "auto",
    method: str = "auto",
    preconditioner: Any = "auto",
    rtol: float | None = None,
    atol: float = 0.0,
    maxiter: int | None = None,
    adjoint_rtol: float | None = None,
    x0: Tensor | None = None,
    plan: SolvePlan | dict[str, Any] | str | PathLike[str] | None = None,
    nullspace: Tensor | tuple[Tensor, Tensor] | None = None,
    repeats: int = 1,
    throw: bool = True,
    known: Known | None = None,
) -> tuple[Tensor, SolveInfo]:
    """Solve ``A x = b``; see `SparseTensor.solve`, which calls this.

    Parameters
    ----------
    known
        Of one matrix that is solved with many times and whose values nobody changes; nothing is recorded then.

    Returns
    -------
    x, info
        The solution, recorded as one node of the autograd graph, and the report.
    """
    dtype = expect_rhs(b, A.dtype, A.device)
    values, rhs, layout, pattern = _arrange(A, b, dtype)
    alone = values.ndim == 1 and known is None and not is_transformed()
    structure, marked = A.structure_and_marked(
        (lambda: unseen(largest_entry(values.detach()), rhs.detach())) if alone else tuple
    )
    structure, null = _without_nullspace(structure, pattern, values, nullspace)
    options = _options(dtype, rtol, atol, maxiter, preconditioner)
    if plan is None:
        facts = _facts(
            *(A, structure, pattern, rhs),
            repeats=repeats,
            needs_grad=torch.is_grad_enabled() and (values.requires_grad or rhs.requires_grad),
            backend=backend,
            method=method,
            preconditioner=preconditioner_name(preconditioner),
            rtol=options.rtol,
        )
        plan = plan_matrix(facts, pattern, structure)
    elif (backend, method) != ("auto", "auto"):
        raise ArgumentError("give either `plan` or `backend` and `method`, not both")
    else:
        plan = _forced(plan, pattern, dtype, A.device)
        name = preconditioner_name(preconditioner)
        if name not in ("auto", plan.preconditioner or "none"):
            raise ArgumentError(
                f"`plan` is for {plan.choice}, and `preconditioner` asks for {name!r}; leave it out, or make a plan "
                "with it"
            )
    adjoint = options
    if adjoint_rtol is not None:
        adjoint = _options(dtype, adjoint_rtol, atol, maxiter, preconditioner)
    start = None if x0 is None else _start(A, x0, dtype, rhs)
    state = SolverState(
        pattern,
        structure,
        plan,
        options,
        adjoint,
        throw=throw,
        x0=start,
        nullspace=null,
        known=known,
        marked=marked,
    )
    if known is not None:
        known.see(A.values)
        x = state.run(values, rhs, adjoint=False)
    else:
        x = (linear_solve if A.is_square else least_squares)(values, rhs, state)
    report = state.report()
    if not report.converged:
        report.solved = state.solved(layout.batch)
    logger.debug(
        "%d x %d with %s %s: %s, %d iterations, residual %.2e",
        *(*pattern.shape, report.backend, report.method, report.result.name.lower()),
        *(report.iterations, report.residual),
    )
    return layout.restore(x), report


def plan(
    A: SparseTensor,
    b_shape: tuple[int, ...] | None = None,
    *,
    repeats: int = 1,
    needs_grad: bool = False,
    backend: str = "auto",
    method: str = "auto",
    preconditioner: Any = "auto",
    rtol: float | None = None,
) -> SolvePlan:
    """Plan a solve without doing it; see `SparseTensor.plan`."""
    shape = (A.flat_shape[0],) if b_shape is None else tuple(b_shape)
    b = (
        torch.empty(0, dtype=A.dtype).expand(0)
        if 0 in shape
        else A.values.new_empty(1).expand(shape)
    )
    values, rhs, _, pattern = _arrange(A, b, expect_rhs(b, A.dtype, A.device))
    structure, _ = A.structure_and_marked()
    structure, _ = _without_nullspace(structure, pattern, values, None)
    facts = _facts(
        *(A, structure, pattern, rhs),
        repeats=repeats,
        needs_grad=needs_grad,
        backend=backend,
        method=method,
        preconditioner=preconditioner_name(preconditioner),
        rtol=default_rtol(A.dtype) if rtol is None else rtol,
    )
    return plan_matrix(facts, pattern, structure)


def _forced(
    given: SolvePlan | dict[str, Any] | str | PathLike[str],
    pattern: Pattern,
    dtype: torch.dtype,
    device: torch.device,
) -> SolvePlan:
    """Read a plan that is to be carried out as it is, and check that it can be."""
    if isinstance(given, SolvePlan):
        plan = given
    else:
        plan = SolvePlan.from_dict(given) if isinstance(given, dict) else SolvePlan.load(given)
    facts, choice = plan.facts, plan.choice
    if (facts.rows, facts.columns) != pattern.shape:
        raise PlanError(
            f"`plan` was made for a {facts.rows} x {facts.columns} matrix, this one is {pattern.shape[0]} x "
            f"{pattern.shape[1]}"
        )
    backend = get_backend(choice.backend)
    method = backend.capabilities.method(choice.method)
    if method is None:
        raise PlanError(f"`plan` asks for {choice}, and there is no such method")
    why = backend.unavailable() or backend.unavailable_method(method.name)
    if why is not None:
        raise BackendUnavailableError(f"`plan` asks for {choice}, which cannot be used here: {why}")
    if device.type not in backend.capabilities.devices:
        raise PlanError(f"`plan` asks for {choice}, which does not work on {device.type}")
    if dtype not in backend.capabilities.dtypes & method.dtypes:
        raise PlanError(f"`plan` asks for {choice}, which does not take {dtype}")
    return plan


def _without_nullspace(
    structure: Structure,
    pattern: Pattern,
    values: Tensor,
    given: Tensor | tuple[Tensor, Tensor] | None,
) -> tuple[Structure, Nullspace | None]:
    """Return the structure that solvers meet, and the nullspace given or declared."""
    given = structure.nullspace if given is None else given
    if given is None:
        return structure, None
    if pattern.shape[0] != pattern.shape[1]:
        raise ArgumentError(
            f"`nullspace` is for square matrices, this one is {list(pattern.shape)}; least squares need none"
        )
    hermitian = bool(structure.hermitian)
    null = Nullspace(given, pattern.shape[0], values.dtype, values.device, hermitian)
    return _pinned_structure(structure, pattern, values, null), null


def _pinned_structure(
    structure: Structure, pattern: Pattern, values: Tensor, null: Nullspace
) -> Structure:
    """Structure of a singular matrix as solvers meet it: semidefinite becomes definite by pinning."""
    if not structure.hermitian:
        return structure.updated(positive_definite=False)
    if structure.positive_definite is None or structure.positive_definite is False:
        pinned = null.pin(pattern, physical(values))
        return structure.updated(positive_definite=detect(pattern, pinned).positive_definite)
    return structure


def _memory(device: torch.device) -> int | None:
    """Bytes the device has, None where nobody says."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return total_bytes() if device.type == "cpu" else None


def _facts(
    A: SparseTensor, structure: Structure, pattern: Pattern, rhs: Tensor, **asked: Any
) -> Facts:
    return Facts.of(
        pattern,
        structure,
        dtype=rhs.dtype,
        device=A.device.type,
        diagonal=_has_diagonal(A, structure, pattern),
        rhs=max(1, prod(rhs.shape[:-2]) * rhs.shape[-1] // max(1, A.batch_size)),
        batch=max(1, A.batch_size),
        dominance=structure.dominance or 0.0,
        lattice=pattern.lattice is not None,
        block=_block(structure, pattern),
        memory=_memory(A.device),
        **asked,
    )


def _block(structure: Structure, pattern: Pattern) -> int:
    """Return the unknowns of a node, where the nodes are known."""
    nodes = 0 if structure.coordinates is None else len(structure.coordinates)
    return pattern.shape[0] // nodes if nodes and pattern.shape[0] % nodes == 0 else 1


def _has_diagonal(A: SparseTensor, structure: Structure, pattern: Pattern) -> bool:
    """Whether no diagonal entry is zero; where that is not known from the structure, look."""
    if pattern.shape[0] != pattern.shape[1] or structure.positive_definite is not False:
        return True  # not asked for, or found positive when definiteness was looked at
    if not pattern.whole_diagonal:
        return False
    slots = pattern.diagonal_slots.long()
    return bool((physical(A.flat_slots()[1])[..., slots] != 0).all())


def _options(
    dtype: torch.dtype, rtol: float | None, atol: float, maxiter: int | None, preconditioner: Any
) -> SolveOptions:
    rtol = default_rtol(dtype) if rtol is None else rtol
    rtol, atol, maxiter = limits(rtol, atol, maxiter)
    given = None if isinstance(preconditioner, str) and preconditioner == "auto" else preconditioner
    return SolveOptions(rtol, atol, maxiter, given)


def _arrange(
    A: SparseTensor, b: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor, _Layout, Pattern]:
    """Bring values to ``[nnz]`` or ``[B, nnz]`` and b to ``[M, K]`` or ``[B, M, K]``."""
    pattern, values = A.flat_slots()
    M = pattern.shape[0]
    batch = A.batch_shape
    if not batch:
        if b.ndim not in (1, 2) or b.shape[0] != M:
            raise ArgumentError(
                f"`b` must be [{M}] or [{M}, K] for a matrix of shape {tuple(A.shape)}, got {list(b.shape)}"
            )
        vector = b.ndim == 1
        rhs = b.unsqueeze(1) if vector else b
        return values.to(dtype), rhs.to(dtype), _Layout((), vector, rhs.shape[1]), pattern
    nb = len(batch)
    if b.ndim == 1:
        b = b.expand(*batch, *b.shape)
    vector = b.ndim == nb + 1
    rhs = b.unsqueeze(-1) if vector else b
    if b.ndim not in (nb + 1, nb + 2) or rhs.shape[-2] != M:
        raise ArgumentError(
            f"`b` must be [{M}], {[*batch, M]} or {[*batch, M, 'K']} for a matrix of shape {tuple(A.shape)}, "
            f"got {list(b.shape)}; the same columns for all are `b.expand({', '.join(map(str, batch))}, -1, -1)`"
        )
    full = common_batch("the matrix and `b`", batch, rhs.shape[:-2])
    values = values.expand(*full, -1).reshape(prod(full), values.shape[-1])
    rhs = rhs.expand(*full, -1, -1).reshape(prod(full), M, rhs.shape[-1])
    return values.to(dtype), rhs.to(dtype), _Layout(tuple(full), vector, rhs.shape[-1]), pattern


def _start(A: SparseTensor, x0: Tensor, dtype: torch.dtype, rhs: Tensor) -> Tensor:
    N = A.flat_shape[1]
    if A.flat_shape[0] < N:
        raise ArgumentError(
            "`x0` is not for systems with fewer equations than unknowns, whose shortest solution is sought"
        )
    shape = (*rhs.shape[:-2], N, rhs.shape[-1])
    expect_start(x0, dtype, rhs.device)
    refuse_vmap(x0, "starting values (`x0`)")
    start = physical(x0).to(dtype)
    if start.ndim == rhs.ndim - 1 or (start.ndim == len(A.batch_shape) + 1 and A.batch_shape):
        start = start.unsqueeze(-1)
    if prod(start.shape) != prod(shape) or start.shape[-2:] != shape[-2:]:
        raise ArgumentError(f"`x0` must have the shape of the solution, got {list(x0.shape)}")
    return start.reshape(shape)
