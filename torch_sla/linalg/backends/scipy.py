"""SciPy's sparse solvers: SuperLU, UMFPACK where scikit-umfpack is installed, and Krylov methods."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from torch_sla.linalg.backends.augmented import Augmented
from torch_sla.linalg.backends.base import (
    REAL_DTYPES,
    Backend,
    Capabilities,
    Method,
    Mode,
    Numeric,
    Solution,
    SolveOptions,
    Symbolic,
)
from torch_sla.linalg.backends.scipy_krylov import iterate
from torch_sla.linalg.backends.scipy_superlu import SuperLU, factorize, symmetric_order
from torch_sla.linalg.factor_cache import count
from torch_sla.linalg.precond.base import GIVEN, make_preconditioner

if TYPE_CHECKING:
    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure

__all__ = ["SciPy"]

_DEFINITE = ("jacobi", "block_jacobi", "ssor", "ichol", "none", GIVEN)
_GENERAL = ("jacobi", "block_jacobi", "ssor", "ilu", "ichol", "none", GIVEN)
_INDEFINITE = ("none", "jacobi", "block_jacobi", "ssor", "ichol", GIVEN)
_DOUBLE = frozenset({torch.float64, torch.complex128})


class SciPy(Backend):
    """Sparse LU through `scipy.sparse.linalg.splu`, and SciPy's own iterations.

    The CSR arrays are handed over as the CSC arrays of ``Aᵀ``, so nothing is converted and the
    modes turn around. Rectangular matrices are factorised as augmented systems.
    """

    name = "scipy"
    capabilities = Capabilities(
        methods=(
            Method("superlu", "direct", aliases=("lu",), rectangular=True),
            Method("umfpack", "direct", dtypes=_DOUBLE),
            Method("cg", "iterative", "positive_definite", _DEFINITE),
            Method("bicgstab", "iterative", "general", _GENERAL),
            Method("gmres", "iterative", "general", _GENERAL),
            # SciPy's recurrences take real scalars only.
            Method("minres", "iterative", "hermitian", _INDEFINITE, dtypes=REAL_DTYPES),
        ),
        # An ordering is reused only where rows stay with their columns.
    )

    def unavailable_method(self, method: str) -> str | None:
        if method == "umfpack" and (
            find_spec("scikits") is None or find_spec("scikits.umfpack") is None
        ):
            return "scikit-umfpack is not installed (pip install scikit-umfpack, needs SuiteSparse)"
        return None

    def analyze(self, pattern: Pattern, method: str, structure: Structure) -> Symbolic:
        if pattern.shape[0] == pattern.shape[1]:
            order = symmetric_order(pattern, structure) if method == "superlu" else None
            nbytes = 0 if order is None else order.nbytes
            return Symbolic(pattern, method, structure, order, nbytes)
        augmented = Augmented(pattern)
        return Symbolic(pattern, method, structure, augmented, augmented.nbytes)

    def factorize(self, symbolic: Symbolic, values: Tensor, options: SolveOptions) -> Numeric:
        pattern = symbolic.pattern
        if symbolic.method not in ("superlu", "umfpack"):
            made = make_preconditioner(options.preconditioner, pattern, values, symbolic.structure)
            return Numeric(symbolic, made, nbytes=0 if made is None else made.nbytes)
        order, definite = symbolic.payload, bool(symbolic.structure.positive_definite)
        if isinstance(order, Augmented):
            pattern, values = order.pattern, order.values(values)
            order, definite = None, False
        if symbolic.method == "umfpack":
            from torch_sla.linalg.backends.scipy_umfpack import Umfpack

            count("analyze")
            factor = Umfpack(pattern, values)
            return Numeric(symbolic, factor, nbytes=factor.nbytes)
        lu = factorize(pattern, values, order, definite=definite)
        return Numeric(symbolic, lu, lu.nbytes, (lu.note,) if lu.note else ())

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
        symbolic = numeric.symbolic
        if symbolic.method not in ("superlu", "umfpack"):
            return iterate(symbolic, numeric.payload, values, b, mode, options, x0)
        if not isinstance(symbolic.payload, Augmented):
            return Solution(self._substitute(numeric.payload, b, mode))
        if mode == "t":
            turned = self.solve(numeric, values, b.conj().resolve_conj(), "h", options=options)
            return Solution(turned.x.conj().resolve_conj())
        rhs, part = symbolic.payload.embed(b, mode)
        return Solution(self._substitute(numeric.payload, rhs, "n")[part].clone())

    @staticmethod
    def _substitute(lu: Any, b: Tensor, mode: Mode) -> Tensor:
        if isinstance(lu, SuperLU):
            return lu.solve(b, mode)
        rhs = np.asfortranarray(b.resolve_conj().numpy())
        if mode == "h":
            return torch.from_numpy(np.ascontiguousarray(lu.solve(rhs.conj(), "N").conj()))
        x = lu.solve(rhs, "T" if mode == "n" else "N")
        return torch.from_numpy(np.ascontiguousarray(x))

    def slogdet(self, numeric: Numeric) -> tuple[Tensor, Tensor] | None:
        if not isinstance(numeric.payload, SuperLU):
            return None
        # The same permutation of rows and columns leaves the determinant as it is.
        lu = numeric.payload.lu
        pivots = torch.from_numpy(lu.U.diagonal())
        size = pivots.abs()
        sign = (pivots / size).prod() * _parity(lu.perm_r) * _parity(lu.perm_c)
        return sign, size.log().sum()


def _parity(perm: np.ndarray[Any, Any]) -> int:
    """Sign of a permutation: even when its length and its number of cycles differ by an even number."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(perm)
    ones = np.ones(n, dtype=np.int8)
    cycles, _ = connected_components(coo_array((ones, (np.arange(n), perm)), shape=(n, n)))
    return -1 if (n - cycles) % 2 else 1
