"""Aggregation on a device for matrices that are not symmetric: convection, and the adjoint of a cycle."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from tests.helpers.grids import rhs
from tests.helpers.meshed import poisson, split
from torch_sla.errors import Result
from torch_sla.linalg.methods.bicgstab import bicgstab
from torch_sla.linalg.methods.gmres import gmres
from torch_sla.linalg.methods.outcome import KrylovOptions
from torch_sla.linalg.precond.multigrid import AMG
from torch_sla.linalg.precond.multigrid.device.aggregation import DeviceAggregation


def assembled(hierarchy: DeviceAggregation, n: int, adjoint: bool = False) -> torch.Tensor:
    eye = torch.eye(n, dtype=torch.float64)
    return hierarchy.apply_adjoint(eye) if adjoint else hierarchy.apply(eye)


@pytest.mark.parametrize("cycle", ["V", "W"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_adjoint_is_the_transpose(cycle: str, symmetric: bool) -> None:
    A = poisson(11, 13)
    if not symmetric:
        upwind = sp.diags_array([np.ones(13), -np.ones(12)], offsets=[0, -1])
        A = A + sp.kron(sp.eye_array(11), 5 * upwind)
    options = AMG(dtype="float64", coarse_size=10, cycle=cycle)
    hierarchy = DeviceAggregation(*split(A), options, None)
    assert len(hierarchy.levels) > 2
    B, transposed = assembled(hierarchy, 143), assembled(hierarchy, 143, adjoint=True)
    torch.testing.assert_close(transposed, B.T, rtol=1e-10, atol=1e-12)
    if symmetric:
        torch.testing.assert_close(B, B.T, rtol=1e-10, atol=1e-12)
        assert torch.linalg.eigvalsh(B).min() > 0
        spectrum = torch.linalg.eigvals(B @ torch.from_numpy(sp.csr_array(A).toarray())).real
        assert spectrum.max() < 1.3
        assert spectrum.min() > 0.2


def upwinded(n: int, peclet: float) -> sp.csr_array:
    first = sp.diags_array([np.ones(n), -np.ones(n - 1)], offsets=[0, -1])
    flow = sp.kron(sp.eye_array(n), first) + sp.kron(first, sp.eye_array(n))
    return sp.csr_array(poisson(n, n) + peclet * flow)


@pytest.mark.parametrize("peclet", [0.3, 100.0])
@pytest.mark.parametrize("method", [gmres, bicgstab])
def test_convection(method: object, peclet: float) -> None:
    A = upwinded(60, peclet)
    pattern, values = split(A)
    hierarchy = DeviceAggregation(pattern, values, AMG(), None, unsymmetric=True)
    out = method(  # type: ignore[operator]
        lambda x: torch.from_numpy(A @ x.numpy()),
        rhs(3600),
        M=hierarchy.apply,
        options=KrylovOptions(rtol=1e-8, maxiter=100),
    )
    assert out.result is Result.CONVERGED
    assert out.iterations <= 33


@pytest.mark.parametrize("within", [[[1.0, 0.95], [0.95, 1.0]], [[1.0, 5.0], [-5.0, 1.0]]])
@pytest.mark.parametrize("peclet", [0.3, 10.0])
def test_convection_of_coupled_unknowns_is_smoothed_by_blocks(
    within: list[list[float]], peclet: float
) -> None:
    A = sp.csr_array(sp.kron(upwinded(20, peclet), np.array(within)))
    options = AMG(block=2, smoother="spai0", coarse_size=20)
    hierarchy = DeviceAggregation(*split(A), options, None, unsymmetric=True)
    out = gmres(
        lambda x: torch.from_numpy(A @ x.numpy()),
        rhs(800),
        M=hierarchy.apply,
        options=KrylovOptions(rtol=1e-8, maxiter=100),
    )
    assert out.result is Result.CONVERGED
    assert out.iterations <= 33


@pytest.mark.parametrize("unsymmetric", [False, True])
@pytest.mark.parametrize("convection", [0.0, 3.0])
def test_adjoint_with_blocks_of_nodes(unsymmetric: bool, convection: float) -> None:
    A = sp.kron(upwinded(9, convection), [[1.0, 0.9], [0.9, 1.0]]).tolil()
    A[30, 31] = A[31, 30] = 0.0
    A[70:72, 76:78] = A[76:78, 70:72] = A[70:72, 70:72].toarray() * 0.95  # nodes that are tied
    if unsymmetric:
        A[50, 51] = 30.0
    options = AMG(block=2, smoother="spai0", coarse_size=10, dtype="float64")
    hierarchy = DeviceAggregation(*split(sp.csr_array(A)), options, None, unsymmetric=unsymmetric)
    assert hierarchy._forward.stages[0].smoother.tied is not None
    B, transposed = assembled(hierarchy, 162), assembled(hierarchy, 162, adjoint=True)
    torch.testing.assert_close(transposed, B.T, rtol=1e-10, atol=1e-12)
    if not unsymmetric and not convection:
        torch.testing.assert_close(B, B.T, rtol=1e-10, atol=1e-12)
