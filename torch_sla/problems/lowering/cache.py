"""The process-wide store of compiled problems, bounded in bytes."""

from __future__ import annotations

from torch_sla.linalg.factor_cache import FactorCache, clear_factor_cache

__all__ = ["clear_cache", "structures"]

structures = FactorCache(1 << 30)
"""Compiled structures by structural hash, and meshes by the hash of their declaration."""


def clear_cache() -> None:
    """Forget compiled problems, meshes, analyses and factors; all are made again when needed.

    Examples
    --------
    >>> clear_cache()
    >>> len(structures)
    0
    """
    structures.clear()
    clear_factor_cache()
