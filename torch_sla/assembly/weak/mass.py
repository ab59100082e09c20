"""Mass, reaction and, on facets, Robin terms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch_sla.assembly.forms.form import BilinearForm
from torch_sla.assembly.forms.vocabulary import dot

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.assembly.field import Field
    from torch_sla.assembly.forms.context import Context

__all__ = ["mass", "vector_mass"]


def _mass(u: Field, v: Field, w: Context) -> Tensor:
    """``c u v`` with a scalar ``c``."""
    return w.c * (u * v)


def _vector_mass(u: Field, v: Field, w: Context) -> Tensor:
    """``c u . v`` with a scalar ``c`` and vector fields."""
    return w.c * dot(u, v)


mass = BilinearForm(_mass)
vector_mass = BilinearForm(_vector_mass)
