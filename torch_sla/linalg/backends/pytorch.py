"""Our own iterative methods, written in torch over a vector space."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch_sla.linalg.backends.base import (
    Backend,
    Capabilities,
    Method,
    Mode,
    Numeric,
    Solution,
    SolveOptions,
    Symbolic,
)
from torch_sla.linalg.kernels import sparse as kernels
from torch_sla.linalg.methods.bicgstab import bicgstab
from torch_sla.linalg.methods.cg import cg
from torch_sla.linalg.methods.outcome import KrylovOptions
from torch_sla.linalg.precond.base import make_preconditioner

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure

__all__ = ["PyTorch"]

_METHODS = {"cg": cg, "bicgstab": bicgstab}


class PyTorch(Backend):
    """Krylov methods on whatever device the values live on.

    The numeric phase makes the preconditioner; the matrix itself is applied from the caller's
    values, so no copy of it is kept.
    """

    name = "pytorch"
    capabilities = Capabilities(
        methods=(
            Method("cg", "iterative", "positive_definite", ("jacobi", "none")),
            Method("bicgstab", "iterative", "general", ("jacobi", "none")),
        ),
        devices=frozenset({"cpu", "cuda"}),
    )

    def analyze(self, pattern: Pattern, method: str, structure: Structure) -> Symbolic:
        return Symbolic(pattern, method, structure)

    def factorize(self, symbolic: Symbolic, values: Tensor, options: SolveOptions) -> Numeric:
        made = make_preconditioner(
            options.preconditioner, symbolic.pattern, values, symbolic.structure
        )
        return Numeric(symbolic, made, nbytes=0 if made is None else made.nbytes)

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
        pattern = numeric.symbolic.pattern
        precondition = None
        if numeric.payload is not None:
            precondition = numeric.payload.apply if mode == "n" else numeric.payload.apply_adjoint
        if mode == "h":
            values = pattern.transpose_values(values).conj().resolve_conj()
            pattern = pattern.transposed
        done = _METHODS[numeric.symbolic.method](
            lambda p: kernels.spmm(pattern.crow, pattern.ccol, values, p),
            b,
            M=precondition,
            x0=x0,
            options=KrylovOptions(options.rtol, options.atol, options.maxiter),
        )
        return Solution(done.x, done.iterations, done.history, done.result)
