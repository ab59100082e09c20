"""Structured multigrid where couplings are positive: trilinear hexahedra that are flat, or whose mass dominates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spl
import torch

from tests.helpers.devices import ON_CUDA
from tests.helpers.grids import rhs, split
from tests.helpers.lattices import box_stencil
from torch_sla.errors import Result
from torch_sla.linalg.kernels import lattice as kernels
from torch_sla.linalg.kernels.lattice_detect import find_lattice
from torch_sla.linalg.methods.outcome import KrylovOptions
from torch_sla.linalg.precond.multigrid import AMG
from torch_sla.linalg.precond.multigrid.device import build

MATRICES: dict[str, dict[str, Any]] = {
    "rods": {"edges": (1.0, 1.0, 10.0)},
    "plates": {"edges": (1.0, 4.0, 4.0)},
    "strips": {"edges": (1.0, 10.0, 100.0)},
    "short steps": {"mass": 1.0, "stiffness": 1e-3},
    "mass": {"mass": 1.0, "stiffness": 0.0},
}


def matrix(name: str) -> sp.csr_array:
    return box_stencil(17, 19, 18, **MATRICES[name])


@pytest.mark.parametrize("where", ["compiled", "cpu", ON_CUDA])
@pytest.mark.parametrize("name", MATRICES)
def test_cycles_are_definite(name: str, where: str) -> None:
    A = matrix(name)
    pattern, values = split(A)
    options = AMG(method="lattice")
    if where == "compiled":
        hierarchy: Any = options.build(pattern, values)
    else:
        pattern, values = pattern.to(where), values.to(where)
        hierarchy = build(pattern, values, options)
    b = rhs(A.shape[0]).to(values.device)
    out = hierarchy.cg(values, b, options=KrylovOptions(rtol=1e-8, maxiter=60))
    assert out.result is Result.CONVERGED
    assert out.iterations <= 22
    left = b.cpu().numpy() - A @ out.x.cpu().numpy()
    assert np.linalg.norm(left) <= 1.01e-8 * float(b.norm())


@pytest.mark.parametrize("name", MATRICES)
def test_weights_let_no_error_grow(name: str) -> None:
    """Eigenvalues of M A, which is similar to a symmetric matrix, are between 0 and 2."""
    A = matrix(name)
    pattern, values = split(A)
    lattice = find_lattice(pattern.crow, pattern.ccol)
    stencil = kernels.load(lattice, pattern.crow, pattern.ccol, values, values.dtype)
    M = kernels.survey(stencil, torch.empty(6, dtype=torch.float64)).numpy()
    half = sp.diags_array(np.sqrt(M))
    (largest,) = spl.eigsh(half @ A @ half, k=1, return_eigenvectors=False)
    assert largest <= 1.95
