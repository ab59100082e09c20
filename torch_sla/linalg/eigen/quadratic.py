"""`quadratic_eigs`: some eigenpairs of ``(K + λ C + λ² M) v = 0``, by a pencil of twice the size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.linalg.eigen.convention import check_residuals, fix_phase
from torch_sla.linalg.eigen.general import eigs
from torch_sla.linalg.eigen.operators import max_norm
from torch_sla.linalg.sparse.members import common_batch
from torch_sla.linalg.sparse.pattern import Pattern
from torch_sla.linalg.sparse.tensor import SparseTensor
from torch_sla.linalg.sparse.transforms import outside_transforms, physical

__all__ = ["quadratic_eigs"]


def quadratic_eigs(
    K: SparseTensor,
    C: SparseTensor,
    M: SparseTensor,
    k: int = 6,
    which: str = "SM",
    sigma: complex | None = None,
    return_eigenvectors: bool = True,
    *,
    tol: float | None = None,
    maxiter: int | None = None,
) -> Any:
    """Find `k` eigenvalues and right eigenvectors of a quadratic problem, ``(K + λ C + λ² M) v = 0``.

    These are the free motions ``v exp(λ t)`` of ``M u'' + C u' + K u = 0``: damped where ``Re λ < 0``.

    Parameters
    ----------
    K, C, M
        ``[*batch, n, n]``, real or complex, on any patterns; batches broadcast.
    k
        Number of pairs, of the ``2 n`` that there are.
    which, sigma
        As in `eigs`; the smallest in magnitude by default.
    return_eigenvectors
        Whether to return the vectors.
    tol, maxiter
        Of the iteration; working precision by default.

    Returns
    -------
    w, V
        ``[*batch, k]`` and ``[*batch, n, k]``, complex, as `eigs` orders and normalises them. Eigenvalues are
        differentiable twice in the values of all three, vectors once, where the eigenvalues are simple; of multiple
        ones as those of `eigs`.

    Raises
    ------
    ArgumentError
        When shapes do not fit or the request makes no sense.
    SolveError
        When the iteration does not converge or the residuals are too large.

    Notes
    -----
    The first companion form, ``[[0, 1], [-K, -C]] x = μ [[1, 0], [0, M]] x`` with ``x = (v, μ v)``, in the scale
    ``λ = s μ``, ``s² = ‖K‖ / ‖M‖``, that makes it as well-conditioned as the problem: Fan, Lin and Van Dooren,
    SIAM J. Matrix Anal. Appl. 26, 2004, pages 252-256.

    Examples
    --------
    >>> import torch
    >>> from torch_sla.linalg import SparseTensor, quadratic_eigs
    >>> one = SparseTensor.eye(1, dtype=torch.float64)
    >>> w, _ = quadratic_eigs(one * 5.0, one * 2.0, one, k=2)  # λ² + 2 λ + 5
    >>> w.real.round().tolist(), w.imag.round().tolist()
    ([-1.0, -1.0], [2.0, -2.0])
    """
    n = _common_size(K, C, M)
    dtype = torch.promote_types(torch.promote_types(K.dtype, C.dtype), M.dtype)
    flat = [(pattern, values.to(dtype)) for pattern, values in (A.flat_slots() for A in (K, C, M))]
    sizes = [max_norm(pattern, physical(values).detach()) for pattern, values in flat]
    if not sizes[2]:
        raise ArgumentError("`M` is zero, and the problem then is no quadratic one: use `eigs`")
    size = sizes[0] or 1.0
    scale = (size / sizes[2]) ** 0.5
    batch = common_batch("`K`, `C` and `M`", K.batch_shape, C.batch_shape, M.batch_shape)
    (_, k_values), (_, c_values), (_, m_values) = flat
    low, high = _companion(flat[0][0], flat[1][0], flat[2][0])
    one = k_values.new_ones(n)
    A = [one, -k_values / size, -c_values * (scale / size)]
    B = [one, m_values * (scale**2 / size)]
    w, x = eigs(
        _assembled(low, A, batch),
        k,
        "LM" if sigma is not None and which == "SM" else which,
        None if sigma is None else sigma / scale,
        M=_assembled(high, B, batch),
        tol=tol,
        maxiter=maxiter,
    )
    # Both halves are the vector; that of the larger one is the better.
    V = torch.where((w.detach().abs() <= 1).unsqueeze(-2), x[..., :n, :], x[..., n:, :])
    V = V / torch.linalg.vector_norm(V, dim=-2, keepdim=True)
    w = w * scale
    for member in range(w[..., 0].numel()):
        pick = [_member(values, batch, member) for _, values in flat]
        _check(flat, pick, w.reshape(-1, k)[member], V.reshape(-1, n, k)[member], sizes, tol)
    if not return_eigenvectors:
        return w
    phase = torch.stack([fix_phase(v) for v in V.detach().reshape(-1, n, k)])
    return w, V * phase.reshape(*w.shape[:-1], 1, k)


def _common_size(K: SparseTensor, C: SparseTensor, M: SparseTensor) -> int:
    n = K.flat_shape[0] if isinstance(K, SparseTensor) else 0
    for name, A in (("K", K), ("C", C), ("M", M)):
        if not isinstance(A, SparseTensor):
            raise ArgumentError(f"`{name}` must be a SparseTensor, got {type(A).__name__}")
        if A.flat_shape != (n, n):
            raise ArgumentError(
                f"`{name}` has the shape {A.flat_shape}; all three are square and of one size"
            )
        if A.device != K.device:
            raise ArgumentError(f"`{name}` is on {A.device} and `K` on {K.device}")
    return n


def _assembled(pattern: Pattern, parts: list[Tensor], batch: tuple[int, ...]) -> SparseTensor:
    entries = torch.cat([part.expand(*batch, part.shape[-1]) for part in parts], -1)
    return SparseTensor.from_pattern(pattern.slots, pattern.coalesce(entries))


@outside_transforms
def _companion(K: Pattern, C: Pattern, M: Pattern) -> tuple[Pattern, Pattern]:
    """Patterns over ``[1, K, C]`` and over ``[1, M]``."""
    n = K.shape[0]
    i = torch.arange(n, device=K.device)
    (kr, kc), (cr, cc), (mr, mc) = ((P.csr_row.long(), P.ccol.long()) for P in (K, C, M))
    low = Pattern.from_coo(
        torch.cat([i, n + kr, n + cr]), torch.cat([n + i, kc, n + cc]), (2 * n, 2 * n)
    )
    high = Pattern.from_coo(torch.cat([i, n + mr]), torch.cat([i, n + mc]), (2 * n, 2 * n))
    return low, high


def _member(values: Tensor, batch: tuple[int, ...], member: int) -> Tensor:
    return values.detach().expand(*batch, values.shape[-1]).reshape(-1, values.shape[-1])[member]


def _check(
    flat: list[tuple[Pattern, Tensor]],
    values: list[Tensor],
    w: Tensor,
    V: Tensor,
    sizes: list[float],
    tol: float | None,
) -> None:
    """Check the residuals of one member, relative to ``‖K‖ + |λ| ‖C‖ + |λ|² ‖M‖``."""
    w, V = w.detach(), V.detach()
    residual, scale = torch.zeros_like(V), torch.zeros_like(w.real)
    for power, ((pattern, _), own, size) in enumerate(zip(flat, values, sizes, strict=True)):
        product = SparseTensor.from_pattern(pattern, own.to(V.dtype)) @ V
        residual = residual + w**power * product
        scale = scale + w.abs() ** power * size
    check_residuals(residual, scale, tol, "the eigenpairs")
