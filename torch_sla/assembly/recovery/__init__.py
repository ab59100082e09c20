"""What is made of a solution: projections, transfer to other meshes, error estimates."""

from __future__ import annotations

from torch_sla.assembly.recovery.estimate import mark, zz_estimate
from torch_sla.assembly.recovery.projection import Projection
from torch_sla.assembly.recovery.transfer import transfer

__all__ = ["Projection", "mark", "transfer", "zz_estimate"]
