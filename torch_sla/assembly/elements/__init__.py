"""Finite elements, one per file, and the choice of one by cell and order."""

from __future__ import annotations

from torch_sla.assembly.elements.element import Element
from torch_sla.assembly.elements.mini import Mini
from torch_sla.assembly.elements.p0 import P0
from torch_sla.assembly.elements.p1 import P1
from torch_sla.assembly.elements.p2 import P2
from torch_sla.assembly.elements.q1 import Q1
from torch_sla.assembly.elements.q2 import Q2
from torch_sla.assembly.reference.cell import reference_cell
from torch_sla.errors import ArgumentError

__all__ = ["P0", "P1", "P2", "Q1", "Q2", "Element", "Mini", "lagrange"]

_SIMPLEX: dict[int, type[Element]] = {0: P0, 1: P1, 2: P2}
_TENSOR: dict[int, type[Element]] = {0: P0, 1: Q1, 2: Q2}


def lagrange(cell: str, order: int = 1) -> Element:
    """Choose the Lagrange element of an order on a cell.

    Parameters
    ----------
    cell
        Name of the reference cell: ``"line" "triangle" "quad" "tetra" "hexahedron"``.
    order
        0, 1 or 2.

    Raises
    ------
    ArgumentError
        If there is no element of that order.

    Examples
    --------
    >>> lagrange("triangle", 2)
    P2(cell_name='triangle')
    """
    family = _SIMPLEX if reference_cell(cell).is_simplex else _TENSOR
    if order not in family:
        raise ArgumentError(
            f"order: got {order!r}; Lagrange elements of order 0, 1 and 2 are available"
        )
    return family[order](cell)
