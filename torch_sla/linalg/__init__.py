"""The low-level door: for people who already have a matrix.

Names are loaded on first use, so that importing one does not pay for all.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch_sla.linalg.factor_cache import cache_counters, clear_factor_cache
    from torch_sla.linalg.info import SolveInfo
    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.segments import SegmentMap
    from torch_sla.linalg.sparse.structure import Structure
    from torch_sla.linalg.sparse.tensor import SparseTensor

_HOME = {
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
    "Structure",
    "cache_counters",
    "clear_factor_cache",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
