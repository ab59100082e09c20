"""Incomplete factorisations on a pattern, and triangular solves.

Faces of ``csrc/bindings/incomplete.cpp``: square CSR on the CPU, columns sorted and unique,
``diagonal`` ``[n]`` the slot of each diagonal entry, all present. Without the extension the same is
done row by row in NumPy, slowly. Saad, Iterative Methods for Sparse Linear Systems, 2nd ed.,
section 10.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from torch_sla._core import extension
from torch_sla.errors import ArgumentError, DTypeError
from torch_sla.linalg.kernels.arguments import VALUES, expect_shape, indices, plain
from torch_sla.linalg.kernels.threads import resolve_threads

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ichol0", "ilu0", "triangular_solve"]

_compiled: Any = None if extension is None else extension.incomplete


def ilu0(crow: Tensor, ccol: Tensor, diagonal: Tensor, values: Tensor) -> tuple[Tensor, int]:
    """Factorise ``A ≈ (I + L) U`` without fill-in.

    Returns
    -------
    factors, row
        ``[nnz]``: ``L`` strictly below the diagonal, ``U`` on and above it; and the first row whose
        pivot vanished, -1 when none did.

    Examples
    --------
    >>> import torch
    >>> crow, ccol = torch.tensor([0, 2, 4]), torch.tensor([0, 1, 0, 1])
    >>> ilu0(crow, ccol, torch.tensor([0, 3]), torch.tensor([2.0, 1.0, 4.0, 5.0]))
    (tensor([2., 1., 2., 3.]), -1)
    """
    crow, ccol, diagonal, out = _checked(crow, ccol, diagonal, values)
    arrays = (crow.numpy(), ccol.numpy(), diagonal.numpy(), out.numpy())
    row = _ilu0(*arrays) if _compiled is None else int(_compiled.ilu0(*arrays))
    return out, row


def ichol0(
    crow: Tensor, ccol: Tensor, diagonal: Tensor, values: Tensor, *, shift: float = 0.0
) -> tuple[Tensor, int]:
    """Factorise ``A + shift diag(A) ≈ L Lᴴ`` without fill-in, for Hermitian ``A``.

    Returns
    -------
    factor, row
        ``[nnz]``: ``L`` on and below the diagonal, the rest as it was; and the first row whose
        pivot is not positive, -1 when all are.

    Examples
    --------
    >>> import torch
    >>> crow, ccol = torch.tensor([0, 2, 4]), torch.tensor([0, 1, 0, 1])
    >>> ichol0(crow, ccol, torch.tensor([0, 3]), torch.tensor([4.0, 2.0, 2.0, 5.0]))
    (tensor([2., 2., 1., 2.]), -1)
    """
    crow, ccol, diagonal, out = _checked(crow, ccol, diagonal, values)
    arrays = (crow.numpy(), ccol.numpy(), diagonal.numpy(), out.numpy(), float(shift))
    row = _ichol0(*arrays) if _compiled is None else int(_compiled.ichol0(*arrays))
    return out, row


def triangular_solve(
    crow: Tensor,
    ccol: Tensor,
    diagonal: Tensor,
    values: Tensor,
    inverse: Tensor | None,
    b: Tensor,
    *,
    upper: bool,
    adjoint: bool = False,
    threads: int | None = None,
) -> Tensor:
    """Solve ``op(D + S) x = b`` with ``S`` the part of a matrix strictly below or above its diagonal.

    Parameters
    ----------
    crow, ccol, diagonal, values
        The matrix and the slots of its diagonal.
    inverse
        ``1/D`` ``[n]``; ones when None.
    b
        ``[n, k]``.
    upper
        Which part.
    adjoint
        Whether ``op`` is the conjugate transpose rather than the identity.

    Examples
    --------
    >>> import torch
    >>> crow, ccol, d = torch.tensor([0, 1, 3]), torch.tensor([0, 0, 1]), torch.tensor([0, 2])
    >>> a, b = torch.tensor([9.0, 2.0, 9.0]), torch.tensor([[1.0], [5.0]])
    >>> triangular_solve(crow, ccol, d, a, None, b, upper=False).flatten()
    tensor([1., 3.])
    """
    crow, ccol, diagonal, values = _checked(crow, ccol, diagonal, values, copy=False)
    n = diagonal.numel()
    expect_shape(b, "b", (n, b.shape[-1]))
    x = plain(b.to(values.dtype, copy=True))
    if inverse is not None:
        inverse = plain(inverse, values.dtype)
        expect_shape(inverse, "inverse", (n,))
    if x.numel() == 0:
        return x
    arrays = (crow.numpy(), ccol.numpy(), diagonal.numpy(), values.numpy())
    scale = None if inverse is None else inverse.numpy()
    if _compiled is None:
        _triangular(*arrays, scale, x.numpy(), upper, adjoint)
    else:
        count = resolve_threads(threads, values.numel() * x.shape[1])
        _compiled.triangular_solve(*arrays, scale, x.numpy(), upper, adjoint, count)
    return x


def _checked(
    crow: Tensor, ccol: Tensor, diagonal: Tensor, values: Tensor, *, copy: bool = True
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if not values.is_cpu:
        raise ArgumentError(f"`values` must be on the CPU, got {values.device}")
    if values.dtype not in VALUES:
        raise DTypeError(f"`values` must be float32, float64 or complex, got {values.dtype}")
    crow, ccol, diagonal = indices(crow, ccol, diagonal)
    expect_shape(diagonal, "diagonal", (crow.numel() - 1,))
    if diagonal.numel() and int(diagonal.amin()) < 0:
        raise ArgumentError("`diagonal` must name a slot for every row; an entry is not stored")
    values = plain(values)
    return crow, ccol, diagonal, values.clone() if copy else values


def _ilu0(crow: Any, ccol: Any, diagonal: Any, a: Any) -> int:
    n = len(diagonal)
    slot = np.full(n, -1, dtype=np.int64)
    for i in range(n):
        slot[ccol[crow[i] : crow[i + 1]]] = np.arange(crow[i], crow[i + 1])
        for e in range(crow[i], diagonal[i]):
            k = ccol[e]
            a[e] /= a[diagonal[k]]
            rest = slice(diagonal[k] + 1, crow[k + 1])
            here = slot[ccol[rest]]
            kept = here >= 0
            a[here[kept]] -= a[e] * a[rest][kept]
        slot[ccol[crow[i] : crow[i + 1]]] = -1
        if a[diagonal[i]] == 0 or not np.isfinite(a[diagonal[i]]):
            return i
    return -1


def _ichol0(crow: Any, ccol: Any, diagonal: Any, a: Any, shift: float) -> int:
    n = len(diagonal)
    row = np.zeros(n, dtype=a.dtype)
    for i in range(n):
        own = slice(crow[i], diagonal[i])
        pivot = a[diagonal[i]].real * (1 + shift)
        for e in range(crow[i], diagonal[i]):
            k = ccol[e]
            before = slice(crow[k], diagonal[k])
            a[e] = (a[e] - row[ccol[before]] @ a[before].conj()) / a[diagonal[k]].real
            row[k] = a[e]
        pivot -= (np.abs(a[own]) ** 2).sum()
        row[ccol[own]] = 0
        if not (pivot > 0 and np.isfinite(pivot)):
            return i
        a[diagonal[i]] = pivot**0.5
    return -1


def _triangular(
    crow: Any, ccol: Any, diagonal: Any, a: Any, inverse: Any, x: Any, upper: bool, adjoint: bool
) -> None:
    n = len(diagonal)
    for i in range(n) if upper == adjoint else range(n - 1, -1, -1):
        part = slice(diagonal[i] + 1, crow[i + 1]) if upper else slice(crow[i], diagonal[i])
        near = ccol[part]
        if adjoint:
            if inverse is not None:
                x[i] *= inverse[i].conj()
            x[near] -= a[part].conj()[:, None] * x[i]
        else:
            x[i] -= a[part] @ x[near]
            if inverse is not None:
                x[i] *= inverse[i]
