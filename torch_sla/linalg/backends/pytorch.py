"""Our own iterative methods, written in torch over a vector space."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from torch_sla.linalg.backends.base import (
    Backend,
    Capabilities,
    Method,
    Mode,
    Numeric,
    Solution,
    SolveOptions,
    Symbolic,
    groups_of,
)
from torch_sla.linalg.kernels import sparse as kernels
from torch_sla.linalg.kernels.batched_cg import batched_cg, takes
from torch_sla.linalg.methods.bicgstab import bicgstab
from torch_sla.linalg.methods.cg import cg
from torch_sla.linalg.methods.gmres import gmres
from torch_sla.linalg.methods.lsmr import lsmr
from torch_sla.linalg.methods.lsqr import lsqr
from torch_sla.linalg.methods.minres import minres
from torch_sla.linalg.methods.outcome import KrylovOptions
from torch_sla.linalg.precond.base import GIVEN, make_preconditioner
from torch_sla.linalg.precond.multigrid.options import AMG

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.methods.outcome import Outcome
    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure

__all__ = ["PyTorch"]

_DEFINITE = ("jacobi", "multigrid", "block_jacobi", "ssor", "ichol", "none", GIVEN)
_GENERAL = ("jacobi", "multigrid", "block_jacobi", "ssor", "ilu", "ichol", "none", GIVEN)
_INDEFINITE = ("none", "jacobi", "block_jacobi", "ssor", "ichol", GIVEN)

_SQUARE: dict[str, Any] = {"cg": cg, "bicgstab": bicgstab, "gmres": gmres, "minres": minres}
_SIDE_BY_SIDE = ("cg", "bicgstab", "minres")  # of which a step takes a few vectors, and no basis
_LEAST_SQUARES: dict[str, Any] = {"lsqr": lsqr, "lsmr": lsmr}


@dataclass(frozen=True)
class _Kept:
    """The preconditioner that was asked for, and what its next set-up on the pattern can use again."""

    wanted: Any
    skeleton: Any


def _in_one_kernel(
    symbolic: Symbolic, values: Tensor, b: Tensor, options: SolveOptions
) -> Solution | None:
    """Solve small definite systems with one program each; None where they are others."""
    n, pattern = b.shape[1], symbolic.pattern
    fused = symbolic.method == "cg" and options.preconditioner == "jacobi"
    if not (fused and b.shape[2] == 1 and takes(values, n)):
        return None
    diagonal = kernels.diagonal(pattern.crow, pattern.ccol, values, n)
    if not bool((diagonal > 0).all()):
        return None
    norm = torch.linalg.vector_norm(b[..., 0], dim=1)
    target = 0.5 * torch.clamp(options.rtol * norm, min=options.atol)
    limit = options.maxiter or 10 * n
    x, iterations = batched_cg(
        pattern.crow, pattern.ccol, values, diagonal, b[..., 0], target, limit
    )
    return Solution(x.unsqueeze(-1), int(iterations.amax()))


def _side_by_side(
    symbolic: Symbolic,
    values: Tensor,
    b: Tensor,
    mode: Mode,
    options: SolveOptions,
    x0: Tensor | None,
) -> Solution | None:
    """Iterate with the right-hand sides of all members as columns, of which each has scalars of its own.

    None where there is room for one member only, or one has a zero on its diagonal.
    """
    count, n, width = b.shape
    groups = groups_of(count, n)
    if len(groups) == count:
        return None
    p = symbolic.pattern
    if mode != "n":
        values, p = p.transpose_values(values), p.transposed
        values = values.conj().resolve_conj() if mode == "h" else values
    inverse = None
    if options.preconditioner == "jacobi":
        inverse = kernels.diagonal(p.crow, p.ccol, values, n).reciprocal()
        if not bool(torch.isfinite(inverse).all()):
            return None

    def members(v: Tensor) -> Tensor:
        return v.reshape(n, -1, width).movedim(1, 0)

    def columns(v: Tensor) -> Tensor:
        return v.movedim(0, 1).reshape(n, -1)

    def product(a: Tensor, v: Tensor) -> Tensor:
        x = members(v).contiguous()
        return columns(kernels.spmm(p.crow, p.ccol, a, x, longest=p.longest_row))

    method = _SQUARE[symbolic.method]
    krylov = KrylovOptions(options.rtol, options.atol, options.maxiter)
    found = Solution(torch.empty_like(b))
    for own in groups:
        A, M = partial(product, values[own]), None
        if inverse is not None:
            M = columns(inverse[own].unsqueeze(-1).expand(-1, -1, width)).mul
        start = None if x0 is None else columns(x0[own])
        done = method(A, columns(b[own]), M=M, x0=start, options=krylov)
        found.x[own] = members(done.x)
        found.slower(done.iterations, done.history)
    return found


class PyTorch(Backend):
    """Krylov methods on whatever device the values live on.

    The numeric phase makes the preconditioner; the matrix itself is applied from the caller's
    values, so no copy of it is kept.
    """

    name = "pytorch"
    capabilities = Capabilities(
        methods=(
            Method("cg", "iterative", "positive_definite", _DEFINITE),
            Method("bicgstab", "iterative", "general", _GENERAL),
            Method("gmres", "iterative", "general", _GENERAL),
            Method("minres", "iterative", "hermitian", _INDEFINITE),
            Method("lsmr", "iterative", "general", ("none",), rectangular=True),
            Method("lsqr", "iterative", "general", ("none",), rectangular=True),
        ),
        devices=frozenset({"cpu", "cuda"}),
    )

    def analyze(self, pattern: Pattern, method: str, structure: Structure) -> Symbolic:
        return Symbolic(pattern, method, structure)

    def factorize(self, symbolic: Symbolic, values: Tensor, options: SolveOptions) -> Numeric:
        if symbolic.method in _LEAST_SQUARES:
            return Numeric(symbolic, None)
        wanted, kept = options.preconditioner, symbolic.payload
        like = kept.skeleton if isinstance(kept, _Kept) and kept.wanted == wanted else None
        made = make_preconditioner(wanted, symbolic.pattern, values, symbolic.structure, like=like)
        skeleton = getattr(made, "skeleton", lambda: None)()
        if skeleton is not None:
            # A memo: what is made from it is the same as without it, to the last bit.
            symbolic.payload, symbolic.own = _Kept(wanted, skeleton), skeleton.nbytes
        notes = getattr(made, "notes", ())
        return Numeric(symbolic, made, nbytes=0 if made is None else made.nbytes, notes=notes)

    def solve(
        self,
        numeric: Numeric,
        values: Tensor,
        b: Tensor,
        mode: Mode = "n",
        *,
        options: SolveOptions,
        x0: Tensor | None = None,
    ) -> Solution:
        if mode == "t":
            x0 = None if x0 is None else x0.conj().resolve_conj()
            turned = self.solve(
                numeric, values, b.conj().resolve_conj(), "h", options=options, x0=x0
            )
            turned.x = turned.x.conj().resolve_conj()
            return turned
        done = self._iterate(numeric, values, b, mode == "h", options, x0)
        return Solution(done.x, done.iterations, done.history, done.result, done.sizes)

    def iterate_batch(
        self,
        symbolic: Symbolic,
        values: Tensor,
        b: Tensor,
        mode: Mode,
        options: SolveOptions,
        x0: Tensor | None = None,
    ) -> Solution | None:
        pointwise = options.preconditioner in ("jacobi", "none")
        if not (pointwise and symbolic.method in _SIDE_BY_SIDE):
            return None
        if x0 is None and mode == "n":
            found = _in_one_kernel(symbolic, values, b, options)
            if found is not None:
                return found
        return None if values.is_cpu else _side_by_side(symbolic, values, b, mode, options, x0)

    def joins(self, method: str, preconditioner: object, values: Tensor) -> bool:
        # Kernels of small systems take less time than their launches, and cycles work on blocks as they do on
        # each alone. Vectors given for one matrix fit no other.
        own = isinstance(preconditioner, AMG) and preconditioner.near_nullspace is None
        return (own or preconditioner == "multigrid") and not values.is_cpu

    def concurrent(self, method: str, preconditioner: object, values: Tensor) -> bool:
        own = preconditioner == "multigrid" or isinstance(preconditioner, AMG)
        compiled = method in ("cg", "gmres", "bicgstab") and not values.is_complex()
        return own and compiled and values.is_cpu

    def _iterate(
        self,
        numeric: Numeric,
        values: Tensor,
        b: Tensor,
        adjoint: bool,
        options: SolveOptions,
        x0: Tensor | None,
    ) -> Outcome:
        symbolic = numeric.symbolic
        pattern, method = symbolic.pattern, symbolic.method
        least_squares = method in _LEAST_SQUARES
        other, turned = pattern, values
        if adjoint or least_squares:
            other = pattern.transposed
            turned = pattern.transpose_values(values).conj().resolve_conj()

        def forward(x: Tensor) -> Tensor:
            return kernels.spmm(pattern.crow, pattern.ccol, values, x, longest=pattern.longest_row)

        def backward(y: Tensor) -> Tensor:
            return kernels.spmm(other.crow, other.ccol, turned, y, longest=other.longest_row)

        krylov = KrylovOptions(
            options.rtol,
            options.atol,
            options.maxiter,
            least_squares=pattern.shape[0] != pattern.shape[1],
        )
        A = backward if adjoint else forward
        if least_squares:
            turn = forward if adjoint else backward
            return _LEAST_SQUARES[method](A, b, adjoint=turn, x0=x0, options=krylov)
        M = None
        if numeric.payload is not None:
            M = numeric.payload.apply_adjoint if adjoint else numeric.payload.apply
            fused = getattr(numeric.payload, "cg", None)
            # Whoever solves looks at the residual in any case.
            fused = getattr(numeric.payload, "unchecked_cg", fused)
            if fused is not None and method == "cg" and not adjoint and options.project is None:
                # The preconditioner brings conjugate gradients around itself, compiled.
                return fused(values, b, x0=x0, options=krylov)
            fused = getattr(numeric.payload, "krylov", None)
            if fused is not None and method in ("gmres", "bicgstab") and options.project is None:
                matrix = (other, turned)
                return fused(method, matrix, b, adjoint=adjoint, x0=x0, options=krylov)
            if options.project is not None:
                inner, project = M, options.project

                def M(r: Tensor) -> Tensor:
                    return project(inner(r))

        return _SQUARE[method](A, b, M=M, x0=x0, options=krylov)
