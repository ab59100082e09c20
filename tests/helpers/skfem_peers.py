"""Meshes, elements and matrices of scikit-fem beside ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy.sparse as sp

if TYPE_CHECKING:
    import torch_sla.assembly as fem

skfem = pytest.importorskip("skfem")

__all__ = ["PEERS", "distance", "peer_mesh", "skfem"]

PEERS = {
    ("line", 1): "LineP1",
    ("line", 2): "LineP2",
    ("triangle", 1): "TriP1",
    ("triangle", 2): "TriP2",
    ("quad", 1): "Quad1",
    ("quad", 2): "Quad2",
    ("tetra", 1): "TetP1",
    ("tetra", 2): "TetP2",
    ("hexahedron", 1): "Hex1",
    ("hexahedron", 2): "Hex2",
}
MESHES = {"line": "Line", "triangle": "Tri", "quad": "Quad", "tetra": "Tet", "hexahedron": "Hex"}


def peer_mesh(mesh: fem.Mesh) -> Any:
    """Return the same mesh of scikit-fem, its cells in our order."""
    t = mesh.cells.numpy().T
    if mesh.cell == "hexahedron":
        t = t[[0, 1, 3, 4, 2, 5, 7, 6]]
    options = {"sort_t": False} if mesh.cell in ("triangle", "tetra") else {}
    return getattr(skfem, f"Mesh{MESHES[mesh.cell]}")(
        np.ascontiguousarray(mesh.points.numpy().T), np.ascontiguousarray(t), **options
    )


def distance(ours: Any, theirs: Any, order: Any) -> float:
    """Return the largest difference of two matrices relative to the largest entry, the second one renumbered."""
    theirs = sp.csr_array(theirs)[order][:, order]
    return float(abs(ours - theirs).max() / abs(theirs).max())
