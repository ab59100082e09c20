"""`DVector`: a vector in parts, and what can be done to it without looking at other parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.linalg.adjoint.exchange import gathered, replicated, total
from torch_sla.linalg.scaling import powers_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.linalg.distributed.communicator import Communicator
    from torch_sla.linalg.distributed.layout import Layout

__all__ = ["DVector", "two_norm"]

# Functions of each entry on its own: they mean the same on a part as on the whole.
_POINTWISE = (
    *(
        "abs",
        "acos",
        "asin",
        "atan",
        "atan2",
        "clamp",
        "conj",
        "cos",
        "cosh",
        "erf",
        "exp",
        "expm1",
    ),
    *(
        "imag",
        "log",
        "log1p",
        "maximum",
        "minimum",
        "neg",
        "ones_like",
        "pow",
        "real",
        "reciprocal",
    ),
    *("relu", "rsqrt", "sigmoid", "sign", "sin", "sinh", "sqrt", "square", "tan", "tanh", "where"),
    *("zeros_like", "add", "sub", "mul", "div", "true_divide"),
)
_OPERATORS = (
    "__add__",
    "__radd__",
    "__sub__",
    "__rsub__",
    "__mul__",
    "__rmul__",
    "__truediv__",
    "__pow__",
    "__rpow__",
)
_ALLOWED = {
    *(getattr(torch, name) for name in _POINTWISE),
    *(getattr(Tensor, name) for name in (*_POINTWISE, *_OPERATORS) if hasattr(Tensor, name)),
    torch.nn.functional.softplus,
    torch.nn.functional.relu,
}


class DVector:
    """A vector whose entries are owned by parts; every process has those of its own.

    Arithmetic, and functions of each entry (``torch.exp(v)``, ``torch.where(v > 0, v, 0)``), act on what is here
    and take part in autograd. `sum`, `dot` and `norm` are over all parts, the same number on every process.
    Tensors with one entry that require a gradient are taken to be copies that every process holds.

    Parameters
    ----------
    local
        What this process holds, ``[n_held]`` or ``[n_held, K]``.
    layout
        Who owns what.

    Examples
    --------
    >>> import torch
    >>> from torch_sla.linalg import DSparseTensor, SparseTensor
    >>> D = DSparseTensor.from_sparse_tensor(SparseTensor.eye(4, dtype=torch.float64), 2)
    >>> v = D.vector(torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64))
    >>> float((2 * v + torch.exp(0 * v)).sum())
    24.0
    """

    def __init__(self, local: Tensor, layout: Layout) -> None:
        if not isinstance(local, Tensor) or local.ndim not in (1, 2):
            raise ArgumentError("`local` must be a tensor [n_held] or [n_held, K]")
        if local.shape[0] != layout.n_held:
            raise ArgumentError(
                f"`local` must have the {layout.n_held} entries that this process holds, got {list(local.shape)}"
            )
        self.local, self.layout = local, layout

    @property
    def shape(self) -> torch.Size:
        """Of the whole vector."""
        return torch.Size((self.layout.n, *self.local.shape[1:]))

    @property
    def dtype(self) -> torch.dtype:
        """Of its entries."""
        return self.local.dtype

    @property
    def device(self) -> torch.device:
        """Of what this process holds."""
        return self.local.device

    @property
    def requires_grad(self) -> bool:
        """Whether the entries here do."""
        return self.local.requires_grad

    @property
    def grad(self) -> DVector | None:
        """Gradient that reached the entries here, when they are a leaf."""
        return None if self.local.grad is None else DVector(self.local.grad, self.layout)

    @property
    def names(self) -> Tensor:
        """Numbers in the whole vector of the entries held here ``[n_held]``."""
        return self.layout.names

    def requires_grad_(self, requires_grad: bool = True) -> DVector:
        """Ask for gradients of the entries, in place."""
        self.local.requires_grad_(requires_grad)
        return self

    def detach(self) -> DVector:
        """Return the same entries without history."""
        return DVector(self.local.detach(), self.layout)

    def clone(self) -> DVector:
        """Return a copy."""
        return DVector(self.local.clone(), self.layout)

    def to(self, dtype: torch.dtype) -> DVector:
        """Cast the entries."""
        return DVector(self.local.to(dtype), self.layout)

    def map(self, function: Callable[..., Tensor], *others: Any) -> DVector:
        """Apply a function of each entry to what is here.

        Parameters
        ----------
        function
            ``(tensor, *others) -> tensor`` that treats every entry on its own.
        others
            Vectors of the same layout; tensors of which every process has the same copy (the weights of a network);
            anything else. What requires a gradient must be given here: of what the function merely captures, a
            process gets its own share of the gradient.
        """
        inside = (self._inside(o, any_shape=True) for o in others)
        return DVector(function(self.local, *inside), self.layout)

    def _pointwise(self, function: Callable[..., Tensor], other: Any) -> DVector:
        return DVector(function(self.local, self._inside(other)), self.layout)

    def _inside(self, other: Any, *, any_shape: bool = False) -> Any:
        if isinstance(other, DVector):
            if not self.layout.same(other.layout):
                raise ArgumentError(
                    "the vectors are cut into different parts; D.vector(x) moves the entries of one, where D is the "
                    "matrix that the other was made from"
                )
            return other.local
        if isinstance(other, Tensor):
            if other.numel() != 1 and not any_shape:
                raise ArgumentError(
                    f"a tensor of shape {list(other.shape)} does not say which parts its entries belong to; make it a "
                    "DVector with D.vector(...)"
                )
            return replicated(other, self.layout.comm) if other.requires_grad else other
        return other

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        if func not in _ALLOWED:
            name = getattr(func, "__name__", str(func))
            raise ArgumentError(
                f"torch.{name} of a DVector is not a function of each entry; use its methods (sum, dot, norm, map), or "
                "`local` for what is here"
            )
        named = kwargs or {}
        first = next(a for a in (*args, *named.values()) if isinstance(a, DVector))
        inside = [first._inside(a) for a in args]
        named = {name: first._inside(a) for name, a in named.items()}
        return DVector(func(*inside, **named), first.layout)

    def __add__(self, other: Any) -> DVector:
        return self._pointwise(torch.add, other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> DVector:
        return self._pointwise(torch.sub, other)

    def __rsub__(self, other: Any) -> DVector:
        return self._pointwise(lambda x, y: y - x, other)

    def __mul__(self, other: Any) -> DVector:
        return self._pointwise(torch.mul, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> DVector:
        return self._pointwise(torch.div, other)

    def __rtruediv__(self, other: Any) -> DVector:
        return self._pointwise(lambda x, y: y / x, other)

    def __pow__(self, other: Any) -> DVector:
        return self._pointwise(torch.pow, other)

    def __neg__(self) -> DVector:
        return self.map(torch.neg)

    def __gt__(self, other: Any) -> DVector:
        return self._pointwise(torch.gt, other)

    def __lt__(self, other: Any) -> DVector:
        return self._pointwise(torch.lt, other)

    def exp(self) -> DVector:
        """Return the exponential of each entry."""
        return self.map(torch.exp)

    def abs(self) -> DVector:
        """Return the absolute value of each entry."""
        return self.map(torch.abs)

    # --- over all parts --------------------------------------------------------------------------

    def sum(self) -> Tensor:
        """Return the sum of all entries (of each column), on every process; differentiable."""
        return total(self.local.sum(0), self.layout.comm)

    def mean(self) -> Tensor:
        """Return the mean of all entries (of each column)."""
        return self.sum() / self.layout.n

    def dot(self, other: DVector) -> Tensor:
        """Return ``selfᴴ other`` (of each column), on every process; differentiable."""
        return total((self.local.conj() * self._inside(other)).sum(0), self.layout.comm)

    def norm(self) -> Tensor:
        """Return the 2-norm (of each column); its gradient at zero is zero."""
        return two_norm(self.local, self.layout.comm)

    def max(self) -> Tensor:
        """Return the largest entry (of each column), without a gradient."""
        x = self.local.detach()
        low = torch.full(x.shape[1:], -torch.inf, dtype=x.dtype, device=x.device)
        return self.layout.comm.reduce(x.amax(0) if x.shape[0] else low, "max")

    def min(self) -> Tensor:
        """Return the smallest entry (of each column), without a gradient."""
        return -(-self).max()

    # --- the whole -------------------------------------------------------------------------------

    def full_tensor(self) -> Tensor:
        """Gather the whole vector on every process, in the order of the user; differentiable.

        Takes the memory of the whole on each: for small vectors, tests and files. As of `sum`, every process
        computes the same loss from the result; each keeps the gradient of its own entries.
        """
        return gathered(self.local, self.layout.names, self.layout.n, self.layout.comm)

    def to_dtensor(self, device_mesh: Any) -> Any:
        """Return the vector as a `DTensor` sharded in equal chunks, in the order of the user.

        Entries move to the process whose chunk they are in; not differentiable.

        Parameters
        ----------
        device_mesh
            One-dimensional, over the processes of this vector.
        """
        from torch.distributed.tensor import DTensor, Shard

        comm, n = self.layout.comm, self.layout.n
        if comm.world != device_mesh.size():
            raise ArgumentError(
                f"`device_mesh` has {device_mesh.size()} processes, the vector {comm.world}"
            )
        chunk = max(-(-n // comm.world), 1)
        rank = torch.div(self.layout.names, chunk, rounding_mode="floor")
        firsts = torch.tensor([comm.first_part(r) for r in range(comm.world)])
        first = firsts.to(rank.device)[rank]
        _, (names, entries) = comm.route(first, [self.layout.names, self.local.detach()])
        begin = min(comm.rank * chunk, n)
        local = entries.new_empty((min(begin + chunk, n) - begin, *entries.shape[1:]))
        local[names - begin] = entries
        return DTensor.from_local(
            local, device_mesh, [Shard(0)], shape=self.shape, stride=_strides(self.shape)
        )

    def __repr__(self) -> str:
        comm = self.layout.comm
        return f"DVector({list(self.shape)} in {comm.parts} parts, {self.layout.n_held} here, {self.dtype})"


def _strides(shape: torch.Size) -> tuple[int, ...]:
    return (1,) if len(shape) == 1 else (shape[1], 1)


def two_norm(x: Tensor, comm: Communicator) -> Tensor:
    """Return the 2-norm of each column over all processes, the same on each; its gradient at zero is zero.

    Parameters
    ----------
    x
        ``[n]`` or ``[n, K]``, what is held here.
    comm
        Of the processes that hold the rest.
    """
    square = total(x.abs().square().sum(0), comm)
    known, info = square.detach(), torch.finfo(square.dtype)
    # All processes see the same sum, and go on alike.
    if bool(((known >= info.tiny / info.eps) & (known <= info.max)).all()):
        return square.sqrt()
    size = x.detach().abs()
    none = size.new_zeros(size.shape[1:])
    scale = powers_of(comm.reduce(size.amax(0) if len(size) else none, "max"))
    square = total((x / scale).abs().square().sum(0), comm)
    zero = square == 0
    return square.masked_fill(zero, 1.0).sqrt().masked_fill(zero, 0.0) * scale
