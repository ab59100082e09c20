"""cuDSS 0.8 through the low-level bindings of nvmath-python 1.0: one solver object, typed and owned.

What the library asks of the callers of a solver is settled here: pointers and sizes, column-major vectors; what it
asks of those of a handle in `cudss_handle`.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch

from torch_sla.errors import Result, SolveError
from torch_sla.linalg.backends import cudss_library as library
from torch_sla.linalg.backends.cudss_handle import handle_of

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Solver"]

_VALUES = {
    torch.float32: "R_32F",
    torch.float64: "R_64F",
    torch.complex64: "C_32F",
    torch.complex128: "C_64F",
}
_INDICES = {torch.int32: "R_32I", torch.int64: "R_64I"}
_NUMPY = {
    torch.int32: np.int32,
    torch.int64: np.int64,
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.complex64: np.complex64,
    torch.complex128: np.complex128,
}
# Positions in CUDSS_DATA_MEMORY_ESTIMATES: bytes on the device, kept and at the highest.
_PERMANENT, _PEAK, _ESTIMATES = 0, 1, 16
# Share of the free device memory that factors may take before they are kept partly on the host.
_SHARE = 0.9


class Solver:
    """One analysed pattern that holds the factors of one matrix at a time.

    Parameters
    ----------
    crow, ccol
        CSR row pointers ``[n + 1]`` and columns ``[nnz]``, on the device.
    dtype
        Of the values.
    kind
        Name of a ``cudssMatrixType_t``: ``GENERAL SYMMETRIC HERMITIAN SPD HPD``.
    order, tree
        Row eliminated k-th ``[n]`` and partition tree of an earlier reordering, so that none is
        done; host tensors of the dtype of `ccol`.
    hybrid
        Whether factors may be kept partly in host memory.
    threads
        Host threads of the reordering.
    batch
        Matrices on the pattern that are factorised together; they are solved with one right-hand
        side each, several being wrong in this series of the library.

    Raises
    ------
    SolveError
        ``OUT_OF_MEMORY``.
    """

    def __init__(
        self,
        crow: Tensor,
        ccol: Tensor,
        dtype: torch.dtype,
        kind: str,
        *,
        order: Tensor | None = None,
        tree: Tensor | None = None,
        hybrid: bool = False,
        threads: int | None = None,
        batch: int = 1,
    ) -> None:
        lib = self._lib = library.bindings()
        self._handle = handle_of(ccol.device, dtype)
        self._pattern = (crow, ccol)
        self.n, self.dtype, self.hybrid, self.kind = crow.numel() - 1, dtype, hybrid, kind
        self.factorized, self.batch = False, batch
        self._event: Any = None
        self._value_type = int(lib.DataType[_VALUES[dtype]])
        with self._handle.lock, self._handle.on_device():
            self._handle.bury()
            self._config = int(lib.config_create())
            self._data = int(lib.data_create(self._handle.pointer))
            self._matrix = int(
                lib.matrix_create_csr(
                    self.n,
                    self.n,
                    ccol.numel(),
                    crow.data_ptr(),
                    0,
                    ccol.data_ptr(),
                    0,
                    int(lib.DataType[_INDICES[crow.dtype]]),
                    int(lib.DataType[_INDICES[ccol.dtype]]),
                    self._value_type,
                    int(lib.MatrixType[kind]),
                    int(lib.MatrixViewType.FULL),
                    int(lib.IndexBase.ZERO),
                )
            )
        self._owner = weakref.finalize(
            self, self._handle.dispose, self._data, self._config, self._matrix
        )
        self._owner.atexit = False
        if hybrid:
            self._set("HYBRID_MEMORY_MODE", 1)
        if batch > 1:
            self._set("UBATCH_SIZE", batch)
        if self._handle.threaded and threads is not None:
            self._set("HOST_NTHREADS", threads)
        for name, array in (("USER_PERM", order), ("USER_ND_PARTITION_TREE", tree)):
            if array is not None:
                self._give(name, array)

    # --- phases --------------------------------------------------------------------------------

    def analyze(self, values: Tensor) -> None:
        """Order, unless an order was given, and count; `values` must be valid memory."""
        self._lib.matrix_set_values(self._matrix, values.data_ptr())
        self._execute("ANALYSIS", None, None)

    def factorize(self, values: Tensor) -> None:
        """Factorise contiguous `values` ``[nnz]`` (``[B, nnz]``); again on the same analysis after the first time."""
        self._lib.matrix_set_values(self._matrix, values.data_ptr())
        self._execute("REFACTORIZATION" if self.factorized else "FACTORIZATION", None, None)
        self.factorized = True
        if values.is_cuda:
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(values.device))

    def solve(self, values: Tensor, b: Tensor) -> Tensor:
        """Solve for ``b`` ``[n, K]`` (``[n, B]``); `values` must be valid memory and are not read."""
        if self._event is not None:
            torch.cuda.current_stream(b.device).wait_event(self._event)
        self._lib.matrix_set_values(self._matrix, values.data_ptr())
        columns = b.mT.contiguous()
        x = torch.empty_like(columns)
        self._execute("SOLVE", x, columns)
        return x.mT

    def _execute(self, phase: str, x: Tensor | None, b: Tensor | None) -> None:
        lib, handle = self._lib, self._handle
        k = 1 if b is None or self.batch > 1 else b.shape[0]
        with handle.lock, handle.on_device():
            handle.bury()
            dense = [
                int(
                    lib.matrix_create_dn(
                        self.n,
                        k,
                        self.n,
                        0 if t is None else t.data_ptr(),
                        self._value_type,
                        int(lib.Layout.COL_MAJOR),
                    )
                )
                for t in (x, b)
            ]
            try:
                handle.switch()
                lib.execute(
                    handle.pointer,
                    int(lib.Phase[phase]),
                    self._config,
                    self._data,
                    self._matrix,
                    *dense,
                )
                handle.rest()
            except lib.cuDSSError as error:
                self._fail(phase, error)
            finally:
                for matrix in dense:
                    lib.matrix_destroy(matrix)

    def _fail(self, phase: str, error: Exception) -> NoReturn:
        text = str(error)
        full = "ALLOC_FAILED" in text
        where = f"cuDSS stopped in its {phase.lower()} phase ({text})"
        raise SolveError(Result.OUT_OF_MEMORY if full else Result.BREAKDOWN, where) from error

    # --- settings and answers ------------------------------------------------------------------

    def _set(self, name: str, value: float) -> None:
        param = int(self._lib.ConfigParam[name])
        held = np.array([value], dtype=self._lib.get_config_param_dtype(param))
        self._lib.config_set(self._config, param, held.ctypes.data, held.nbytes)

    def _give(self, name: str, array: Tensor) -> None:
        held = array.to(self._pattern[1].dtype).contiguous()
        size = held.numel() * held.element_size()
        param = int(self._lib.DataParam[name])
        with self._handle.lock, self._handle.on_device():  # it copies
            self._lib.data_set(self._handle.pointer, self._data, param, held.data_ptr(), size)

    def _get(self, name: str, dtype: Any, length: int = 1) -> np.ndarray[Any, Any]:
        out, written = np.zeros(length, dtype=dtype), np.zeros(1, dtype=np.uint64)
        with self._handle.lock, self._handle.on_device():
            self._lib.data_get(
                self._handle.pointer,
                self._data,
                int(self._lib.DataParam[name]),
                out.ctypes.data,
                out.nbytes,
                written.ctypes.data,
            )
        return out

    @property
    def _index(self) -> Any:
        return _NUMPY[self._pattern[1].dtype]

    @property
    def info(self) -> int:
        """0, or the leading minor (from 1) that is not positive; waits for the device."""
        return int(self._get("INFO", np.int32)[0])

    @property
    def pivots(self) -> int:
        """Negligible pivots that were replaced; waits for the device."""
        return int(self._get("NPIVOTS", self._index)[0])

    @property
    def inertia(self) -> tuple[int, int, int]:
        """Positive, negative and zero eigenvalues of a symmetric matrix."""
        positive, negative = (int(v) for v in self._get("INERTIA", self._index, 2))
        return positive, negative, self.n - positive - negative

    @property
    def diagonal(self) -> Tensor:
        """Diagonal of the factors ``[n]``, on the host."""
        return torch.from_numpy(self._get("DIAG", _NUMPY[self.dtype], self.n))

    @property
    def factor_entries(self) -> int:
        """Entries of the factors."""
        return int(self._get("LU_NNZ", np.int64)[0])

    def estimates(self) -> tuple[int, int]:
        """Bytes on the device that the factors keep, and the most that making them takes."""
        found = self._get("MEMORY_ESTIMATES", np.int64, _ESTIMATES)
        return int(found[_PERMANENT]), int(found[_PEAK])

    def ordering(self) -> tuple[Tensor, Tensor] | None:
        """Row eliminated k-th ``[n]`` and the partition tree, for another solver of the pattern.

        None where the library does not tell; the other solver then orders again.
        """
        levels, written = np.zeros(1, dtype=np.int32), np.zeros(1, dtype=np.uint64)
        param = int(self._lib.ConfigParam.ND_NLEVELS)
        self._lib.config_get(
            self._config, param, levels.ctypes.data, levels.nbytes, written.ctypes.data
        )
        try:
            order = self._get("PERM_REORDER_ROW", self._index, self.n)
            tree = self._get("ND_PARTITION_TREE", self._index, (1 << int(levels[0])) - 1)
        except self._lib.cuDSSError:
            return None
        return torch.from_numpy(order), torch.from_numpy(tree)

    def fits(self) -> bool:
        """Whether what the analysis predicts fits into the free memory of the device."""
        device = self._pattern[1].device
        if device.type != "cuda":
            return True
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return self.estimates()[1] <= _SHARE * (free + cached)
