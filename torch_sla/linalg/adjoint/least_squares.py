"""Differentiable least squares: ``x = A⁺ b`` for a rectangular matrix of full rank.

Write ``r = b - A x`` and let ``λ``, ``μ``, ``w`` be solves with the pseudoinverse and its adjoint.
Where the rank is constant (Golub and Pereyra, SIAM J. Numer. Anal. 10, 1973, theorem 4.3)

    dx = A⁺ (db - dA x) + A⁺ A⁺ᴴ dAᴴ r + (I - A⁺ A) dAᴴ A⁺ᴴ x.

The second term vanishes for full row rank (``r = 0``), the third for full column rank
(``A⁺ A = I``). For a cotangent ``g`` of ``x``, with torch's convention for complex gradients,

    λ = A⁺ᴴ g,    grad_b = λ,    grad_A = - λ xᴴ + r μᴴ + w vᴴ,

    tall:  μ = A⁺ λ,  v = 0;        wide:  r = 0,  w = A⁺ᴴ x,  v = g - Aᴴ λ.

(``Re⟨g, A⁺ A⁺ᴴ dAᴴ r⟩ = Re⟨dA μ, r⟩``, and ``I - A⁺ A`` is a projector with ``Aᴴ λ = A⁺ A g``.)
For ``y = A⁺ᴴ b`` the same holds with ``C = Aᴴ`` in the place of ``A``, and ``grad_A = grad_Cᴴ``. All
parts are this Function, `matmul` and `sampled_product` again, so every order of derivative exists.

A rank-deficient ``A`` has no derivative of ``A⁺``: tall, ``g`` is then not in the range of ``Aᴴ`` and
the solver's run raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.linalg.adjoint.matvec import fold_vmap, matmul
from torch_sla.linalg.adjoint.nested import nested
from torch_sla.linalg.adjoint.sampled_product import sampled_product
from torch_sla.linalg.adjoint.solve import without_failures

if TYPE_CHECKING:
    from torch_sla.linalg.adjoint.solve import Solver
    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["LeastSquares", "least_squares"]


class LeastSquares(torch.autograd.Function):
    """Values ``[*B, nnz_csr]``, ``b`` ``[*B, M, K]`` -> ``x`` ``[*B, N, K]``; ``B``: one dimension or none.

    With `adjoint`, ``b`` ``[*B, N, K]`` -> ``A⁺ᴴ b`` ``[*B, M, K]``.
    """

    @staticmethod
    def forward(values: Tensor, b: Tensor, solver: Solver, adjoint: bool) -> Tensor:
        return solver.run(values, b, adjoint=adjoint)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        values, b, ctx.solver, ctx.adjoint = inputs
        ctx.save_for_backward(values, b, output)
        ctx.save_for_forward(values, b, output)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, Tensor | None, None, None]:
        if grad is None:
            return None, None, None, None
        values, b, x = ctx.saved_tensors
        solver, adjoint = ctx.solver, ctx.adjoint
        lam = least_squares(values, grad, solver, adjoint=not adjoint)
        if not ctx.needs_input_grad[0]:
            return None, lam, None, None
        x = without_failures(x, solver)
        # Pairs (left, right) with grad_C = Σ left rightᴴ, C = A or Aᴴ.
        pairs = [(-lam, x)]
        if _tall(solver.pattern, adjoint):
            r = b - _product(values, x, solver.pattern, adjoint)
            pairs.append((r, least_squares(values, lam, solver, adjoint=adjoint)))
        else:
            v = grad - _product(values, lam, solver.pattern, not adjoint)
            pairs.append((least_squares(values, x, solver, adjoint=not adjoint), v))
        grad_values = None
        for pair in pairs:
            left, right = (without_failures(t, solver) for t in pair)
            u, v = (right, left.conj()) if adjoint else (left, right.conj())
            if values.ndim == 1 and u.ndim == 3:
                u, v = (t.movedim(0, 1).flatten(1) for t in (u, v))
            part = sampled_product(u, v, solver.pattern)
            grad_values = part if grad_values is None else grad_values + part
        return grad_values, lam if ctx.needs_input_grad[1] else None, None, None

    @staticmethod
    @nested
    def jvp(ctx: Any, values_t: Tensor | None, b_t: Tensor | None, *_: None) -> Tensor:
        values, b, x = ctx.saved_tensors
        solver, adjoint = ctx.solver, ctx.adjoint
        pattern: Pattern = solver.pattern
        rhs = b_t
        if values_t is not None:
            change = _product(values_t, x, pattern, adjoint)
            rhs = -change if rhs is None else rhs - change
        if rhs is None:
            return torch.zeros_like(x)
        dx = least_squares(values, rhs, solver, adjoint=adjoint)
        if values_t is None:
            return dx
        if _tall(pattern, adjoint):
            r = b - _product(values, x, pattern, adjoint)
            turned = _product(values_t, r, pattern, not adjoint)
            twice = least_squares(values, turned, solver, adjoint=not adjoint)
            return dx + least_squares(values, twice, solver, adjoint=adjoint)
        w = least_squares(values, x, solver, adjoint=not adjoint)
        turned = _product(values_t, w, pattern, not adjoint)
        inside = _product(values, turned, pattern, adjoint)
        return dx + turned - least_squares(values, inside, solver, adjoint=adjoint)

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        values: Tensor,
        b: Tensor,
        solver: Solver,
        adjoint: bool,
    ) -> Any:
        def run(v: Tensor, rhs: Tensor) -> Tensor:
            return least_squares(v, rhs, solver, adjoint=adjoint)

        return fold_vmap(run, info.batch_size, in_dims, values, b), 0


def _tall(pattern: Pattern, adjoint: bool) -> bool:
    return (pattern.shape[0] > pattern.shape[1]) != adjoint


def _product(values: Tensor, x: Tensor, pattern: Pattern, adjoint: bool) -> Tensor:
    """Return ``A x`` or ``Aᴴ x``."""
    if not adjoint:
        return matmul(values, x, pattern)
    return matmul(pattern.transpose_values(values).conj(), x, pattern.transposed)


def least_squares(values: Tensor, b: Tensor, solver: Solver, *, adjoint: bool = False) -> Tensor:
    """Return ``A⁺ b`` (``A⁺ᴴ b`` with `adjoint`), differentiable to any order; shapes as in `LeastSquares`.

    Where the values have a batch dimension and `b` has none, `b` is shared.
    """
    if values.ndim == 2 and b.ndim == 2:
        b = b.expand(values.shape[0], *b.shape)
    return LeastSquares.apply(values, b, solver, adjoint)
