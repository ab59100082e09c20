"""Many matrices on one pattern, a matrix in each lane of a register, compiled.

The multifrontal scheme of `kernels.cholesky` with every number replaced by a register of numbers: small
fronts then run at full speed. Pivots are those on the diagonal, and a solve proves the factors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from torch_sla._core import extension
from torch_sla.errors import ArgumentError, DTypeError
from torch_sla.linalg.kernels import triton as device
from torch_sla.linalg.kernels.arguments import empty, expect_shape, plain
from torch_sla.linalg.kernels.borrowed_blas import lend_blas
from torch_sla.linalg.kernels.cholesky import Factor, Kind, NumericFactor
from torch_sla.linalg.kernels.memory import room_for
from torch_sla.linalg.kernels.threads import resolve_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.linalg.kernels.symbolic import Analysis

__all__ = ["LaneFactor", "LanePattern", "factorize", "measure", "residual", "width"]

_compiled: Any = None if extension is None else extension.lanes
_Rows: TypeAlias = "tuple[Tensor, Tensor, Tensor | None, int | None]"
_SUFFIX = {torch.float64: "d", torch.float32: "s"}


def width(dtype: torch.dtype) -> int:
    """Return the matrices that a register holds.

    Examples
    --------
    >>> width(torch.float32) >= 2
    True
    """
    return int(getattr(_compiled, "width_" + _suffix(dtype))())


def _suffix(dtype: torch.dtype) -> str:
    if dtype not in _SUFFIX:
        raise DTypeError(f"`values` must be float32 or float64, got {dtype}")
    return _SUFFIX[dtype]


@dataclass(frozen=True, eq=False)
class LanePattern:
    """Where an analysed pattern finds its values, int32 throughout.

    Parameters
    ----------
    crow, ccol
        Compressed rows of A: ``[n + 1]`` and ``[nnz]``.
    slot
        ``[entries]`` of the analysed pattern: which value of A, -1 where A has none.
    mirror
        ``[entries]``: entry (j, i) of the analysed pattern for its entry (i, j).
    """

    crow: Tensor
    ccol: Tensor
    slot: Tensor
    mirror: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays that are not the pattern's own."""
        return 4 * (self.slot.numel() + self.mirror.numel())


class LaneFactor(NumericFactor):
    """Factors of many matrices: ``L U``, ``U = D Lᵀ`` for symmetric ones."""

    @property
    def lowest(self) -> Tensor:
        """Smallest pivot of each member ``[B]``."""
        return torch.from_numpy(self.payload.lowest)

    @property
    def growth(self) -> Tensor:
        """Largest entry of each member's solution for the probe ``[B]``; NaN where there is none."""
        return torch.from_numpy(self.payload.growth)

    @property
    def error(self) -> Tensor:
        """Backward error of each of those solutions ``[B]``; NaN where there is none."""
        return torch.from_numpy(self.payload.error)

    def solve(
        self, members: Tensor, b: Tensor, mode: str = "n", *, threads: int | None = None
    ) -> Tensor:
        """Solve ``op(A_i) x = b`` for the members listed, ascending: ``b`` ``[listed, n, K]``."""
        b, x, team = self._arranged(members, b, threads)
        self.payload.solve(
            plain(members, torch.int64).numpy(), b.numpy(), x.numpy(), mode != "n", team
        )
        return x

    def solve_measured(
        self,
        members: Tensor,
        b: Tensor,
        crow: Tensor,
        ccol: Tensor,
        values: Tensor,
        *,
        mode: str = "n",
        truth: str = "n",
        threads: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """As `solve`, and measure what is left over while the solutions are in the cache.

        Parameters
        ----------
        members, b, mode, threads
            As for `solve`.
        crow, ccol, values
            The matrices themselves, int32 and ``[listed, nnz]``.
        truth
            Which ``op`` of them the solutions are held against.

        Returns
        -------
        x, sizes
            Solutions, and ``[5, listed, K]`` as by `residual`.
        """
        b, x, team = self._arranged(members, b, threads)
        values = plain(values, self.dtype)
        sizes = torch.empty(5, b.shape[0], b.shape[2], dtype=self.dtype)
        self.payload.solve_measured(
            plain(members, torch.int64).numpy(),
            b.numpy(),
            x.numpy(),
            mode != "n",
            crow.numpy(),
            ccol.numpy(),
            values.numpy(),
            truth != "n",
            sizes.numpy(),
            team,
        )
        return x, sizes

    def _arranged(
        self, members: Tensor, b: Tensor, threads: int | None
    ) -> tuple[Tensor, Tensor, int]:
        b = plain(b, self.dtype)
        expect_shape(b, "b", (members.numel(), self.analysis.n, b.shape[-1]))
        work = 2 * self.analysis.factor_nnz * members.numel() * b.shape[-1] // 4
        return b, empty(tuple(b.shape), self.dtype, again=True), resolve_threads(threads, work)

    def extract(self, member: int, *, positive: bool) -> Factor:
        """Return the factor of one member by itself: Cholesky's where its pivots are `positive`, else ``L D Lᵀ``."""
        kind: Kind = "cholesky" if positive else "hermitian"
        payload = self.payload.extract(member, positive)
        return Factor(payload, self.analysis, self.dtype, kind)

    def slogdet(self, member: int) -> tuple[float, float]:
        """Sign and logarithm of the absolute value of a member's determinant."""
        log, sign = self.payload.log_determinant(member)
        return sign, log


def factorize(
    analysis: Analysis,
    pattern: LanePattern,
    values: Tensor,
    probe: Tensor,
    *,
    symmetric: bool,
    threads: int | None = None,
) -> LaneFactor:
    """Factorise values ``[B, nnz]`` with pivots on the diagonal, and solve with `probe` ``[n]`` to prove them.

    What became of each member is told by `LaneFactor.lowest`, ``growth`` and ``error``; none is refused here.

    Raises
    ------
    SolveError
        ``OUT_OF_MEMORY`` before anything is allocated.
    """
    suffix = _suffix(values.dtype)
    values, probe = plain(values), plain(probe, values.dtype)
    if values.ndim != 2:
        raise ArgumentError(f"`values` must be [B, nnz], got {tuple(values.shape)}")
    members, size = values.shape[0], values.element_size()
    # Register operations, about as long as others.
    lanes = 1 if members == 1 else width(values.dtype)
    team = resolve_threads(
        threads, int(min((2 - symmetric) * analysis.flops * members / lanes, 2**62))
    )
    groups = -(-members // lanes)
    needed = groups * lanes * (2 - symmetric) * analysis.factor_bytes(values.dtype)
    entries = getattr(_compiled, "working_entries_" + suffix)(
        analysis.payload, values.shape[1], symmetric
    )
    needed += team * entries * size
    lend_blas()
    with room_for(needed):
        made = _compiled.factorize(
            analysis.payload,
            pattern.crow.numpy(),
            pattern.ccol.numpy(),
            pattern.slot.numpy(),
            pattern.mirror.numpy(),
            values.numpy(),
            probe.numpy(),
            symmetric,
            team,
        )
    return LaneFactor(made, analysis, values.dtype)


def _takes(*tensors: Tensor) -> bool:
    if _compiled is None:
        return False
    kind = tensors[0].dtype
    return kind in _SUFFIX and all(t.device.type == "cpu" and t.dtype == kind for t in tensors)


def measure(crow: Tensor, ccol: Tensor, values: Tensor) -> Tensor | None:
    """Sizes of square matrices ``[B, nnz]`` in compressed rows, ``[4, B]``; None where no kernel takes them.

    The largest sum of magnitudes of a row, of a column, and the ratio of the largest to the smallest of
    the rows' largest entries, and of the columns' (0 where one is zero).

    Examples
    --------
    >>> i = torch.arange(3, dtype=torch.int32)
    >>> measure(i, i[:2], torch.tensor([[1.0, -4.0]]))[:, 0].tolist()
    [4.0, 4.0, 4.0, 4.0]
    """
    if not _takes(values) or crow.dtype != torch.int32 or values.ndim != 2 or not values.numel():
        return None
    values = plain(values)
    out = torch.empty(4, len(values), dtype=values.dtype)
    team = resolve_threads(None, values.numel())
    _compiled.measure(crow.numpy(), ccol.numpy(), values.numpy(), out.numpy(), team)
    return out


def residual(
    crow: Tensor,
    ccol: Tensor,
    values: Tensor,
    x: Tensor,
    b: Tensor,
    *,
    transposed: bool = False,
    device_rows: Callable[[], _Rows] | None = None,
    threads: int | None = None,
) -> tuple[Tensor, Tensor] | None:
    """``b - op(A_i) x_i`` ``[B, n, K]``, and sizes of its columns ``[5, B, K]``.

    Those are its 2-norm, its largest entry, that of x, that of b, and the 2-norm of b; what is not finite where a
    number is not. None where no kernel takes them, as where the matrices are not square, or where rows are so many
    that a running sum of squares stands still.

    Parameters
    ----------
    crow, ccol, values
        Matrices ``[nnz]`` or ``[B, nnz]`` in compressed rows.
    x, b
        ``[B, n, K]``.
    transposed
        Whether they are transposed.
    device_rows
        Gives what a device asks for: compressed rows of what is multiplied with, the slot of each entry where these
        are not in order, and the length of the longest row where it is known.
    """
    if x.shape != b.shape or not values.numel() or not x.numel():
        return None
    if not values.is_cpu:
        return None if device_rows is None else _on_a_device(device_rows, values, x, b)
    if not _takes(values, x, b) or crow.dtype != torch.int32:
        return None
    if b.shape[1] * torch.finfo(b.dtype).eps > 0.5:
        return None
    values, x, b = plain(values), plain(x), plain(b)
    r = empty(tuple(b.shape), b.dtype, again=True)
    sizes = torch.empty(5, b.shape[0], b.shape[2], dtype=b.dtype)
    team = resolve_threads(threads, values.numel() * b.shape[2])
    _compiled.residual(
        crow.numpy(),
        ccol.numpy(),
        values.numpy(),
        x.numpy(),
        b.numpy(),
        transposed,
        r.numpy(),
        sizes.numpy(),
        team,
    )
    return r, sizes


def _on_a_device(
    rows: Callable[[], _Rows], values: Tensor, x: Tensor, b: Tensor
) -> tuple[Tensor, Tensor] | None:
    same = values.dtype == x.dtype == b.dtype
    if not same or b.dtype not in _SUFFIX or not device.runs(values, x, b):
        return None
    from torch_sla.linalg.kernels.triton.residual import residual as in_triton

    crow, ccol, slots, longest = rows()
    values = plain(values).reshape(-1, ccol.numel())
    return in_triton(crow, ccol, values, plain(x), plain(b), slots, longest)
