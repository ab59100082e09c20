"""Differentiable solution of ``F(u, θ) = 0`` by the implicit function theorem: one graph node.

With the Jacobian ``J = ∂F/∂u`` at the solution, ``J du = -∂F/∂θ dθ``. For a cotangent ``g`` of ``u``

    Jᵀ λ = g,        grad_θ = -(∂F/∂θ)ᵀ λ,

the second by one vector-Jacobian product of the residual. How the solution was found does not matter.
Both steps are written with operations that are themselves differentiable in ``u``, ``θ`` and ``g``, and
``u`` is this Function's own output, so derivatives of every order follow.

Griewank and Walther, Evaluating Derivatives, 2nd ed., SIAM 2008, section 15.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["ImplicitProblem", "implicit_solve"]


class ImplicitProblem(Protocol):
    """A residual with a way to find its root and to solve with its transposed Jacobian."""

    def run(self, u0: Tensor, leaves: tuple[Tensor, ...]) -> Tensor:
        """Find the root without recording."""

    def residual(self, u: Tensor, leaves: tuple[Tensor, ...]) -> Tensor:
        """Evaluate ``F``, recorded."""

    def adjoint(self, u: Tensor, leaves: tuple[Tensor, ...], g: Tensor) -> Tensor:
        """Solve ``Jᵀ λ = g``; recorded when gradients are enabled."""


class ImplicitSolve(torch.autograd.Function):
    """Starting value and parameters -> the root ``u``; the starting value has no gradient."""

    @staticmethod
    def forward(problem: ImplicitProblem, u0: Tensor, *leaves: Tensor) -> Tensor:
        return problem.run(u0, leaves)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.problem = inputs[0]
        ctx.save_for_backward(output, *inputs[2:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        u, *leaves = ctx.saved_tensors
        needed = ctx.needs_input_grad[2:]
        recorded = torch.is_grad_enabled()
        if not recorded:
            u, leaves = u.detach(), [leaf.detach() for leaf in leaves]
        lam = ctx.problem.adjoint(u, tuple(leaves), grad)
        with torch.enable_grad():
            # Aliases: u depends on the parameters too, and only the direct dependence counts here.
            own = [
                (leaf.view_as(leaf) if recorded else leaf.requires_grad_()) if need else leaf
                for leaf, need in zip(leaves, needed, strict=True)
            ]
            if recorded:
                own = [
                    x if x.requires_grad or not need else x.detach().requires_grad_()
                    for x, need in zip(own, needed, strict=True)
                ]
            F = ctx.problem.residual(u, tuple(own))
            wanted = [x for x, need in zip(own, needed, strict=True) if need]
            found = torch.autograd.grad(F, wanted, -lam, create_graph=recorded, allow_unused=True)
        grads = iter(found)
        return None, None, *(next(grads) if need else None for need in needed)


def implicit_solve(problem: ImplicitProblem, u0: Tensor, leaves: tuple[Tensor, ...]) -> Tensor:
    """Return the root, recorded as one node."""
    return ImplicitSolve.apply(problem, u0, *leaves)  # type: ignore[no-any-return]
