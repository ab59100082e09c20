"""The low-level door: for people who already have a matrix.

Names are loaded on first use, so that importing one does not pay for all.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch_sla.linalg.factor_cache import cache_counters, clear_factor_cache
    from torch_sla.linalg.info import SolveInfo
    from torch_sla.linalg.nonlinear.solve import adjoint_solve, nonlinear_solve
    from torch_sla.linalg.sparse.files import (
        load_metadata,
        load_mtx,
        load_sparse,
        save_mtx,
        save_sparse,
    )
    from torch_sla.linalg.sparse.list import SparseTensorList
    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.segments import SegmentMap
    from torch_sla.linalg.sparse.structure import Structure
    from torch_sla.linalg.sparse.tensor import SparseTensor

_HOME = {
    "nonlinear_solve": "nonlinear.solve",
    "adjoint_solve": "nonlinear.solve",
    "save_sparse": "sparse.files",
    "save_mtx": "sparse.files",
    "load_sparse": "sparse.files",
    "load_mtx": "sparse.files",
    "load_metadata": "sparse.files",
    "SparseTensorList": "sparse.list",
    "Pattern": "sparse.pattern",
    "SegmentMap": "sparse.segments",
    "SolveInfo": "info",
    "SparseTensor": "sparse.tensor",
    "Structure": "sparse.structure",
    "cache_counters": "factor_cache",
    "clear_factor_cache": "factor_cache",
}

__all__ = [
    "Pattern",
    "SegmentMap",
    "SolveInfo",
    "SparseTensor",
    "SparseTensorList",
    "Structure",
    "adjoint_solve",
    "cache_counters",
    "clear_factor_cache",
    "load_metadata",
    "load_mtx",
    "load_sparse",
    "nonlinear_solve",
    "save_mtx",
    "save_sparse",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
