"""Taking prescribed rows and columns out of the values of a matrix, differentiably and in one copy.

Let ``R`` be the entries in prescribed rows or columns and ``L``, a part of them, those that couple free rows with
prescribed columns. The map ``values -> (values without R, values at L)`` is linear; its adjoint takes the entries at
R out of the first cotangent and puts the second at L. Each is the other's backward, so derivatives of any order
follow. Composed of torch's operations, the backward pass would make, zero and add two more arrays of all values.

The gradient of a solve comes as the product ``-λ xᴴ`` (`torch_sla.linalg.adjoint.products`). At L it is then
``-λ gᴴ`` with the prescribed values g, where the load takes these entries times g and nothing else does: what goes
on is a product again, with zeros in the prescribed rows of λ, and g in those of x.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.linalg.adjoint.nested import nested
from torch_sla.linalg.adjoint.products import Products
from torch_sla.linalg.kernels.arguments import VALUES, empty

if TYPE_CHECKING:
    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.segments import SegmentMap

__all__ = ["Prescribed", "condense"]


@dataclass(frozen=True, eq=False)
class Prescribed:
    """Which entries of a matrix belong to prescribed dofs.

    Parameters
    ----------
    dofs
        Those dofs ``[d]``, int64.
    removed
        Entries in their rows or columns, int64.
    lifted
        Those of them in free rows ``[m]``, int64.
    rows, columns
        The row of each of these, and the position in `dofs` of its column.
    pattern
        Of the matrix.
    """

    dofs: Tensor
    removed: Tensor
    lifted: Tensor
    rows: SegmentMap
    columns: SegmentMap
    pattern: Pattern


def _without(values: Tensor, removed: Tensor) -> Tensor:
    if not (values.is_cpu and values.dtype in VALUES):
        return values.index_fill(-1, removed, 0.0)
    return empty(tuple(values.shape), values.dtype).copy_(values).index_fill_(-1, removed, 0.0)


def condense(values: Tensor, at: Prescribed, g: Tensor) -> tuple[Tensor, Tensor]:
    """Take prescribed rows and columns out of the values of a matrix.

    Parameters
    ----------
    values
        ``[*batch, nnz]``.
    at
        Where prescribed dofs are.
    g
        Their values ``[*batch, d]``, with which the coupling is going to be multiplied: a hint to derivatives.

    Returns
    -------
    kept, coupling
        New values ``[*batch, nnz]``, zero where rows or columns are prescribed, and ``[*batch, m]`` at ``lifted``.
    """
    inside = torch._C._functorch.is_functorch_wrapped_tensor(g)
    return _Condense.apply(values, at, None if inside else g.detach())


class _Condense(torch.autograd.Function):
    """What `condense` does."""

    hands_products = True

    @staticmethod
    def forward(values: Tensor, at: Prescribed, g: Tensor | None) -> tuple[Tensor, Tensor]:
        del g
        return _without(values, at.removed), values.index_select(-1, at.lifted)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        del output
        _, ctx.at, ctx.g = inputs

    @staticmethod
    def backward(ctx: Any, kept: Tensor, coupling: Tensor) -> tuple[Tensor, None, None]:
        found = _product(kept, coupling, ctx.at, ctx.g)
        return _Restore.apply(kept, coupling, ctx.at) if found is None else found, None, None

    @staticmethod
    @nested
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> tuple[Tensor, Tensor]:
        return _Condense.apply(tangent, ctx.at, ctx.g)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int, None, None], values: Tensor, at: Prescribed, g: Tensor | None
    ) -> Any:
        del info
        return _Condense.apply(values.movedim(in_dims[0], 0), at, g), (0, 0)


def _product(kept: Tensor, coupling: Tensor, at: Prescribed, g: Tensor | None) -> Products | None:
    """Return the gradient as a product, where it is one."""
    if not isinstance(kept, Products) or not kept.on(at.pattern) or g is None or g.ndim != 1:
        return None
    if kept.left.shape[-1] != 1:
        return None
    left, right = (x.squeeze(-1) for x in (kept.left, kept.right))
    g = g.conj().resolve_conj().to(right.dtype)
    # Plain indexing of a few numbers: nothing is recorded here.
    there = left.index_select(-1, at.rows.target) * g.index_select(-1, at.columns.target)
    if not torch.equal(there, coupling):
        return None
    left = left.index_fill(-1, at.dofs, 0.0).unsqueeze(-1)
    right = right.index_copy(-1, at.dofs, g.expand(*right.shape[:-1], -1)).unsqueeze(-1)
    return Products(left, right, kept.pattern)


class _Restore(torch.autograd.Function):
    """The adjoint of `_Condense`."""

    @staticmethod
    def forward(kept: Tensor, coupling: Tensor, at: Prescribed) -> Tensor:
        values = _without(kept, at.removed)
        values[..., at.lifted] = coupling.to(values.dtype)
        return values

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        del output
        _, _, ctx.at = inputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        return *_Condense.apply(grad, ctx.at, None), None

    @staticmethod
    @nested
    def jvp(ctx: Any, kept: Tensor, coupling: Tensor, *_: None) -> Tensor:
        return _Restore.apply(kept, coupling, ctx.at)

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, int | None, None],
        kept: Tensor,
        coupling: Tensor,
        at: Prescribed,
    ) -> Any:
        both = [
            t.expand(info.batch_size, *t.shape) if d is None else t.movedim(d, 0)
            for t, d in zip((kept, coupling), in_dims[:2], strict=True)
        ]
        return _Restore.apply(*both, at), 0
