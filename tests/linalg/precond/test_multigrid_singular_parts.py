"""Matrices of parts that are singular by themselves.

Such a part comes down to one row, whose entries are nothing but rounding, long before the largest one is small.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from tests.helpers.grids import split
from tests.helpers.singular_parts import PARTS, bodies, left, regions
from torch_sla.errors import Result
from torch_sla.linalg import SparseTensor
from torch_sla.linalg.methods.outcome import KrylovOptions
from torch_sla.linalg.precond.multigrid import AMG, Hierarchy
from torch_sla.linalg.precond.multigrid.device.aggregation import DeviceAggregation

OPTIONS = KrylovOptions(rtol=1e-8, maxiter=60)


@pytest.fixture(scope="module", params=PARTS)
def apart(request):
    return regions(PARTS[request.param])


@pytest.mark.parametrize("declared", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("method", "smoother"),
    [
        ("smoothed_aggregation", "spai0"),
        ("smoothed_aggregation", "chebyshev"),
        ("smoothed_aggregation", "l1_jacobi"),
        ("smoothed_aggregation", "gauss_seidel"),
        ("classical", "spai0"),
    ],
)
def test_regions(apart, method, smoother, dtype, declared) -> None:
    A, b, _, Q = apart
    known = {"nullspace": torch.from_numpy(Q)} if declared else {}
    multigrid = AMG(method=method, dtype=dtype, smoother=smoother)
    x, info = SparseTensor.from_scipy(A).solve(
        torch.from_numpy(b), method="cg", preconditioner=multigrid, rtol=1e-8, info=True, **known
    )
    assert info.result is Result.CONVERGED
    assert info.iterations <= 25
    assert left(A, x, b) <= 1e-8


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("smoother", ["spai0", "chebyshev", "l1_jacobi"])
def test_regions_over_tensors(apart, dtype, smoother) -> None:
    A, b, _, _ = apart
    pattern, values = split(A)
    hierarchy = DeviceAggregation(pattern, values, AMG(dtype=dtype, smoother=smoother), None)
    found = hierarchy.cg(values, torch.from_numpy(b)[:, None], x0=None, options=OPTIONS)
    assert found.iterations <= 25
    assert left(A, found.x, b) <= 1e-8


@pytest.fixture(scope="module", params=[False, True], ids=["floating", "hinged"])
def loose(request):
    return bodies(hinged=request.param)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("declared", [False, True])
def test_bodies(loose, dtype, declared) -> None:
    A, b, modes, Q = loose
    known = {"nullspace": torch.from_numpy(Q)} if declared else {}
    x, info = (
        SparseTensor.from_scipy(A)
        .declare(near_nullspace=modes)
        .solve(
            torch.from_numpy(b),
            method="cg",
            preconditioner=AMG(dtype=dtype),
            rtol=1e-8,
            info=True,
            **known,
        )
    )
    assert info.result is Result.CONVERGED
    assert info.iterations <= 25
    assert left(A, x, b) <= 1e-8


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bodies_over_tensors(loose, dtype) -> None:
    A, b, modes, _ = loose
    pattern, values = split(A)
    hierarchy = DeviceAggregation(pattern, values, AMG(dtype=dtype), modes)
    found = hierarchy.cg(values, torch.from_numpy(b)[:, None], x0=None, options=OPTIONS)
    assert found.iterations <= 25
    assert left(A, found.x, b) <= 1e-8


@pytest.mark.parametrize("kind", ["smoothed_aggregation", "classical", "over tensors"])
def test_regions_that_come_loose(kind) -> None:
    """New values on aggregates that were found when all regions were tied down."""
    A, b, _, _ = regions([(60, 60, 1.0)] + [(3, 3, 1.0)] * 40)
    pattern, values = split(A)
    down = values.clone()
    down[pattern.diagonal_slots.long()] += 0.1
    if kind == "over tensors":
        hierarchy = DeviceAggregation(pattern, down, AMG(), None)
    else:
        hierarchy = Hierarchy(pattern, down, AMG(method=kind))
    hierarchy.update(values)
    found = hierarchy.cg(values, torch.from_numpy(b)[:, None], x0=None, options=OPTIONS)
    assert left(A, found.x, b) <= 1e-8


@pytest.mark.parametrize("share", [1e-3, 1e-4, 1e-7])
@pytest.mark.parametrize("kind", ["smoothed_aggregation", "classical", "over tensors"])
def test_regions_that_are_hardly_held(kind, share) -> None:
    """What is small and no rounding stays as it is."""
    A, _, _, _ = regions(PARTS["many small"])
    held = np.random.default_rng(0).uniform(0.1, 1.0, A.shape[0])
    A = sp.csr_array(A + share * sp.diags_array(held))
    b = np.random.default_rng(5).standard_normal((A.shape[0], 1))
    pattern, values = split(A)
    if kind == "over tensors":
        hierarchy = DeviceAggregation(pattern, values, AMG(), None)
    else:
        hierarchy = Hierarchy(pattern, values, AMG(method=kind))
    found = hierarchy.cg(values, torch.from_numpy(b), x0=None, options=OPTIONS)
    assert found.iterations <= 20


@pytest.mark.parametrize("shape", [(1, 3), (3, 3)])
def test_regions_with_little_stiffness_over_tensors(shape) -> None:
    """Weak springs, as many as regions: what they are is not hidden by what is done for parts without any."""
    A, b, nodes, _ = regions([(60, 60, 1.0)] + [(*shape, 1.0)] * 200)
    springs = np.repeat(10 ** np.linspace(-5.5, -3.5, 201), [3600] + [shape[0] * shape[1]] * 200)
    A = sp.csr_array(A + sp.diags_array(springs[nodes]))
    A.sort_indices()
    pattern, values = split(A)
    hierarchy = DeviceAggregation(pattern, values, AMG(dtype="float32"), None)
    found = hierarchy.cg(values, torch.from_numpy(b)[:, None], x0=None, options=OPTIONS)
    assert found.iterations <= 12
    assert left(A, found.x, b) <= 1e-8


@pytest.mark.parametrize(
    ("large", "small", "cycle"),
    [((30, 30, 1.0), (4, 4, 1.0), "W"), ((100, 60, 1.0), (12, 12, 1e3), None)],
    ids=["asked for", "beside jumps"],
)
def test_second_visits_of_regions_that_are_hardly_held(large, small, cycle) -> None:
    """Solutions on a coarse level outgrow their right-hand sides there by what single precision has digits."""
    sizes = [large] + [small] * 40
    A, _, nodes, _ = regions(sizes)
    scale = np.repeat([s for *_, s in sizes], [n * m for n, m, _ in sizes])
    A = sp.csr_array(A + 1e-9 * sp.diags_array(scale[nodes]))
    A.sort_indices()
    b = A @ np.random.default_rng(5).standard_normal(A.shape[0])
    pattern, values = split(A)
    hierarchy = DeviceAggregation(pattern, values, AMG(dtype="float32", cycle=cycle), None)
    found = hierarchy.cg(values, torch.from_numpy(b)[:, None], x0=None, options=OPTIONS)
    assert found.iterations <= 45
    assert left(A, found.x, b) <= 1e-8
