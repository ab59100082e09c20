"""UMFPACK through scikit-umfpack, an optional package.

Davis, "Algorithm 832: UMFPACK V4.3", ACM TOMS 30(2), 2004, pages 196-199.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from torch_sla.errors import Result, SolveError

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["Umfpack"]

_UNTURNED = "N"


class Umfpack:
    """Factors of ``Aᵀ``, whose CSC arrays are the CSR arrays of ``A``; the face of a SuperLU object.

    Raises
    ------
    SolveError
        ``SINGULAR`` or ``OUT_OF_MEMORY``.
    """

    def __init__(self, pattern: Pattern, values: Tensor) -> None:
        from scikits import umfpack
        from scipy.sparse import csc_matrix

        index = "i" if pattern.ccol.numpy().dtype == np.int32 else "l"
        kind = "z" if values.is_complex() else "d"
        self._codes = {_UNTURNED: umfpack.UMFPACK_A, "T": umfpack.UMFPACK_Aat}
        self._matrix = csc_matrix(
            (values.numpy().copy(), pattern.ccol.numpy(), pattern.crow.numpy()),
            shape=pattern.shape[::-1],
        )
        self._context = umfpack.UmfpackContext(kind + index)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                self._context.numeric(self._matrix)
            except MemoryError as error:
                raise SolveError(Result.OUT_OF_MEMORY, "UMFPACK: no memory") from error
            except (RuntimeError, RuntimeWarning, umfpack.UmfpackWarning) as error:
                raise SolveError(Result.SINGULAR, f"UMFPACK: {error}") from error
        info = self._context.info
        self.nbytes = int(info[umfpack.UMFPACK_NUMERIC_SIZE] * info[umfpack.UMFPACK_SIZE_OF_UNIT])

    def solve(self, b: Any, trans: str = _UNTURNED) -> Any:
        """Solve with ``Aᵀ``, or with ``A`` when `trans` is ``"T"``, for columns ``[n, K]``."""
        from scikits import umfpack

        code = self._codes[trans]
        with warnings.catch_warnings():
            # It warns of bad conditioning, which the caller measures itself.
            warnings.simplefilter("ignore", umfpack.UmfpackWarning)
            columns = [
                self._context.solve(code, self._matrix, np.ascontiguousarray(b[:, k]))
                for k in range(b.shape[1])
            ]
        return np.stack(columns, axis=1) if columns else np.empty_like(b)
