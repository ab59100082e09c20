"""`nonlinear_solve` of a residual over vectors in parts: Newton with Krylov steps, and an implicit adjoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, DTypeError, GradientError
from torch_sla.linalg.adjoint.implicit import implicit_solve
from torch_sla.linalg.distributed.precond.base import default_preconditioner, make
from torch_sla.linalg.distributed.space import PartSpace
from torch_sla.linalg.distributed.vector import DVector
from torch_sla.linalg.distributed.verbs import leave_like, vector
from torch_sla.linalg.methods.outcome import asked_rtol, default_rtol
from torch_sla.linalg.nonlinear.jacobian import (
    directional,
    refuse_captured,
    require_dependence,
    require_real,
    solve_with_products,
    turned,
)
from torch_sla.linalg.nonlinear.loop import iterate
from torch_sla.linalg.nonlinear.methods import make_method
from torch_sla.linalg.nonlinear.options import NonlinearInfo, NonlinearOptions
from torch_sla.linalg.sparse.transforms import outside_compiler

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.linalg.distributed.tensor import DSparseTensor
    from torch_sla.linalg.methods.space import Operator

__all__ = ["nonlinear_solve"]

_FORCING = 1e-3  # relative accuracy of a Newton step


@outside_compiler
def nonlinear_solve(
    D: DSparseTensor,
    residual: Callable[..., DVector],
    u0: Any,
    *params: Any,
    method: str = "newton",
    preconditioner: Any = "auto",
    rtol: float | None = None,
    atol: float = 0.0,
    tol: float | None = None,
    maxiter: int | None = None,
    line_search: bool = True,
    damping: float = 1.0,
    memory: int = 5,
    info: bool = False,
    throw: bool = True,
) -> Any:
    """Solve ``residual(u, A, *params) = 0`` over all parts, differentiable in ``A.values`` and the parameters.

    Parameters
    ----------
    residual
        ``(u, A, *params) -> F``: ``u`` and ``F`` are `DVector`, ``A`` this matrix; in torch operations on each entry,
        products with ``A``, sums and inner products. Everything it varies with that needs a gradient must be passed as
        a parameter.
    u0
        Starting value, real, in any form that `vector` takes; without a gradient.
    params
        `DVector`; tensors, of which every process has the same copy and gets the whole gradient where they meet a
        `DVector` (by arithmetic, or as further arguments of `DVector.map`); other matrices in parts; anything else.
    method
        ``"newton"`` (GMRES with Jacobian products), ``"picard"`` or ``"anderson"``.
    preconditioner
        Made of this matrix, for GMRES and the fixed-point methods; as for `solve`.
    rtol, atol, tol, maxiter, line_search, damping, memory, info, throw
        As for `torch_sla.linalg.nonlinear_solve`.

    Returns
    -------
    DVector or Tensor
        The root: whole ``[n]`` where `u0` was a tensor and this process holds all parts, else a `DVector`.
    """
    rtol = asked_rtol(rtol, tol)
    start = vector(D, u0)
    if start.dtype not in (torch.float32, torch.float64):
        raise DTypeError(f"`u0` must be of float32 or float64, got {start.dtype}; convert it first")
    options = NonlinearOptions(
        method,  # type: ignore[arg-type]
        default_rtol(start.dtype) if rtol is None else rtol,
        atol,
        (50 if method == "newton" else 500) if maxiter is None else maxiter,
        line_search,
        damping,
        memory,
    )
    problem = _Problem(D, residual, params, options, preconditioner)
    refuse_captured(problem.residual, start.local.detach(), problem.leaves)
    u = implicit_solve(problem, start.local.detach(), problem.leaves)
    report = problem.info
    if throw and not report.converged:
        raise report.failure()
    out = DVector(u, D.layout) if isinstance(u0, DVector) else leave_like(D, u)
    return (out, report) if info or not throw else out


class _Problem:
    """What the implicit Function and the loop need of a residual in parts.

    Leaves are what is held here of the vectors, the values of matrices, and copies of tensors.
    """

    takes_many = False

    def __init__(
        self,
        D: DSparseTensor,
        residual: Callable[..., DVector],
        params: tuple[Any, ...],
        options: NonlinearOptions,
        preconditioner: Any,
    ) -> None:
        self._D, self._function, self._given = D, residual, (D, *params)
        self._options, self._wanted = options, preconditioner
        self.space = PartSpace(D.layout)
        self.info = NonlinearInfo(method=options.method)
        self._made: tuple[Operator | None, Operator | None] | None = None
        leaves: list[Tensor] = []
        for p in self._given:
            if isinstance(p, DVector):
                leaves.append(p.local)
            elif hasattr(p, "with_values"):
                leaves.append(p.values)
            elif isinstance(p, Tensor):
                leaves.append(p)
        self.leaves: tuple[Tensor, ...] = tuple(leaves)

    def _rebuilt(self, leaves: tuple[Tensor, ...]) -> list[Any]:
        rest, out = iter(leaves), list[Any]()
        for p in self._given:
            if isinstance(p, DVector):
                out.append(DVector(next(rest), p.layout))
            elif hasattr(p, "with_values"):
                out.append(p.with_values(next(rest)))
            elif isinstance(p, Tensor):
                out.append(next(rest))
            else:
                out.append(p)
        return out

    def residual(self, u: Tensor, leaves: tuple[Tensor, ...]) -> Tensor:
        """Evaluate ``F``, what is held here of it."""
        F = self._function(DVector(u, self._D.layout), *self._rebuilt(leaves))
        if not isinstance(F, DVector) or F.local.shape != u.shape:
            what = type(F).__name__ if not isinstance(F, DVector) else list(F.shape)
            raise ArgumentError(f"`residual` must return a DVector like u, got {what}")
        require_real(F.local)
        return F.local

    def _precondition(self) -> tuple[Operator | None, Operator | None]:
        """Approximate inverse of the matrix, and its adjoint."""
        if self._made is None:
            D, wanted = self._D.detach(), self._wanted
            sharding, values, known = D.sharding.slots, D.slot_values(), D.knowledge()
            if isinstance(wanted, str) and wanted == "auto":
                method = "cg" if known.hermitian and known.definite is not False else "gmres"
                wanted = default_preconditioner(method, sharding, values, known)
            made = make(wanted, sharding, values, D.near_nullspace)
            self._made = (None, None) if made is None else (made.apply, made.apply_adjoint)
        return self._made

    def run(self, u0: Tensor, leaves: tuple[Tensor, ...]) -> Tensor:
        """Iterate to the root."""
        plain = tuple(x.detach() for x in leaves)

        def evaluate(u: Tensor) -> Tensor:
            with torch.no_grad():
                return self.residual(u, plain)

        def step(u: Tensor, F: Tensor) -> Tensor:
            with torch.enable_grad():
                x = u.detach().requires_grad_()
                G = self.residual(x, plain)
                require_dependence(G)
                return self._krylov(directional(G, x), F.detach(), _FORCING, adjoint=False)

        def fixed(F: Tensor) -> Tensor:
            M, _ = self._precondition()
            return F if M is None else _flat(M, F)

        method = make_method(self._options, step, fixed, self._size, self._triangle)
        with torch.no_grad():
            u, self.info = iterate(evaluate, u0.clone(), method, self._options, self._size)
        return u

    def _size(self, x: Tensor) -> Tensor:
        return torch.linalg.vector_norm(self.space.norm(_columns(x)))

    def _triangle(self, X: Tensor) -> Tensor:
        """Triangular factor of a few columns: those of all processes, stacked and reduced again."""
        own = torch.linalg.qr(X, mode="r").R
        return torch.linalg.qr(torch.cat(self._D.comm.gather(own)), mode="r").R

    def forward_solve(self, u: Tensor, leaves: tuple[Tensor, ...], b: Tensor) -> Tensor:
        """Refuse: forward mode in parts is that of linear solves."""
        del u, leaves, b
        raise NotImplementedError("nonlinear solves in parts have no forward mode")

    def adjoint(self, u: Tensor, leaves: tuple[Tensor, ...], g: Tensor) -> Tensor:
        """Solve ``Jᵀ λ = g``."""
        self.info.require_derivative()
        if torch.is_grad_enabled():
            raise GradientError("second derivatives of nonlinear solves in parts are not available")
        with torch.enable_grad():
            x = u.detach().requires_grad_()
            F = self.residual(x, tuple(leaf.detach() for leaf in leaves))
        rtol = min(self._options.rtol, 1e-8) or 1e-10
        return self._krylov(turned(F, x), g.detach().contiguous(), rtol, adjoint=True)

    def _krylov(
        self, product: Callable[[Tensor], Tensor], b: Tensor, rtol: float, *, adjoint: bool
    ) -> Tensor:
        M = self._precondition()[adjoint]
        return solve_with_products(product, b, _columns, rtol, M=M, space=self.space)


def _flat(M: Operator, F: Tensor) -> Tensor:
    return M(_columns(F)).reshape(F.shape)


def _columns(x: Tensor) -> Tensor:
    """Return the columns ``[n, k]`` of what may be one vector; a process may own no rows."""
    return x.flatten(1) if x.ndim > 1 else x.unsqueeze(1)
