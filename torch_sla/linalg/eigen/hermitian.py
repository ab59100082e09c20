"""`eigsh`: some eigenpairs of a Hermitian matrix or pencil."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, DTypeError, Result, SolveError
from torch_sla.linalg.adjoint.hermitian_eigenpairs import hermitian_eigenpairs
from torch_sla.linalg.adjoint.unmapped import refuse_vmap
from torch_sla.linalg.backends.base import ALL_DTYPES
from torch_sla.linalg.eigen.complement import complement_solve
from torch_sla.linalg.eigen.convention import (
    check_request,
    check_residuals,
    fix_phase,
    require_finite,
    size_of,
    start,
    within_reach,
)
from torch_sla.linalg.eigen.dense import dense_pencil, found
from torch_sla.linalg.eigen.lanczos import EigenSettings, lanczos, rayleigh_ritz, select, sizes
from torch_sla.linalg.eigen.lobpcg import LOBPCGOptions, lobpcg
from torch_sla.linalg.eigen.operators import INFINITE, WholeSpace, max_norm, product
from torch_sla.linalg.eigen.semidefinite import condensed_pencil, massive_rows
from torch_sla.linalg.extremes import shifted
from torch_sla.linalg.kernels.arguments import instead
from torch_sla.linalg.sparse.members import stacked
from torch_sla.linalg.sparse.transforms import outside_transforms, physical

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.linalg.methods.space import Operator
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
        Hermitian positive definite, unbatched or with the batch of `A`; the identity by default. Where it is
        semidefinite, the finite eigenvalues are found: ask for the small ones (``"SM"``), or for those near `sigma`.
    return_eigenvectors
        Whether to return the vectors.
    method
        ``"arpack"`` (implicitly restarted Lanczos), ``"lobpcg"`` (for ``LA`` and ``SA``), ``"dense"``; ``"auto"``
        is dense up to 200 rows and ARPACK beyond, up to 5000 dense again where that does not converge.
    preconditioner
        For LOBPCG: ``[n, K] -> [n, K]``, an approximate inverse.
    v0
        Starting vector ``[n]``, neither zero nor complex where the matrices are real; a fixed pseudo-random one by
        default.
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
        does not depend on the chosen basis has a gradient; the rest is an error, and so are eigenvalues whose equals
        were not all asked for.

    Raises
    ------
    ArgumentError
        When the matrix is not Hermitian or the request makes no sense, as one for more than the finite eigenvalues.
    SolveError
        When the iteration does not converge or the residuals are too large; ``SINGULAR`` where `A` and a
        semidefinite `M` have a common null vector.

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
    _check(A, which, sigma, M, method)
    _check_start(v0, A, M)
    check_request(k, A.flat_shape[0], tol, maxiter, sigma)
    pattern, values = A.flat_slots()
    mass = None if M is None else M.flat_slots()
    settings = EigenSettings(k, which, sigma, method, preconditioner, v0, tol, maxiter)
    members = values.reshape(A.batch_size, values.shape[-1])
    mass_members: list[Tensor | None] = [None] * A.batch_size
    if mass is not None:
        dtype = torch.promote_types(values.dtype, mass[1].dtype)
        members = members.to(dtype)
        spread = mass[1].to(dtype).expand(*A.batch_shape, mass[1].shape[-1])
        mass_members = list(spread.reshape(A.batch_size, mass[1].shape[-1]))
    ws, vectors = [], []
    for v, m in zip(members, mass_members, strict=True):
        power = size_of(v)
        own = settings if sigma is None else replace(settings, sigma=shifted(sigma, -power))
        problem = Problem(pattern, None if mass is None else mass[0], own)
        w, V = hermitian_eigenpairs(shifted(v, -power), m, problem)
        ws.append(shifted(w, power))
        vectors.append(V)
    w = stacked(A, ws, k, dtype=A.dtype.to_real())
    if not return_eigenvectors:
        return w
    return w, stacked(A, vectors, pattern.shape[0], k)


def _check(
    A: SparseTensor, which: str, sigma: float | None, M: SparseTensor | None, method: str
) -> None:
    refuse_vmap(A.values, "eigenvalues")
    if not A.is_square:
        raise ArgumentError(f"eigenvalues are those of a square matrix, got {tuple(A.shape)}")
    if A.dtype not in ALL_DTYPES:
        raise DTypeError(f"no eigenvalue method works in {A.dtype}; convert to {instead(A.dtype)}")
    if which not in _WHICH:
        raise ArgumentError(f"`which` must be one of {', '.join(_WHICH)}, got {which!r}")
    if sigma is not None and which != "LM":
        raise ArgumentError(
            f"with `sigma` the eigenvalues nearest to it are found; leave `which` at 'LM' (got {which!r})"
        )
    if isinstance(sigma, complex):
        raise ArgumentError(f"`sigma` must be real, as the eigenvalues are, got {sigma}")
    if method not in ("auto", "arpack", "lobpcg", "dense"):
        raise ArgumentError(f"`method` must be auto, arpack, lobpcg or dense, got {method!r}")
    require_finite(A)
    if not A.known_structure().hermitian:
        raise ArgumentError("`eigsh` needs a Hermitian matrix; use `eigs`, or A + A.H()")
    if M is not None:
        if M.flat_shape != A.flat_shape or M.device != A.device:
            raise ArgumentError(f"`M` must have the shape {A.flat_shape} and device of the matrix")
        if M.is_batched and M.batch_shape != A.batch_shape:
            raise ArgumentError(
                f"`M` has batch dimensions {tuple(M.batch_shape)} and the matrix {tuple(A.batch_shape)}"
            )
        if not M.known_structure().hermitian:
            raise ArgumentError("`M` must be Hermitian, and positive definite or semidefinite")


def _check_start(v0: Tensor | None, A: SparseTensor, M: SparseTensor | None) -> None:
    """Refuse a starting vector that no iteration can start from; ARPACK looks at none of this."""
    if v0 is None:
        return
    n = A.flat_shape[0]
    if v0.shape != (n,):
        raise ArgumentError(f"`v0` must be [{n}], got {list(v0.shape)}")
    if v0.is_complex() and not (A.dtype.is_complex or (M is not None and M.dtype.is_complex)):
        raise ArgumentError(f"`v0` is {v0.dtype}, and the matrices are real")
    seen = physical(v0)
    if not torch.isfinite(seen).all() or not seen.any():
        raise ArgumentError("`v0` must be finite and not zero")


class Problem(WholeSpace):
    """One pencil on its patterns: finds the pairs, and solves in their complement."""

    def __init__(
        self, pattern: Pattern, mass_pattern: Pattern | None, settings: EigenSettings
    ) -> None:
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
        return complement_solve(self.pattern, values, self._mass(mass), w, V, R, self.gap)

    @outside_transforms
    def solve(self, values: Tensor, mass: Tensor | None) -> tuple[Tensor, Tensor]:
        """Find, orthonormalise, check and normalise the pairs."""
        s, n = self._s, self.pattern.shape[0]
        values, M = values.detach(), self._mass(None if mass is None else mass.detach())
        massive = n if M is None else len(massive_rows(*M))
        method = s.method
        if method == "auto":
            small = massive <= _DENSE or (s.k > massive // 3 and n <= _DENSE_LIMIT)
            method = "dense" if small else "arpack"
        if massive < n and (method == "lobpcg" or (s.sigma is None and s.which != "SM")):
            raise ArgumentError(INFINITE)
        if method == "dense":
            if n > _DENSE_LIMIT and massive > _DENSE:
                raise ArgumentError(f"the dense method goes up to {_DENSE_LIMIT} rows, got {n}")
            w, V = self._chosen(values, M, method, *self._decompose(values, M, massive))
        elif method == "lobpcg":
            A, apply_mass = product(self.pattern, values), self._massive(M)
            pairs = rayleigh_ritz(A, apply_mass, self._lobpcg(values, M))
            w, V = self._chosen(values, M, method, *pairs)
        else:
            w, V = self._lanczos(values, M, massive)
        return w, V * fix_phase(V)

    @staticmethod
    def _massive(M: tuple[Pattern, Tensor] | None) -> Operator:
        """Return ``X -> M X``."""
        return (lambda X: X) if M is None else product(*M)

    def _chosen(
        self,
        values: Tensor,
        M: tuple[Pattern, Tensor] | None,
        method: str,
        w: Tensor,
        V: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the wanted of the pairs that were found; of the others note how near they are.

        Raises
        ------
        SolveError
            ``RESIDUAL``, where residuals of the wanted ones are too large.
        """
        s, A, apply_mass = self._s, product(self.pattern, values), self._massive(M)
        kept, rest = select(w, s, s.k)
        beyond, W = w[rest], V[:, rest].contiguous()
        w, V = w[kept], V[:, kept].contiguous()
        if method == "lobpcg":
            mass_w = apply_mass(W)
            radius = torch.linalg.vector_norm(A(W) - mass_w * beyond, dim=0)
            beyond = within_reach(w, beyond, radius / torch.linalg.vector_norm(mass_w, dim=0))
        self.beyond = beyond
        scale, self.gap = sizes(self.pattern, values, M, w, V)
        check_residuals(
            A(V) - apply_mass(V) * w,
            scale.clamp(min=torch.finfo(w.dtype).tiny),
            s.tol or (1e-8 if method == "lobpcg" else None),
            "the eigenpairs",
        )
        return w, V

    def _decompose(
        self, values: Tensor, M: tuple[Pattern, Tensor] | None, massive: int
    ) -> tuple[Tensor, Tensor]:
        """Find all pairs, or all finite ones where M is semidefinite."""
        s = self._s
        if M is None or massive == self.pattern.shape[0]:
            try:
                pairs = dense_pencil(self.pattern, values, M)
            except SolveError as error:
                if M is None or error.result is not Result.NOT_POSITIVE_DEFINITE:
                    raise
            else:
                size = pairs[0].abs()
                wanted = float(size[select(pairs[0], s, s.k)[0]].min())
                # Its rounding is that of the largest eigenvalue, which light masses make very large.
                clear = float(size.max()) * torch.finfo(size.dtype).eps ** (1 / 3) < wanted
                if M is None or clear or (s.sigma is None and s.which != "SM"):
                    return pairs
                return self._better(values, M, pairs)
        return condensed_pencil(self.pattern, values, M, s)

    def _better(
        self, values: Tensor, M: tuple[Pattern, Tensor], pairs: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return these pairs, or those that inversion finds if their residuals are smaller."""
        try:
            others = condensed_pencil(self.pattern, values, M, self._s)
        except (ArgumentError, SolveError):
            return pairs  # which are checked

        def worst(found: tuple[Tensor, Tensor]) -> float:
            chosen = select(found[0], self._s, self._s.k)[0]
            w, V = found[0][chosen], found[1][:, chosen].contiguous()
            residual = product(self.pattern, values)(V) - product(*M)(V) * w
            return float(torch.linalg.vector_norm(residual / torch.linalg.vector_norm(V, dim=0)))

        return min(pairs, others, key=worst)

    def _lanczos(
        self, values: Tensor, M: tuple[Pattern, Tensor] | None, massive: int
    ) -> tuple[Tensor, Tensor]:
        """Iterate; where that fails, and nobody asked for it, decompose matrices of moderate size."""
        s = self._s
        free = s.method == "auto" and s.maxiter is None and self.pattern.shape[0] <= _DENSE_LIMIT
        chosen = partial(self._chosen, values, M, "arpack")
        return found(
            lambda: chosen(*lanczos(self.pattern, values, M, s, massive)),
            (lambda: chosen(*self._decompose(values, M, massive))) if free else None,
        )

    def _lobpcg(self, values: Tensor, M: tuple[Pattern, Tensor] | None) -> Tensor:
        s, n = self._s, self.pattern.shape[0]
        if s.which not in ("LA", "SA") or s.sigma is not None:
            raise ArgumentError("LOBPCG finds one end of the spectrum: `which` 'LA' or 'SA'")
        block = min(s.k + max(2, s.k // 4), n // 4)
        if block <= s.k:
            raise ArgumentError(
                f"LOBPCG needs at least {4 * s.k + 4} rows for k={s.k}, got {n}; use method='dense'"
            )
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
            guard=True,
        )[1]
