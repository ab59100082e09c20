"""Evaluation of fields at arbitrary points."""

from __future__ import annotations

from torch_sla.assembly.interpolation.interpolation import Interpolation
from torch_sla.assembly.interpolation.locate import locate

__all__ = ["Interpolation", "locate"]
