"""`eigs`: some eigenpairs of a general, truly unsymmetric matrix or pencil."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, DTypeError, Result, SolveError
from torch_sla.linalg.adjoint.general_eigenpairs import general_eigenpairs
from torch_sla.linalg.adjoint.unmapped import refuse_vmap
from torch_sla.linalg.backends.base import ALL_DTYPES
from torch_sla.linalg.eigen.convention import (
    RANK,
    check_request,
    check_residuals,
    fix_phase,
    in_order,
    require_finite,
    size_of,
    start,
)
from torch_sla.linalg.eigen.dense import found, to_dense
from torch_sla.linalg.eigen.left import LeftVectors
from torch_sla.linalg.eigen.operators import (
    factor_near,
    linear_operator,
    mass_inverse,
    max_norm,
    product,
)
from torch_sla.linalg.extremes import shifted as to_power
from torch_sla.linalg.kernels.arguments import instead
from torch_sla.linalg.sparse.members import stacked
from torch_sla.linalg.sparse.pattern import Pattern
from torch_sla.linalg.sparse.transforms import outside_transforms, physical

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.linalg.sparse.tensor import SparseTensor

__all__ = ["eigs"]

_DENSE, _DENSE_LIMIT = 200, 2_000


def eigs(
    A: SparseTensor,
    k: int = 6,
    which: str = "LM",
    sigma: complex | None = None,
    return_eigenvectors: bool = True,
    *,
    M: SparseTensor | None = None,
    tol: float | None = None,
    maxiter: int | None = None,
) -> Any:
    """Find `k` eigenvalues and right eigenvectors of a general matrix or pencil, ``A v = λ M v``.

    Parameters
    ----------
    A
        ``[*batch, n, n]``, real or complex.
    k
        Number of pairs.
    which
        Largest or smallest magnitude (``"LM" "SM"``), real part (``"LR" "SR"``) or imaginary part (``"LI" "SI"``;
        its magnitude for a real matrix, where ``"SI"`` is for up to 2000 rows). With `sigma` only ``"LM"``.
    sigma
        Find the eigenvalues nearest to this number, by shift and invert.
    M
        Any square matrix, unbatched or with the batch of `A`; the identity by default. Where it is singular,
        some eigenvalues are infinite: ask for the small ones, or for those near `sigma`.
    tol, maxiter
        Of the iteration; working precision by default. Where it fails without a limit that was asked for, matrices of
        up to 2000 rows and columns are decomposed.

    Returns
    -------
    w, V
        ``[*batch, k]`` and ``[*batch, n, k]``, complex, the wanted end first and of a conjugate pair the
        one above the real axis first; unit vectors with the largest entry real and positive.
        Eigenvalues are differentiable twice, vectors once, where the eigenvalues are simple. Of a multiple eigenvalue
        with as many vectors a loss that treats all copies alike (their sum) is differentiable once; others may be
        among them, as long as no loss depends on those.

    Raises
    ------
    ArgumentError
        When the request makes no sense.
    SolveError
        When the iteration does not converge or the residuals are too large.

    Notes
    -----
    Implicitly restarted Arnoldi: Sorensen, SIAM J. Matrix Anal. Appl. 13, 1992, pages 357-385.

    Examples
    --------
    >>> import torch
    >>> from torch_sla.linalg import SparseTensor
    >>> turn = torch.tensor([[0.0, -2.0], [2.0, 0.0]], dtype=torch.float64)
    >>> w, _ = SparseTensor.from_dense(turn).eigs(k=2)
    >>> w.imag.round().tolist()
    [2.0, -2.0]
    """
    refuse_vmap(A.values, "eigenvalues")
    n = A.flat_shape[0]
    if not A.is_square:
        raise ArgumentError(f"eigenvalues are those of a square matrix, got {tuple(A.shape)}")
    if A.dtype not in ALL_DTYPES:
        raise DTypeError(f"no eigenvalue method works in {A.dtype}; convert to {instead(A.dtype)}")
    check_request(k, n, tol, maxiter, sigma)
    if which not in RANK or (sigma is not None and which != "LM"):
        raise ArgumentError(
            f"`which` must be one of {', '.join(RANK)} ('LM' with `sigma`), got {which!r}"
        )
    require_finite(A)
    pattern, values = A.flat_slots()
    members = values.reshape(A.batch_size, values.shape[-1])
    masses: list[Tensor | None] = [None] * A.batch_size
    if M is not None:
        pattern, members, spread = _together(A, M)
        masses = list(spread)
    ws, vectors = [], []
    for v, m in zip(members, masses, strict=True):
        power = size_of(v)
        near = None if sigma is None else to_power(sigma, -power)
        problem = _Problem(pattern, k, which, near, tol, maxiter)
        w, V = general_eigenpairs(to_power(v, -power), m, problem)
        ws.append(to_power(w, power))
        vectors.append(V)
    dtype = A.dtype.to_complex()
    w = stacked(A, ws, k, dtype=dtype)
    return (w, stacked(A, vectors, n, k, dtype=dtype)) if return_eigenvectors else w


def _together(A: SparseTensor, M: SparseTensor) -> tuple[Pattern, Tensor, Tensor]:
    """Put both on one pattern: values ``[members, nnz]`` of each."""
    if M.flat_shape != A.flat_shape or M.device != A.device:
        raise ArgumentError(f"`M` must have the shape {A.flat_shape} and device of the matrix")
    if M.is_batched and M.batch_shape != A.batch_shape:
        raise ArgumentError(
            f"`M` has batch dimensions {tuple(M.batch_shape)} and the matrix {tuple(A.batch_shape)}"
        )
    if not torch.isfinite(physical(M.values)).all():
        raise SolveError(Result.NONFINITE, "NaN or infinity in `M`")
    (first, values), (second, mass) = A.flat_slots(), M.flat_slots()
    dtype = torch.promote_types(values.dtype, mass.dtype)
    values, mass = values.to(dtype), mass.to(dtype)
    if first is not second:
        joint = _union(first, second)
        values = joint.coalesce(torch.nn.functional.pad(values, (0, mass.shape[-1])))
        mass = joint.coalesce(torch.nn.functional.pad(mass, (first.nnz_csr, 0)))
        first = joint.slots
    spread = mass.expand(*A.batch_shape, mass.shape[-1])
    size = values.shape[-1]
    return first, values.reshape(A.batch_size, size), spread.reshape(A.batch_size, size)


class _Problem(LeftVectors):
    """A request on one pattern."""

    def __init__(
        self,
        pattern: Pattern,
        k: int,
        which: str,
        sigma: complex | None,
        tol: float | None,
        maxiter: int | None,
    ) -> None:
        self.pattern = pattern
        self._k, self._which, self._sigma = k, which, sigma
        self._tol, self._maxiter = tol, maxiter

    def _mass(self, mass: Tensor | None) -> tuple[Pattern, Tensor] | None:
        return None if mass is None else (self.pattern, mass)

    def _massive(self, mass: Tensor | None) -> Callable[[Tensor], Tensor]:
        """Return ``X -> M X``."""
        return (lambda X: X) if mass is None else product(self.pattern, mass)

    @outside_transforms
    def solve(self, values: Tensor, mass: Tensor | None) -> tuple[Tensor, Tensor]:
        """Find, sort, normalise and check the pairs."""
        values, mass = values.detach(), None if mass is None else mass.detach()
        n, k = self.pattern.shape[0], self._k
        # Among real eigenvalues and conjugate pairs the smallest imaginary parts are no end of the spectrum.
        inside = self._which == "SI" and not values.is_complex()
        if n <= _DENSE or ((inside or k > n // 3) and n <= _DENSE_LIMIT):
            w, V, beyond = self._chosen(values, mass, *self._dense(values, mass))
        elif inside:
            raise ArgumentError(
                f"which='SI' of a real matrix goes up to {_DENSE_LIMIT} rows, got {n}: iterations find the ends of a "
                "spectrum, and this is its middle; give a real `sigma`"
            )
        else:
            free = self._maxiter is None and n <= _DENSE_LIMIT
            w, V, beyond = found(
                lambda: self._chosen(values, mass, *self._arpack(values, mass)),
                (lambda: self._chosen(values, mass, *self._dense(values, mass))) if free else None,
            )
        size = self._scale(values, mass, w)
        self._group(w, beyond, size / torch.linalg.vector_norm(self._massive(mass)(V), dim=0))
        return w, V * fix_phase(V)

    def _chosen(
        self, values: Tensor, mass: Tensor | None, w: Tensor, V: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the wanted of the pairs that were found, with unit vectors, and the other eigenvalues.

        Raises
        ------
        SolveError
            ``RESIDUAL``, where residuals of the wanted ones are too large.
        """
        w, V = w.to(values.dtype.to_complex()), V.to(values.dtype.to_complex())
        order = self._order(w, values.is_complex())
        kept, beyond = order[: self._k], w[order[self._k :]]
        w, V = w[kept], V[:, kept].contiguous()
        V = V / torch.linalg.vector_norm(V, dim=0)
        residual = product(self.pattern, values)(V) - self._massive(mass)(V) * w
        check_residuals(residual, self._scale(values, mass, w), self._tol, "the eigenpairs")
        return w, V, beyond

    def _scale(self, values: Tensor, mass: Tensor | None, w: Tensor) -> Tensor:
        """Return bounds ``[k]`` on ``A - λ M``, beside which residuals are small."""
        bound = max_norm(self.pattern, values)
        scale = w.real.new_full((len(w),), max(bound, torch.finfo(w.dtype).tiny))
        return scale if mass is None else scale + w.abs() * max_norm(self.pattern, mass)

    def _dense(self, values: Tensor, mass: Tensor | None) -> tuple[Tensor, Tensor]:
        A = to_dense(self.pattern, values)
        if mass is None:
            w, V = torch.linalg.eig(A)
            return w, V
        from scipy.linalg import eig

        B = to_dense(self.pattern, mass)
        found, vectors = eig(A.cpu().numpy(), B.cpu().numpy())
        # Where M is singular some are infinite, or as good as that.
        size = np.abs(found)
        bound = float(torch.linalg.norm(A)) / max(float(torch.linalg.norm(B)), 1e-300)
        kept = np.isfinite(found) & (size * np.finfo(vectors.dtype).eps < 1e2 * bound)
        if kept.sum() < self._k:
            raise ArgumentError(
                f"`M` is singular and leaves {kept.sum()} finite eigenvalues, got k={self._k}"
            )
        w, V = (torch.from_numpy(np.ascontiguousarray(x)) for x in (found[kept], vectors[:, kept]))
        wide = values.dtype.to_complex()
        return w.to(values.device, wide), V.to(values.device, wide)

    def _order(self, w: Tensor, complex_input: bool) -> Tensor:
        """By the criterion; what is equal to rounding by the real part, then the upper half plane first."""
        key = (w - self._sigma).abs() if self._sigma is not None else RANK[self._which](w)
        if complex_input and self._which in ("LI", "SI"):
            key = -w.imag if self._which == "LI" else w.imag
        return in_order(w, key)

    def _arpack(self, values: Tensor, mass: Tensor | None) -> tuple[Tensor, Tensor]:
        from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, eigs as arpack

        n, dtype = self.pattern.shape[0], values.dtype
        if self._k >= n - 1:
            raise ArgumentError(f"at most {n - 2} pairs of a matrix of {n} rows, got k={self._k}")
        sigma = 0.0 if self._which == "SM" and self._sigma is None else self._sigma
        # One more than asked, so that the other half of a conjugate pair is there to sort.
        options: dict[str, Any] = {
            "k": min(self._k + 1, n - 2),
            "tol": self._tol or 0.0,
            "maxiter": self._maxiter,
        }
        try:
            if sigma is None:
                apply = product(self.pattern, values)
                if mass is not None:
                    inner, inverse_mass = apply, mass_inverse(self.pattern, mass)
                    apply = lambda X: inverse_mass(inner(X))  # noqa: E731
                A = linear_operator(apply, n, dtype, values.device)
                v0 = start(n, 1, dtype, values.device)[:, 0].cpu().numpy()
                w, V = arpack(A, which=self._which, v0=v0, **options)
            else:
                # In complex arithmetic: with real arithmetic a complex shift mixes up its conjugate.
                asked = sigma if complex(sigma).imag else complex(sigma).real
                wide = values.to(dtype.to_complex()) if complex(asked).imag else values
                mass = None if mass is None else mass.to(wide.dtype)
                solver, shift = factor_near(self.pattern, wide, self._mass(mass), asked)
                massive = self._massive(mass)
                inverse = linear_operator(
                    lambda X: solver.raw(massive(X)), n, wide.dtype, values.device
                )
                v0 = start(n, 1, wide.dtype, values.device)[:, 0].cpu().numpy()
                while True:
                    mu, V = arpack(inverse, which="LM", v0=v0, **options)
                    w = shift + 1 / mu
                    # Known are all that lie as near to the shift; where it was moved, fewer around what was asked for.
                    moved, far = abs(shift - asked), np.sort(np.abs(w - asked))[self._k - 1]
                    sure = np.abs(w - shift).max() - moved * 0.99
                    if not moved or far <= sure or options["k"] == n - 2:
                        break
                    options["k"] = min(2 * options["k"], n - 2)
        except ArpackNoConvergence as error:
            found = len(error.eigenvalues)
            raise SolveError(Result.MAXITER, f"ARPACK found {found} of {self._k} pairs") from error
        except ArpackError as error:
            raise SolveError(Result.BREAKDOWN, f"ARPACK: {error}") from error
        vectors = torch.from_numpy(np.ascontiguousarray(V))
        return torch.from_numpy(w).to(values.device), vectors.to(values.device)


@outside_transforms
def _union(first: Pattern, second: Pattern) -> Pattern:
    """Pattern of both over the entries of the first, then of the second."""
    row = torch.cat([first.csr_row.long(), second.csr_row.long()])
    col = torch.cat([first.ccol.long(), second.ccol.long()])
    return Pattern.from_coo(row, col, first.shape)
