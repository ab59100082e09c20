"""Gradients of matrix values that stay two vectors for as long as nobody needs their entries.

The gradient of a solve with respect to the values of its matrix is ``-λ xᴴ`` on the pattern. Whoever made the values of
coefficients, cell by cell, pulls it back from the two vectors: it never needs the entries, of which there are many
times as many, nor the memory for them. On its way through a graph such a gradient is a `Products`. Functions that say
``takes_products = True`` end it, those with ``hands_products = True`` give another one to the next, both after a look
at the pattern; for all others it is the tensor of its entries, which it becomes when it is touched.

It is sent only where a node that takes it lies behind nodes that hand it on, and never into a graph or a transform:
derivatives of second order, and those of many numbers at once, go over `sampled_product` as ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from torch_sla.linalg.adjoint.saving import is_recorded
from torch_sla.linalg.kernels import sparse as kernels

if TYPE_CHECKING:
    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["Products", "takes_products"]

# Columns up to which vectors are less work than entries: a slot belongs to several cells.
_FEW = 2
# Nodes of torch whose gradient is the gradient that they are given, but for leading dimensions of 1.
_HAND_ON = frozenset(
    f"{name}Backward{i}"
    for name in ("Add", "IndexAdd", "Squeeze", "Unsqueeze", "View", "ReshapeAlias", "UnsafeView")
    for i in range(2)
)


class Products(Tensor):
    """The tensor ``Σ_k left[row, k] right[col, k]`` on the slots of a pattern, made when it is needed.

    Parameters
    ----------
    left, right
        ``[*batch, M, K]`` and ``[*batch, N, K]``, without derivatives.
    pattern
        Where the entries are.

    Examples
    --------
    >>> from torch_sla.linalg.sparse.pattern import Pattern
    >>> pattern = Pattern.from_coo(torch.tensor([0, 1]), torch.tensor([0, 0]), (2, 1))
    >>> found = Products(torch.tensor([[2.0], [3.0]]), torch.tensor([[5.0]]), pattern)
    >>> found.shape, found + 1
    (torch.Size([2]), tensor([11., 16.]))
    """

    left: Tensor
    right: Tensor
    pattern: Pattern

    @staticmethod
    def __new__(cls, left: Tensor, right: Tensor, pattern: Pattern) -> Products:
        shape = (*left.shape[:-2], pattern.nnz_csr)
        new: Products = Tensor._make_wrapper_subclass(
            cls, shape, dtype=left.dtype, device=left.device
        )
        new.left, new.right, new.pattern = left, right, pattern
        new._entries, new._made = None, 0
        return new

    _entries: Tensor | None
    _made: int  # version of the entries when they were made

    def entries(self) -> Tensor:
        """Make the entries ``[*batch, nnz]``, once."""
        if self._entries is None:
            batch = self.left.shape[:-2]
            u, v = (x if len(batch) < 2 else x.flatten(0, -3) for x in (self.left, self.right))
            made = kernels.sampled_product(self.pattern.crow, self.pattern.ccol, u, v)
            self._entries = made if len(batch) < 2 else made.unflatten(0, batch)
            self._made = self._entries._version
        return self._entries

    def on(self, pattern: Pattern) -> bool:
        """Whether the entries are those of a pattern, not as many others, and the two vectors still give them."""
        return self.untouched and (self.pattern is pattern or self.pattern.key == pattern.key)

    @property
    def untouched(self) -> bool:
        """Whether nobody, a hook for one, wrote into the entries."""
        return self._entries is None or self._entries._version == self._made

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        if func in _FACTS:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        return func(*tree_map(_plain, args), **tree_map(_plain, kwargs or {}))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        if func in _VIEWS and isinstance(args[0], Products) and args[0].untouched:
            shape = func(torch.empty(args[0].shape, device="meta"), *args[1:]).shape
            if shape[-1:] == args[0].shape[-1:]:
                x, lead = args[0], shape[:-1]
                left, right = (t.reshape(*lead, *t.shape[-2:]) for t in (x.left, x.right))
                return Products(left, right, x.pattern)
        return func(*tree_map(_plain, args), **tree_map(_plain, kwargs or {}))


_FACTS = frozenset(
    getattr(Tensor, name).__get__
    for name in (
        "shape",
        "dtype",
        "device",
        "ndim",
        "layout",
        "requires_grad",
        "is_leaf",
        "grad_fn",
    )
)
_VIEWS = frozenset(
    (
        torch.ops.aten.view.default,
        torch.ops.aten._reshape_alias.default,
        torch.ops.aten.unsqueeze.default,
        torch.ops.aten.squeeze.default,
        torch.ops.aten.squeeze.dim,
    )
)


def _plain(x: Any) -> Any:
    return x.entries() if isinstance(x, Products) else x


def takes_products(node: Any, columns: int) -> bool:
    """Whether a gradient of that many columns is better sent to a node of a graph as `Products`, now."""
    if columns > _FEW or is_recorded():
        return False
    seen, ahead = set(), [node]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        kind = getattr(node, "_forward_cls", None)
        if getattr(kind, "takes_products", False):
            return True
        if getattr(kind, "hands_products", False) or (kind is None and node.name() in _HAND_ON):
            ahead += [following for following, _ in node.next_functions]
    return False
