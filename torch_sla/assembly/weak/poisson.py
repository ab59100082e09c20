"""Diffusion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch_sla.assembly.forms.form import BilinearForm
from torch_sla.assembly.forms.vocabulary import dot, grad, matvec

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.assembly.field import Field
    from torch_sla.assembly.forms.context import Context

__all__ = ["diffusion", "tensor_diffusion"]


def _diffusion(u: Field, v: Field, w: Context) -> Tensor:
    """``kappa grad u . grad v`` with a scalar diffusivity ``kappa``."""
    return w.kappa * dot(grad(u), grad(v))


def _tensor_diffusion(u: Field, v: Field, w: Context) -> Tensor:
    """``(kappa grad u) . grad v`` with a matrix ``kappa [..., dim, dim]``."""
    return dot(matvec(w.kappa, grad(u)), grad(v))


diffusion = BilinearForm(_diffusion, linear=("kappa",))
tensor_diffusion = BilinearForm(_tensor_diffusion)
