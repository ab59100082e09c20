"""Reference cells and the quadrature rules on them."""

from __future__ import annotations

from torch_sla.assembly.reference.cell import REFERENCE_CELLS, ReferenceCell, reference_cell
from torch_sla.assembly.reference.quadrature import QuadratureRule, quadrature

__all__ = ["REFERENCE_CELLS", "QuadratureRule", "ReferenceCell", "quadrature", "reference_cell"]
