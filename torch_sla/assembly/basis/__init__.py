"""Basis functions at quadrature points, in cells and on facets."""

from __future__ import annotations

from torch_sla.assembly.basis.basis import Basis
from torch_sla.assembly.basis.cell import CellBasis
from torch_sla.assembly.basis.facet import FacetBasis
from torch_sla.assembly.basis.interior import InteriorBasis

__all__ = ["Basis", "CellBasis", "FacetBasis", "InteriorBasis"]
