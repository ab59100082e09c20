"""Safe expressions of space, fields and parameters."""

from __future__ import annotations

from torch_sla.problems.expression.expression import Expression, Ranked
from torch_sla.problems.expression.parser import nearest

__all__ = ["Expression", "Ranked", "nearest"]
