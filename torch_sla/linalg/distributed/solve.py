"""Linear solves with a matrix in parts."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, GradientError, PlanError, Result, SolveError
from torch_sla.linalg.distributed.precond.base import (
    SMALL,
    WHOLE,
    default_preconditioner,
    make,
    name_of,
)
from torch_sla.linalg.distributed.sharding import Product, Sharding
from torch_sla.linalg.distributed.space import PartSpace
from torch_sla.linalg.info import SolveInfo, unsolved
from torch_sla.linalg.kernels.sparse import fingerprint
from torch_sla.linalg.methods.bicgstab import bicgstab
from torch_sla.linalg.methods.gmres import gmres
from torch_sla.linalg.methods.merged_cg import merged_cg
from torch_sla.linalg.methods.minres import minres
from torch_sla.linalg.methods.outcome import KrylovOptions, default_rtol, limits
from torch_sla.linalg.sparse.transforms import outside_transforms

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.linalg.distributed.knowledge import Knowledge
    from torch_sla.linalg.distributed.nullspace import PartNullspace
    from torch_sla.linalg.distributed.precond.renewal import Renewal
    from torch_sla.linalg.methods.outcome import Outcome

__all__ = ["METHODS", "PartSolver", "SolveRequest"]

METHODS: dict[str, Any] = {
    "cg": merged_cg,
    "bicgstab": bicgstab,
    "gmres": gmres,
    "minres": minres,
}
_RESTARTS = 4  # from the true residual, while that goes on falling
_FLOOR = 8.0  # multiples of eps of backward error at which rounding ends a solve


@dataclass(frozen=True)
class SolveRequest:
    """What was asked for; see `DSparseTensor.solve`."""

    method: str = "auto"
    preconditioner: Any = "auto"
    rtol: float = 1e-10
    atol: float = 0.0
    maxiter: int | None = None
    adjoint_rtol: float | None = None
    throw: bool = True

    def __post_init__(self) -> None:
        if self.method != "auto" and self.method not in METHODS:
            raise PlanError(
                f"`method` must be 'auto' or one of {', '.join(METHODS)}, got {self.method!r}"
            )
        name_of(self.preconditioner)
        for rtol in (self.rtol, self.adjoint_rtol):
            limits(0.0 if rtol is None else rtol, self.atol, self.maxiter)


class PartSolver:
    """One matrix in parts and a request: what the graph node of a solve holds.

    Parameters
    ----------
    sharding
        Square, of slots.
    knowledge
        About the values.
    request
        What was asked for.
    x0
        Starting value ``[n_held, K]`` of the forward solve.
    near_nullspace
        ``[n_held, k]``, for multigrid.
    nullspace
        Declared nullspace of a Hermitian matrix; every solve is then one with the pseudoinverse.
    renewal
        Of a loop over values: what makes the preconditioners.
    """

    def __init__(
        self,
        sharding: Sharding,
        knowledge: Knowledge,
        request: SolveRequest,
        x0: Tensor | None = None,
        near_nullspace: Tensor | None = None,
        nullspace: PartNullspace | None = None,
        renewal: Renewal | None = None,
    ) -> None:
        self.sharding, self.pattern = sharding, sharding.pattern
        self.knowledge, self.request, self._x0 = knowledge, request, x0
        self._near, self._nullspace, self._renewal = near_nullspace, nullspace, renewal
        self.space = PartSpace(sharding.rows)
        self.extend, self.fold = sharding.extend, sharding.fold
        self.info = SolveInfo(backend="pytorch")
        self.adjoint_info = SolveInfo(backend="pytorch")
        self._print: int | None = None
        self._unsolved = False
        self._derivative = False  # whether the next solve is for one
        self._made: dict[str, Any] = {}
        self._lost: list[str] = []  # what was given up

    starts = failed = False

    def afresh(self, *, derivative: bool = False) -> PartSolver:
        """Return one for another solve with the same values, with the preconditioners of this one."""
        other = copy(self)
        other.info = SolveInfo(backend="pytorch")
        other.adjoint_info = SolveInfo(backend="pytorch")
        other._derivative = derivative
        return other

    @outside_transforms
    def run(
        self, values: Tensor, b: Tensor, *, adjoint: bool, start: Tensor | None = None
    ) -> Tensor:
        """Solve ``A x = b`` or ``Aᴴ x = b`` for ``[n_held, K]``; see `adjoint.solve.Solver`."""
        values, b = values.detach(), b.detach().resolve_conj().contiguous()
        first, self._x0 = (self._x0 if start is None else start), None
        if self._unsolved:
            raise unsolved()
        try:
            x, info = self._solved(values, b, first, adjoint)
        except SolveError as error:
            # All processes are here together: what raises is the result of a reduction.
            if self.request.throw or adjoint:
                raise
            nan = float("nan")
            x, info = torch.full_like(b, nan), SolveInfo(error.result, residual=nan)
            info.notes.append(error.detail)
        report = self.adjoint_info if adjoint else self.info
        report.absorb(info)
        self._unsolved = self._unsolved or not info.converged
        if not info.converged and (self.request.throw or adjoint):
            raise SolveError(
                info.result,
                f"{info.method} in {self.sharding.rows.comm.parts} parts",
                iterations=info.iterations,
                residual=info.residual,
            )
        return x

    def _solved(
        self, values: Tensor, b: Tensor, first: Tensor | None, adjoint: bool
    ) -> tuple[Tensor, SolveInfo]:
        """Scale, project, try the methods in turn, and undo it."""
        self._check(values)
        product = Product(self.sharding, values)
        A = product.turned(adjoint=adjoint)
        null, outside = self._nullspace, 0.0
        if null is not None:
            if not adjoint:
                null.check(product, self.knowledge.norm)
            whole, b = b, null.project(b)
            size, lost = self.space.inner((whole, whole), (whole - b, whole - b)).real.sqrt()
            outside = float((lost / size.clamp(min=torch.finfo(size.dtype).tiny)).max())
            first = None if first is None else null.project(first)
        comm = self.sharding.rows.comm
        before = comm.traffic.copy()
        scale = self._scale(b)
        b = b / scale
        if first is not None:  # nothing may be left over of zeros
            first = torch.where(self.space.largest(b) > 0, first / scale, 0.0)
        rtol, atol = self._tolerances(adjoint, b.dtype)
        self._derivative = True
        atol = atol / float(scale.max()) if scale.numel() else atol
        failed: list[str] = []
        for method in self._methods():
            start = None if adjoint else first
            x, info = self._one(method, A, values, b, start, adjoint, (rtol, atol))
            if info.result is not Result.BREAKDOWN or self.request.method != "auto":
                break
            failed.append(f"{method}: {info.result.name.lower()}")
        x = x * scale
        info.notes += failed
        if comm.parts > 1:
            sent = comm.traffic.since(before)
            info.notes.append(
                f"{sent.messages} messages with {sent.bytes} bytes and {sent.reductions} reductions"
            )
        info.inconsistency = outside
        if null is not None:
            x = null.project(x)
        return x, info

    def _tolerances(self, adjoint: bool, dtype: torch.dtype) -> tuple[float, float]:
        """Return rtol and atol; the size of a derivative is not that of `b`, which `atol` was given for."""
        request = self.request
        rtol = request.rtol
        if adjoint and request.adjoint_rtol is not None:
            rtol = request.adjoint_rtol
        if self._derivative or adjoint:
            return rtol or default_rtol(dtype), 0.0
        return rtol, request.atol

    def _check(self, values: Tensor) -> None:
        """Refuse values that are not those of the first run; all processes agree on it."""
        mark = fingerprint(values)
        if self._print is None:
            self._print = mark
            # The largest entry, and no mask as long as the values.
            most = (
                torch.linalg.vector_norm(values, torch.inf) if values.numel() else values.real.sum()
            )
            bad = (~torch.isfinite(most)).reshape(1).to(values.real.dtype)
            if float(self.sharding.rows.comm.reduce(bad, "max")) > 0:
                raise SolveError(Result.NONFINITE, "NaN or infinity in the matrix")
            return
        changed = torch.tensor([float(mark != self._print)], device=values.device)
        if float(self.sharding.rows.comm.reduce(changed, "max")) > 0:
            raise GradientError(
                "the matrix values were modified in place between the solve and its derivative; "
                "clone them before changing them"
            )

    def _scale(self, b: Tensor) -> Tensor:
        """Return powers of two ``[K]`` by which extreme columns are divided, so that their squares exist.

        Raises `SolveError` on every process when there is NaN or infinity in any.
        """
        finite = torch.isfinite(b).all(0).to(b.real.dtype)
        size = self.space.largest(torch.cat([torch.nan_to_num(b), 1 - finite.expand_as(b)], 1))
        size, bad = size.chunk(2)
        if bool((bad > 0).any()):
            raise SolveError(Result.NONFINITE, "NaN or infinity in the right-hand side")
        # Preconditioners may work in single precision.
        bound = min(torch.finfo(size.dtype).max ** 0.25, 2.0**20)
        extreme = (size > bound) | ((size < 1 / bound) & (size > 0))
        powers = torch.exp2(torch.log2(size.clamp(min=torch.finfo(size.dtype).tiny)).round())
        return torch.where(extreme, powers, 1.0)

    def _methods(self) -> tuple[str, ...]:
        if self.request.method != "auto":
            return (self.request.method,)
        k = self.knowledge
        if not k.hermitian:
            return ("gmres",)
        within = SMALL < self.sharding.rows.n <= WHOLE and self._nullspace is None
        # A factor of all ends in an iteration where MINRES, without preconditioner, takes hundreds.
        factor = within and self.request.preconditioner == "auto"
        indefinite = ("gmres",) if factor else ("minres", "gmres")
        return indefinite if k.definite is False else ("cg", *indefinite)

    def _preconditioner(self, method: str, values: Tensor) -> tuple[str, Any]:
        wanted, notes = self.request.preconditioner, self._lost
        automatic = isinstance(wanted, str) and wanted == "auto"
        if automatic:
            wanted = default_preconditioner(
                method, self.sharding, values, self.knowledge, whole=not notes
            )
        name = name_of(wanted)
        if name not in self._made:
            build = make if self._renewal is None else partial(self._renewal.made, name)
            try:
                self._made[name] = build(wanted, self.sharding, values, self._near)
            except SolveError as error:
                # All processes are here together: they were told what is wrong with the factors.
                if not automatic or name != "gathered" or error.result is Result.NONFINITE:
                    raise
                notes.append(f"gathered: {error.detail or error.result.name.lower()}")
                return self._preconditioner(method, values)
        return name, self._made[name]

    def _one(
        self,
        method: str,
        A: Callable[[Tensor], Tensor],
        values: Tensor,
        b: Tensor,
        x0: Tensor | None,
        adjoint: bool,
        tolerances: tuple[float, float],
    ) -> tuple[Tensor, SolveInfo]:
        """Iterate, look at the true residual, and go on from it while that helps."""
        request, space, (rtol, atol) = self.request, self.space, tolerances
        name, made = self._preconditioner(method, values)
        M = None if made is None else (made.apply_adjoint if adjoint else made.apply)
        if M is not None and self._nullspace is not None:
            M = _projected(M, self._nullspace)
        options = KrylovOptions(rtol=rtol, atol=atol, maxiter=request.maxiter)
        info = SolveInfo(backend="pytorch", method=method, preconditioner=name)
        info.notes += [*self._lost, *getattr(made, "notes", ())]
        run = METHODS[method]
        x, best, least = x0, torch.zeros_like(b), float("inf")
        for _ in range(_RESTARTS):
            limit = None if request.maxiter is None else request.maxiter - info.iterations
            if limit is not None and limit < 1:
                break
            done: Outcome = run(
                A, b, M=M, x0=x, options=replace(options, maxiter=limit), space=space
            )
            x = done.x
            info.iterations += done.iterations
            info.history += done.history
            said = self._judge(A, x, b, done.result, options, info)
            fell = info.residual < 0.5 * least
            if not info.residual >= least:
                best, least, info.result = x, info.residual, said
            if info.result not in (Result.RESIDUAL, Result.ROUNDOFF) or not fell:
                break
        info.residual = least if least < float("inf") else info.residual
        if self._renewal is not None:
            self._renewal.judge(name, info.iterations, rtol)
        return best, info

    def _judge(
        self,
        A: Any,
        x: Tensor,
        b: Tensor,
        said: Result,
        options: KrylovOptions,
        info: SolveInfo,
    ) -> Result:
        """Turn the true residual into a result code, as `torch_sla.linalg.residual.judge` does."""
        r = b - A(x)
        square = self.space.inner((r, r), (b, b)).real
        r_norm, b_norm = square.sqrt().unbind()
        sizes = self.space.largest(torch.cat([r, x, b], 1)).reshape(3, -1)
        tiny = torch.finfo(r_norm.dtype).tiny
        scale = (self.knowledge.norm * sizes[1] + sizes[2]).clamp(min=tiny)
        backward = float((sizes[0] / scale).max()) if r_norm.numel() else 0.0
        info.residual = float((r_norm / b_norm.clamp(min=tiny)).max()) if r_norm.numel() else 0.0
        info.backward_error = backward
        if info.residual != info.residual:
            return said if not said.ok else Result.NONFINITE
        if bool((r_norm <= torch.clamp(options.rtol * b_norm, min=options.atol)).all()):
            return Result.CONVERGED
        if backward <= _FLOOR * torch.finfo(r.dtype).eps:
            return Result.ROUNDOFF if info.residual <= 0.5 else Result.SINGULAR
        return said if not said.ok else Result.RESIDUAL


def _projected(M: Callable[[Tensor], Tensor], null: PartNullspace) -> Callable[[Tensor], Tensor]:
    return lambda r: null.project(M(null.project(r)))


def columns(b: Tensor, n: int, name: str = "b") -> tuple[Tensor, bool]:
    """Return ``[n, K]`` of ``[n]`` or ``[n, K]``, and whether it was a vector."""
    if not isinstance(b, Tensor) or b.ndim not in (1, 2) or b.shape[0] != n:
        what = list(b.shape) if isinstance(b, Tensor) else type(b).__name__
        raise ArgumentError(f"`{name}` must be [{n}] or [{n}, K], got {what}")
    return (b.unsqueeze(1), True) if b.ndim == 1 else (b, False)
