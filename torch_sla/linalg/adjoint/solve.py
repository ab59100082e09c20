"""Differentiable linear solve: one graph node, whatever happens inside.

Let ``x = A⁻¹ b`` with the values ``a`` of ``A`` on a pattern. Differentiating ``A x = b``,

    A dx = db - dA x.

Forward mode solves exactly that. In reverse mode, for a cotangent ``g`` of ``x`` and torch's
convention for complex gradients,

    λ = A⁻ᴴ g,        grad_b = λ,        grad_a[e] = -Σ_k λ[row_e, k] conj(x[col_e, k]).

For ``y = A⁻ᴴ b`` the same steps with ``μ = A⁻¹ g`` give ``grad_b = μ`` and, since ``(Aᴴ)_ij =
conj(A_ji)``, ``grad_a[e] = -Σ_k y[row_e, k] conj(μ[col_e, k])``. The adjoint solve is this Function
again with the mode turned, so it reuses the numeric factor and has derivatives of every order.

Where ``A`` is its own adjoint and ``g`` nearly a multiple of ``b``, as for the work of the loads and other
functionals that are their own adjoint, ``λ`` is nearly that multiple of ``x``. An iteration is then started
there, and often is at its end: what it returns meets the same tolerance.

Cotangents that come together, under ``vmap``, are columns of one solve and of one sampled product. Where the values
were summed over cells, ``grad_a`` goes there as its two factors, see `products`.

Giles, "Collected matrix derivative results for forward and reverse mode algorithmic
differentiation", 2008, section 2.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from torch_sla.linalg.adjoint.matvec import fold_vmap, matmul
from torch_sla.linalg.adjoint.nested import nested
from torch_sla.linalg.adjoint.products import Products, takes_products
from torch_sla.linalg.adjoint.sampled_product import sampled_product
from torch_sla.linalg.adjoint.saving import applied, keep
from torch_sla.linalg.adjoint.unmapped import refuse_old_vmap

if TYPE_CHECKING:
    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["LinearSolve", "Solver", "Whole", "linear_solve", "without_failures"]

# Share of the right-hand side that may be left for a start to be worth it.
_NEAR = 0.1


class Solver(Protocol):
    """What the Function needs: a way to solve, that knows the pattern and stays the same for the adjoint."""

    @property
    def pattern(self) -> Pattern:
        """Slot pattern of the matrix."""

    @property
    def starts(self) -> bool:
        """Whether adjoint solves use a starting value, and are solves with the matrix itself."""

    @property
    def failed(self) -> bool:
        """Whether some of what was solved for is none; solves for cotangents of that raise, unless they are zero."""

    def run(
        self, values: Tensor, b: Tensor, *, adjoint: bool, start: Tensor | None = None
    ) -> Tensor:
        """Solve ``A x = b`` or ``Aᴴ x = b`` without recording; shapes as in `LinearSolve`.

        Raises `GradientError` when the values are not those of the first run any more.
        """

    def extend(self, x: Tensor) -> Tensor:
        """Return ``x`` on the columns of the pattern: owned entries, then those of other processes; recorded."""

    def fold(self, y: Tensor) -> Tensor:
        """Add what lies on the columns to where it is owned, the adjoint of `extend`."""


class Whole:
    """A matrix that one process holds whole: its columns are the vector."""

    @property
    def failed(self) -> bool:
        """Whether some of what was solved for is none."""
        return False

    def extend(self, x: Tensor) -> Tensor:
        """Return `x`."""
        return x

    def fold(self, y: Tensor) -> Tensor:
        """Return `y`."""
        return y


class LinearSolve(torch.autograd.Function):
    """Values ``[*B, nnz_csr]``, ``b`` ``[*B, M, K]`` -> ``x`` ``[*B, M, K]``; ``B``: one dimension or none."""

    @staticmethod
    def forward(
        values: Tensor,
        b: Tensor,
        solver: Solver,
        adjoint: bool,
        start: Tensor | None,
        near: Tensor | None,
    ) -> Tensor:
        if near is not None:
            start = _multiple(values, near, b, solver)
        return solver.run(values, b, adjoint=adjoint, start=start)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        values, _, ctx.solver, ctx.adjoint, _, _ = inputs
        ctx.solved = None
        ctx.nbytes = values.nbytes + output.nbytes
        keep(ctx, values, output)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 6
        values, x = ctx.saved_tensors
        lam = LinearSolve._adjoint(ctx, grad, values, x) if ctx.solved is None else ctx.solved
        grad_values: Tensor | None = None
        if ctx.needs_input_grad[0]:
            x = without_failures(x, ctx.solver)
            left, right = (x, lam.conj()) if ctx.adjoint else (lam, x.conj())
            if values.ndim == 1 and left.ndim == 3:
                left, right = (t.movedim(0, 1).flatten(1) for t in (left, right))
            right, pattern = ctx.solver.extend(right), ctx.solver.pattern
            if takes_products(ctx.next_functions[0][0], left.shape[-1]):
                grad_values = Products(-left, right.resolve_conj(), pattern)
            else:
                grad_values = sampled_product(left, right, pattern, negative=True)
        return grad_values, lam if ctx.needs_input_grad[1] else None, None, None, None, None

    @staticmethod
    def _adjoint(ctx: Any, grad: Tensor, values: Tensor, x: Tensor) -> Tensor:
        # Saved tensors are unpacked once in a pass: checkpointing allows no more.
        near = x.detach() if ctx.solver.starts else None
        return linear_solve(values, grad, ctx.solver, adjoint=not ctx.adjoint, near=near)

    @staticmethod
    def solve_adjoint(ctx: Any, G: Tensor) -> Tensor:
        """Solve for cotangents ``[m, *B, M, K]``, see `torch_sla.linalg.adjoint.jacobian`."""
        values, x = ctx.saved_tensors
        return torch.func.vmap(lambda g: LinearSolve._adjoint(ctx, g, values, x))(G)

    @staticmethod
    @nested
    def jvp(ctx: Any, values_t: Tensor | None, b_t: Tensor | None, *_: None) -> Tensor:
        values, x = ctx.saved_tensors
        pattern: Pattern = ctx.solver.pattern
        rhs = b_t
        if values_t is not None:
            if ctx.adjoint:
                turned = pattern.transpose_values(values_t).conj()
                change = ctx.solver.fold(matmul(turned, x, pattern.transposed))
            else:
                change = matmul(values_t, ctx.solver.extend(x), pattern)
            rhs = -change if rhs is None else rhs - change
        if rhs is None:
            return torch.zeros_like(x)
        return linear_solve(values, rhs, ctx.solver, adjoint=ctx.adjoint)

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        values: Tensor,
        b: Tensor,
        solver: Solver,
        adjoint: bool,
        start: Tensor | None,
        near: Tensor | None,
    ) -> Any:
        del start
        shared = near if in_dims[0] is None and in_dims[5] is None else None

        def run(v: Tensor, rhs: Tensor) -> Tensor:
            return linear_solve(v, rhs, solver, adjoint=adjoint, near=shared)

        return fold_vmap(run, info.batch_size, in_dims, values, b), 0


def linear_solve(
    values: Tensor,
    b: Tensor,
    solver: Solver,
    *,
    adjoint: bool = False,
    start: Tensor | None = None,
    near: Tensor | None = None,
) -> Tensor:
    """Return ``A⁻¹ b`` (``A⁻ᴴ b`` with `adjoint`), differentiable to any order; shapes as in `LinearSolve`.

    Where the values have a batch dimension and `b` has none, `b` is shared. An iteration begins at `start`,
    of the shape of the result and without a gradient, or at the best multiples of the columns of `near`.
    """
    refuse_old_vmap(values, b)
    if values.ndim == 2 and b.ndim == 2:
        b = b.expand(values.shape[0], *b.shape)
    return applied(LinearSolve, values, b, solver, adjoint, start, near)


def without_failures(x: Tensor, solver: Solver) -> Tensor:
    """Return `x` with zeros for the NaN of members without a solution: times a cotangent of zero, NaN is no zero."""
    return torch.where(torch.isfinite(x), x, 0.0) if solver.failed else x


def _multiple(values: Tensor, x: Tensor, g: Tensor, solver: Solver) -> Tensor | None:
    """Return the multiples of ``x [M, K]`` for which ``A x`` is nearest to ``g [M, V K]``, where that is near."""
    if x.ndim != 2 or values.ndim != 1 or g.ndim != 2 or not x.numel():
        return None
    g = g.unflatten(1, (-1, x.shape[1]))
    b = matmul(values, x, solver.pattern).unsqueeze(1)
    size = (b.conj() * b).real.sum(0)
    factor = (b.conj() * g).sum(0) / size.clamp(min=torch.finfo(size.dtype).tiny)
    left = torch.linalg.vector_norm(torch.addcmul(g, factor, b, value=-1), dim=0)
    near = left <= _NEAR * torch.linalg.vector_norm(g, dim=0)
    if x.is_cpu and not bool(near.any()):
        return None
    # On a device, nothing to begin with costs one product; to ask for that costs more.
    return torch.where(near, factor * x.unsqueeze(1), 0.0).flatten(1)
