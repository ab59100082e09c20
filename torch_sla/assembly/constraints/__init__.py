"""Constraints ``u = T u_hat + g``."""

from __future__ import annotations

from torch_sla.assembly.constraints.constraint import Constraint
from torch_sla.assembly.constraints.dirichlet import DirichletConstraint

__all__ = ["Constraint", "DirichletConstraint"]
