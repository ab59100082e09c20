"""Element matrices and vectors on interior facets, block by block."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.assembly.sided import Sided

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch_sla.assembly.basis import Basis
    from torch_sla.assembly.field import Field
    from torch_sla.assembly.forms.contract import Parts

__all__ = ["SIDES", "facet_matrices", "facet_vectors", "on_side"]

SIDES = ("plus", "minus")


def on_side(field: Field, side: str) -> Sided:
    """Extend a function on one side by zero to the other."""
    nothing = field.times(0.0)
    return Sided(field, nothing) if side == "plus" else Sided(nothing, field)


def _jets(basis: Basis, parts: Parts) -> Tensor:
    """Values and derivatives in space of the basis functions ``[n, nq|1, nb, size]``."""
    pieces = []
    if parts.value:
        pieces.append(basis.phi[..., None])
    if parts.gradient:
        slopes = basis.dphi
        if parts.value:
            slopes = slopes.expand(-1, pieces[0].shape[1], -1, -1)
        pieces.append(slopes)
    return torch.cat(pieces, -1)


def facet_matrices(
    C: Tensor, bases: Mapping[str, Basis], parts: Mapping[str, Parts], dx: Tensor
) -> Tensor:
    """Contract the coefficients of a bilinear form with functions on given sides.

    Parameters
    ----------
    C
        ``[test components * jet, trial components * jet, *batch, n|1, nq|1]``.
    bases, parts
        Of the trial function ``"u"`` and the test function ``"v"``.
    dx
        Integration weights ``[n, nq]``.

    Returns
    -------
    Tensor ``[*batch, n, nb * c of test, nb * c of trial]``.
    """
    trial, test = bases["u"], bases["v"]
    u, v = _jets(trial, parts["u"]), _jets(test, parts["v"])
    C = C.unflatten(1, (trial.components, u.shape[-1])).unflatten(0, (test.components, v.shape[-1]))
    weighted = C * dx.to(C.dtype)
    local = torch.einsum("sqim,ambk...sq,sqjk->...siajb", v.to(C.dtype), weighted, u.to(C.dtype))
    return local.flatten(-2).flatten(-3, -2)


def facet_vectors(L: Tensor, basis: Basis, parts: Parts, dx: Tensor) -> Tensor:
    """Contract the coefficients of a linear form: ``[*batch, n, nb * components]``."""
    v = _jets(basis, parts)
    weighted = L.unflatten(0, (basis.components, v.shape[-1])) * dx.to(L.dtype)
    return torch.einsum("sqim,am...sq->...sia", v.to(L.dtype), weighted).flatten(-2)
