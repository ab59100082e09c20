"""What a solution leaves over, and the verdict on it."""

from __future__ import annotations

from functools import partial
from math import isfinite
from typing import TYPE_CHECKING, cast

import torch

from torch_sla.errors import Result
from torch_sla.lazy import cached_property
from torch_sla.linalg.checks import read
from torch_sla.linalg.kernels import lanes, sparse as kernels
from torch_sla.linalg.known import largest_row
from torch_sla.linalg.sizes import sizes_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from torch_sla.linalg.backends.base import Mode, SolveOptions
    from torch_sla.linalg.sizes import Sizes
    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["ACCEPT", "REFINE", "BatchResidual", "Residual", "judge", "largest_entries"]

# A direct solve is refined above the first multiple of eps of backward error and accepted below the
# second.
REFINE, ACCEPT = 8.0, 50.0
# How far a least-squares method's estimate of ‖A‖ may lie from the norm used here.
_SLACK = 4.0
# A solution at the floor of the dtype is one only while its residual is well below that of x = 0.
_USELESS = 0.5


class Residual:
    """True residual ``b - op(A) x`` of one system, measured column by column.

    Three measures of backward error, each 0 for an exact solution and about eps for a stable one:

    - square: ``‖r‖ / (‖A‖ ‖x‖ + ‖b‖)`` in the maximum norm (Rigal and Gaches, 1967);
    - square and badly scaled: the larger of that and of the largest ``|r|ᵢ / (|A| |x| + |b|)ᵢ``
      (Oettli and Prager, Numer. Math. 6, 1964), the denominators of rows without cancellation
      replaced as in Arioli, Demmel and Duff, SIAM J. Matrix Anal. Appl. 10, 1989, section 2;
    - rectangular: ``‖Aᴴ r‖ / (‖A‖ (‖A‖ ‖x‖ + ‖b‖))``.

    Parameters
    ----------
    pattern, values
        Scalar slots of ``A``.
    b
        ``[M, K]`` (``[N, K]`` for the adjoint).
    mode
        ``"n"`` or ``"h"``.
    scale
        ``[N]``, sizes of the unknowns, where rows are to be measured each on its own scale.
    perturbed
        Whether `x` comes from factors of a nearby matrix, so that only the floor of the dtype counts.
    norm
        Largest sum of absolute values along a row of ``op(A)``, a scalar, where that is known already.
    """

    def __init__(
        self,
        pattern: Pattern,
        values: Tensor,
        b: Tensor,
        mode: Mode,
        *,
        scale: Tensor | None = None,
        perturbed: bool = False,
        norm: Tensor | None = None,
    ) -> None:
        self.perturbed = perturbed
        self.rectangular = pattern.shape[0] != pattern.shape[1]
        self._pattern, self._values, self._turned = pattern, values, mode != "n"
        self._A_max = self._largest() if norm is None else norm
        self._A_norm = torch.linalg.vector_norm(values) if self.rectangular else self._A_max
        self._scale = None if scale is None else scale.unsqueeze(1)
        self.componentwise = scale is not None and not self.rectangular
        self.b = self._x = b
        self._r: Tensor | None = b
        # What was measured last, per column, on the host.
        self.b_norm: list[float] = [float("inf")] * b.shape[1]
        self.r_norm = self.slope = self.b_max = self.b_norm
        self.A_norm = float("nan")

    def _largest(self) -> Tensor:
        p = self._pattern
        if self._turned and not self.rectangular:
            found = lanes.measure(p.crow, p.ccol, self._values.unsqueeze(0))
            if found is not None:
                return found[1, 0]
            return largest_row(p.transposed, p.transpose_values(self._values))
        return largest_row(p, self._values)

    @cached_property
    def _sizes(self) -> Tensor:
        return self._values.abs()

    @property
    def r(self) -> Tensor:
        """What was left over, ``[M, K]``."""
        if self._r is None:
            self._measured(self._x)
        return cast("Tensor", self._r)

    def __call__(self, x: Tensor, seen: Tensor | None = None) -> tuple[float, float]:
        """Return (largest relative residual, largest backward error); waits for a device once.

        With `seen` ``[5, K]``, those that `_measured` returns, whoever made `x` has formed its true residual.
        """
        if seen is None or self.rectangular or self.componentwise:
            seen = self._measured(x)
        else:
            self._x, self._r = x, None
        tiny = torch.finfo(seen.dtype).tiny
        more: tuple[Tensor, ...] = ()
        if self.rectangular:
            image = _product(self._pattern, self._values, self.r, not self._turned)
            more = (torch.linalg.vector_norm(image, dim=0), torch.linalg.vector_norm(x, dim=0))
        elif self.componentwise:
            _, r_max, x_max, b_max, _ = seen
            whole = r_max / (self._A_max * x_max + b_max).clamp(min=tiny)
            rows = self.r.abs() / self._denominators(x).clamp(min=tiny)
            more = (torch.maximum(rows.amax(0), whole),)
        # The rest is of a few numbers, and quicker without tensors.
        *found, self.A_norm, largest = read(seen, *more, self._A_norm, self._A_max)
        k = seen.shape[1]
        columns = [found[i : i + k] for i in range(0, len(found), k)] if k else [[]] * 7
        self.r_norm, backwards, x_large, self.b_max, self.b_norm, *special = columns
        slopes, x_norms = special[:2] if self.rectangular else (backwards, x_large)
        backwards = special[0] if self.componentwise else backwards
        self.slope = slopes if self.rectangular else [float("inf")] * k
        if not all(map(isfinite, self.r_norm)) or not all(map(isfinite, x_large)):
            return float("nan"), float("inf")
        if self.rectangular:
            norm = self.A_norm
            scales = (norm * (norm * x + b) for x, b in zip(x_norms, self.b_norm, strict=True))
            backwards = _shares(slopes, scales, tiny)
        elif not self.componentwise:
            scales = (largest * x + b for x, b in zip(x_large, self.b_max, strict=True))
            backwards = _shares(backwards, scales, tiny)
        return _worst(_shares(self.r_norm, self.b_norm, tiny)), _worst(backwards)

    def _measured(self, x: Tensor) -> Tensor:
        """Set ``r``; return ``[5, K]``: ‖r‖₂, the largest entries of r, x and b, and ‖b‖₂, of each column."""
        p, system = self._pattern, (x.unsqueeze(0), self.b.unsqueeze(0))
        found = _left(p, self._values, *system, self._turned)
        if found is not None:
            self._r = found[0][0]
            return found[1][:, 0]
        product = _product(p, self._values, x, self._turned)
        self._r = r = torch.sub(self.b, product, out=product)
        r_norm = torch.linalg.vector_norm(r, dim=0)
        return torch.stack([r_norm, largest_entries(r), largest_entries(x), *self._b_sizes])

    @cached_property
    def _b_sizes(self) -> tuple[Tensor, Tensor]:
        return largest_entries(self.b), torch.linalg.vector_norm(self.b, dim=0)

    def _denominators(self, x: Tensor) -> Tensor:
        size, b = x.abs(), self.b.abs()
        own = _product(self._pattern, self._sizes, size, self._turned) + b
        scale = torch.ones_like(size[:, :1]) if self._scale is None else self._scale
        bound = _product(self._pattern, self._sizes, scale * (size / scale).amax(0), self._turned)
        small = own <= 1000 * len(x) * torch.finfo(own.dtype).eps * (bound + b)
        return torch.where(small, own + bound, own)

    def _limits(self, options: SolveOptions) -> list[float]:
        return [max(options.rtol * b, options.atol) for b in self.b_norm]

    def met(self, options: SolveOptions) -> bool:
        """Whether every column of the last residual meets rtol or atol.

        A least-squares residual may instead be orthogonal to the columns of ``A``, to `rtol`.
        """
        slack = _SLACK * options.rtol * self.A_norm
        return all(
            r <= limit or (self.rectangular and slope <= slack * r)
            for r, limit, slope in zip(self.r_norm, self._limits(options), self.slope, strict=True)
        )

    def target(self, options: SolveOptions) -> float:
        """Return the tightest absolute residual asked of a column, with a little to spare."""
        return 0.5 * min((limit for limit in self._limits(options) if limit > 0), default=0.0)

    def rounded(self, backward: float, options: SolveOptions) -> bool:
        """Whether rounding in ``A x`` alone keeps the last residual from being met, so that going on is no use.

        Iterates come down to a backward error of about half an ulp, and not below.
        """
        target, eps = self.target(options), torch.finfo(self.b.dtype).eps
        if self.rectangular or self.componentwise or not 0 < backward <= REFINE * eps:
            return False
        return _worst(self.r_norm) * 0.5 * eps / backward > 2 * target > 0


def _product(pattern: Pattern, values: Tensor, x: Tensor, turned: bool) -> Tensor:
    """Return ``A x``, or ``Aᴴ x`` where it is `turned`, for slot values of ``A``, of one matrix or a batch."""
    crow, ccol, slots, longest = pattern.rows(turned=turned)
    return kernels.spmm(crow, ccol, values, x, slots=slots, conj=turned, longest=longest)


def _left(
    pattern: Pattern, values: Tensor, x: Tensor, b: Tensor, turned: bool
) -> tuple[Tensor, Tensor] | None:
    """Return ``b - op(A) x`` ``[B, n, K]`` and its sizes where a kernel makes both, see `kernels.lanes.residual`."""
    rows = partial(pattern.rows, turned=turned)
    return lanes.residual(
        pattern.crow, pattern.ccol, values, x, b, transposed=turned, device_rows=rows
    )


def _shares(parts: Iterable[float], wholes: Iterable[float], tiny: float) -> list[float]:
    return [part / max(whole, tiny) for part, whole in zip(parts, wholes, strict=True)]


def _worst(errors: Iterable[float]) -> float:
    """Return the largest; NaN is larger than all.

    >>> _worst([1.0, float("nan"), 2.0])
    nan
    """
    return max(errors, key=lambda e: (e != e, e), default=0.0)


def largest_entries(x: Tensor) -> Tensor:
    """Return the largest absolute value of each column, NaN where there is one; nothing is written but that."""
    n, columns = x.shape
    wide = 256 // columns if columns else 0
    if x.is_complex() or not x.is_cpu or not x.is_contiguous() or wide < 2 or n < 2 * wide:
        return torch.linalg.vector_norm(x, torch.inf, dim=0)
    # Rows of one number are not reduced by vector instructions; long ones are.
    rows = n // wide
    body, rest = x[: rows * wide].view(rows, wide * columns), x[rows * wide :]
    low, high = body.amin(0).view(wide, columns).amin(0), body.amax(0).view(wide, columns).amax(0)
    size = torch.maximum(high, -low)
    return torch.maximum(size, rest.abs().amax(0)) if len(rest) else size


def judge(
    check: Residual, error: tuple[float, float], options: SolveOptions, said: Result, direct: bool
) -> Result:
    """Turn what was measured into a result code; what the method said only names a failure."""
    if error[0] != error[0]:
        return said if not said.ok else Result.NONFINITE
    eps = torch.finfo(check.b.dtype).eps
    floor = error[1] <= (ACCEPT if direct else REFINE) * eps
    if check.met(options) and (floor or not check.perturbed):
        return Result.CONVERGED
    if floor and error[0] > _USELESS and not (check.rectangular or check.componentwise):
        # x is so large that rounding in A x exceeds b: x = 0 would do as well. Where rows live on
        # scales of their own the norm of the residual says nothing, and each row was looked at.
        return Result.SINGULAR
    if floor:
        return Result.CONVERGED if direct else Result.ROUNDOFF
    return said if not said.ok else Result.RESIDUAL


class BatchResidual:
    """`Residual` of many square systems on one pattern at once, in the first of its measures.

    Parameters
    ----------
    pattern, values
        Scalar slots ``[B, nnz_csr]``.
    b
        ``[B, n, K]``.
    mode
        ``"n"`` or ``"h"``.
    sizes
        Of the matrices, where they are known.

    Attributes
    ----------
    relative, backward
        ``[B]``, of the last solutions measured.
    largest
        Largest entries of the right-hand sides ``[B, K]``.
    """

    _r: Tensor | None

    def __init__(
        self,
        pattern: Pattern,
        values: Tensor,
        b: Tensor,
        mode: Mode,
        sizes: Sizes | None = None,
    ) -> None:
        if sizes is None:
            sizes = sizes_of(pattern, values)
        self._A_max = (sizes.rows if mode == "n" else sizes.columns).unsqueeze(-1)
        self._pattern, self._values, self._b, self._turned = pattern, values, b, mode != "n"
        self._x, self._r = b, b

    def __call__(self, x: Tensor, sizes: Tensor | None = None) -> None:
        """Measure `x` ``[B, n, K]``: sets ``relative`` and ``backward`` ``[B]``, of the worst column.

        With `sizes` ``[5, B, K]``, those of `kernels.lanes.residual`, all but ``r`` is known.
        """
        self._x, self._r = x, None
        if sizes is None:
            self._r, sizes = self._measured(x)
        self._r_norm, r_max, x_max, self.largest, self._b_norm = sizes
        tiny = torch.finfo(self._r_norm.dtype).tiny
        self.relative = (self._r_norm / self._b_norm.clamp(min=tiny)).amax(-1)
        scale = (self._A_max * x_max + self.largest).clamp(min=tiny)
        self.backward = (r_max / scale).amax(-1)

    @property
    def r(self) -> Tensor:
        """What was left over, ``[B, n, K]``."""
        if self._r is None:
            self._r, _ = self._measured(self._x)
        return self._r

    def _measured(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``b - op(A) x`` and its sizes."""
        p, b = self._pattern, self._b
        found = _left(p, self._values, x, b, self._turned)
        if found is not None:
            return found
        r = b - _product(p, self._values, x, self._turned)
        r_norm, b_norm = (torch.linalg.vector_norm(v, dim=1) for v in (r, b))
        return r, torch.stack([r_norm, *(v.abs().amax(1) for v in (r, x, b)), b_norm])

    def accepted(self, options: SolveOptions) -> Tensor:
        """Which members `judge` would call converged, ``[B]``; NaN is not, nor what norms say nothing about.

        That is where squares overflow, or underflow in the norm of a residual that is just small enough.
        """
        limit = torch.clamp(options.rtol * self._b_norm, min=options.atol)
        info = torch.finfo(limit.dtype)
        floor = self.backward <= ACCEPT * info.eps
        told = (limit >= info.tiny**0.5) | (self.largest == 0)
        met = ((self._r_norm <= limit) & told).all(-1) | (floor & (self.relative <= _USELESS))
        return met & torch.isfinite(self._b_norm).all(-1)
