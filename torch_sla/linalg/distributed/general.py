"""`eigs` of a matrix in parts: restarted Arnoldi over the space of its vectors."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, GradientError, Result, SolveError
from torch_sla.linalg.adjoint.general_eigenpairs import general_eigenpairs
from torch_sla.linalg.distributed.phase import fix_phase, start
from torch_sla.linalg.distributed.sharding import Product, Sharding
from torch_sla.linalg.distributed.space import PartSpace
from torch_sla.linalg.eigen.convention import RANK, check_request, in_order
from torch_sla.linalg.methods.gmres import gmres
from torch_sla.linalg.methods.outcome import KrylovOptions
from torch_sla.linalg.sparse.transforms import outside_transforms

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.linalg.methods.space import Operator, VectorSpace
    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["PartGeneral", "part_eigs"]

_RESTARTS = 500
# Relative residual of the best of what is not wanted at which it is believed not to belong to what is.
_SEEN = 1e-4
_UNSOLVED = (
    "the adjoint of eigenvalue {} could not be solved by GMRES: it is multiple or nearly defective, or the matrix is "
    "too large for that"
)
_MULTIPLE = "eigenvalue {} is multiple or nearly defective, so it and its vector have no derivative"


class PartGeneral:
    """One request; see `torch_sla.linalg.adjoint.general_eigenpairs.GeneralProblem`.

    Arnoldi with thick restarts: the wanted Ritz vectors are kept as an orthonormal basis and the space is grown
    from there (Stewart, SIAM J. Matrix Anal. Appl. 23, 2002, pages 601-614, for the form with Schur vectors).
    """

    def __init__(
        self, A: Sharding, k: int, which: str, tol: float | None, maxiter: int | None, norm: float
    ) -> None:
        self.A, self.extend = A, A.extend
        self.space: VectorSpace = PartSpace(A.rows)
        self.pattern: Pattern = A.pattern
        self._k, self._which, self._tol, self._maxiter = k, which, tol, maxiter
        self._norm = norm

    def _operator(self, values: Tensor) -> Product:
        return Product(self.A, values.to(values.dtype.to_complex()))

    @outside_transforms
    def solve(self, values: Tensor, mass: Tensor | None) -> tuple[Tensor, Tensor]:
        """Find, sort, check and normalise the pairs; a mass is not known here."""
        del mass
        A, k = self._operator(values), self._k
        real = not values.is_complex()
        dtype = values.dtype.to_complex()
        tol = self._tol or 100 * float(torch.finfo(dtype).eps)
        w, V = _arnoldi(
            A,
            lambda i: start(self.A.rows, 1, dtype, seed=i),
            k,
            lambda found: self._order(found, real),
            lambda found: self._key(found, real),
            tol,
            self._maxiter or _RESTARTS,
            self._norm,
            self.space,
        )
        found = self._order(w, real)
        self._multiple = _repeated(w[found], self._norm)[:k]
        w, V = w[found[:k]], V[:, found[:k]]
        V = V / self.space.norm(V)
        worst = float(self.space.norm(A(V) - V * w).max()) / max(self._norm, 1e-300)
        limit = max(0.01 * float(torch.finfo(dtype).eps) ** 0.5, tol)
        if not worst <= limit:
            raise SolveError(
                Result.RESIDUAL,
                f"the residual of the eigenpairs is above {limit:.1e}",
                residual=worst,
            )
        return w, V * fix_phase(V, self.A.rows)

    def _order(self, w: Tensor, real: bool) -> Tensor:
        """By the criterion; what is equal to rounding by real part, then the upper half plane first."""
        return in_order(w, self._key(w, real), slack=10.0)

    def _key(self, w: Tensor, real: bool) -> Tensor:
        """Return what grows from the first one wanted to the last."""
        if not real and self._which in ("LI", "SI"):
            return -w.imag if self._which == "LI" else w.imag
        return RANK[self._which](w)

    def refuse_parts(self, g: Tensor | None, G: Tensor | None) -> None:
        """Leave it to `left`, which refuses every multiple eigenvalue."""
        del g, G

    @outside_transforms
    def left(
        self, values: Tensor, mass: Tensor | None, w: Tensor, V: Tensor, Q: Tensor, wanted: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Left vectors and adjoint solutions from the bordered matrix of each pair that is wanted, by GMRES.

        The border is one more unknown, which the first process holds.
        """
        del mass
        A = self._operator(values.detach())
        w, V, Q = w.detach(), V.detach(), Q.detach()
        space, comm = PartSpace(self.A.rows, border=1), self.A.rows.comm
        scale = max(self._norm, torch.finfo(w.dtype).tiny)
        one = 1 if comm.rank == 0 else 0
        W, Z = torch.zeros_like(V), torch.zeros_like(V)
        n = V.shape[0]
        double = w.dtype is torch.complex128
        options = KrylovOptions(
            rtol=1e-12 if double else 1e-5, maxiter=40 * (self.A.rows.n + 1), restart=100
        )
        # A cotangent may be zero here and not elsewhere.
        for i in torch.nonzero(comm.reduce(wanted.to(w.real), "max"))[:, 0].tolist():
            # Of several left vectors the bordered matrix would give any.
            if bool(self._multiple[i]):
                raise GradientError(_MULTIPLE.format(i))
            v, w_i = V[:, i : i + 1], w[i].conj()

            def bordered(x: Tensor, v: Tensor = v, shift: Tensor = w_i) -> Tensor:
                z, s = x[:n], comm.reduce(x[n:].sum(0)) * scale
                bottom = comm.reduce((v.conj() * z).sum(0)) * scale
                return torch.cat(
                    [A.adjoint(z.contiguous()) - shift * z + v * s, bottom.expand(one, -1)]
                )

            rhs = torch.zeros(n + one, 2, dtype=V.dtype, device=V.device)
            rhs[n:, 0], rhs[:n, 1] = scale, Q[:, i]
            done = gmres(bordered, rhs, options=options, space=space)
            unit = space.norm(rhs)
            left = space.norm(rhs - bordered(done.x)) / torch.where(unit > 0, unit, 1.0)
            W[:, i], Z[:, i] = done.x[:n, 0], done.x[:n, 1]
            size = float(space.norm(W[:, i : i + 1])[0])
            if not float(left.max()) <= (1e-8 if double else 1e-3):
                raise GradientError(_UNSOLVED.format(i))
            if not size * torch.finfo(w.dtype).eps ** 0.5 <= 0.1:
                raise GradientError(_MULTIPLE.format(i))
        return W, Z

    def recorded_left(
        self, values: Tensor, mass: Tensor | None, w: Tensor, V: Tensor, wanted: Tensor
    ) -> Tensor:
        """Refuse: second derivatives are not available in parts."""
        del values, mass, w, V, wanted
        raise GradientError(
            "second derivatives of eigenvalues of a general matrix in parts are not available"
        )


def _repeated(w: Tensor, norm: float) -> Tensor:
    """Return which eigenvalues ``[m]`` equal another of them, to what rounding of a matrix of this norm may do."""
    eps = torch.finfo(w.dtype).eps
    reach = torch.maximum(eps ** (2 / 3) * w.abs(), 10 * eps * (norm + w.abs()))
    apart = (w.unsqueeze(1) - w).abs().fill_diagonal_(torch.inf)
    return (apart <= torch.maximum(reach.unsqueeze(1), reach)).any(1)


def _dimension(k: int) -> int:
    """Return the vectors of a Krylov space for `k` pairs."""
    return max(3 * k + 13, 30)


def _arnoldi(
    A: Operator,
    fresh: Callable[[int], Tensor],
    k: int,
    order: Callable[[Tensor], Tensor],
    key: Callable[[Tensor], Tensor],
    tol: float,
    restarts: int,
    norm: float,
    space: VectorSpace,
) -> tuple[Tensor, Tensor]:
    """Return at least `k` Ritz values that `order` puts first, and their vectors ``[n_held, *]``.

    One pair more is sought, which shows whether `k` cuts a group of equal ones, but where none of the others can reach
    those wanted: their `key`, what `order` sorts by, is off by more than their residuals.

    A Krylov space has one vector of each eigenspace, whatever its dimension. So what has converged is kept, and
    the space grows again from a vector orthogonal to it, until that brings nothing that belongs before it: this
    finds the other vectors of multiple eigenvalues. ``fresh(i)`` are vectors to start from.
    """
    v = fresh(0)
    n, starts = space.size(v), 1
    m = min(_dimension(k), n)
    V = v.new_empty(m + 1, *v.shape)
    V[0] = v / space.norm(v)
    H = torch.zeros(m + 1, m, dtype=v.dtype, device=v.device)
    negligible = 10 * torch.finfo(v.dtype).eps * max(norm, 1e-300)
    settled = v.new_zeros(0)
    more, reached, j = min(k + 1, n), inf, 0
    for _ in range(restarts):
        while j < m:
            x, h = _orthogonal(A(V[j]), V[: j + 1], space)
            H[: j + 1, j] += h[:, 0]
            below = space.norm(x)[0]
            j += 1
            if float(below) > negligible:
                H[j, j - 1], V[j] = below.to(v.dtype), x / below
            elif j < n:
                H[j, j - 1], V[j] = 0, _outside(fresh(starts), V[:j], space)
                starts += 1
        w, Y = torch.linalg.eig(H[:j, :j])
        first = order(w)
        error = H[j, j - 1].abs() * Y[j - 1].abs() / max(norm, 1e-300)
        reached, least = float(error[first[:k]].max()), key(w)
        others = first[k:]
        apart = bool((least[others] - error[others] * norm > least[first[k - 1]]).all())
        need = k if apart else more
        wanted = w[first[:need]]
        converged = bool((error[first[:need]] <= tol).all())
        moved = (wanted - settled[:need]).abs() if len(settled) >= need else None
        known = moved is not None and bool((moved <= 1e3 * tol * norm).all())
        if j == n or (converged and known and (apart or float(error[first[need]]) <= _SEEN)):
            kept = first[: k + 3]
            return w[kept], torch.einsum("jnk,jp->np", V[:j], Y[:, kept])
        again = converged and not known
        # Keep the wanted Ritz vectors and some more: an orthonormal basis of their span.
        keep = first[: need if again else min(more + max(more // 2, 4), j - 1)]
        Q, _ = torch.linalg.qr(Y[:, keep])
        p = Q.shape[1]
        small, last = Q.mH @ H[:j, :j] @ Q, H[j, j - 1] * Q[j - 1]
        V[:p] = torch.einsum("jnk,jp->pnk", V[:j], Q)
        V[p] = V[j]
        if again:
            settled, last = wanted, torch.zeros_like(last)
            V[p] = _outside(fresh(starts), V[:p], space)
            starts += 1
        H.zero_()
        H[:p, :p], H[p, :p] = small, last
        j = p
    found = int((error[first[:k]] <= tol).sum())
    raise SolveError(
        Result.MAXITER,
        f"restarted Arnoldi found {found} of {k} pairs; where many eigenvalues are equally good (real ones by 'LI'), "
        "ask for fewer, or for those at an end of the spectrum ('LM', 'LR', 'SR')",
        iterations=restarts,
        residual=reached,
    )


def _orthogonal(x: Tensor, V: Tensor, space: VectorSpace) -> tuple[Tensor, Tensor]:
    """Return what of `x` is orthogonal to the orthonormal ``V``, and the coefficients ``[j, 1]`` of the rest."""
    h = space.dots(V, x)
    x = x - space.combine(V, h)
    more = space.dots(V, x)
    return x - space.combine(V, more), h + more


def _outside(x: Tensor, V: Tensor, space: VectorSpace) -> Tensor:
    """Return a unit vector orthogonal to ``V``, from `x`."""
    x, _ = _orthogonal(x, V, space)
    x, _ = _orthogonal(x / space.norm(x), V, space)
    return x / space.norm(x)


def part_eigs(
    A: Sharding,
    values: Tensor,
    k: int,
    which: str,
    tol: float | None,
    maxiter: int | None,
    norm: float,
) -> tuple[Tensor, Tensor]:
    """Return ``w`` ``[k]`` and what is held here of ``V`` ``[n_held, k]``, differentiable in slot values."""
    check_request(k, A.rows.n, tol, maxiter)
    if which not in RANK:
        raise ArgumentError(f"`which` must be one of {', '.join(RANK)}, got {which!r}")
    if which == "SI" and not values.is_complex() and A.rows.n > _dimension(k):
        raise ArgumentError(
            f"which='SI' of a real matrix in parts goes up to {_dimension(k)} rows for k={k}, got {A.rows.n}: "
            "iterations find the ends of a spectrum, and this is its middle; gather the matrix and give a real `sigma`"
        )
    return general_eigenpairs(values, None, PartGeneral(A, k, which, tol, maxiter, norm))
