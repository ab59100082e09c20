"""A part of a mesh on which a process lowers its share of a problem."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from torch_sla.assembly import Mesh

__all__ = ["PartOfMesh", "ends_of"]


def ends_of(mesh: Mesh) -> Tensor:
    """Return the greatest coordinates of a mesh, and of its mirror image ``[2, dim]``: of parts the greatest are taken.

    Examples
    --------
    >>> from torch_sla.assembly import rectangle_mesh
    >>> ends_of(rectangle_mesh((1, 1), size=(3.0, 2.0), origin=(-1.0, 0.5))).tolist()
    [[2.0, 2.5], [1.0, -0.5]]
    """
    x = mesh.points.detach().cpu().double()
    none = x.new_full((1, mesh.dim), -torch.inf)
    return torch.stack([torch.cat([none, x]).amax(0), torch.cat([none, -x]).amax(0)])


@dataclass(frozen=True, eq=False)
class PartOfMesh:
    """A part of a mesh, and where what lives on the whole is on it.

    Every selector of the problem is a tag of the part, be it an empty one: places are chosen on the whole, where
    a predicate cannot mistake a cut for a boundary.

    Parameters
    ----------
    mesh
        The part.
    device
        Where its share is computed.
    counts
        Number of ``cells``, ``facets`` and ``nodes`` of the whole.
    numbers
        Their numbers in the whole, by the same names; -1 for facets of a cut. Empty for the whole itself.
    near
        Of the points under a path of the declaration, those inside this part; all where a path is not listed.
    held
        Mesh points of the part at which values are given, by path.
    outer
        The facets that lie in the boundary of the whole; None where its own boundary has no others.
    """

    mesh: Mesh
    device: torch.device
    counts: Mapping[str, int]
    numbers: Mapping[str, Tensor]
    near: Mapping[str, Tensor] = field(default_factory=dict)
    held: Mapping[str, Tensor] = field(default_factory=dict)
    outer: Tensor | None = None

    def localised(self, values: Tensor, home: str, dim: int, points: int) -> Tensor:
        """Take what lives on the sites of the part from values on the whole.

        Parameters
        ----------
        home
            ``"cells" "facets" "nodes" "quadrature"`` or ``"constant"``.
        dim
            Dimension of the sites, from the front.
        points
            Quadrature points of a cell.
        """
        if home == "constant" or not self.numbers:
            return values
        index = self.numbers["cells" if home == "quadrature" else home]
        if home == "quadrature":
            index = (index[:, None] * points + torch.arange(points, device=index.device)).flatten()
        # No law sees the facets of a cut, so any value will do there.
        return values.index_select(dim, index.clamp(min=0).to(values.device))
