"""A stand-in for the bindings of cuDSS: same calls and constants, on memory of the host, with a record.

Values of the constants are those of ``cudss_data_types.h`` 0.8; a test compares them with the real
bindings where these are installed. Factorisations are dense and naive: what matters is which calls
arrive, with what, and in what order.
"""

from __future__ import annotations

import ctypes
import enum
import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["FakeCuDSS", "FakeError"]


class DataType(enum.IntEnum):
    R_32F, R_64F, C_32F, C_64F, R_32I, R_64I = 0, 1, 4, 5, 10, 24


class MatrixType(enum.IntEnum):
    GENERAL, SYMMETRIC, HERMITIAN, SPD, HPD = range(5)


class MatrixViewType(enum.IntEnum):
    FULL, LOWER, UPPER = range(3)


class IndexBase(enum.IntEnum):
    ZERO, ONE = range(2)


class Layout(enum.IntEnum):
    COL_MAJOR, ROW_MAJOR = range(2)


class Phase(enum.IntEnum):
    REORDERING, SYMBOLIC_FACTORIZATION, ANALYSIS = 1, 2, 3
    FACTORIZATION, REFACTORIZATION, SOLVE = 4, 8, 1008


class ConfigParam(enum.IntEnum):
    HYBRID_MEMORY_MODE, HOST_NTHREADS, ND_NLEVELS, UBATCH_SIZE = 11, 14, 17, 18


class DataParam(enum.IntEnum):
    INFO, LU_NNZ, NPIVOTS, INERTIA, PERM_REORDER_ROW, DIAG, USER_PERM = 0, 1, 2, 3, 4, 8, 9
    MEMORY_ESTIMATES, USER_ND_PARTITION_TREE, ND_PARTITION_TREE = 13, 21, 22


class FakeError(Exception):
    """Stands for ``cuDSSError``."""


_NUMPY: dict[int, Any] = {
    DataType.R_32F: np.float32,
    DataType.R_64F: np.float64,
    DataType.C_32F: np.complex64,
    DataType.C_64F: np.complex128,
    DataType.R_32I: np.int32,
    DataType.R_64I: np.int64,
}


def _is_definite(dense: np.ndarray[Any, Any]) -> bool:
    try:
        np.linalg.cholesky(dense)
    except np.linalg.LinAlgError:
        return False
    return True


def _view(pointer: int, dtype: Any, count: int) -> np.ndarray[Any, Any]:
    size = np.dtype(dtype).itemsize * count
    return np.frombuffer((ctypes.c_char * size).from_address(pointer), dtype=dtype)


@dataclass
class _Csr:
    n: int
    nnz: int
    crow: int
    ccol: int
    values: int
    offset: int
    index: int
    value: int
    kind: int

    def dense(self, batch: int = 1) -> np.ndarray[Any, Any]:
        crow = _view(self.crow, _NUMPY[self.offset], self.n + 1)
        ccol = _view(self.ccol, _NUMPY[self.index], self.nnz)
        out = np.zeros((batch, self.n, self.n), dtype=_NUMPY[self.value])
        rows = np.repeat(np.arange(self.n), np.diff(crow))
        values = _view(self.values, _NUMPY[self.value], batch * self.nnz)
        out[:, rows, ccol] = values.reshape(batch, self.nnz)
        return out if batch > 1 else out[0]


@dataclass
class _Data:
    analyzed: bool = False
    factor: np.ndarray[Any, Any] | None = None
    order: np.ndarray[Any, Any] | None = None
    info: int = 0
    pivots: int = 0
    inertia: tuple[int, int] = (0, 0)
    diagonal: np.ndarray[Any, Any] | None = None


@dataclass
class FakeCuDSS:
    """One instance stands for the module; `calls` is the record.

    Parameters
    ----------
    version
        What ``get_property`` tells.
    fail
        Phase in which the library reports failed allocations.
    permanent, peak
        Memory estimates.
    """

    version: tuple[int, int, int] = (0, 8, 0)
    fail: str | None = None
    permanent: int = 1000
    peak: int = 2000
    calls: list[str] = field(default_factory=list)
    settings: list[tuple[str, float]] = field(default_factory=list)

    DataType, MatrixType, MatrixViewType, IndexBase = (
        DataType,
        MatrixType,
        MatrixViewType,
        IndexBase,
    )
    Layout, Phase, ConfigParam, DataParam = Layout, Phase, ConfigParam, DataParam
    cuDSSError = FakeError  # noqa: N815 - the name of the bindings

    def __post_init__(self) -> None:
        self._next = itertools.count(1)
        self.objects: dict[int, Any] = {}

    def _new(self, thing: Any) -> int:
        pointer = next(self._next)
        self.objects[pointer] = thing
        return pointer

    def _drop(self, name: str, pointer: int) -> None:
        if pointer not in self.objects:
            raise FakeError(f"INVALID_VALUE: {name} of what is not there")
        del self.objects[pointer]
        self.calls.append(name)

    def get_property(self, which: int) -> int:
        return self.version[which]

    def create(self) -> int:
        self.calls.append("create")
        return self._new("handle")

    def set_stream(self, handle: int, stream: int) -> None:
        if self.objects[handle] != "handle" or stream != 0:
            raise FakeError("INVALID_VALUE: host memory has no stream")

    def config_create(self) -> int:
        return self._new({})

    def data_create(self, handle: int) -> int:
        if self.objects[handle] != "handle":
            raise FakeError("INVALID_VALUE: no handle")
        return self._new(_Data())

    def config_destroy(self, config: int) -> None:
        self._drop("config_destroy", config)

    def data_destroy(self, handle: int, data: int) -> None:
        if self.objects[handle] != "handle":
            raise FakeError("INVALID_VALUE: no handle")
        self._drop("data_destroy", data)

    def matrix_destroy(self, matrix: int) -> None:
        dense = isinstance(self.objects.get(matrix), tuple)
        self._drop("dense_destroy" if dense else "matrix_destroy", matrix)

    def get_config_param_dtype(self, param: int) -> Any:
        return np.int32

    def config_set(self, config: int, param: int, value: int, size: int) -> None:
        (number,) = _view(value, np.int32, size // 4)
        self.objects[config][ConfigParam(param)] = int(number)
        self.settings.append((ConfigParam(param).name, int(number)))

    def config_get(self, config: int, param: int, value: int, size: int, written: int) -> None:
        _view(value, np.int32, size // 4)[:] = self.objects[config].get(ConfigParam(param), 2)
        _view(written, np.uint64, 1)[:] = size

    def matrix_create_csr(
        self,
        rows: int,
        columns: int,
        nnz: int,
        start: int,
        end: int,
        ccol: int,
        values: int,
        offset: int,
        index: int,
        value: int,
        kind: int,
        view: int,
        base: int,
    ) -> int:
        if rows != columns or end != 0 or view != MatrixViewType.FULL or base != IndexBase.ZERO:
            raise FakeError("NOT_SUPPORTED")
        return self._new(_Csr(rows, nnz, start, ccol, values, offset, index, value, kind))

    def matrix_create_dn(
        self, rows: int, columns: int, ld: int, values: int, value: int, layout: int
    ) -> int:
        if layout != Layout.COL_MAJOR or ld < rows:
            raise FakeError("NOT_SUPPORTED")
        return self._new((rows, columns, values, value))

    def matrix_set_values(self, matrix: int, values: int) -> None:
        self.objects[matrix].values = values

    def data_set(self, handle: int, data: int, param: int, value: int, size: int) -> None:
        self.calls.append(f"data_set {DataParam(param).name}")
        if param == DataParam.USER_PERM:
            order = _view(value, np.int32, size // 4).copy()
            if sorted(order) != list(range(len(order))):
                raise FakeError("INVALID_VALUE: no permutation")
            self.objects[data].order = order

    def data_get(
        self, handle: int, data: int, param: int, value: int, size: int, written: int
    ) -> None:
        d: _Data = self.objects[data]
        if param == DataParam.MEMORY_ESTIMATES:
            out = _view(value, np.int64, size // 8)
            out[:2] = self.permanent, self.peak
        elif param == DataParam.LU_NNZ:
            _view(value, np.int64, 1)[:] = 7
        elif param == DataParam.PERM_REORDER_ROW and d.order is not None:
            _view(value, np.int32, size // 4)[:] = d.order
        elif param == DataParam.DIAG and d.diagonal is not None:
            _view(value, d.diagonal.dtype, len(d.diagonal))[:] = d.diagonal
        elif param == DataParam.ND_PARTITION_TREE and d.order is not None:
            tree = _view(value, np.int32, size // 4)
            tree[:], tree[-1] = 0, len(d.order)  # everything separates
        else:
            known = {
                DataParam.INFO: d.info,
                DataParam.NPIVOTS: d.pivots,
                DataParam.INERTIA: d.inertia,
            }
            _view(value, np.int32, size // 4)[:] = known[DataParam(param)]
        _view(written, np.uint64, 1)[:] = size

    def execute(
        self, handle: int, phase: int, config: int, data: int, matrix: int, x: int, b: int
    ) -> None:
        name = Phase(phase).name
        self.calls.append(name)
        if name == self.fail:
            raise FakeError("ALLOC_FAILED (2): host and device are full")
        d, A = self.objects[data], self.objects[matrix]
        batch = self.objects[config].get(ConfigParam.UBATCH_SIZE, 1)
        if name == "ANALYSIS":
            d.analyzed = True
            d.order = np.arange(A.n, dtype=np.int32) if d.order is None else d.order
        elif name in ("FACTORIZATION", "REFACTORIZATION"):
            if not d.analyzed or (name == "REFACTORIZATION" and d.factor is None):
                raise FakeError("NOT_INITIALIZED")
            self._factorize(d, A, batch)
        else:
            if d.factor is None:
                raise FakeError("NOT_INITIALIZED")
            (rows, columns, into, value), rhs = self.objects[x], self.objects[b]
            if batch > 1 and columns > 1:
                raise FakeError("NOT_SUPPORTED: wrong in this series")
            count = rows * columns * batch
            given = _view(rhs[2], _NUMPY[value], count).reshape(batch, columns, rows)
            factor = d.factor.reshape(batch, rows, rows)
            found = np.linalg.solve(factor, given.swapaxes(1, 2)).swapaxes(1, 2)
            _view(into, _NUMPY[value], count)[:] = found.ravel()

    @staticmethod
    def _factorize(d: _Data, A: _Csr, batch: int) -> None:
        if batch > 1:
            d.info, d.pivots, d.factor = 0, 0, A.dense(batch)
            return
        dense = A.dense()
        d.info = d.pivots = 0
        if A.kind in (MatrixType.SPD, MatrixType.HPD) and not _is_definite(dense):
            d.info = next(k for k in range(1, A.n + 1) if not _is_definite(dense[:k, :k]))
            return
        u, s, vh = np.linalg.svd(dense)
        small = s < 1e-13 * s[0] if dense.real.dtype == np.float64 else s < 1e-6 * s[0]
        d.pivots = int(small.sum())
        d.factor = ((u * np.where(small, 1e-13, s)) @ vh).astype(dense.dtype)
        if A.kind in (MatrixType.SYMMETRIC, MatrixType.HERMITIAN):
            w = np.linalg.eigvalsh(dense)
            d.inertia = int((w > 0).sum()), int((w < 0).sum())
            d.diagonal = w.astype(dense.dtype)
        if A.kind in (MatrixType.SPD, MatrixType.HPD):
            d.diagonal = np.diagonal(np.linalg.cholesky(dense)).copy()
