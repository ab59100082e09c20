"""`svd` and `condition_number`: some singular triplets of a sparse matrix."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, DTypeError, Result, SolveError
from torch_sla.linalg.adjoint.hermitian_eigenpairs import cluster_gap, hermitian_eigenpairs
from torch_sla.linalg.adjoint.unmapped import refuse_vmap
from torch_sla.linalg.backends.base import ALL_DTYPES
from torch_sla.linalg.eigen.complement import complement_solve
from torch_sla.linalg.eigen.convention import (
    check_request,
    check_residuals,
    fix_phase,
    leading_rows,
    require_finite,
    size_of,
    start,
)
from torch_sla.linalg.eigen.dense import found, to_dense
from torch_sla.linalg.eigen.lanczos import arpack, found_or_exhausted, whole_groups
from torch_sla.linalg.eigen.operators import (
    WholeSpace,
    linear_operator,
    max_norm,
    product,
    solver_of,
)
from torch_sla.linalg.eigen.rank_deficient import deficient_triplets
from torch_sla.linalg.extremes import shifted
from torch_sla.linalg.kernels.arguments import instead
from torch_sla.linalg.sparse.members import stacked
from torch_sla.linalg.sparse.pattern import Pattern
from torch_sla.linalg.sparse.tensor import SparseTensor
from torch_sla.linalg.sparse.transforms import outside_transforms, physical

if TYPE_CHECKING:
    from torch_sla.linalg.direct_solver import DirectSolver
    from torch_sla.linalg.methods.space import Operator

__all__ = ["condition_number", "svd"]

_DENSE, _DENSE_LIMIT = 200, 2_000


def svd(
    A: SparseTensor,
    k: int = 6,
    which: str = "LM",
    *,
    tol: float | None = None,
    maxiter: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Find `k` singular values and vectors, ``A ≈ U diag(S) Vt``.

    Derivatives are those of the eigenpairs ``(σ, [u; v] / √2)`` of the Hermitian matrix ``[[0, A], [Aᴴ, 0]]``, so
    what `eigsh` says about clusters holds here.

    Parameters
    ----------
    A
        ``[*batch, M, N]``.
    k
        Number of triplets, at most ``min(M, N)``.
    which
        ``"LM"``: the largest, ``"SM"``: the smallest (of any matrix of up to 2000 rows and columns, and of larger
        square ones).
    tol, maxiter
        Of the iteration; working precision by default. Where it fails without a limit that was asked for, matrices of
        up to 2000 rows and columns are decomposed.

    Returns
    -------
    U, S, Vt
        ``[*batch, M, k]``, ``[*batch, k]`` descending, ``[*batch, k, N]``. The largest entry of each
        left vector is positive.

    Raises
    ------
    ArgumentError
        For a `k` or `which` that there is not.
    SolveError
        For NaN or infinity in the matrix, or when the iteration does not converge.

    Examples
    --------
    >>> import torch
    >>> from torch_sla.linalg import SparseTensor
    >>> d = torch.tensor([1.0, -3.0, 2.0], dtype=torch.float64)
    >>> SparseTensor.diag(d).svd(k=2)[1].tolist()
    [3.0, 2.0]
    """
    return _svd(A, k, which, tol, maxiter)


def _svd(
    A: SparseTensor,
    k: int,
    which: str,
    tol: float | None = None,
    maxiter: int | None = None,
    *,
    singular: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """`svd`, which raises ``SINGULAR`` unless a matrix that no factors tell from a `singular` one may be decomposed."""
    refuse_vmap(A.values, "singular values")
    M, N = A.flat_shape
    if A.dtype not in ALL_DTYPES:
        raise DTypeError(
            f"no singular value method works in {A.dtype}; convert to {instead(A.dtype)}"
        )
    check_request(k, min(M, N), tol, maxiter)
    if which not in ("LM", "SM"):
        raise ArgumentError(f"`which` must be 'LM' or 'SM', got {which!r}")
    require_finite(A)
    pattern, values = A.flat_slots()
    dilated = _dilation(pattern)
    sides: list[list[Tensor]] = [[], [], []]
    for v in values.reshape(A.batch_size, values.shape[-1]):
        power = size_of(v)
        own = shifted(v, -power)
        problem = _Triplets(pattern, dilated.slots, own.detach(), k, which, tol, maxiter, singular)
        entries = dilated.coalesce(torch.cat([own, own.conj()]))
        S, X = hermitian_eigenpairs(entries, None, problem)
        S = shifted(S, power)
        for side, part in zip(sides, (X[:M] * 2**0.5, S, (X[M:] * 2**0.5).mH), strict=True):
            side.append(part)
    U, sizes, W = sides
    return stacked(A, U, M, k), stacked(A, sizes, k, dtype=A.dtype.to_real()), stacked(A, W, k, N)


def condition_number(A: SparseTensor, ord: int = 2) -> Tensor:
    """Return ``σ_max / σ_min`` ``[*batch]``, differentiable; inf for a singular matrix.

    Parameters
    ----------
    ord
        Only 2.

    Examples
    --------
    >>> import torch
    >>> from torch_sla.linalg import SparseTensor
    >>> SparseTensor.diag(torch.tensor([1.0, -8.0, 2.0])).condition_number()
    tensor(8.)
    """
    if ord != 2:
        raise ArgumentError(
            f"`ord` must be 2, got {ord!r}; norm(1) and norm(inf) exist, their inverses do not"
        )
    refuse_vmap(A.values, "singular values")
    if 0 in A.flat_shape:
        raise ArgumentError("an empty matrix has no condition number")
    if A.is_batched:
        pattern, values = A.flat_slots()
        flat = values.reshape(A.batch_size, values.shape[-1])
        parts = [condition_number(SparseTensor.from_pattern(pattern, v)) for v in flat]
        return stacked(A, parts, dtype=A.dtype.to_real())
    _, largest, _ = svd(A, 1)
    try:
        _, smallest, _ = _svd(A, 1, "SM", singular=False)
    except SolveError as error:
        if error.result is Result.SINGULAR:
            return largest[0].detach() + float("inf")
        raise
    if float(smallest[0].detach()) == 0:
        return largest[0].detach() + float("inf")
    return largest[0] / smallest[0]


@outside_transforms
def _dilation(pattern: Pattern) -> Pattern:
    """Pattern of ``[[0, A], [Aᴴ, 0]]`` over the entries ``[A, Aᴴ]`` of slot values given twice."""
    M, N = pattern.shape
    row, col = pattern.csr_row.long(), pattern.ccol.long() + M
    return Pattern.from_coo(torch.cat([row, col]), torch.cat([col, row]), (M + N, M + N))


class _Triplets(WholeSpace):
    """One matrix: finds the triplets as eigenpairs of its dilation."""

    mass_pattern: Pattern | None = None

    def __init__(
        self,
        inner: Pattern,
        pattern: Pattern,
        values: Tensor,
        k: int,
        which: str,
        tol: float | None,
        maxiter: int | None,
        singular: bool,
    ) -> None:
        self.pattern, self._singular = pattern, singular
        self._inner, self._values = inner, physical(values)
        self._k, self._which, self._tol, self._maxiter = k, which, tol, maxiter

    def phase_rows(self, V: Tensor) -> Tensor:
        """Return the rows ``[1, k]`` of the entries of left vectors that decide the phases."""
        return leading_rows(V[: self._inner.shape[0]])

    @outside_transforms
    def complement(
        self, values: Tensor, mass: Tensor | None, w: Tensor, V: Tensor, R: Tensor
    ) -> Tensor:
        """Solve in the complement of the vectors; see `HermitianProblem`."""
        del mass
        return complement_solve(self.pattern, values, None, w, V, R, self.gap)

    @outside_transforms
    def solve(self, values: Tensor, mass: Tensor | None) -> tuple[Tensor, Tensor]:
        """Find the triplets; ``([k], [M + N, k])``."""
        del mass
        M, N = self._inner.shape
        a = self._values
        adjoint = self._inner.transposed, self._inner.transpose_values(a).conj().resolve_conj()
        moderate = max(M, N) <= _DENSE_LIMIT
        small = max(M, N) <= _DENSE or (
            moderate and (self._k > min(M, N) // 3 or (self._which == "SM" and M != N))
        )

        def decompose() -> tuple[Tensor, Tensor, Tensor]:
            U, S, Q = torch.linalg.svd(to_dense(self._inner, a), full_matrices=False)
            return U, S, Q.mH

        pair = (product(self._inner, a), product(*adjoint))
        if small:
            U, S, W = decompose()
        else:
            most = min(M, N) - (3 if a.is_complex() else 2)  # of ARPACK, which finds one more
            turned = pair[::-1] if M < N else pair
            begin = partial(self._gram, *turned) if self._k <= most else (lambda: None)
            gram = None if self._singular else begin()
            free = moderate and self._maxiter is None

            def iterate() -> tuple[Tensor, Tensor, Tensor]:
                try:
                    triplets = self._iterated(turned[0], gram or begin())
                    self._check(*triplets, *pair)
                    return triplets
                except SolveError as error:
                    lost = error.result in (Result.SINGULAR, Result.RESIDUAL)
                    if free or not lost or self._which != "SM" or 2 * self._k + 4 > M or M != N:
                        raise
                triplets = deficient_triplets(
                    self.pattern, physical(values), pair[0], self._k, self._tol, self._maxiter
                )
                self._check(*triplets, *pair)
                return triplets

            U, S, W = found(iterate, decompose if free else None)
        kept = self._wanted(S)
        # Eigenvalues of the dilation beside those wanted; σ = 0 meets its own negative.
        self.beyond = torch.cat([S[: kept.start], S[kept.stop :], -S])
        U, S, W = U[:, kept], S[kept], W[:, kept]
        self.gap = cluster_gap(S, self._size(S))
        X = torch.cat([U, W]) * fix_phase(U)
        return S.clone(), X / 2**0.5

    def _size(self, S: Tensor) -> float:
        """Return a bound on the matrix, whose largest singular value may be among `S`."""
        return max(max_norm(self._inner, self._values), float(S.max()))

    def _wanted(self, S: Tensor) -> slice:
        """Return which of the triplets found, in descending order, are those asked for."""
        first = 0 if self._which == "LM" else len(S) - self._k
        return slice(first, first + self._k)

    def _check(self, U: Tensor, S: Tensor, W: Tensor, forward: Operator, back: Operator) -> None:
        """Raise where residuals of the wanted triplets are too large."""
        kept = self._wanted(S)
        U, S, W = U[:, kept], S[kept], W[:, kept]
        check_residuals(
            torch.cat([forward(W.contiguous()) - U * S, back(U.contiguous()) - W * S]),
            S.new_full((self._k,), self._size(S)).clamp(min=torch.finfo(S.dtype).tiny),
            self._tol,
            "the singular triplets",
        )

    def _gram(self, forward: Operator, back: Operator) -> Operator:
        """Return ``x -> Aᴴ A x``, or for the smallest ones its inverse.

        Raises
        ------
        SolveError
            ``SINGULAR``, where the smallest singular value is zero.
        """
        if self._which == "LM":
            return lambda x: back(forward(x.contiguous()))
        M, N = self._inner.shape
        if M != N:
            raise ArgumentError(
                f"the smallest singular values of a large matrix need it to be square, got {M} x {N}"
            )
        solver: DirectSolver = solver_of(SparseTensor.from_pattern(self._inner, self._values))
        return lambda x: solver.raw(solver.raw(x.contiguous(), adjoint=True).contiguous())

    def _iterated(self, forward: Operator, gram: Operator | None) -> tuple[Tensor, Tensor, Tensor]:
        """Left vectors, values and right vectors: the wanted ones and at least one more."""
        space = self._vectors(forward, gram)
        # Rayleigh-Ritz with A itself: errors are those of A, not of its square.
        U, S, Q = torch.linalg.svd(forward(space), full_matrices=False)
        W = space @ Q.mH
        M, N = self._inner.shape
        return (W, S, U) if M < N else (U, S, W)

    def _vectors(self, forward: Operator, gram: Operator | None) -> Tensor:
        """Orthonormal basis of the wanted right singular vectors of `forward`, and of at least one more."""
        n, a = min(self._inner.shape), self._values
        if gram is None:  # as much memory as the answer
            return torch.eye(n, dtype=a.dtype, device=a.device)

        def find(k: int, known: Tensor | None) -> Tensor:
            def outside(x: Tensor) -> Tensor:
                return x if known is None else x - known @ (known.mH @ x)

            def ask() -> Tensor:
                found = arpack(
                    linear_operator(lambda x: outside(gram(outside(x))), n, a.dtype, a.device),
                    k=k,
                    v0=start(n, 2, a.dtype, a.device)[:, 0 if known is None else 1].cpu().numpy(),
                    tol=self._tol or 0.0,
                    maxiter=self._maxiter,
                )
                return found.to(a.device)

            V = found_or_exhausted(ask, gram, outside, start(n, k, a.dtype, a.device), lambda x: x)
            # What is left of the largest singular vectors counts most in the residual of the smallest.
            return gram(V) if self._which == "SM" else V

        def ritz(V: Tensor) -> tuple[Tensor, Tensor]:
            V = torch.linalg.qr(V).Q
            _, S, Q = torch.linalg.svd(forward(V), full_matrices=False)
            return S, V @ Q.mH

        size = max_norm(self._inner, a)
        return whole_groups(
            self._k,
            find,
            ritz,
            lambda S, many: S.argsort(descending=self._which == "LM")[:many].sort().values,
            lambda S, _: cluster_gap(S, size),
            n - 1,
        )[1]
