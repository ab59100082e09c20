"""Lattice kernels in Triton; `torch_sla.linalg.kernels.lattice_fallback` says what each computes.

One program per `BLOCK` consecutive rows. Planes are read as streams; neighbours of a vector come
from cache. Sizes are not specialised on, so that one compilation serves all levels.
"""

from __future__ import annotations

from torch_sla.linalg.kernels.triton.dense import invert
from torch_sla.linalg.kernels.triton.lattice_cycle import (
    correct,
    dense_apply,
    matvec_dot,
    relax,
    residual,
    residual_after_first,
    restrict,
)
from torch_sla.linalg.kernels.triton.lattice_levels import (
    axis_weights,
    contrary,
    galerkin,
    load,
    survey,
)

__all__ = [
    "axis_weights",
    "contrary",
    "correct",
    "dense_apply",
    "galerkin",
    "invert",
    "load",
    "matvec_dot",
    "relax",
    "residual",
    "residual_after_first",
    "restrict",
    "survey",
]
