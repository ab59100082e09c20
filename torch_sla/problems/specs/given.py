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
    """Return a tensor that Newton's method and laws that are differentiated can record; anything else as it is.

    They record what requires grad; a tangent alone would be lost there, without a word. So what is found from a tensor
    with a tangent requires grad, too; `detach` its tangent before it becomes a number. One that was made in inference
    mode cannot be recorded, and is copied.

    Raises
    ------
    GradientError
        Of many tangents at once, as `torch.autograd.functional.jacobian` gives them with ``vectorize=True``.
    """
    import torch
    from torch.autograd import forward_ad

    from torch_sla.linalg.adjoint.unmapped import refuse_old_vmap
    from torch_sla.linalg.sparse.transforms import is_transformed

    if not isinstance(value, torch.Tensor):
        return value
    if value.is_inference():
        with torch.inference_mode(mode=False):
            value = value.clone()
    if forward_ad._current_level < 0 or is_transformed():
        return value
    primal, tangent = forward_ad.unpack_dual(value)
    if tangent is None:
        return value
    refuse_old_vmap(tangent)
    if value.requires_grad:
        return value
    return forward_ad.make_dual(primal.detach().requires_grad_(), tangent)
