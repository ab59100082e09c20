"""A residual with its parameters, its Jacobian and the linear solves they need."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, GradientError
from torch_sla.linalg.nonlinear.jacobian import (
    Colouring,
    directional,
    refuse_captured,
    require_dependence,
    require_real,
    solve_with_products,
    turned,
    with_diagonal,
)
from torch_sla.linalg.nonlinear.loop import iterate
from torch_sla.linalg.nonlinear.methods import make_method
from torch_sla.linalg.nonlinear.options import (
    NonlinearInfo,
    NonlinearOptions,
    options_of_derivatives,
)
from torch_sla.linalg.sparse.tensor import SparseTensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["NonlinearProblem", "split"]

_FORCING = 1e-3  # relative accuracy of a Newton step by GMRES: one part in a thousand per step


def split(
    params: tuple[Any, ...],
) -> tuple[tuple[Tensor, ...], Callable[[tuple[Tensor, ...]], list[Any]]]:
    """Take the tensors out of the parameters, and return how to put others in their place."""
    leaves: list[Tensor] = []
    places: list[int | None] = []
    for p in params:
        inner = p.values if isinstance(p, SparseTensor) else p if isinstance(p, Tensor) else None
        places.append(None if inner is None else len(leaves))
        if inner is not None:
            leaves.append(inner)

    def rebuild(tensors: tuple[Tensor, ...]) -> list[Any]:
        out: list[Any] = []
        for p, place in zip(params, places, strict=True):
            if place is None:
                out.append(p)
            elif isinstance(p, SparseTensor):
                out.append(SparseTensor.from_pattern(p.pattern, tensors[place], p.declared))
            else:
                out.append(tensors[place])
        return out

    return tuple(leaves), rebuild


_OTHER = (
    "the Jacobian that was given is not that of the residual at the solution, so the derivative would be wrong; "
    "correct `jacobian_fn` or `pattern`"
)


class NonlinearProblem:
    """What the implicit Function and the loop need of a residual.

    Parameters
    ----------
    residual
        ``(u, *params) -> F``.
    rebuild
        From `split`.
    options
        How to iterate.
    jacobian_fn, pattern, precondition
        As for `nonlinear_solve`. A sparse tensor as `pattern` is a guess: its pattern with the diagonal,
        given up for GMRES when it does not cover the Jacobian.
    """

    def __init__(
        self,
        residual: Callable[..., Tensor],
        rebuild: Callable[[tuple[Tensor, ...]], list[Any]],
        options: NonlinearOptions,
        *,
        jacobian_fn: Callable[..., Any] | None,
        pattern: Pattern | SparseTensor | None,
        precondition: Callable[[Tensor], Tensor] | None,
    ) -> None:
        self._function, self._rebuild, self._options = residual, rebuild, options
        self._jacobian_fn, self._precondition = jacobian_fn, precondition
        self._guess = isinstance(pattern, SparseTensor)
        self._colouring: Colouring | None = None
        if isinstance(pattern, SparseTensor):
            self._colouring = Colouring(with_diagonal(pattern.pattern))
        elif pattern is not None:
            self._colouring = Colouring(pattern)
        self.info = NonlinearInfo(method=options.method)

    def residual(self, u: Tensor, leaves: tuple[Tensor, ...]) -> Tensor:
        """Evaluate ``F``."""
        F = self._function(u, *self._rebuild(leaves))
        if not isinstance(F, Tensor) or F.shape != u.shape:
            what = list(F.shape) if isinstance(F, Tensor) else type(F).__name__
            raise ArgumentError(
                f"`residual` must return the shape of u, {list(u.shape)}; got {what}"
            )
        require_real(F)
        return F

    def check(self, u: Tensor, leaves: tuple[Tensor, ...]) -> None:
        """Refuse residuals that hide a dependence, and patterns that miss entries.

        Raises
        ------
        ArgumentError
            See `nonlinear_solve`.
        """
        refuse_captured(self.residual, u, leaves)
        if self._colouring is not None:
            shape = self._colouring.pattern.shape
            if shape != (u.numel(), u.numel()):
                raise ArgumentError(
                    f"`pattern` must be {u.numel()} x {u.numel()}, the size of u; got {shape}"
                )

    def _covers(self, J: SparseTensor, F: Tensor, x: Tensor) -> bool:
        """Whether a Jacobian found by colouring agrees with the residual on a probe."""
        n = x.numel()
        probe = torch.cos(1.7 * torch.arange(n, dtype=F.dtype, device=F.device) + 0.3)
        (true,) = torch.autograd.grad(F, x, probe.reshape(F.shape), retain_graph=True)
        missed = float(torch.linalg.vector_norm(probe @ J - true.reshape(-1)))
        limit = 1e3 * torch.finfo(F.dtype).eps ** 0.75 * float(torch.linalg.vector_norm(true))
        if missed <= limit or missed != missed:
            return True
        if not self._guess:
            raise ArgumentError("`pattern` does not cover the Jacobian of the residual")
        self._give_up()
        return False

    def _give_up(self) -> None:
        self._colouring = None
        unused = ", without the options of `linear`" if self._options.linear else ""
        self.info.notes.append(
            f"the pattern of A does not cover the Jacobian: GMRES is used{unused}"
        )

    # --- forward -------------------------------------------------------------------------------

    def run(self, u0: Tensor, leaves: tuple[Tensor, ...]) -> Tensor:
        """Iterate to the root."""
        plain = tuple(x.detach() for x in leaves)

        def evaluate(u: Tensor) -> Tensor:
            with torch.no_grad():
                return self.residual(u, plain)

        def step(u: Tensor, F: Tensor) -> Tensor:
            return self._newton(u, F, plain)

        method = make_method(self._options, step, self._precondition or (lambda F: F))
        with torch.no_grad():
            u, info = iterate(evaluate, u0.detach().clone(), method, self._options)
        info.notes = self.info.notes + info.notes
        self.info = info
        return u

    def _newton(self, u: Tensor, F: Tensor, leaves: tuple[Tensor, ...]) -> Tensor:
        """``J(u)⁻¹ F``, not recorded."""
        with torch.enable_grad():
            x = u.detach().requires_grad_()
            if self._jacobian_fn is not None:
                return self._direct(self._jacobian(x, leaves), F)
            G = self.residual(x, leaves)
            require_dependence(G)
            if self._colouring is not None:
                J = self._colouring.jacobian(G, x)
                if self._covers(J, G, x):
                    return self._direct(J, F)
            return self._krylov(directional(G, x), F.detach(), _FORCING)

    def _direct(self, J: SparseTensor, F: Tensor) -> Tensor:
        rhs, options = F.detach().reshape(-1), dict(self._options.linear)
        return J.detach().solve(rhs, **options).reshape(F.shape)

    @property
    def _sparse(self) -> bool:
        return self._colouring is not None or self._jacobian_fn is not None

    def _jacobian_at(self, u: Tensor, leaves: tuple[Tensor, ...]) -> SparseTensor:
        """Return the sparse Jacobian, not recorded."""
        with torch.enable_grad():
            return self._jacobian(u.detach().requires_grad_(), leaves).detach()

    def _jacobian(self, u: Tensor, leaves: tuple[Tensor, ...]) -> SparseTensor:
        if self._jacobian_fn is not None:
            J = self._jacobian_fn(u, *self._rebuild(leaves))
            if isinstance(J, Tensor):
                J = (
                    SparseTensor.from_dense(J)
                    if J.layout == torch.strided
                    else SparseTensor.from_torch_sparse(J)
                )
            if not isinstance(J, SparseTensor) or J.flat_shape != (u.numel(), u.numel()):
                raise ArgumentError(
                    f"`jacobian_fn` must return a SparseTensor of {u.numel()} x {u.numel()}"
                )
            return J
        if self._colouring is None:
            raise ArgumentError("there is no pattern to build a sparse Jacobian on")
        return self._colouring.jacobian(self.residual(u, leaves), u)

    def _krylov(self, product: Callable[[Tensor], Tensor], b: Tensor, rtol: float) -> Tensor:
        M = self._precondition
        precondition = None if M is None else (lambda v: M(v.reshape(b.shape)).reshape(-1, 1))
        return solve_with_products(product, b, lambda x: x.reshape(-1, 1), rtol, M=precondition)

    # --- adjoint -------------------------------------------------------------------------------

    @property
    def takes_many(self) -> bool:
        """Whether ``adjoint`` solves for many right-hand sides at once."""
        return self._sparse and not self._guess

    def adjoint(self, u: Tensor, leaves: tuple[Tensor, ...], g: Tensor) -> Tensor:
        """Solve ``Jᵀ λ = g``; recorded when gradients are enabled."""
        self.info.require_derivative()
        if torch.is_grad_enabled() and any(x.requires_grad for x in (u, g, *leaves)):
            return self._adjoint_recorded(u, leaves, g)
        if not self._sparse:
            return self._adjoint_krylov(u, leaves, g)
        J = self._jacobian_at(u, leaves)
        many = g.ndim > u.ndim
        rhs = g.reshape(len(g), -1).T if many else g.reshape(-1)
        options = options_of_derivatives(self._options.linear, rhs.dtype)
        found: Tensor = J.T().solve(rhs, **options)
        lam = (found.T if many else found).reshape(g.shape)
        pairs = zip(lam, g, strict=True) if many else [(lam, g)]
        if all(self._holds(u, leaves, *pair) for pair in pairs):
            return lam
        if not self._guess:
            raise GradientError(_OTHER)
        self._give_up()
        return self.adjoint(u, leaves, g)

    def _holds(self, u: Tensor, leaves: tuple[Tensor, ...], lam: Tensor, g: Tensor) -> bool:
        """Whether the adjoint equation holds with the residual's own Jacobian."""
        with torch.enable_grad():
            x = u.detach().requires_grad_()
            F = self.residual(x, tuple(leaf.detach() for leaf in leaves))
            (true,) = torch.autograd.grad(F, x, lam.detach())
        error = float(torch.linalg.vector_norm(true - g.detach()))
        limit = torch.finfo(u.dtype).eps ** 0.4 * float(torch.linalg.vector_norm(g.detach()))
        return bool(error <= limit)

    def forward_solve(self, u: Tensor, leaves: tuple[Tensor, ...], b: Tensor) -> Tensor:
        """Solve ``J du = b``, not recorded."""
        self.info.require_derivative()
        with torch.enable_grad():
            x = u.detach().requires_grad_()
            product = directional(self.residual(x, leaves), x)
        if self._sparse:
            J = self._jacobian_at(u, leaves)
            options = options_of_derivatives(self._options.linear, b.dtype)
            du: Tensor = J.solve(b.reshape(-1), **options).reshape(b.shape)
            error = float(torch.linalg.vector_norm(product(du) - b))
            if error <= torch.finfo(b.dtype).eps ** 0.4 * float(torch.linalg.vector_norm(b)):
                return du
            if not self._guess:
                raise GradientError(_OTHER)
        return self._krylov(product, b, min(self._options.rtol, 1e-8) or 1e-10)

    def _adjoint_krylov(self, u: Tensor, leaves: tuple[Tensor, ...], g: Tensor) -> Tensor:
        with torch.enable_grad():
            x = u.detach().requires_grad_()
            F = self.residual(x, tuple(leaf.detach() for leaf in leaves))
        return self._krylov(turned(F, x), g.detach(), min(self._options.rtol, 1e-8) or 1e-10)

    def _adjoint_recorded(self, u: Tensor, leaves: tuple[Tensor, ...], g: Tensor) -> Tensor:
        """Solve the adjoint equation as a problem of its own: linear in λ, and differentiable.

        Its derivatives are those of the residual. A sparse Jacobian only solves: what it holds may be right at one
        place and change in another way (one that was assembled without a record, an entry beyond the pattern that
        happens to vanish).
        """

        def equation(lam: Tensor, cotangent: Tensor, at: Tensor, *rest: Tensor) -> Tensor:
            with torch.enable_grad():
                x = at.view_as(at) if at.requires_grad else at.detach().requires_grad_()
                F = self.residual(x, rest)
                (out,) = torch.autograd.grad(F, x, lam, create_graph=True)
            return out - cotangent

        def transposed(lam: Tensor, cotangent: Tensor, at: Tensor, *rest: Tensor) -> SparseTensor:
            del lam, cotangent
            return self._jacobian_at(at, rest).T()

        with torch.no_grad():
            found = self.adjoint(u.detach(), tuple(x.detach() for x in leaves), g.detach())
        inner, rebuild = split((g, u, *leaves))
        options = replace(self._options, method="newton", atol=float("inf"))  # `found` is the root
        problem = NonlinearProblem(
            equation,
            rebuild,
            options,
            jacobian_fn=transposed if self._sparse else None,
            pattern=None,
            precondition=None,
        )
        from torch_sla.linalg.adjoint.implicit import implicit_solve

        return implicit_solve(problem, found, inner)
