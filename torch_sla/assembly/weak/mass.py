"""Mass, reaction and, on facets, Robin terms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch_sla.assembly.forms.form import BilinearForm
from torch_sla.assembly.forms.vocabulary import dot, matvec

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.assembly.field import Field
    from torch_sla.assembly.forms.context import Context

__all__ = ["mass", "tensor_mass", "vector_mass"]


def _mass(u: Field, v: Field, w: Context) -> Tensor:
    """``c u v`` with a scalar ``c``."""
    return w.c * (u * v)


def _vector_mass(u: Field, v: Field, w: Context) -> Tensor:
    """``c u . v`` with a scalar ``c`` and vector fields."""
    return w.c * dot(u, v)


def _tensor_mass(u: Field, v: Field, w: Context) -> Tensor:
    """``(k u) . v`` with a matrix ``k [..., c, c]``: on facets, springs with directions."""
    return dot(matvec(w.k, u), v)


mass = BilinearForm(_mass, linear=("c",))
tensor_mass = BilinearForm(_tensor_mass)
vector_mass = BilinearForm(_vector_mass, linear=("c",))
