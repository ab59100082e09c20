"""`SparseTensor`: a pattern, values on it, and a table of methods.

The class holds what it is made of and what is known of it; its shapes and sizes are in `sizes`. What it can do is
written as functions in the files beside it (`algebra`, `convert`, `reductions` ...), whose first argument is the
tensor; `verbs` holds those whose work is done by the rooms above. The table at the end of the class makes them methods.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, DTypeError
from torch_sla.linalg.kernels.arguments import expect_dense
from torch_sla.linalg.sparse import (
    algebra,
    blocks,
    convert,
    elementwise,
    graph,
    properties,
    reductions,
    verbs,
)
from torch_sla.linalg.sparse.marked import Marked, look_at
from torch_sla.linalg.sparse.pattern import Pattern
from torch_sla.linalg.sparse.sizes import OnPattern
from torch_sla.linalg.sparse.structure import Structure, detect
from torch_sla.linalg.sparse.transforms import outside_transforms, physical

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

__all__ = ["SparseTensor"]


class SparseTensor(OnPattern):
    """A sparse matrix, or a batch of them on one pattern, whose values take part in autograd.

    Parameters
    ----------
    values
        ``[nnz]``, ``[*batch, nnz]``, or with blocks ``[*batch, nnz, br, bc]``. Floating point or
        complex. Kept as it is given, not copied: a later change of it in place changes the matrix.
    row, col
        int32 or int64 ``[nnz]``, any order. Entries at equal coordinates add up.
    shape
        ``(M, N)`` or ``(*batch, M, N, *block)``.
    sparse_dim
        Where ``M, N`` are in `shape`; only the default, the two dimensions before the blocks,
        exists.

    Raises
    ------
    ArgumentError
        When shapes, indices or devices do not fit together.
    DTypeError
        When the values are integers or booleans.

    Examples
    --------
    >>> import torch
    >>> A = SparseTensor(
    ...     torch.tensor([2.0, 2.0, 1.0]), torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]), (2, 2)
    ... )
    >>> A @ torch.tensor([1.0, 1.0])
    tensor([2., 3.])
    >>> A.solve(torch.tensor([2.0, 3.0])).round(decimals=5)
    tensor([1., 1.])
    """

    def __init__(
        self,
        values: Tensor,
        row: Tensor,
        col: Tensor,
        shape: tuple[int, ...],
        sparse_dim: tuple[int, int] = (-2, -1),
    ) -> None:
        if tuple(sparse_dim) != (-2, -1):
            raise ArgumentError(
                f"`sparse_dim` must be (-2, -1), the last two dimensions before the blocks, got {sparse_dim}"
            )
        for name, index in (("row", row), ("col", col)):
            if not isinstance(index, Tensor) or index.ndim != 1:
                got = list(index.shape) if isinstance(index, Tensor) else type(index).__name__
                raise ArgumentError(f"`{name}` must be a tensor [nnz], got {got}")
        _check_values(values)
        size, block = _split_shape(values, tuple(shape), row.numel())
        if values.device != row.device:
            raise ArgumentError(
                f"`values` and `row` must be on one device, got {values.device} and {row.device}"
            )
        self._set(Pattern.from_coo(row, col, size, block), values, None)

    @classmethod
    def from_pattern(
        cls, pattern: Pattern, values: Tensor, structure: Structure | None = None
    ) -> SparseTensor:
        """Put values on a pattern that exists already; nothing is copied.

        Parameters
        ----------
        pattern
            Where entries are.
        values
            ``[*batch, nnz, *block]``.
        structure
            What is known about the matrix; trusted, and guarded by the residual check of every
            solve.
        """
        _check_values(values)
        trail = values.shape[values.ndim - 1 - len(pattern.block) :]
        if tuple(trail) != (pattern.nnz, *pattern.block):
            raise ArgumentError(
                f"`values` must end in {[pattern.nnz, *pattern.block]}, got shape {list(values.shape)}"
            )
        if values.device != pattern.device:
            raise ArgumentError(f"`values` on {values.device}, pattern on {pattern.device}")
        out = cls.__new__(cls)
        out._set(pattern, values, structure)
        return out

    def _set(self, pattern: Pattern, values: Tensor, structure: Structure | None) -> None:
        self.pattern = pattern
        self._values = values
        self._declared = structure or Structure()
        self._detected: tuple[Hashable, Structure] | None = None

    # --- what is known of it -------------------------------------------------------------------

    @property
    def declared(self) -> Structure:
        """What the maker of the tensor said about it."""
        return self._declared

    def declare(self, **known: Any) -> SparseTensor:
        """Return the same matrix with more said about it, see `Structure`.

        Parameters
        ----------
        **known
            Fields of `Structure`, such as ``positive_definite=True`` or ``ordering=permutation``. What
            is declared is taken at its word, though every solution is checked.

        Examples
        --------
        >>> import torch
        >>> A = SparseTensor.eye(3).declare(ordering="natural")
        >>> A.structure.ordering
        'natural'
        """
        unknown = set(known) - {f.name for f in fields(Structure)}
        if unknown:
            raise ArgumentError(f"a structure has no {min(unknown)!r}, see `Structure`")
        return SparseTensor.from_pattern(
            self.pattern, self._values, self._declared.updated(**known)
        )

    @property
    def structure(self) -> Structure:
        """What is known: declared, and detected from the present values."""
        return self.known_structure()

    def known_structure(self) -> Structure:
        """Return declared properties completed by detection, remembered per content of the values."""
        return self._known(None)[0]

    def structure_and_marked(
        self, beside: Callable[[], Sequence[Tensor]] = tuple
    ) -> tuple[Structure, Marked | None]:
        """Return what is known for a solve, and the values with their fingerprint where it was needed for that.

        On a device, numbers that are wanted `beside`, and what a solve asks of the pattern, are read with it.
        """
        return self._known(beside)

    def _known(
        self, beside: Callable[[], Sequence[Tensor]] | None
    ) -> tuple[Structure, Marked | None]:
        s = self._declared
        if s.hermitian is not None and (s.positive_definite is not None or not s.hermitian):
            return s, None
        if s.positive_definite:
            return s.updated(hermitian=True), None
        found, marked = self._detect(beside)
        return s.merged(found), marked

    def detected_structure(self) -> Structure:
        """Return what the present values show, remembered per content of the values."""
        return self._detect(None)[0]

    def _detect(self, beside: Callable[[], Sequence[Tensor]] | None) -> tuple[Structure, Marked]:
        pattern, values = self.flat_slots()
        return self._detected_from(pattern, physical(values), beside)

    @outside_transforms
    def _detected_from(
        self, pattern: Pattern, values: Tensor, beside: Callable[[], Sequence[Tensor]] | None
    ) -> tuple[Structure, Marked]:
        marked, counted = look_at(pattern, values, beside, new=self._detected is None)
        if self._detected is None or self._detected[0] != marked.mark:
            self._detected = (marked.mark, detect(pattern, values, counted))
        return self._detected[1], marked

    def flat_slots(self) -> tuple[Pattern, Tensor]:
        """Return the scalar slot pattern and its values ``[*batch, nnz_csr]``, blocks written out."""
        values = self.csr_values
        if not self.pattern.block:
            return self.pattern.slots, values
        flat, order = self.pattern.flat
        return flat, order.gather(values.flatten(-3))

    # --- moving and casting --------------------------------------------------------------------

    def _like(self, values: Tensor) -> SparseTensor:
        return SparseTensor.from_pattern(self.pattern.to(values.device), values, self._declared)

    def to(self, *args: Any, **kwargs: Any) -> SparseTensor:
        """Move or cast the values as `torch.Tensor.to` does; the indices follow the device."""
        return self._like(self._values.to(*args, **kwargs))

    def cuda(self) -> SparseTensor:
        """Move to the current CUDA device."""
        return self._like(self._values.cuda())

    def cpu(self) -> SparseTensor:
        """Move to the CPU."""
        return self._like(self._values.cpu())

    def float(self) -> SparseTensor:
        """Cast to float32."""
        return self._like(self._values.float())

    def double(self) -> SparseTensor:
        """Cast to float64."""
        return self._like(self._values.double())

    def half(self) -> SparseTensor:
        """Cast to float16 (storage only: no solver works in it)."""
        return self._like(self._values.half())

    def clone(self) -> SparseTensor:
        """Return the same matrix on values of its own, which later changes in place do not reach; differentiable."""
        other = self._like(self._values.clone())
        other._detected = self._detected
        return other

    def detach(self) -> SparseTensor:
        """Return the same matrix outside the graph."""
        return self._like(self._values.detach())

    # --- turning -------------------------------------------------------------------------------

    def T(self) -> SparseTensor:
        """Return the transpose, on slots."""
        values = self.pattern.transpose_values(self.csr_values)
        return SparseTensor.from_pattern(self.pattern.transposed, values)

    def H(self) -> SparseTensor:
        """Return the conjugate transpose, on slots."""
        values = self.pattern.transpose_values(self.csr_values).conj()
        return SparseTensor.from_pattern(self.pattern.transposed, values)

    def __reduce__(self) -> tuple[Any, ...]:
        known = {f.name: getattr(self._declared, f.name) for f in fields(Structure)}
        given = {name: value for name, value in known.items() if value is not None}
        return _rebuilt, (self.pattern, self._values, given)

    def __repr__(self) -> str:
        extra = ", requires_grad=True" if self.requires_grad else ""
        return (
            f"SparseTensor(shape={tuple(self.shape)}, nnz={self.nnz}, dtype={self.dtype}, "
            f"device={self.device}{extra})"
        )

    # --- methods written elsewhere -------------------------------------------------------------

    from_dense = classmethod(convert.from_dense)
    from_torch_sparse = classmethod(convert.from_torch_sparse)
    from_scipy = classmethod(convert.from_scipy)
    eye = classmethod(convert.eye)
    diag = classmethod(convert.diag)
    tridiagonal = classmethod(convert.tridiagonal)
    load = classmethod(verbs.load)

    to_dense = convert.to_dense
    to_torch = convert.to_torch
    to_scipy = convert.to_scipy
    to_csr = convert.to_csr
    save = verbs.save
    flatten_blocks = blocks.flatten_blocks
    unflatten_blocks = blocks.unflatten_blocks

    __add__ = algebra.add
    __radd__ = algebra.right_add
    __sub__ = algebra.subtract
    __rsub__ = algebra.right_subtract
    __neg__ = algebra.negative
    __mul__ = __rmul__ = algebra.multiply
    __truediv__ = algebra.divide
    __matmul__ = algebra.right_matmul
    __rmatmul__ = algebra.left_matmul

    apply = elementwise.apply
    clamp = elementwise.clamp
    pow = __pow__ = elementwise.power
    abs = __abs__ = elementwise.of_entries("abs")
    ceil = elementwise.of_entries("ceil")
    conj = elementwise.of_entries("conj", linear=True)
    cos = elementwise.of_entries("cos")
    cosh = elementwise.of_entries("cosh")
    exp = elementwise.of_entries("exp")
    expm1 = elementwise.of_entries("expm1")
    floor = elementwise.of_entries("floor")
    imag = elementwise.imag
    log = elementwise.of_entries("log")
    log1p = elementwise.of_entries("log1p")
    neg = algebra.negative
    real = elementwise.of_entries("real", linear=True)
    reciprocal = elementwise.of_entries("reciprocal")
    relu = elementwise.of_entries("relu")
    round = elementwise.of_entries("round")
    sigmoid = elementwise.of_entries("sigmoid")
    sign = elementwise.of_entries("sgn")
    sin = elementwise.of_entries("sin")
    sinh = elementwise.of_entries("sinh")
    sqrt = elementwise.of_entries("sqrt")
    square = elementwise.of_entries("square")
    tan = elementwise.of_entries("tan")
    tanh = elementwise.of_entries("tanh")

    sum = reductions.total
    mean = reductions.mean
    prod = reductions.product
    max = reductions.maximum
    min = reductions.minimum
    norm = reductions.norm

    is_symmetric = properties.is_symmetric
    is_hermitian = properties.is_hermitian
    is_positive_definite = verbs.is_positive_definite
    connected_components = graph.connected_components
    to_connected_components = graph.to_connected_components
    has_isolated_components = graph.has_isolated_components
    spy = graph.spy

    solve = verbs.solve
    solve_batch = verbs.solve_batch
    plan = verbs.plan
    factorize = verbs.factorize
    lu = verbs.lu
    cholesky = verbs.cholesky
    ldlt = verbs.ldlt
    det = verbs.det
    slogdet = verbs.slogdet
    logdet = verbs.logdet
    eigsh = verbs.eigsh
    eigs = verbs.eigs
    svd = verbs.svd
    condition_number = verbs.condition_number
    nonlinear_solve = verbs.nonlinear_solve
    partition = verbs.partition


def _rebuilt(pattern: Pattern, values: Tensor, known: dict[str, Any]) -> SparseTensor:
    """Return what was pickled, checked."""
    return SparseTensor.from_pattern(pattern, values, Structure(**known))


torch.serialization.add_safe_globals([_rebuilt])


def _check_values(values: Tensor) -> None:
    if not isinstance(values, Tensor):
        raise ArgumentError(f"`values` must be a tensor, got {type(values).__name__}")
    expect_dense(values, "values")
    if not (values.is_floating_point() or values.is_complex()):
        raise DTypeError(
            f"`values` must be floating point or complex, got {values.dtype}; use values.double()"
        )
    if values.dtype == torch.complex32:
        raise DTypeError(
            "`values` are torch.complex32, which torch cannot add up; use values.to(torch.complex64)"
        )


def _split_shape(
    values: Tensor, shape: tuple[int, ...], nnz: int
) -> tuple[tuple[int, int], tuple[int, ...]]:
    """Tell batch, matrix and block dimensions apart: ``values`` is ``[*batch, nnz, *block]``."""
    extra = len(shape) - 2
    readings = []
    for nb in range(extra + 1):
        block = shape[nb + 2 :]
        if len(block) in (0, 2) and tuple(values.shape) == (*shape[:nb], nnz, *block):
            readings.append(((shape[nb], shape[nb + 1]), block))
    if not readings:
        raise ArgumentError(
            f"`values` of shape {list(values.shape)} with {nnz} coordinates do not fit `shape` {shape}: expected "
            f"values [*batch, nnz, *block] for shape (*batch, M, N, *block)"
        )
    if len(readings) > 1:
        raise ArgumentError(
            f"`shape` {shape} may mean a batch or blocks for values {list(values.shape)}; build a `Pattern` and use "
            "`SparseTensor.from_pattern`, which says which"
        )
    return readings[0]
