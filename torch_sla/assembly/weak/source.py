"""Sources in cells, fluxes, tractions and pressure on facets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch_sla.assembly.forms.form import LinearForm
from torch_sla.assembly.forms.vocabulary import dot, normal

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.assembly.field import Field
    from torch_sla.assembly.forms.context import Context

__all__ = ["pressure_load", "source", "vector_source"]


def _source(v: Field, w: Context) -> Tensor:
    """``f v`` with a scalar ``f``."""
    return w.f * v


def _vector_source(v: Field, w: Context) -> Tensor:
    """``f . v`` with a vector ``f [..., components]``."""
    return dot(w.f, v)


def _pressure_load(v: Field, w: Context) -> Tensor:
    """``-p n . v``: a positive pressure pushes on the body."""
    return -w.p * dot(normal(w), v)


source = LinearForm(_source)
vector_source = LinearForm(_vector_source)
pressure_load = LinearForm(_pressure_load)
