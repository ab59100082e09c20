"""Whether numbers are finite, zero or of extreme size, and scales that bring them back."""

from __future__ import annotations

from math import frexp, isfinite
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from torch_sla.linalg.residual import largest_entries
from torch_sla.linalg.scaling import powers_of

if TYPE_CHECKING:
    from collections.abc import Sequence

Number = TypeVar("Number", Tensor, float, complex)

__all__ = ["exponent", "look", "ordinary", "powers", "shifted", "unseen"]


def unseen(entry: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    """Return what `look` wants to be read of a system, the numbers still on its device.

    Parameters
    ----------
    entry
        Largest absolute value of the matrix, a scalar.
    b
        ``[n, K]``.
    """
    if not b.numel():
        return (entry,)
    if b.is_complex():
        b = torch.view_as_real(b.resolve_conj()).movedim(1, -1).flatten(0, 1)
    return entry, largest_entries(b)  # NaN where there is one


def look(seen: Sequence[float], b: Tensor) -> tuple[bool, bool, bool]:
    """Whether all is finite, `b` is zero or empty, and has columns of extreme size.

    Parameters
    ----------
    seen
        The numbers of `unseen`.
    b
        ``[n, K]``.
    """
    finite, sizes = all(map(isfinite, seen)), seen[1:]
    return finite, not any(sizes), _extreme(sizes, b)


def ordinary(sizes: Sequence[float], b: Tensor) -> bool:
    """Whether the columns of `b` have such largest entries that `look` would find nothing to say.

    Examples
    --------
    >>> b = torch.ones(2, 2)
    >>> ordinary([1.0, 0.0], b), ordinary([1e30, 1.0], b), ordinary([0.0, 0.0], b)
    (True, False, False)
    """
    return all(map(isfinite, sizes)) and any(sizes) and not _extreme(sizes, b)


def _extreme(sizes: Sequence[float], b: Tensor) -> bool:
    bound = _bound(b)
    return any(size > bound or 0 < size < 1 / bound for size in sizes)


def _bound(b: Tensor) -> float:
    return float(torch.finfo(b.dtype).max ** 0.25)


def exponent(entry: float, values: Tensor) -> int:
    """Exponent of two of the largest entry of a matrix of extreme size; 0 where it is ordinary.

    Examples
    --------
    >>> single, double = torch.ones(1), torch.ones(1, dtype=torch.float64)
    >>> exponent(1e-200, double), exponent(1e11, single), exponent(1e11, double)
    (-665, 36, 0)
    """
    return frexp(entry)[1] - 1 if _extreme([entry], values) else 0


def shifted(x: Number, power: int) -> Number:
    """Return ``2**power x`` of a tensor or a number, where the power itself may be out of range.

    Examples
    --------
    >>> shifted(torch.tensor([2.0**120]), -200).tolist() == [2.0**-80]
    True
    """
    if not power:
        return x
    half = power // 2
    return x * 2.0**half * 2.0 ** (power - half)


def powers(b: Tensor) -> Tensor:
    """Powers of two ``[K]`` that bring extreme columns to about one.

    The absolute tolerance has to be divided by the largest of them, which tightens it for the others.

    Examples
    --------
    >>> powers(torch.tensor([[1.0, 3e38, 0.0, 1e-30]])).tolist() == [1.0, 2.0**127, 1.0, 2.0**-100]
    True
    """
    return powers_of(torch.linalg.vector_norm(b, torch.inf, dim=0))
