"""Pressure that stays normal to a moving surface."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch_sla.assembly.forms.determinants import cofactor
from torch_sla.assembly.forms.nonlinear import ResidualForm
from torch_sla.assembly.forms.vocabulary import dot, grad, identity, normal

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.assembly.field import Field
    from torch_sla.assembly.forms.context import Context

__all__ = ["follower_pressure"]


def _follower_pressure(u: Field, v: Field, w: Context) -> Tensor:
    """``p n . v`` on the deformed surface, by Nanson's formula ``n ds = cof(I + grad u) N dS``.

    A residual: internal minus external work, so a positive pressure pushes on the body.
    """
    F = grad(u) + identity(grad(u))
    return w.p * dot((cofactor(F) * normal(w)[..., None, :]).sum(-1), v)


follower_pressure = ResidualForm(_follower_pressure)
