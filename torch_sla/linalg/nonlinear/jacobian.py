"""Jacobians of residuals: sparse by colouring, or as an operator; never dense.

Rows of one colour share no column, so one vector-Jacobian product with the sum of their unit vectors
shows the entries of all of them: as many products as colours, about as many as entries per row, however
large the system.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, DTypeError, Result, SolveError
from torch_sla.linalg.kernels.colouring import colour_rows
from torch_sla.linalg.methods.gmres import gmres
from torch_sla.linalg.methods.outcome import KrylovOptions
from torch_sla.linalg.methods.space import VectorSpace
from torch_sla.linalg.sparse.pattern import Pattern
from torch_sla.linalg.sparse.tensor import SparseTensor
from torch_sla.linalg.sparse.transforms import outside_transforms

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.linalg.methods.space import Operator

__all__ = [
    "Colouring",
    "directional",
    "refuse_captured",
    "require_dependence",
    "require_real",
    "solve_with_products",
    "turned",
    "with_diagonal",
]

_FLOOR = 100


class Colouring:
    """A pattern with a colouring of its rows, made once for many Jacobians.

    Parameters
    ----------
    pattern
        Positions that cover those of the Jacobian, ``n`` by ``n``.

    Examples
    --------
    >>> import torch
    >>> pattern = SparseTensor.eye(3).pattern
    >>> u = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> Colouring(pattern).jacobian(u**2, u).values
    tensor([2., 4., 6.])
    """

    @outside_transforms
    def __init__(self, pattern: Pattern) -> None:
        self.pattern = pattern.slots
        colour, self.count = colour_rows(pattern.crow, pattern.ccol, pattern.shape[1])
        self._colour = colour.long().to(pattern.device)
        rows = self.pattern.csr_row.long()
        # Slots grouped by colour, and the permutation back.
        self._order = self._colour[rows].argsort(stable=True)
        self._back = self._order.argsort()
        counts = torch.bincount(self._colour[rows], minlength=self.count).tolist()
        self._columns = self.pattern.ccol.long()[self._order].split(counts)

    def jacobian(self, F: Tensor, u: Tensor) -> SparseTensor:
        """Return ``∂F/∂u`` on the pattern, not recorded; `F` must be recorded as a function of `u`.

        Parameters
        ----------
        F, u
            Of one size ``n``.
        """
        parts = []
        for c, columns in enumerate(self._columns):
            seed = (self._colour == c).to(F.dtype).reshape(F.shape)
            (g,) = torch.autograd.grad(F, u, seed, retain_graph=True, allow_unused=True)
            g = torch.zeros_like(u) if g is None else g
            parts.append(g.reshape(-1)[columns])
        values = torch.cat(parts)[self._back] if parts else F.new_zeros(0)
        return SparseTensor.from_pattern(self.pattern, values)


@outside_transforms
def with_diagonal(pattern: Pattern) -> Pattern:
    """Scalar pattern with its diagonal and its mirror image added: room for pointwise terms."""
    flat = pattern.flat[0] if pattern.block else pattern.slots
    n = flat.shape[0]
    i = torch.arange(n, device=flat.device)
    row, col = flat.csr_row.long(), flat.ccol.long()
    return Pattern.from_coo(torch.cat([row, col, i]), torch.cat([col, row, i]), flat.shape).slots


def require_real(F: Tensor) -> None:
    """Raise `DTypeError` for a complex residual of real unknowns.

    >>> require_real(torch.ones(2))
    """
    if F.is_complex():
        raise DTypeError(
            f"`residual` must return real numbers, as the unknowns are, got {F.dtype}; make real and imaginary parts "
            "unknowns of their own, or leave out an imaginary part that is rounding (`F.real`)"
        )


def require_dependence(F: Tensor) -> None:
    """Raise `SolveError` for a residual that was recorded and depends on nothing.

    >>> require_dependence(torch.ones(2, requires_grad=True))
    """
    if not F.requires_grad:
        raise SolveError(Result.SINGULAR, "the residual does not depend on u")


def refuse_captured(
    residual: Callable[[Tensor, tuple[Tensor, ...]], Tensor], u: Tensor, leaves: tuple[Tensor, ...]
) -> None:
    """Raise `ArgumentError` for a residual with a gradient that comes neither of the unknowns nor of parameters."""
    with torch.enable_grad():
        if residual(u, tuple(x.detach() for x in leaves)).requires_grad:
            raise ArgumentError(
                "`residual` uses a tensor that requires a gradient and is no parameter; pass it as one, or detach it"
            )


def directional(F: Tensor, u: Tensor) -> Callable[[Tensor], Tensor]:
    """Return ``v -> J v``, by differentiating ``Jᵀ w`` in the direction of ``w``.

    Two reverse sweeps, so every residual that can be differentiated twice has it.
    """
    w = torch.zeros_like(F, requires_grad=True)
    (g,) = torch.autograd.grad(F, u, w, create_graph=True, allow_unused=True)

    def product(v: Tensor) -> Tensor:
        if g is None or not g.requires_grad:
            return torch.zeros_like(v)
        (out,) = torch.autograd.grad(g, w, v.reshape(g.shape), retain_graph=True, allow_unused=True)
        return torch.zeros_like(v) if out is None else out.reshape(v.shape)

    return product


def turned(F: Tensor, u: Tensor) -> Callable[[Tensor], Tensor]:
    """Return ``w -> Jᵀ w``."""
    return lambda w: torch.autograd.grad(F, u, w, retain_graph=True)[0]


def solve_with_products(
    product: Callable[[Tensor], Tensor],
    b: Tensor,
    columns: Callable[[Tensor], Tensor],
    rtol: float,
    *,
    M: Operator | None = None,
    space: VectorSpace | None = None,
) -> Tensor:
    """Solve by GMRES with products alone, not recorded; `columns` arranges the shape of `b` as ``[n, K]`` for it.

    Not to less than `_FLOOR` roundings of ``‖b‖``, which a residual in this dtype may never reach.
    """

    def apply(v: Tensor) -> Tensor:
        return columns(product(v.reshape(b.shape)).detach())

    # By the norm, which all processes see alike.
    rhs, space = columns(b), space or VectorSpace()
    if not bool(torch.isfinite(space.norm(rhs)).all()):
        raise SolveError(Result.NONFINITE, "the right-hand side of GMRES with Jacobian products")
    options = KrylovOptions(rtol=max(rtol, _FLOOR * torch.finfo(b.dtype).eps))
    done = gmres(apply, rhs, M=M, options=options, space=space)
    if not done.result.ok:
        raise SolveError(
            done.result,
            "GMRES with Jacobian products",
            iterations=done.iterations,
            residual=done.history[-1] if done.history else float("nan"),
        )
    return done.x.reshape(b.shape)
