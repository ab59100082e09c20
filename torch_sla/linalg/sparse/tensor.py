"""`SparseTensor`: a pattern, values on it, and thin typed methods.

The work lives elsewhere: construction and conversion in `convert`, solving in
`torch_sla.linalg.solve`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, DTypeError
from torch_sla.linalg.adjoint.matvec import matmul
from torch_sla.linalg.kernels import sparse as kernels
from torch_sla.linalg.sparse.pattern import Pattern
from torch_sla.linalg.sparse.structure import Structure, detect
from torch_sla.linalg.sparse.transforms import outside_transforms, physical

if TYPE_CHECKING:
    import builtins
    from collections.abc import Hashable

    from torch_sla.linalg.plan.plan import SolvePlan

__all__ = ["SparseTensor"]


class SparseTensor:
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
    >>> A.solve(torch.tensor([2.0, 3.0]))
    tensor([1., 1.])
    """

    pattern: Pattern

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
        if row.ndim != 1:
            raise ArgumentError(f"`row` must be a vector, got shape {list(row.shape)}")
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

    # --- what it is ----------------------------------------------------------------------------

    @property
    def values(self) -> Tensor:
        """Entries as given, ``[*batch, nnz, *block]``."""
        return self._values

    @property
    def csr_values(self) -> Tensor:
        """Entries summed onto the slots of the pattern, ``[*batch, nnz_csr, *block]``."""
        return self.pattern.coalesce(self._values)

    @property
    def row_indices(self) -> Tensor:
        """Row of each entry ``[nnz]``."""
        return self.pattern.row

    @property
    def col_indices(self) -> Tensor:
        """Column of each entry ``[nnz]``."""
        return self.pattern.col

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading dimensions of the values."""
        return tuple(self._values.shape[: self._values.ndim - 1 - len(self.pattern.block)])

    @property
    def block_shape(self) -> tuple[int, ...]:
        """Shape of each entry, ``()`` for scalars."""
        return self.pattern.block

    @property
    def sparse_shape(self) -> tuple[int, int]:
        """``(M, N)``, in blocks."""
        return self.pattern.shape

    @property
    def flat_shape(self) -> tuple[int, int]:
        """``(M, N)`` in scalars."""
        br, bc = self.pattern.block or (1, 1)
        return self.pattern.shape[0] * br, self.pattern.shape[1] * bc

    @property
    def shape(self) -> torch.Size:
        """``(*batch, M, N, *block)``."""
        return torch.Size((*self.batch_shape, *self.pattern.shape, *self.pattern.block))

    @property
    def sparse_dim(self) -> tuple[int, int]:
        """Where ``M, N`` are among the dimensions before the blocks."""
        return (-2, -1)

    @property
    def batch_size(self) -> int:
        """Number of matrices, 1 without batch dimensions."""
        return torch.Size(self.batch_shape).numel()

    @property
    def ndim(self) -> int:
        """Number of dimensions of `shape`."""
        return len(self.shape)

    @property
    def nnz(self) -> int:
        """Entries as given."""
        return self.pattern.nnz

    @property
    def dtype(self) -> torch.dtype:
        """Of the values."""
        return self._values.dtype

    @property
    def device(self) -> torch.device:
        """Of the values and indices."""
        return self._values.device

    @property
    def is_cuda(self) -> bool:
        """Whether on a CUDA device."""
        return self._values.is_cuda

    @property
    def is_batched(self) -> bool:
        """Whether there are batch dimensions."""
        return bool(self.batch_shape)

    @property
    def is_block(self) -> bool:
        """Whether entries are blocks."""
        return bool(self.pattern.block)

    @property
    def is_square(self) -> bool:
        """Whether there are as many rows as columns."""
        return self.flat_shape[0] == self.flat_shape[1]

    @property
    def requires_grad(self) -> bool:
        """Whether the values do."""
        return self._values.requires_grad

    def requires_grad_(self, requires_grad: bool = True) -> SparseTensor:
        """Ask for gradients of the values, in place."""
        self._values.requires_grad_(requires_grad)
        return self

    @property
    def grad(self) -> Tensor | None:
        """Gradient that reached the values, when they are a leaf."""
        return self._values.grad

    @property
    def structure(self) -> Structure:
        """What is known: declared, and detected from the present values."""
        return self.known_structure()

    def known_structure(self) -> Structure:
        """Return declared properties completed by detection, remembered per content of the values."""
        s = self._declared
        if s.hermitian is not None and (s.positive_definite is not None or not s.hermitian):
            return s
        if s.positive_definite:
            return s.updated(hermitian=True)
        pattern, values = self.flat_slots()
        return s.merged(self._detect(pattern, physical(values)))

    @outside_transforms
    def _detect(self, pattern: Pattern, values: Tensor) -> Structure:
        mark = kernels.fingerprint(values)
        if self._detected is None or self._detected[0] != mark:
            self._detected = (mark, detect(pattern, values))
        return self._detected[1]

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

    def detach(self) -> SparseTensor:
        """Return the same matrix outside the graph."""
        return self._like(self._values.detach())

    # --- products ------------------------------------------------------------------------------

    def T(self) -> SparseTensor:
        """Return the transpose, on slots."""
        values = self.pattern.transpose_values(self.csr_values)
        return SparseTensor.from_pattern(self.pattern.transposed, values)

    def H(self) -> SparseTensor:
        """Return the conjugate transpose, on slots."""
        values = self.pattern.transpose_values(self.csr_values).conj()
        return SparseTensor.from_pattern(self.pattern.transposed, values)

    def __matmul__(self, x: Tensor) -> Tensor:
        """Return ``A @ x`` for ``x`` ``[N]``, ``[N, K]``, or batched ``[*batch, N]``, ``[*batch, N, K]``."""
        if not isinstance(x, Tensor):
            return NotImplemented
        pattern, values = self.flat_slots()
        N = pattern.shape[1]
        dtype = torch.promote_types(self.dtype, x.dtype)
        nb = len(self.batch_shape)
        vector = x.ndim == 1 or (
            nb > 0 and x.ndim == nb + 1 and x.shape[-1] == N and x.shape[-2] != N
        )
        X = x.unsqueeze(-1) if vector else x
        if X.ndim < 2 or X.shape[-2] != N:
            raise ArgumentError(
                f"`x` must be [{N}] or [..., {N}, K] for a matrix of shape {tuple(self.shape)}, got {list(x.shape)}"
            )
        lead = torch.broadcast_shapes(self.batch_shape, X.shape[:-2])
        if nb:
            values = values.expand(*lead, -1).reshape(-1, values.shape[-1])
        if lead:
            X = X.expand(*lead, -1, -1).reshape(-1, N, X.shape[-1])
        Y = matmul(values.to(dtype), X.to(dtype), pattern)
        Y = Y.reshape(*lead, pattern.shape[0], X.shape[-1])
        return Y.squeeze(-1) if vector else Y

    def __mul__(self, factor: Tensor | complex) -> SparseTensor:
        """Multiply by a scalar."""
        if isinstance(factor, Tensor) and factor.ndim:
            return NotImplemented
        return SparseTensor.from_pattern(self.pattern, self._values * factor)

    __rmul__ = __mul__

    def to_dense(self) -> Tensor:
        """Return ``[*batch, M, N]`` with blocks written out, differentiable."""
        pattern, values = self.flat_slots()
        M, N = pattern.shape
        out = values.new_zeros(*self.batch_shape, M * N)
        where = pattern.csr_row.long() * N + pattern.ccol.long()
        return out.index_add(-1, where, values).reshape(*self.batch_shape, M, N)

    # --- solving -------------------------------------------------------------------------------

    def solve(
        self,
        b: Tensor,
        backend: str = "auto",
        method: str = "auto",
        preconditioner: Any = "auto",
        rtol: builtins.float | None = None,
        atol: builtins.float = 0.0,
        maxiter: int | None = None,
        x0: Tensor | None = None,
        plan: SolvePlan | None = None,
        info: bool = False,
        throw: bool = True,
        tol: builtins.float | None = None,
        adjoint_rtol: builtins.float | None = None,
        repeats: int = 1,
    ) -> Any:
        """Solve ``A x = b``, differentiable in the values and in `b` to any order.

        Parameters
        ----------
        b
            ``[M]`` or ``[M, K]``; for a batched matrix ``[*batch, M]`` or ``[*batch, M, K]``,
            broadcasting, or ``[M]``.
        backend, method, preconditioner
            ``"auto"`` leaves the choice to the plan. Anything else is obeyed or refused with a reason.
        rtol, atol
            Stop when ``‖b - A x‖ <= max(rtol ‖b‖, atol)``, the true residual. `rtol` defaults to
            1e-10 in double and 1e-5 in single precision; `tol` is another name for it. Direct
            methods are checked too.
        maxiter
            Limit on iterations.
        x0
            Starting value of an iterative method; carries no gradient.
        plan
            A plan made by `plan`, to be carried out as it is.
        info
            Whether to return the report as well.
        throw
            Whether failure raises; with False the report is returned and tells.
        adjoint_rtol
            Tolerance of the adjoint solve, `rtol` unless given.
        repeats
            How often new values on this pattern are expected, for the plan.

        Returns
        -------
        Tensor or (Tensor, SolveInfo)
            The solution, with the layout of `b`; with ``info=True`` or ``throw=False`` also the
            report.

        Raises
        ------
        SolveError
            When the system could not be solved to the tolerance; carries result code, iterations,
            residual, remedy.
        PlanError
            When nothing can solve this system, or the request cannot be honoured.
        ArgumentError, DTypeError
            When `b` does not fit.
        """
        from torch_sla.linalg.solve import solve

        if tol is not None and rtol is not None:
            raise ArgumentError("`tol` is another name for `rtol`; give one of them")
        x, report = solve(
            self,
            b,
            backend=backend,
            method=method,
            preconditioner=preconditioner,
            rtol=tol if rtol is None else rtol,
            atol=atol,
            maxiter=maxiter,
            adjoint_rtol=adjoint_rtol,
            x0=x0,
            plan=plan,
            repeats=repeats,
            throw=throw,
        )
        return (x, report) if info or not throw else x

    def plan(
        self,
        b_shape: tuple[int, ...] | None = None,
        *,
        repeats: int = 1,
        needs_grad: bool = False,
        backend: str = "auto",
        method: str = "auto",
        preconditioner: Any = "auto",
    ) -> SolvePlan:
        """Plan a solve without doing it; ``print(A.plan())`` shows the choice and the reasons."""
        from torch_sla.linalg.solve import plan

        return plan(
            self,
            b_shape,
            repeats=repeats,
            needs_grad=needs_grad,
            backend=backend,
            method=method,
            preconditioner=preconditioner,
        )

    def __repr__(self) -> str:
        extra = ", requires_grad=True" if self.requires_grad else ""
        return (
            f"SparseTensor(shape={tuple(self.shape)}, nnz={self.nnz}, dtype={self.dtype}, "
            f"device={self.device}{extra})"
        )


def _check_values(values: Tensor) -> None:
    if not isinstance(values, Tensor):
        raise ArgumentError(f"`values` must be a tensor, got {type(values).__name__}")
    if not (values.is_floating_point() or values.is_complex()):
        raise DTypeError(
            f"`values` must be floating point or complex, got {values.dtype}; use values.double()"
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
