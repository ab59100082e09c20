"""Kernels on matrices whose rows are stencils on a lattice: faces of Triton kernels and of torch.

A lattice has ``n[0]`` (fastest) x ``n[1]`` x ``n[2]`` points; an entry joins a point to one of its 27
neighbours (itself included). Coefficients are kept in planes, one per neighbour, and entries that
would leave the lattice are zero: no product asks where the boundary is. CUDA tensors go to Triton,
all others to `torch_sla.linalg.kernels.lattice_fallback`, which is the definition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from torch_sla.linalg.kernels import lattice_fallback as fallback, triton as device
from torch_sla.linalg.kernels.stencils import AxisWeights, Lattice, Stencil

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "INVERTED",
    "Survey",
    "axis_weights",
    "contrary",
    "correct",
    "dense_apply",
    "galerkin",
    "invert",
    "load",
    "matvec_dot",
    "partials",
    "relax",
    "residual",
    "residual_after_first",
    "restrict",
    "survey",
    "transposed",
]


INVERTED = 64  # points up to which one program inverts a matrix quicker than levels below would run


def _kernels(*tensors: Tensor) -> Any:
    """Return the module that runs these tensors."""
    return device.chosen("lattice", fallback, *tensors)


class Survey(NamedTuple):
    """What one pass over a stencil found.

    Parameters
    ----------
    coupling
        Of each axis, the mean over rows of ``|a₋| + |a₊|`` relative to the diagonal, with the
        stencil summed over the other axes.
    zero_diagonal
        Whether a row has entries but none on the diagonal.
    smallest, largest
        Absolute values of nonzero diagonal entries; inf and 0 where there are none.
    """

    coupling: tuple[float, float, float]
    zero_diagonal: bool
    smallest: float
    largest: float

    @classmethod
    def of(cls, n: int, found: list[float]) -> Survey:
        """Read what `survey` wrote about `n` rows."""
        c0, c1, c2, wrong, smallest, largest = found
        return cls((c0 / n, c1 / n, c2 / n), wrong > 0, smallest, largest)

    @property
    def spread(self) -> float:
        """Ratio of the largest to the smallest."""
        return self.largest / self.smallest


def load(
    lattice: Lattice,
    crow: Tensor,
    ccol: Tensor,
    values: Tensor,
    dtype: torch.dtype,
    *,
    scale: float = 1.0,
    out: Stencil | None = None,
) -> Stencil:
    """Copy compressed rows ``[nnz]`` into stencils, times `scale`, a power of two.

    The pattern lies on the lattice.
    """
    made = out or Stencil.empty(lattice, dtype, values.device)
    _kernels(values).load(made, crow, ccol, values, scale)
    return made


def survey(A: Stencil, out: Tensor) -> Tensor:
    """Measure the couplings of a stencil, and return its smoother.

    Parameters
    ----------
    out
        float64 ``[6]``, which `Survey.of` reads.

    Returns
    -------
    Tensor
        ``[n]``: the diagonal M of SPAI-0, ``a_ii / Σ_j a_ij²``; ``±1.6 / Σ_j |a_ij|`` where ``M A`` has a sum of sizes
        above 1.95 in the row, so that no error grows.
    """
    smoother = torch.empty(A.n, dtype=A.dtype, device=A.device)
    _kernels(A.planes).survey(A, smoother, out)
    return smoother


def contrary(A: Stencil, halved: tuple[bool, bool, bool], out: Tensor) -> None:
    """Count the rows whose strongest axis is not halved, or that hardly couple along one that is.

    `out` is a float64 scalar.
    """
    _kernels(A.planes).contrary(A, halved, out)


def invert(A: Stencil, out: Tensor) -> Tensor:
    """Invert the matrix of at most `INVERTED` points, for `dense_apply`.

    It is scaled symmetrically to a unit diagonal meanwhile, in double precision.

    Parameters
    ----------
    out
        float64 ``[2]``: smallest pivot of the scaled matrix, and how far its mirrored entries differ.
        Only where the pivot is positive, and the difference is rounding, is the result the inverse.

    Returns
    -------
    Tensor
        ``[n, n]``, in the dtype of the stencil.
    """
    inverse = torch.empty(A.n, A.n, dtype=A.dtype, device=A.device)
    _kernels(A.planes).invert(A, inverse, out)
    return inverse


def axis_weights(A: Stencil, axis: int) -> AxisWeights:
    """Interpolation weights of the odd points of one axis, from the matrix.

    An odd point takes ``-a₋ / a₀`` and ``-a₊ / a₀`` of its two neighbours on the axis, of the stencil
    summed over the other axes (Alcouffe, Brandt, Dendy and Painter, SIAM J. Sci. Stat. Comput. 2,
    1981, in the one-dimensional form that composes).
    """
    made = AxisWeights.empty(A, axis)
    _kernels(A.planes).axis_weights(A, made)
    return made


def galerkin(A: Stencil, w: AxisWeights, *, out: Stencil | None = None) -> Stencil:
    """Return ``Pᵀ A P`` for the interpolation of one axis; 27 neighbours stay 27."""
    made = out or Stencil.empty(A.lattice.coarsened(w.axis), A.dtype, A.device)
    _kernels(A.planes).galerkin(A, w, made)
    return made


def transposed(A: Stencil) -> Stencil:
    """Return the stencil of ``Aᵀ``: entry d of row i is entry -d of row i + d."""
    return fallback.transposed(A)


def partials(n: int, device: torch.device) -> Tensor:
    """Room for the partial sums of a dot product over ``n`` rows, float64; sum them for the result."""
    return torch.zeros(
        (n + fallback.BLOCK - 1) // fallback.BLOCK, dtype=torch.float64, device=device
    )


def residual_after_first(A: Stencil, M: Tensor, f: Tensor, out: Tensor, flag: Tensor) -> None:
    """``out = f - A (M f)``: what the first smoothing step from zero leaves."""
    _kernels(f).residual_after_first(A, M, f, out, flag)


def residual(A: Stencil, f: Tensor, x: Tensor, out: Tensor, flag: Tensor) -> None:
    """``out = f - A x``."""
    _kernels(f).residual(A, f, x, out, flag)


def relax(
    A: Stencil, M: Tensor, f: Tensor, x: Tensor, out: Tensor, dots: Tensor | None, flag: Tensor
) -> None:
    """``out = x + M (f - A x)``, and partial sums of ``f · out`` where there is room for them."""
    _kernels(f).relax(A, M, f, x, out, dots, flag)


def restrict(
    lattice: Lattice, weights: Sequence[AxisWeights], r: Tensor, out: Tensor, flag: Tensor
) -> None:
    """``out = Pᵀ r``, all axes in one pass."""
    _kernels(r).restrict(lattice, weights, r, out, flag)


def correct(
    lattice: Lattice,
    weights: Sequence[AxisWeights],
    e: Tensor,
    M: Tensor | None,
    f: Tensor,
    out: Tensor,
    flag: Tensor,
) -> None:
    """``out = M f + P e``, all axes in one pass; ``f + P e`` without `M`. `f` may be `out`."""
    _kernels(e).correct(lattice, weights, e, M, f, out, flag)


def dense_apply(inverse: Tensor, f: Tensor, out: Tensor, flag: Tensor, *, transpose: bool) -> None:
    """``out = inverse f`` or with its transpose, for the coarsest level."""
    _kernels(f).dense_apply(inverse, f, out, flag, transpose)


def matvec_dot(A: Stencil, p: Tensor, q: Tensor, dots: Tensor, flag: Tensor) -> None:
    """``q = A p`` and partial sums of ``p · q``."""
    _kernels(p).matvec_dot(A, p, q, dots, flag)
