"""Lanczos for `eigsh`: ARPACK over the products and factorisations of this library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, Result, SolveError
from torch_sla.linalg.adjoint.hermitian_eigenpairs import cluster_gap
from torch_sla.linalg.eigen.convention import start
from torch_sla.linalg.eigen.operators import (
    factor_near,
    linear_operator,
    mass_inverse,
    max_norm,
    product,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.linalg.methods.space import Operator
    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = [
    "EigenSettings",
    "arpack",
    "found_or_exhausted",
    "lanczos",
    "rayleigh_ritz",
    "select",
    "sizes",
    "whole_groups",
]


@dataclass(frozen=True)
class EigenSettings:
    """What was asked of `eigsh`."""

    k: int
    which: str
    sigma: float | None
    method: str
    preconditioner: Callable[[Tensor], Tensor] | None
    v0: Tensor | None
    tol: float | None
    maxiter: int | None

    def nearest(self, w: Tensor) -> Tensor:
        """Return the indices of ascending eigenvalues, the most wanted first."""
        if self.sigma is not None:
            return (w - self.sigma).abs().argsort(stable=True)
        if self.which in ("LM", "SM"):
            return w.abs().argsort(stable=True, descending=self.which == "LM")
        return w.argsort(stable=True, descending=self.which == "LA")


def select(w: Tensor, settings: EigenSettings, k: int) -> tuple[Tensor, Tensor]:
    """Return the indices of the `k` most wanted eigenvalues and of the others, both ascending."""
    order = settings.nearest(w)
    return order[:k].sort().values, order[k:].sort().values


def sizes(
    pattern: Pattern, values: Tensor, M: tuple[Pattern, Tensor] | None, w: Tensor, V: Tensor
) -> tuple[Tensor, float]:
    """Return ``‖A - λ M‖ ‖v‖`` ``[k]``, the scale of residuals, and how far apart eigenvalues count as equal."""
    norm = torch.linalg.vector_norm(V, dim=0)
    scale = (max_norm(pattern, values) + w.abs() * (1 if M is None else max_norm(*M))) * norm
    return scale, cluster_gap(w, float((scale * norm).max()) if w.numel() else 0.0)


def rayleigh_ritz(A: Operator, M: Operator, V: Tensor) -> tuple[Tensor, Tensor]:
    """M-orthonormal, ascending pairs in the span of `V`."""
    V = V.contiguous()
    gram = V.mH @ M(V)
    L, failed = torch.linalg.cholesky_ex((gram + gram.mH) / 2)
    if int(failed):
        raise SolveError(Result.BREAKDOWN, "the computed eigenvectors are linearly dependent")
    V = torch.linalg.solve_triangular(L.mH, V, upper=True, left=False)
    H = V.mH @ A(V)
    H = (H + H.mH) / 2
    size = H.abs()
    # What is far below rounding is none to LAPACK either, which makes NaN of products that are subnormal.
    H = torch.where(size > torch.finfo(size.dtype).eps ** 2 * size.amax(), H, 0.0)
    w, Q = torch.linalg.eigh(H)
    return w, V @ Q


def whole_groups(
    k: int,
    find: Callable[[int, Tensor | None], Tensor],
    ritz: Callable[[Tensor], tuple[Tensor, Tensor]],
    best: Callable[[Tensor, int], Tensor],
    gap: Callable[[Tensor, Tensor], float],
    most: int,
    complete: Callable[[Tensor, float], bool] = lambda _w, _same: True,
) -> tuple[Tensor, Tensor]:
    """Return values and vectors: the `k` wanted ones and at least one more.

    The next one tells whether a group of equal values ends with those that were asked for. A Krylov space has
    one vector of such a group, the others come of rounding and may come too late: where values coincide the search
    goes on in the complement of what was found until that changes nothing.

    Parameters
    ----------
    find
        Finds so many vectors ``[n, k]`` orthogonal to known ones.
    ritz
        Values and orthonormal vectors in a span.
    best
        Indices of the so many most wanted of some values, as ordered as `ritz` orders them.
    gap
        Distance up to which values count as equal.
    most
        Vectors that can be found in all.
    complete
        Whether the wanted values are among some values, given the distance up to which they count as equal.
    """
    w, V = ritz(find(k + 1, None))
    more = 1
    while more := max(0, min(more, most - len(w))):
        same, before = gap(w, V), w[best(w, k + 1)]
        if float(before.diff().abs().min()) > same and complete(w, same):
            break
        w, V = ritz(torch.cat([V, find(more, V)], 1))
        if float((w[best(w, k + 1)] - before).abs().max()) <= same and complete(w, same):
            break
        more *= 2
    return w, V


def lanczos(
    pattern: Pattern,
    values: Tensor,
    M: tuple[Pattern, Tensor] | None,
    settings: EigenSettings,
    massive: int,
    known: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return M-orthonormal, ascending pairs: the wanted ones and at least one more.

    Shifted and inverted, `M` may be semidefinite: ARPACK starts from what the operator makes, and applies it once more
    to what it returns, so that nothing in the null space of `M` is left.

    Parameters
    ----------
    massive
        Rows with mass, which are no fewer than the finite eigenvalues.
    known
        Vectors to search beside: M-orthonormal ones of an invariant space.

    Raises
    ------
    SolveError
        ``MAXITER`` or ``BREAKDOWN``.
    """
    n, k = massive, settings.k
    most = n - 3 if values.is_complex() else n - 2  # one more is looked for
    if k > most:
        raise ArgumentError(
            f"ARPACK finds up to {max(0, most)} of {n} pairs, got k={k}; use method='dense'"
        )
    search = _Search(pattern, values, M, settings)
    if known is not None:
        search.refine()

    def find(many: int, own: Tensor | None) -> Tensor:
        if known is None:
            return search.find(many, own)
        return search.find(many, known if own is None else torch.cat([known, own], 1))

    return whole_groups(
        k,
        find,
        search.ritz,
        lambda w, many: select(w, settings, many)[0],
        lambda w, V: sizes(pattern, values, M, w, V)[1],
        n - 1,
        search.complete,
    )


def arpack(*operands: Any, **options: Any) -> Tensor:
    """Return the vectors that ARPACK finds for a symmetric operator; arguments as `scipy.sparse.linalg.eigsh`.

    Raises
    ------
    SolveError
        ``MAXITER`` or ``BREAKDOWN``.
    """
    from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, eigsh

    try:
        _, V = eigsh(*operands, **options)
    except ArpackNoConvergence as error:
        raise SolveError(
            Result.MAXITER, f"ARPACK found {len(error.eigenvalues)} of {options['k']} pairs"
        ) from error
    except ArpackError as error:
        raise SolveError(Result.BREAKDOWN, f"ARPACK: {error}") from error
    return torch.from_numpy(np.ascontiguousarray(V))


def found_or_exhausted(
    find: Callable[[], Tensor], apply: Operator, outside: Operator, X: Tensor, mass: Operator
) -> Tensor:
    """Return the vectors ``[n, k]`` that ARPACK finds, or a space that holds them where it cannot.

    It breaks down, or returns vectors that are no orthonormal ones, where its Krylov space of one vector is invariant
    before it has room for all pairs: the matrix is zero, or has fewer different eigenvalues than were asked for. Then
    take a basis of ``X, B X, B² X, ...``: with `k` columns the same few powers hold up to `k` vectors of each.

    Parameters
    ----------
    find
        Asks ARPACK.
    apply
        ``X -> B X``, the operator that it iterates with.
    outside
        Projects on the complement of what is known, where the vectors lie.
    X
        A start ``[n, k]``.
    mass
        Of the inner product.

    Raises
    ------
    SolveError
        ``MAXITER``, or ``BREAKDOWN`` where that space goes on growing.
    """
    try:
        V = find()
        W = outside(V)
        gram = W.mH @ mass(W)
        if float((gram - torch.eye(len(gram)).to(gram)).abs().max()) < 0.1:
            return V
        failure = SolveError(Result.BREAKDOWN, "the computed eigenvectors are linearly dependent")
    except SolveError as error:
        if error.result is not Result.BREAKDOWN:
            raise
        failure = error
    n, k = X.shape
    most = k * max(2 * k + 1, 20)
    V = torch.linalg.qr(X).Q
    # Of what `apply` makes of anything; less than its rounding is nothing.
    least = 1e3 * torch.finfo(X.dtype).eps * float(torch.linalg.vector_norm(apply(V), 2, 0).max())
    V = new = torch.linalg.qr(outside(X)).Q
    while new.shape[1] and V.shape[1] < n:
        if V.shape[1] > most:
            raise failure
        W = outside(apply(new.contiguous()))
        for _ in range(2):
            W = W - V @ (V.mH @ W)
        U, S, _ = torch.linalg.svd(W, full_matrices=False)
        new = U[:, least < S]
        new = torch.linalg.qr(new - V @ (V.mH @ new)).Q
        V = torch.cat([V, new], 1)
    return V


class _Search:
    """One pencil, and the operator whose dominant eigenvectors are the wanted ones."""

    def __init__(
        self,
        pattern: Pattern,
        values: Tensor,
        M: tuple[Pattern, Tensor] | None,
        settings: EigenSettings,
    ) -> None:
        self._s, self._pattern, self._values = settings, pattern, values
        self._a = product(pattern, values)
        self._m: Operator = (lambda X: X) if M is None else product(*M)
        self._generalised = M is not None
        self._inverse: Operator | None = None
        self._mass_inverse: Operator | None = None
        sigma = self._shift(M)
        self._sigma, self._moved = 0.0 if sigma is None else sigma, 0.0
        if sigma is not None:
            solver, self._sigma = factor_near(pattern, values, M, sigma)
            self._moved = abs(self._sigma - sigma)
            self._inverse = solver.raw
        elif M is not None:
            self._mass_inverse = mass_inverse(*M)

    def refine(self) -> None:
        """Take the rounding of its factor, large beside an eigenvalue at the shift, out of the inverse."""
        raw = self._inverse
        if raw is None:
            return

        def inverse(X: Tensor) -> Tensor:
            Y = raw(X)
            for _ in range(2):
                Y = Y + raw((X - self._a(Y) + self._sigma * self._m(Y)).contiguous())
            return Y

        self._inverse = inverse

    def ritz(self, V: Tensor) -> tuple[Tensor, Tensor]:
        """M-orthonormal, ascending pairs in the span of `V`."""
        return rayleigh_ritz(self._a, self._m, V)

    def complete(self, w: Tensor, same: float) -> bool:
        """Whether the wanted eigenvalues are among `w`, also where the shift had to be moved.

        All eigenvalues are known that lie as near to the shift as those that were found: around what was asked for
        these are all in a circle that is smaller by how far the shift was moved.
        """
        if not self._moved or self._s.which == "SA":  # it is moved to the left
            return True
        chosen = w[self._s.nearest(w)[: self._s.k]]
        reach = float((w - self._sigma).abs().max()) - self._moved
        asked = 0.0 if self._s.sigma is None else self._s.sigma
        return float((chosen - asked).abs().max()) <= reach + same

    def find(self, k: int, known: Tensor | None) -> Tensor:
        """Return `k` vectors ``[n, k]``, M-orthogonal to those that are `known`."""
        s, n, values = self._s, self._pattern.shape[0], self._values
        v0 = start(n, 2, values.dtype, values.device)[:, 0 if known is None else 1]
        if s.v0 is not None and known is None:
            v0 = s.v0.detach().to(values.dtype)
        options: dict[str, Any] = {"k": k, "v0": v0.cpu().numpy(), "tol": s.tol or 0.0}
        options["maxiter"] = s.maxiter

        def wrap(apply: Operator) -> Any:
            return linear_operator(apply, n, values.dtype, values.device)

        if self._generalised:
            options["M"] = wrap(self._m)
        mass_v = None if known is None else self._m(known)

        def outside(X: Tensor) -> Tensor:
            return X if known is None or mass_v is None else X - known @ (mass_v.mH @ X)

        def ask() -> Tensor:
            if self._inverse is not None:
                inverse = wrap(self._without(self._inverse, known))
                return arpack(
                    wrap(self._a), which="LM", sigma=self._sigma, OPinv=inverse, **options
                )
            if self._mass_inverse is not None:
                options["Minv"] = wrap(self._mass_inverse)
            return arpack(wrap(self._without(self._a, known)), which=s.which, **options)

        return found_or_exhausted(
            lambda: ask().to(values.device),
            self._spread,
            outside,
            start(n, k, values.dtype, values.device),
            self._m,
        )

    def _spread(self, X: Tensor) -> Tensor:
        """Apply the operator that ARPACK iterates with."""
        if self._inverse is not None:
            return self._inverse(self._m(X).contiguous())
        Y = self._a(X)
        return Y if self._mass_inverse is None else self._mass_inverse(Y)

    def _without(self, operator: Operator, V: Tensor | None) -> Operator:
        """`operator` on the complement of `V`, whose vectors are made the least wanted."""
        if V is None:
            return operator
        mass_v, w = self._m(V), ((V.conj() * self._a(V)).sum(0)).real
        if self._inverse is not None:
            return lambda X: (Y := operator(X - mass_v @ (V.mH @ X))) - V @ (mass_v.mH @ Y)
        far = {"LM": 0.0, "LA": -1.0, "SA": 1.0}[self._s.which] * 2 * float(w.abs().max())

        def apply(X: Tensor) -> Tensor:
            C = mass_v.mH @ X
            Y = operator(X - V @ C)
            return Y - mass_v @ (V.mH @ Y - far * C)

        return apply

    def _shift(self, M: tuple[Pattern, Tensor] | None) -> float | None:
        """Where to shift and invert, or None for plain Lanczos."""
        s, pattern, values = self._s, self._pattern, self._values
        if s.sigma is not None:
            return float(s.sigma)
        if s.which == "SM":
            return 0.0
        if s.which == "SA" and M is None:
            # Nothing lies below the Gershgorin discs, so the nearest are the smallest.
            slots = pattern.diagonal_slots.long()
            d = torch.where(slots >= 0, values[slots.clamp(min=0)], 0).real
            radius = pattern.sum_rows(values.abs()) - d.abs()
            low = float((d - radius).min())
            span = float((d.abs() + radius).max())
            return 0.0 if low + 1e-12 * span >= 0 else low
        return None
