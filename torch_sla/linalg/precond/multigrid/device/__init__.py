"""Multigrid over tensors: the same code on every device torch has, and what CUDA matrices get.

`lattice` keeps stencils, `aggregation` keeps compressed rows. Their kernels are Triton's on CUDA and
plain torch elsewhere, which is how they are tested without a device. On the CPU the compiled
hierarchies of `torch_sla.linalg.precond.multigrid.hierarchy` are faster.
"""

from __future__ import annotations

from torch_sla.linalg.precond.multigrid.device.base import DeviceHierarchy
from torch_sla.linalg.precond.multigrid.device.choice import build

__all__ = ["DeviceHierarchy", "build"]
