"""From the coefficients of a form to the values of a matrix, without all element matrices in between.

The compiled kernel takes a few cells at a time: coefficients are pulled back, contracted with the table and added to
the values while they are in cache; the adjoint goes the other way. It serves double precision on the CPU while the
table stays in cache, and fields with one node of equal components after another. Its result is that of `pull_back`,
`contract` and the map of the element matrices, summed in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla._core import extension
from torch_sla.assembly.kernels.contract import LARGEST_TABLE
from torch_sla.lazy import cached_property
from torch_sla.linalg.adjoint.linear import Linear, LinearMap
from torch_sla.linalg.adjoint.products import Products
from torch_sla.linalg.kernels.arguments import empty, plain
from torch_sla.linalg.kernels.threads import resolve_threads
from torch_sla.linalg.sparse.transforms import outside_compiler

if TYPE_CHECKING:
    from torch_sla.assembly.kernels.pullback import Jets
    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["Places", "SummedForm", "sums"]

_compiled: Any = None if extension is None else extension.assembly


@dataclass(frozen=True, eq=False)
class Places:
    """Where the entries of the element matrices of a field go.

    Parameters
    ----------
    nodes
        Nodes of each cell ``[n, nb]`` int64.
    pairs
        Slot of each pair of them in the pattern of the nodes ``[n, nb * nb]``.
    starts
        Row starts of that pattern, of the dtype of `pairs`.
    components
        Dofs of each node.
    """

    nodes: Tensor
    pairs: Tensor
    starts: Tensor
    components: int

    @cached_property
    def nnz(self) -> int:
        """Values of the matrix."""
        return int(self.starts[-1]) * self.components**2


@dataclass(frozen=True, eq=False)
class SummedForm:
    """A bilinear form on the cells of a mesh, linear in a source.

    Parameters
    ----------
    places
        Where the entries go.
    table
        ``[terms, nb, nb]``, real.
    jets, inverse, measure
        As in `pull_back`; None where the source is pulled back already.
    weights
        ``[slots, K]``: how the coefficients, slots ``[component, jet, component, jet]`` in order, are made of K
        sources; None where they are the sources.
    points
        Of the quadrature: the basis functions and their derivatives on the reference cell ``[q, 1 + dim, nb]``, and
        weights ``[q]``. With them, gradients that are products of two fields are found without a matrix.
    pattern
        Of the values, to know these by.
    """

    places: Places
    table: Tensor
    jets: Jets | None = None
    inverse: Tensor | None = None
    measure: Tensor | None = None
    weights: Tensor | None = None
    points: tuple[Tensor, Tensor] | None = None
    pattern: Pattern | None = None

    def __call__(self, source: Tensor) -> Tensor:
        """Sum the element matrices.

        Parameters
        ----------
        source
            ``[K, *batch, n|1, q|1]``, or pulled back ``[components**2, *batch, n, terms]``.

        Returns
        -------
        Tensor ``[*batch, nnz]``.
        """
        batch = source.shape[1:-2]
        folded = source.flatten(1, -3) if batch else source.unsqueeze(1)
        values = _Sum(self)(folded)
        return values.unflatten(0, batch) if batch else values.squeeze(0)

    @cached_property
    def _table(self) -> Tensor:
        return self.table.flatten(1).contiguous()

    @cached_property
    def _columns(self) -> Tensor:
        return self.table.flatten(1).T.contiguous()

    @property
    def _flags(self) -> list[bool]:
        return list(self.jets or (False,) * 4)

    def _sizes(self, shape: torch.Size) -> list[int]:
        """Extents for a source ``[K, batch, n|1, q|1]``."""
        terms, nb, _ = self.table.shape
        c, n = self.places.components, len(self.places.nodes)
        parts, batch, sites, points = shape
        geometry = dim = 1
        if self.inverse is None:
            dim = 0
        else:
            geometry, dim = self.inverse.shape[1], self.inverse.shape[-1]
        most = max(points, geometry)
        return [c, c, batch, n, terms, nb, nb, most, sites, points, geometry, parts, dim]

    @outside_compiler
    def run(self, name: str, source: Tensor, shape: torch.Size, result: tuple[int, ...]) -> Tensor:
        """Call a kernel; `shape` is that of the coefficients."""
        source, out = plain(source), empty(result, source.dtype)
        none = torch.empty(0, dtype=torch.float64, device="cpu")
        weights = none if self.weights is None else self.weights
        inverse, measure = (none if t is None else plain(t) for t in (self.inverse, self.measure))
        table = self._table if name == "sum_matrices" else self._columns
        places, sizes = self.places, self._sizes(shape)
        work = len(places.nodes) * self.table.numel() * places.components**2
        threads = resolve_threads(None, sizes[2] * work)
        arrays = (
            *(source, plain(weights, source.dtype), inverse, measure, table),
            *(places.nodes, places.pairs, places.starts, out),
        )
        getattr(_compiled, name)(*(t.numpy() for t in arrays), sizes, self._flags, threads)
        return out

    @outside_compiler
    def pair(self, values: Products, shape: torch.Size) -> Tensor:
        """Pull values that are products back to coefficients ``[K, batch, n, q|1]``, each factor on its own."""
        known = _compiled is not None and self.pattern is not None and values.on(self.pattern)
        if not known or self.points is None or self.inverse is None or self.measure is None:
            return self.run("sum_matrices_adjoint", values.entries(), shape, tuple(shape))
        left, right = plain(values.left), plain(values.right)
        out = empty(tuple(shape), left.dtype)
        basis, points = (plain(t, torch.float64) for t in self.points)
        none = torch.empty(0, dtype=left.dtype, device="cpu")
        weights = none if self.weights is None else plain(self.weights, left.dtype)
        c, (n, nb), dim = self.places.components, self.places.nodes.shape, self.inverse.shape[-1]
        batch, rank = shape[1], left.shape[-1]
        sizes = [c, batch, n, nb, len(points), shape[3], self.inverse.shape[1], shape[0], rank]
        sizes.append(len(self.places.starts) - 1)
        arrays = (left, right, weights, plain(self.inverse), plain(self.measure), basis, points)
        threads = resolve_threads(None, batch * n * len(points) * nb * c * rank * 2 * dim)
        _compiled.pair_fields(
            *(t.numpy() for t in (*arrays, self.places.nodes, out)),
            sizes,
            dim,
            self._flags,
            threads,
        )
        return out


def sums(table: Tensor, dtype: torch.dtype, inverse: Tensor) -> bool:
    """Whether the kernel takes such a form.

    Parameters
    ----------
    table
        ``[terms, nb, nb]``.
    dtype
        Of the source.
    inverse
        ``dX/dx`` of the cells.
    """
    return (
        _compiled is not None
        and inverse.is_cpu
        and inverse.dtype is torch.float64
        and dtype in (torch.float64, torch.complex128)
        and 0 < table.numel() <= LARGEST_TABLE
        and inverse.shape[0] > 0
    )


class _TakesProducts(Linear):
    """A map whose cotangent may be `Products`."""

    takes_products = True


@dataclass(eq=False)
class _Sum(LinearMap):
    """Source ``[K, batch, n|1, q|1]`` -> values."""

    form: SummedForm
    members = (1, 0)
    function = _TakesProducts

    def run(self, source: Tensor) -> Tensor:
        shape = (source.shape[1], self.form.places.nnz)
        return self.form.run("sum_matrices", source, source.shape, shape)

    def adjoint(self, shape: torch.Size) -> _Spread:
        return _Spread(self.form, shape)


@dataclass(eq=False)
class _Spread(LinearMap):
    """The adjoint of `_Sum`, summed over what the sites share."""

    form: SummedForm
    shape: torch.Size
    members = (0, 1)

    def __call__(self, values: Tensor) -> Tensor:
        # Products have no derivatives.
        return self.run(values) if isinstance(values, Products) else super().__call__(values)

    def run(self, values: Tensor) -> Tensor:
        form, shape = self.form, self.shape
        full = torch.Size((*shape[:2], len(form.places.nodes), shape[3]))
        if isinstance(values, Products):
            source = form.pair(values, full)
        else:
            source = form.run("sum_matrices_adjoint", values, full, full)
        return source.sum(2, keepdim=True) if shape[2] != full[2] else source

    def adjoint(self, shape: torch.Size) -> _Sum:
        del shape
        return _Sum(self.form)

    def of_many(self, count: int) -> _Spread:
        shape = self.shape
        return _Spread(self.form, torch.Size((shape[0], count * shape[1], *shape[2:])))
