"""`eigsh`: some eigenpairs of a Hermitian matrix or pencil."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, DTypeError, Result, SolveError
from torch_sla.linalg.adjoint.hermitian_eigenpairs import hermitian_eigenpairs
from torch_sla.linalg.adjoint.unmapped import refuse_vmap
from torch_sla.linalg.backends.base import ALL_DTYPES
from torch_sla.linalg.eigen.complement import complement_solve
from torch_sla.linalg.eigen.convention import check_residuals, fix_phase, start
from torch_sla.linalg.eigen.dense import dense_pencil
from torch_sla.linalg.eigen.lobpcg import LOBPCGOptions, lobpcg
from torch_sla.linalg.eigen.operators import (
    WholeSpace,
    linear_operator,
    max_norm,
    product,
    shifted,
    solver_of,
)
from torch_sla.linalg.sparse.properties import require_members
from torch_sla.linalg.sparse.transforms import outside_transforms, physical

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.tensor import SparseTensor

__all__ = ["eigsh"]

_WHICH = ("LM", "SM", "LA", "SA")
_DENSE, _DENSE_LIMIT = 200, 5_000


def eigsh(
    A: SparseTensor,
    k: int = 6,
    which: str = "LM",
    sigma: float | None = None,
    M: SparseTensor | None = None,
    return_eigenvectors: bool = True,
    *,
    method: str = "auto",
    preconditioner: Callable[[Tensor], Tensor] | None = None,
    v0: Tensor | None = None,
    tol: float | None = None,
    maxiter: int | None = None,
) -> Any:
    """Find `k` eigenvalues and eigenvectors of a Hermitian matrix, ``A v = λ M v``.

    Parameters
    ----------
    A
        Hermitian, ``[*batch, n, n]``.
    k
        Number of pairs.
    which
        ``"LM"`` and ``"SM"``: largest and smallest in magnitude; ``"LA"`` and ``"SA"``: algebraically. With
        `sigma` only ``"LM"``.
    sigma
        Find the eigenvalues nearest to this number instead, by shift and invert.
    M
        Hermitian positive definite, unbatched or with the batch of `A`; the identity by default.
    return_eigenvectors
        Whether to return the vectors.
    method
        ``"arpack"`` (implicitly restarted Lanczos), ``"lobpcg"`` (for ``LA`` and ``SA``), ``"dense"``; ``"auto"``
        is dense up to 200 rows and ARPACK beyond.
    preconditioner
        For LOBPCG: ``[n, K] -> [n, K]``, an approximate inverse.
    v0
        Starting vector ``[n]``; a fixed pseudo-random one by default.
    tol
        Relative accuracy of the iteration; working precision by default, 1e-8 for LOBPCG.
    maxiter
        Limit on its iterations.

    Returns
    -------
    w, V
        ``[*batch, k]`` ascending, real; ``[*batch, n, k]`` with ``Vᴴ M V = 1`` and the largest entry of each
        vector positive. Only ``w`` with ``return_eigenvectors=False``. Both are differentiable in
        the values of `A` and `M`, eigenvalues twice. Within a cluster of equal eigenvalues only what
        does not depend on the chosen basis has a gradient; the rest is an error.

    Raises
    ------
    ArgumentError
        When the matrix is not Hermitian or the request makes no sense.
    SolveError
        When the iteration does not converge or the residuals are too large.

    Notes
    -----
    Lehoucq, Sorensen and Yang, ARPACK Users' Guide, SIAM 1998; shift and invert uses the
    factorisations of this library.

    Examples
    --------
    >>> import torch
    >>> from torch_sla.linalg import SparseTensor
    >>> off = torch.tensor(-1.0, dtype=torch.float64)
    >>> A = SparseTensor.tridiagonal(off, torch.full((500,), 2.0, dtype=torch.float64), off)
    >>> w, V = A.eigsh(k=2, which="SM")
    >>> exact = 2 - 2 * torch.cos(torch.tensor([1.0, 2.0]).double() * torch.pi / 501)
    >>> torch.allclose(w, exact, rtol=1e-10, atol=0)
    True
    """
    _check(A, k, which, sigma, M, method)
    pattern, values = A.flat_slots()
    mass = None if M is None else M.flat_slots()
    settings = _Settings(k, which, sigma, method, preconditioner, v0, tol, maxiter)
    members = values.reshape(A.batch_size, values.shape[-1])
    mass_members: list[Tensor | None] = [None] * A.batch_size
    if mass is not None:
        dtype = torch.promote_types(values.dtype, mass[1].dtype)
        members = members.to(dtype)
        spread = mass[1].to(dtype).expand(*A.batch_shape, mass[1].shape[-1])
        mass_members = list(spread.reshape(A.batch_size, mass[1].shape[-1]))
    ws, vectors = [], []
    for v, m in zip(members, mass_members, strict=True):
        problem = Problem(pattern, None if mass is None else mass[0], settings)
        w, V = hermitian_eigenpairs(v, m, problem)
        ws.append(w)
        vectors.append(V)
    w = torch.stack(ws).reshape(*A.batch_shape, k)
    if not return_eigenvectors:
        return w
    return w, torch.stack(vectors).reshape(*A.batch_shape, pattern.shape[0], k)


def _check(
    A: SparseTensor, k: int, which: str, sigma: float | None, M: SparseTensor | None, method: str
) -> None:
    refuse_vmap(A.values, "eigenvalues")
    require_members(A)
    n = A.flat_shape[0]
    if not A.is_square:
        raise ArgumentError(f"eigenvalues are those of a square matrix, got {tuple(A.shape)}")
    if A.dtype not in ALL_DTYPES:
        raise DTypeError(f"no eigenvalue method works in {A.dtype}; convert to float64")
    if not isinstance(k, int) or not 1 <= k <= n:
        raise ArgumentError(f"`k` must be between 1 and {n}, got {k}")
    if which not in _WHICH:
        raise ArgumentError(f"`which` must be one of {', '.join(_WHICH)}, got {which!r}")
    if sigma is not None and which != "LM":
        raise ArgumentError(
            f"with `sigma` the eigenvalues nearest to it are found; leave `which` at 'LM' (got {which!r})"
        )
    if method not in ("auto", "arpack", "lobpcg", "dense"):
        raise ArgumentError(f"`method` must be auto, arpack, lobpcg or dense, got {method!r}")
    if not torch.isfinite(physical(A.values)).all():
        raise SolveError(Result.NONFINITE, "NaN or infinity in the matrix")
    if not A.known_structure().hermitian:
        raise ArgumentError("`eigsh` needs a Hermitian matrix; use `eigs`, or A + A.H()")
    if M is not None:
        if M.flat_shape != A.flat_shape or M.device != A.device:
            raise ArgumentError(f"`M` must have the shape {A.flat_shape} and device of the matrix")
        if not M.known_structure().hermitian:
            raise ArgumentError("`M` must be Hermitian positive definite")


class _Settings:
    """The request."""

    def __init__(
        self,
        k: int,
        which: str,
        sigma: float | None,
        method: str,
        preconditioner: Callable[[Tensor], Tensor] | None,
        v0: Tensor | None,
        tol: float | None,
        maxiter: int | None,
    ) -> None:
        self.k, self.which, self.sigma, self.method = k, which, sigma, method
        self.preconditioner, self.v0, self.tol, self.maxiter = preconditioner, v0, tol, maxiter


class Problem(WholeSpace):
    """One pencil on its patterns: finds the pairs, and solves in their complement."""

    def __init__(self, pattern: Pattern, mass_pattern: Pattern | None, settings: _Settings) -> None:
        self.pattern, self.mass_pattern, self._s = pattern, mass_pattern, settings

    def _mass(self, mass: Tensor | None) -> tuple[Pattern, Tensor] | None:
        if mass is None or self.mass_pattern is None:
            return None
        return self.mass_pattern, mass

    @outside_transforms
    def complement(
        self, values: Tensor, mass: Tensor | None, w: Tensor, V: Tensor, R: Tensor
    ) -> Tensor:
        """Solve in the complement of `V`; see `HermitianProblem`."""
        return complement_solve(self.pattern, values, self._mass(mass), w, V, R)

    @outside_transforms
    def solve(self, values: Tensor, mass: Tensor | None) -> tuple[Tensor, Tensor]:
        """Find, orthonormalise, check and normalise the pairs."""
        s, n = self._s, self.pattern.shape[0]
        values, M = values.detach(), self._mass(None if mass is None else mass.detach())
        method = s.method
        if method == "auto":
            small = n <= _DENSE or (s.k > n // 3 and n <= _DENSE_LIMIT)
            method = "dense" if small else "arpack"
        if method == "dense":
            if n > _DENSE_LIMIT:
                raise ArgumentError(f"the dense method goes up to {_DENSE_LIMIT} rows, got {n}")
            w, V = dense_pencil(self.pattern, values, M)
            kept = _select(w, s.k, s.which, s.sigma)
            w, V = w[kept], V[:, kept]
        elif method == "lobpcg":
            w, V = self._lobpcg(values, M)
        else:
            w, V = self._arpack(values, M)
        A = product(self.pattern, values)
        apply_mass = (lambda X: X) if M is None else product(*M)
        if method != "dense":
            w, V = _rayleigh_ritz(A, apply_mass, V)
            kept = _select(w, s.k, s.which, s.sigma)
            w, V = w[kept], V[:, kept].contiguous()
        scale = max_norm(self.pattern, values) + w.abs() * (1 if M is None else max_norm(*M))
        scale = (scale * torch.linalg.vector_norm(V, dim=0)).clamp(min=torch.finfo(w.dtype).tiny)
        tol = max(0.01 * torch.finfo(w.dtype).eps ** 0.5, s.tol or 0.0)
        if method == "lobpcg":
            tol = max(tol, s.tol or 1e-8)
        check_residuals(A(V) - apply_mass(V) * w, scale, tol, "the eigenpairs")
        return w, V * fix_phase(V)

    def _arpack(self, values: Tensor, M: tuple[Pattern, Tensor] | None) -> tuple[Tensor, Tensor]:
        from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, eigsh as arpack

        s, n, dtype = self._s, self.pattern.shape[0], values.dtype
        if s.k >= n:
            raise ArgumentError(f"ARPACK finds fewer than all {n} pairs; use method='dense'")
        v0 = start(n, 1, dtype, values.device)[:, 0] if s.v0 is None else s.v0.detach().to(dtype)
        options: dict[str, Any] = {
            "k": s.k,
            "v0": v0.cpu().numpy(),
            "tol": s.tol or 0.0,
            "maxiter": s.maxiter,
        }
        A = linear_operator(product(self.pattern, values), n, dtype, values.device)
        mass = None if M is None else linear_operator(product(*M), n, dtype, values.device)
        sigma, which = self._shift(values, M)
        try:
            if sigma is not None:
                # One pair more than asked: ties at the edge of "smallest in magnitude".
                options["k"] = min(s.k + (which != "LM"), n - 1)
                solver, sigma = self._factor(values, M, sigma)
                inverse = linear_operator(solver.raw, n, dtype, values.device)
                found = arpack(A, M=mass, sigma=sigma, which="LM", OPinv=inverse, **options)
            elif M is None:
                found = arpack(A, which=s.which, **options)
            else:
                inverse = linear_operator(
                    solver_of(shifted(*M, None, 0.0)).raw, n, dtype, values.device
                )
                found = arpack(A, M=mass, Minv=inverse, which=s.which, **options)
        except ArpackNoConvergence as error:
            raise SolveError(
                Result.MAXITER, f"ARPACK found {len(error.eigenvalues)} of {s.k} pairs"
            ) from error
        except ArpackError as error:
            raise SolveError(Result.BREAKDOWN, f"ARPACK: {error}") from error
        w, V = (torch.from_numpy(np.ascontiguousarray(part)) for part in found)
        return w.to(values.device), V.to(values.device)

    def _shift(self, values: Tensor, M: tuple[Pattern, Tensor] | None) -> tuple[float | None, str]:
        """Where to shift and invert, or None for plain Lanczos."""
        s = self._s
        if s.sigma is not None:
            return float(s.sigma), "LM"
        if s.which == "SM":
            return 0.0, "SM"
        if s.which == "SA" and M is None:
            # Nothing lies below the Gershgorin discs, so the nearest are the smallest.
            slots = self.pattern.diagonal_slots.long()
            d = torch.where(slots >= 0, values[slots.clamp(min=0)], 0).real
            radius = self.pattern.sum_rows(values.abs()) - d.abs()
            low = float((d - radius).min())
            span = float((d.abs() + radius).max())
            return (0.0 if low + 1e-12 * span >= 0 else low), "SA"
        return None, s.which

    def _factor(
        self, values: Tensor, M: tuple[Pattern, Tensor] | None, sigma: float
    ) -> tuple[Any, float]:
        """Factor of the shifted matrix, moved off an eigenvalue it may have hit."""
        step = max_norm(self.pattern, values) * torch.finfo(values.dtype).eps ** 0.5
        if M is not None:
            step /= max_norm(*M)
        for shift in (sigma, sigma - step, sigma - 100 * step):
            try:
                return solver_of(shifted(self.pattern, values, M, shift)), shift
            except SolveError as error:
                failure = error
        raise failure

    def _lobpcg(self, values: Tensor, M: tuple[Pattern, Tensor] | None) -> tuple[Tensor, Tensor]:
        s, n = self._s, self.pattern.shape[0]
        if s.which not in ("LA", "SA") or s.sigma is not None:
            raise ArgumentError("LOBPCG finds one end of the spectrum: `which` 'LA' or 'SA'")
        block = min(s.k + max(2, s.k // 4), n // 4)
        if block < s.k:
            raise ArgumentError(f"LOBPCG needs more than {4 * s.k} rows for k={s.k}, got {n}")
        X = start(n, block, values.dtype, values.device)
        if s.v0 is not None:
            X[:, 0] = s.v0.detach().to(X.dtype)
        return lobpcg(
            product(self.pattern, values),
            X,
            s.k,
            M=None if M is None else product(*M),
            preconditioner=s.preconditioner,
            largest=s.which == "LA",
            options=LOBPCGOptions(
                s.tol or 1e-8,
                s.maxiter or 500,
                max_norm(self.pattern, values),
                1.0 if M is None else max_norm(*M),
            ),
        )


def _select(w: Tensor, k: int, which: str, sigma: float | None) -> Tensor:
    """Return the indices of the wanted eigenvalues among ascending ones, ascending."""
    if sigma is not None:
        order = (w - sigma).abs().argsort(stable=True)
    elif which in ("LM", "SM"):
        order = w.abs().argsort(stable=True, descending=which == "LM")
    else:
        order = w.argsort(stable=True, descending=which == "LA")
    return order[:k].sort().values


def _rayleigh_ritz(
    A: Callable[[Tensor], Tensor], M: Callable[[Tensor], Tensor], V: Tensor
) -> tuple[Tensor, Tensor]:
    """M-orthonormal, ascending pairs in the span of `V`."""
    V = V.contiguous()
    gram = V.mH @ M(V)
    L, failed = torch.linalg.cholesky_ex((gram + gram.mH) / 2)
    if int(failed):
        raise SolveError(Result.BREAKDOWN, "the computed eigenvectors are linearly dependent")
    V = torch.linalg.solve_triangular(L.mH, V, upper=True, left=False)
    H = V.mH @ A(V)
    w, Q = torch.linalg.eigh((H + H.mH) / 2)
    return w, V @ Q
