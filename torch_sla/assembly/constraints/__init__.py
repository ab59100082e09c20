"""Constraints ``u = T u_hat + g``, the equations that make them, and the motions nothing constrains."""

from __future__ import annotations

from torch_sla.assembly.constraints.constraint import Constraint
from torch_sla.assembly.constraints.dirichlet import DirichletConstraint
from torch_sla.assembly.constraints.equations import (
    Equations,
    along,
    combine,
    partners,
    periodic,
    prescribe,
)
from torch_sla.assembly.constraints.linear import LinearConstraint
from torch_sla.assembly.constraints.nullspace import Gauge, constants, rigid_motions

__all__ = [
    "Constraint",
    "DirichletConstraint",
    "Equations",
    "Gauge",
    "LinearConstraint",
    "along",
    "combine",
    "constants",
    "partners",
    "periodic",
    "prescribe",
    "rigid_motions",
]
