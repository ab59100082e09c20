"""Forms and the vocabulary to write them in."""

from __future__ import annotations

from torch_sla.assembly.field import Field
from torch_sla.assembly.forms.cellwise import CellEnergy
from torch_sla.assembly.forms.context import Context
from torch_sla.assembly.forms.form import BilinearForm, Functional, LinearForm
from torch_sla.assembly.forms.nonlinear import Energy, ResidualForm

__all__ = [
    "BilinearForm",
    "CellEnergy",
    "Context",
    "Energy",
    "Field",
    "Functional",
    "LinearForm",
    "ResidualForm",
]
