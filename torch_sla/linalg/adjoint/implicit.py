"""Differentiable solution of ``F(u, θ) = 0`` by the implicit function theorem: one graph node.

With the Jacobian ``J = ∂F/∂u`` at the solution, ``J du = -∂F/∂θ dθ``. For a cotangent ``g`` of ``u``

    Jᵀ λ = g,        grad_θ = -(∂F/∂θ)ᵀ λ,

the second by one vector-Jacobian product of the residual. Forward mode solves with J itself, which is independent
of the adjoint's solve and so can test it. How the solution was found does not matter.
Both steps are written with operations that are themselves differentiable in ``u``, ``θ`` and ``g``, and
``u`` is this Function's own output, so derivatives of every order follow. They hold at ``u`` and ``θ`` as these were:
writing into them through ``.data`` or NumPy, which torch does not see, is noticed by their fingerprints and refused.

Griewank and Walther, Evaluating Derivatives, 2nd ed., SIAM 2008, section 15.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd import forward_ad

from torch_sla.errors import GradientError
from torch_sla.linalg.adjoint.first_order import only_tangent, primals
from torch_sla.linalg.adjoint.jacobian import pulled
from torch_sla.linalg.adjoint.nested import nested
from torch_sla.linalg.kernels.sparse import fingerprints_of

__all__ = ["ImplicitProblem", "implicit_solve"]


class ImplicitProblem(Protocol):
    """A residual with a way to find its root and to solve with its transposed Jacobian."""

    @property
    def takes_many(self) -> bool:
        """Whether ``adjoint``, not recorded, solves for ``g`` with one more dimension in front, all at once."""

    def run(self, u0: Tensor, leaves: tuple[Tensor, ...]) -> Tensor:
        """Find the root without recording."""

    def residual(self, u: Tensor, leaves: tuple[Tensor, ...]) -> Tensor:
        """Evaluate ``F``, recorded."""

    def adjoint(self, u: Tensor, leaves: tuple[Tensor, ...], g: Tensor) -> Tensor:
        """Solve ``Jᵀ λ = g``; recorded when gradients are enabled."""

    def forward_solve(self, u: Tensor, leaves: tuple[Tensor, ...], b: Tensor) -> Tensor:
        """Solve ``J du = b``, not recorded; ``NotImplementedError`` where there is no forward mode."""


class ImplicitSolve(torch.autograd.Function):
    """Starting value and parameters -> the root ``u``; the starting value has no gradient."""

    pulls_many = True  # see `torch_sla.linalg.adjoint.jacobian`

    @staticmethod
    def forward(problem: ImplicitProblem, u0: Tensor, *leaves: Tensor) -> Tensor:
        return problem.run(u0, leaves)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.problem, ctx.solved = inputs[0], None
        ctx.nbytes = output.nbytes + sum(leaf.nbytes for leaf in inputs[2:])
        ctx.save_for_backward(output, *inputs[2:])
        ctx.save_for_forward(output, *inputs[2:])
        followed = any(ctx.needs_input_grad) or forward_ad._current_level >= 0
        ctx.marks = _marks(output, inputs[2:]) if followed else None

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        u, *leaves = _unchanged(ctx)
        needed = ctx.needs_input_grad[2:]
        if not torch.is_grad_enabled():
            if ctx.solved is None:
                found = ImplicitAdjoint.apply(ctx.problem, needed, False, grad, u, *leaves)
            else:
                found = ImplicitAdjoint.apply(ctx.problem, needed, True, ctx.solved, u, *leaves)
            return None, None, *found
        lam = ctx.problem.adjoint(u, tuple(leaves), grad)
        # Aliases: u depends on the parameters too, and only the direct dependence counts here.
        own = [
            leaf.view_as(leaf) if need else leaf for leaf, need in zip(leaves, needed, strict=True)
        ]
        own = [
            x if x.requires_grad or not need else x.detach().requires_grad_()
            for x, need in zip(own, needed, strict=True)
        ]
        F = ctx.problem.residual(u, tuple(own))
        if not F.requires_grad:
            return (None,) * len(ctx.needs_input_grad)
        wanted = [x for x, need in zip(own, needed, strict=True) if need]
        grads = iter(torch.autograd.grad(F, wanted, -lam, create_graph=True, allow_unused=True))
        return None, None, *(next(grads) if need else None for need in needed)

    @staticmethod
    def solve_adjoint(ctx: Any, G: Tensor) -> Tensor:
        """Solve for cotangents ``[m, *batch, n]``, see `torch_sla.linalg.adjoint.jacobian`."""
        u, *leaves = (x.detach() for x in _unchanged(ctx))
        return _adjoints(ctx.problem, u, tuple(leaves), G)

    @staticmethod
    @nested
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        links = primals(_unchanged(ctx))
        u, *leaves = (x.detach() for x in links if x is not None)
        moved = {i: t for i, t in enumerate(tangents[2:]) if t is not None}
        with torch.enable_grad():
            own = [x.requires_grad_() if i in moved else x for i, x in enumerate(leaves)]
            F = ctx.problem.residual(u, tuple(own))
            if not F.requires_grad:
                return torch.zeros_like(u)
            # Fθ dθ is the derivative of Fθᵀ w with respect to w.
            w = torch.zeros_like(F, requires_grad=True)
            back = torch.autograd.grad(
                F, [own[i] for i in moved], w, create_graph=True, allow_unused=True
            )
            pairs = [
                (g, t)
                for g, t in zip(back, moved.values(), strict=True)
                if g is not None and g.requires_grad
            ]
            if not pairs:
                return torch.zeros_like(u)
            (change,) = torch.autograd.grad([g for g, _ in pairs], w, [t for _, t in pairs])
        plain = tuple(leaf.detach() for leaf in leaves)
        tangent = ctx.problem.forward_solve(u, plain, -change)
        return only_tangent(tangent, "a nonlinear solution", *links, *moved.values())


class ImplicitAdjoint(torch.autograd.Function):
    """Cotangents of the root, or λ where that is known -> those of the parameters, without derivatives of their own.

    Under ``vmap`` many cotangents are right-hand sides of one solve, and go through one evaluation of the residual.
    """

    @staticmethod
    def forward(
        problem: ImplicitProblem,
        needed: tuple[bool, ...],
        solved: bool,
        g: Tensor,
        u: Tensor,
        *leaves: Tensor,
    ) -> tuple[Tensor | None, ...]:
        rows = _rows(problem, needed, solved, g.unsqueeze(0), u, leaves)
        return tuple(None if row is None else row[0] for row in rows)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor | None, ...]) -> None:
        del ctx, inputs, output

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        problem: ImplicitProblem,
        needed: tuple[bool, ...],
        solved: bool,
        g: Tensor,
        *state: Tensor,
    ) -> Any:
        del info
        if in_dims[3] is None or any(d is not None for d in in_dims[4:]):
            raise NotImplementedError(
                "vmap over the solutions of nonlinear problems; give their parameters a batch dimension"
            )
        u, *leaves = state
        rows = _rows(problem, needed, solved, g.movedim(in_dims[3], 0), u, tuple(leaves))
        return rows, tuple(None if row is None else 0 for row in rows)


def _marks(u: Tensor, leaves: tuple[Tensor, ...]) -> list[int] | None:
    """Fingerprints of what derivatives are made of; None inside transforms, which nobody interrupts."""
    held = [x.detach() for x in (u, *leaves) if x.layout == torch.strided]
    if any(torch._C._functorch.is_functorch_wrapped_tensor(x) for x in held):
        return None
    return fingerprints_of(*(x.resolve_conj().resolve_neg() for x in held))


def _unchanged(ctx: Any) -> tuple[Tensor, ...]:
    """Return what was saved, if it is as it was.

    Raises
    ------
    GradientError
        When somebody has written into it.
    """
    u, *leaves = saved = ctx.saved_tensors
    marks = None if ctx.marks is None else _marks(u, tuple(leaves))
    if marks is not None and marks != ctx.marks:
        raise GradientError(
            "the solution or a parameter of a nonlinear solve was modified in place between the solve and its "
            "derivative; clone it before changing it"
        )
    return saved


def _rows(
    problem: ImplicitProblem,
    needed: tuple[bool, ...],
    solved: bool,
    g: Tensor,
    u: Tensor,
    leaves: tuple[Tensor, ...],
) -> tuple[Tensor | None, ...]:
    """Return ``-(∂F/∂θ)ᵀ J⁻ᵀ g`` for many ``g [m, ...]``, or for λ in their place where it was solved."""
    u, own = u.detach(), [leaf.detach() for leaf in leaves]
    lam = g if solved else _adjoints(problem, u, tuple(own), g)
    with torch.enable_grad():
        own = [x.requires_grad_() if need else x for x, need in zip(own, needed, strict=True)]
        F = problem.residual(u, tuple(own))
    if not F.requires_grad:
        return (None,) * len(needed)
    wanted = [x for x, need in zip(own, needed, strict=True) if need]
    rows = iter(pulled([F], wanted, [-lam], retain=False))
    return tuple(next(rows) if need else None for need in needed)


def _adjoints(problem: ImplicitProblem, u: Tensor, leaves: tuple[Tensor, ...], G: Tensor) -> Tensor:
    """Solve ``Jᵀ λ = g`` for every ``g`` in ``G [m, ...]``."""
    if problem.takes_many and len(G) > 1:
        return problem.adjoint(u, leaves, G)
    return torch.stack([problem.adjoint(u, leaves, g) for g in G])


def implicit_solve(problem: ImplicitProblem, u0: Tensor, leaves: tuple[Tensor, ...]) -> Tensor:
    """Return the root, recorded as one node."""
    return ImplicitSolve.apply(problem, u0, *leaves)
