"""Degrees of freedom: of one field, and of several together."""

from __future__ import annotations

from torch_sla.assembly.dofs.dof_map import DofMap
from torch_sla.assembly.dofs.dofs import Dofs
from torch_sla.assembly.dofs.mixed import MixedDofs

__all__ = ["DofMap", "Dofs", "MixedDofs"]
