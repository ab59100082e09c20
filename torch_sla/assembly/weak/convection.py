"""Convection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch_sla.assembly.forms.form import BilinearForm
from torch_sla.assembly.forms.vocabulary import dot, grad

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.assembly.field import Field
    from torch_sla.assembly.forms.context import Context

__all__ = ["convection"]


def _convection(u: Field, v: Field, w: Context) -> Tensor:
    """``(velocity . grad u) v`` with a vector ``velocity [..., dim]``."""
    return dot(w.velocity, grad(u)) * v


convection = BilinearForm(_convection)
