"""Values given to the verbs of a problem."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch_sla.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["joined", "moving"]


def joined(values: Mapping[str, Any] | None, named: Mapping[str, Any]) -> dict[str, Any]:
    """Return all values by name: those of the mapping and those given by keyword.

    Raises
    ------
    ArgumentError
        If a name is given in both ways.

    Examples
    --------
    >>> joined({"kappa-1": 2.0}, {"f": 1.0})
    {'kappa-1': 2.0, 'f': 1.0}
    """
    found = dict(values or {})
    for name, value in named.items():
        if name in found:
            raise ArgumentError(f"{name!r} is given twice: in the mapping, and by keyword")
        found[name] = value
    return {name: moving(value) for name, value in found.items()}


def moving(value: Any) -> Any:
    """Return a tensor that has a tangent as one that requires grad as well, anything else as it is.

    Newton's method and laws that are differentiated record what requires grad; a tangent alone would be lost there,
    without a word. So what is found from it requires grad, too; `detach` its tangent before it becomes a number.

    Raises
    ------
    GradientError
        Of many tangents at once, as `torch.autograd.functional.jacobian` gives them with ``vectorize=True``.
    """
    import torch
    from torch.autograd import forward_ad

    from torch_sla.linalg.adjoint.unmapped import refuse_old_vmap

    if forward_ad._current_level < 0 or not isinstance(value, torch.Tensor):
        return value
    primal, tangent = forward_ad.unpack_dual(value)
    if tangent is None:
        return value
    refuse_old_vmap(tangent)
    if value.requires_grad:
        return value
    return forward_ad.make_dual(primal.detach().requires_grad_(), tangent)
