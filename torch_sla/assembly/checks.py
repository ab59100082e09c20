"""Checks of what bases and numberings are given; each names the argument, the value and the remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, MeshError
from torch_sla.linalg.checks import require

if TYPE_CHECKING:
    from torch_sla.assembly.elements import Element
    from torch_sla.assembly.mesh.mesh import Mesh

__all__ = ["check_space", "numbered"]


def numbered(index: Tensor, count: int, what: str, argument: str | None = None) -> Tensor:
    """Return indices of cells, facets or dofs, checked; a mask ``[count]`` as the indices that it says.

    Parameters
    ----------
    index
        What was given.
    count
        How many there are.
    what
        What they are, such as ``"cells"``.
    argument
        The name of the argument; `what` when left out.

    Raises
    ------
    MeshError
        If they are no vector of integers, or out of range.

    Examples
    --------
    >>> numbered(torch.tensor([False, True, True]), 3, "cells")
    tensor([1, 2])
    """
    argument = argument or what
    if not isinstance(index, Tensor):
        raise MeshError(
            f"{argument}: got {index!r}; expected a tensor, indices or a mask of {what}"
        )
    if index.dtype == torch.bool:
        if index.shape != (count,):
            raise MeshError(
                f"{argument}: the mask has shape {tuple(index.shape)}; expected ({count},), one for each of the {what}"
            )
        return torch.nonzero(index)[:, 0]
    if index.ndim != 1 or index.is_floating_point() or index.is_complex():
        raise MeshError(
            f"{argument}: got {index.dtype} of shape {tuple(index.shape)}; expected integers [m], or a mask of {what}"
        )
    outside = (index < 0) | (index >= count)
    require(
        ~outside.any(),
        lambda: MeshError(
            f"{argument}: got {int(index[outside][0])}; {what} are numbered from 0 to {count - 1}"
        ),
    )
    return index


def check_space(mesh: Mesh, element: Element, components: int) -> None:
    """Refuse an element of other cells than those of the mesh, and fields without components."""
    if getattr(element, "cell", None) != mesh.reference:
        raise MeshError(
            f"element: {element!r} does not fit the mesh's {mesh.cell} cells; use "
            f"lagrange({mesh.reference.name!r}, order)"
        )
    if components < 1 or components != int(components):
        raise ArgumentError(
            f"components: got {components}; a field has a whole number of components, at least one"
        )
