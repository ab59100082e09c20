"""Algebraic multigrid as a preconditioner: options, hierarchies, near-nullspaces.

The phases of the set-up (strength, aggregation, transfer, Galerkin product, smoothers, coarse
solve) and the cycle are compiled, one file each, in ``csrc/include/torch_sla/multigrid``.
"""

from __future__ import annotations

from torch_sla.linalg.precond.multigrid.hierarchy import Hierarchy
from torch_sla.linalg.precond.multigrid.lagged import LaggedMultigrid
from torch_sla.linalg.precond.multigrid.levels import Level
from torch_sla.linalg.precond.multigrid.nullspace import rigid_body_modes
from torch_sla.linalg.precond.multigrid.options import AMG

__all__ = ["AMG", "Hierarchy", "LaggedMultigrid", "Level", "rigid_body_modes"]
