"""Carrying a field from one mesh to another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch_sla.assembly.interpolation import Interpolation
from torch_sla.assembly.recovery.projection import Projection
from torch_sla.errors import ArgumentError

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.assembly.dofs import Dofs

__all__ = ["transfer"]


def transfer(
    source: Dofs, u: Tensor, target: Dofs, method: Literal["interpolate", "project"] = "interpolate"
) -> Tensor:
    """Represent a field on another mesh or with another element; differentiable in the field.

    Parameters
    ----------
    source, u
        Numbering and coefficients ``[*batch, source.n]`` of the field.
    target
        Numbering of the result, with as many components.
    method
        ``"interpolate"`` takes the values at the target's nodes; ``"project"`` the nearest field in L2, which keeps
        integrals, up to quadrature.

    Returns
    -------
    Tensor ``[*batch, target.n]``.

    Raises
    ------
    ArgumentError
        If the components differ, or the method is unknown.
    MeshError
        If the target's nodes or quadrature points are not all inside the source's mesh.

    Examples
    --------
    >>> from torch_sla.assembly import Dofs, lagrange, rectangle_mesh, refine
    >>> coarse = rectangle_mesh((2, 2))
    >>> fine = refine(coarse)
    >>> P = lagrange("triangle")
    >>> moved = transfer(Dofs(coarse, P), coarse.points[:, 0], Dofs(fine, P))
    >>> bool((moved - fine.points[:, 0]).abs().max() < 1e-14)
    True
    """
    if source.components != target.components:
        raise ArgumentError(
            f"target: has {target.components} components, the field has {source.components}"
        )
    vector = source.components > 1
    if method == "interpolate":
        at = Interpolation(source.mesh, source.element, target.points(), dofs=source)
        value = at.value(u)
        return value.flatten(-2) if vector else value
    if method != "project":
        raise ArgumentError(f"method: got {method!r}; use 'interpolate' or 'project'")
    projection = Projection(target.mesh, target.element)
    x = projection.basis.x
    at = Interpolation(source.mesh, source.element, x.flatten(0, 1), dofs=source)
    trail = 1 if vector else 0
    value = at.value(u).unflatten(-1 - trail, tuple(x.shape[:2]))
    nodal = projection(value, rank=trail)
    return nodal.flatten(-2) if vector else nodal
