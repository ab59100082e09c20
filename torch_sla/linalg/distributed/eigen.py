"""`eigsh` and `svd` of a matrix in parts: LOBPCG over the space of its vectors."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log2
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, GradientError, Result, SolveError
from torch_sla.linalg.adjoint.hermitian_eigenpairs import cluster_gap, hermitian_eigenpairs
from torch_sla.linalg.distributed.phase import fix_phase, start
from torch_sla.linalg.distributed.precond.base import default_preconditioner, make
from torch_sla.linalg.distributed.sharding import Product, Sharding
from torch_sla.linalg.distributed.space import PartSpace
from torch_sla.linalg.eigen.convention import check_request, within_reach
from torch_sla.linalg.eigen.lobpcg import LOBPCGOptions, lobpcg
from torch_sla.linalg.methods.minres import minres
from torch_sla.linalg.methods.outcome import KrylovOptions
from torch_sla.linalg.sparse.transforms import outside_transforms

if TYPE_CHECKING:
    from torch_sla.linalg.distributed.knowledge import Knowledge
    from torch_sla.linalg.methods.space import Operator, VectorSpace
    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["EigenRequest", "PartPencil", "part_eigsh"]

_WHICH = ("LM", "SM", "LA", "SA")
_WHOLE = 150  # unknowns up to which the whole space is the basis
_MOST = 2000  # unknowns up to which it may be where many pairs are wanted
_INNER = 1e-12  # of the solves of an inverse iteration
_STEPS = 20  # iterations of the complement for each unknown, at most


@dataclass(frozen=True)
class EigenRequest:
    """What was asked for; see `DSparseTensor.eigsh`."""

    k: int
    which: str = "LM"
    sigma: float | None = None
    preconditioner: Any = "auto"
    tol: float | None = None
    maxiter: int | None = None

    def checked(self, n: int) -> EigenRequest:
        """Return this after making sure that it makes sense for ``n`` unknowns."""
        check_request(self.k, n, self.tol, self.maxiter, self.sigma)
        if self.which not in _WHICH:
            raise ArgumentError(f"`which` must be one of {', '.join(_WHICH)}, got {self.which!r}")
        if self.sigma is not None and self.which != "LM":
            raise ArgumentError(
                f"with `sigma` the eigenvalues nearest to it are found; leave `which` at 'LM' (got {self.which!r})"
            )
        return self


class PartPencil:
    """A Hermitian pencil in parts: finds pairs, and solves in their complement.

    Parameters
    ----------
    A, mass
        Positions of ``A`` and ``M``, slots, in the same parts; None: the identity.
    knowledge
        About the values of ``A``.
    request
        What is wanted.
    near_nullspace
        For multigrid.
    """

    def __init__(
        self,
        A: Sharding,
        mass: Sharding | None,
        knowledge: Knowledge,
        request: EigenRequest,
        near_nullspace: Tensor | None = None,
    ) -> None:
        self.A, self.M = A, mass
        self.pattern: Pattern = A.pattern
        self.mass_pattern = None if mass is None else mass.pattern
        self.space: VectorSpace = PartSpace(A.rows)
        self.extend = A.extend
        self.extend_mass = A.extend if mass is None else mass.extend
        self._known, self._r, self._near = knowledge, request, near_nullspace

    # --- operators -------------------------------------------------------------------------------

    def _operators(self, values: Tensor, mass: Tensor | None) -> tuple[Operator, Operator]:
        A = Product(self.A, values)
        if mass is None or self.M is None:
            return A, lambda X: X
        return A, Product(self.M, mass)

    def _inverse(self, values: Tensor, mass: Tensor | None, sigma: float) -> Operator:
        """``X -> M (A - σ M)⁻¹ M X``, by iteration to nearly working precision."""
        A, M = self._operators(values, mass)
        eps = torch.finfo(values.dtype).eps
        options = KrylovOptions(rtol=max(_INNER, 10 * eps), maxiter=_STEPS * self.A.rows.n)

        def shifted(X: Tensor) -> Tensor:
            return A(X) - sigma * M(X)

        def apply(X: Tensor) -> Tensor:
            done = minres(shifted, M(X).contiguous(), options=options, space=self.space)
            # What stagnates is as good as it gets; the residuals of the pairs are checked in the end.
            if done.result in (Result.NONFINITE, Result.BREAKDOWN):
                raise SolveError(done.result, f"inverse iteration at {sigma}")
            return M(done.x)

        return apply

    def _preconditioner(self, values: Tensor) -> Operator | None:
        wanted = self._r.preconditioner
        if isinstance(wanted, str) and wanted == "auto":
            if self._known.definite is False:
                return None
            wanted = default_preconditioner("cg", self.A, values, self._known)
        made = make(wanted, self.A, values, self._near)
        if made is None:
            return None
        # Residuals are of the size of the matrix, and single precision may not have numbers of that size.
        size = self._known.norm
        factor = 2.0 ** round(log2(size)) if 0 < size < inf else 1.0
        return lambda r: made.apply(r / factor) * factor

    # --- pairs -----------------------------------------------------------------------------------

    @outside_transforms
    def solve(self, values: Tensor, mass: Tensor | None) -> tuple[Tensor, Tensor]:
        """Find, orthonormalise, check and normalise the pairs; see `HermitianProblem`."""
        r, n, space = self._r, self.A.rows.n, self.space
        values = values.detach()
        mass = None if mass is None else mass.detach()
        A, M = self._operators(values, mass)
        block = r.k + max(2, r.k // 4)
        small = n <= _WHOLE or 4 * block > n
        if small and n > _MOST:
            raise ArgumentError(
                f"LOBPCG finds fewer than a quarter of the {n} pairs, and `k` is {r.k}; use a SparseTensor"
            )
        V = self._unit_vectors(values) if small else self._search(values, mass, A, M, block)
        w, V = self._ritz(A, M, V)
        kept, rest = self._chosen(w)
        beyond, W = w[rest], V[:, rest].contiguous()
        w, V = w[kept], V[:, kept].contiguous()
        if len(rest):
            mass_w = M(W)
            radius = space.norm(A(W) - mass_w * beyond) / space.norm(mass_w)
            beyond = within_reach(w, beyond, radius)
        norm = space.norm(V)
        scale = (self._known.norm + w.abs() * self._mass_norm(mass)) * norm
        self.beyond, self.gap = beyond, cluster_gap(w, float((scale * norm).max()))
        tol = max(r.tol or 0.0, 1e-8 if values.dtype in (torch.float64, torch.complex128) else 1e-3)
        residual = space.norm(A(V) - M(V) * w) / scale.clamp(min=torch.finfo(w.dtype).tiny)
        worst = float(residual.max())
        if not worst <= tol:
            raise SolveError(
                Result.RESIDUAL if worst == worst else Result.NONFINITE,
                f"the residual of the eigenpairs is above {tol:.1e}",
                residual=worst,
            )
        return w, V * fix_phase(V, self.A.rows)

    def _search(
        self, values: Tensor, mass: Tensor | None, A: Operator, M: Operator, block: int
    ) -> Tensor:
        """Return vectors whose span has the wanted ones."""
        r = self._r
        X = start(self.A.rows, block, values.dtype)
        tol = r.tol or (1e-10 if values.dtype in (torch.float64, torch.complex128) else 1e-4)
        options = LOBPCGOptions(tol, r.maxiter or 1000, self._known.norm, self._mass_norm(mass))
        mass_op = None if mass is None else M

        def end(operator: Operator, *, largest: bool, precondition: Any = None) -> Tensor:
            return lobpcg(
                operator,
                X,
                r.k,
                M=mass_op,
                preconditioner=precondition,
                largest=largest,
                options=options,
                space=self.space,
                guard=True,
            )[1]

        if r.which == "SA" or (r.which == "SM" and self._known.definite is not False):
            V = end(A, largest=False, precondition=self._preconditioner(values))
            if r.which == "SA" or float(self._ritz(A, M, V)[0].min()) > 0:
                return V
        if r.which == "LA" or (r.which == "LM" and r.sigma is None and self._known.definite):
            # One that is given is for the end that is wanted; of A itself it would be for the other.
            given = self._preconditioner(values) if callable(r.preconditioner) else None
            return end(A, largest=True, precondition=given)
        operator = A
        if r.which == "SM" or r.sigma is not None:
            operator = self._inverse(values, mass, r.sigma or 0.0)
            # Its size is not known beforehand, and rounding of the inner solves is what is left.
            options = LOBPCGOptions(max(tol, 1e-9), r.maxiter or 1000, 0.0)
        return torch.cat([end(operator, largest=True), end(operator, largest=False)], 1)

    def _chosen(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Return the indices of the wanted eigenvalues and of the others, both ascending."""
        r = self._r
        if r.sigma is not None:
            order = (w - r.sigma).abs().argsort(stable=True)
        elif r.which in ("LM", "SM"):
            order = w.abs().argsort(stable=True, descending=r.which == "LM")
        else:
            order = w.argsort(stable=True, descending=r.which == "LA")
        return order[: r.k].sort().values, order[r.k :].sort().values

    def _unit_vectors(self, values: Tensor) -> Tensor:
        """All of space, for small matrices: a basis that is no matrix of the whole on any process."""
        rows = self.A.rows
        V = values.new_zeros(rows.n_held, rows.n)
        V[:, rows.start : rows.start + rows.n_held] = torch.eye(
            rows.n_held, dtype=values.dtype, device=values.device
        )
        return V

    def _ritz(self, A: Operator, M: Operator, V: Tensor) -> tuple[Tensor, Tensor]:
        """M-orthonormal, ascending pairs in the span of `V`; nearly dependent directions are dropped."""
        space = self.space
        eps = torch.finfo(V.dtype).eps
        for _ in range(2):
            gram = space.gram(V, M(V))
            d, Q = torch.linalg.eigh((gram + gram.mH) / 2)
            kept = d > 100 * eps * d[-1] * len(d)
            V = V @ (Q[:, kept] / d[kept].sqrt())
        H = space.gram(V, A(V))
        w, Q = torch.linalg.eigh((H + H.mH) / 2)
        return w, V @ Q

    def _mass_norm(self, mass: Tensor | None) -> float:
        if mass is None or self.M is None:
            return 1.0
        rows = self.M.pattern.sum_rows(mass.abs())
        top = rows.amax() if rows.numel() else rows.new_zeros(())
        return float(self.M.rows.comm.reduce(top, "max"))

    # --- their derivatives -----------------------------------------------------------------------

    def phase_rows(self, V: Tensor) -> Tensor:
        """Refuse: the entry that decides a phase may lie on another process."""
        del V
        raise NotImplementedError("complex eigenvectors in parts have no forward mode")

    @outside_transforms
    def complement(
        self, values: Tensor, mass: Tensor | None, w: Tensor, V: Tensor, R: Tensor
    ) -> Tensor:
        """Solve ``(A - λ_i M) y_i = r_i`` in the complement of `V` by MINRES; see `HermitianProblem`."""
        values, w, V, R = (t.detach() for t in (values, w, V, R))
        A, M = self._operators(values, None if mass is None else mass.detach())
        mass_v = M(V)
        space = self.space

        def outside(X: Tensor) -> Tensor:
            return X - mass_v @ space.gram(V, X)

        def inside(X: Tensor) -> Tensor:
            return X - V @ space.gram(mass_v, X)

        def shifted(X: Tensor) -> Tensor:
            Y = inside(X)
            return outside(A(Y) - M(Y) * w)

        T = self._preconditioner(values) if self._r.which in ("SA", "SM") else None
        precondition = None if T is None else (lambda X: inside(T(outside(X))))
        double = R.dtype in (torch.float64, torch.complex128)
        options = KrylovOptions(
            rtol=1e-12 if double else 1e-5, maxiter=_STEPS * max(self.A.rows.n, 50)
        )
        rhs = outside(R)
        done = minres(shifted, rhs, M=precondition, options=options, space=space)
        Y = inside(done.x)
        left = space.norm(rhs - shifted(Y)) / space.norm(rhs).clamp(min=torch.finfo(w.dtype).tiny)
        growth = space.norm(Y).max() * self.gap
        if not float(left.max()) <= (1e-8 if double else 1e-3) or float(growth) > float(
            space.norm(rhs).max()
        ):
            raise GradientError(
                "an eigenvalue that was not computed lies too close to one that was, so the gradient of the vectors "
                "is not determined; ask for more eigenvalues (the whole cluster)"
            )
        return Y


def part_eigsh(
    A: Sharding,
    values: Tensor,
    mass: tuple[Sharding, Tensor] | None,
    knowledge: Knowledge,
    request: EigenRequest,
    near_nullspace: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return ``w`` ``[k]`` and what is held here of ``V`` ``[n_held, k]``, differentiable in slot values."""
    if not knowledge.hermitian:
        raise ArgumentError("`eigsh` needs a Hermitian matrix; use `eigs`, or A + A.H()")
    where = None if mass is None else mass[0]
    pencil = PartPencil(A, where, knowledge, request.checked(A.rows.n), near_nullspace)
    return hermitian_eigenpairs(values, None if mass is None else mass[1], pencil)
