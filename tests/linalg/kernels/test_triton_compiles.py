"""Triton kernels compiled for a card that is not here, which the interpreter says nothing about."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch

from tests.helpers.cubin import compile_for_hopper
from tests.helpers.lattices import laplacian, split
from torch_sla.linalg.kernels.lattice_detect import find_lattice
from torch_sla.linalg.kernels.stencils import AxisWeights, Stencil

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing"
)


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the binaries that launches would have run."""
    from torch_sla.linalg.kernels.triton import lattice_cycle, lattice_levels

    found: list[int] = []

    def launch(*args: Any, **options: Any) -> None:
        found.append(len(compile_for_hopper(*args, **options)))

    for module in (lattice_cycle, lattice_levels):
        monkeypatch.setattr(module, "launch", launch)
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lattices(dtype: torch.dtype, sizes: list[int]) -> None:
    from torch_sla.linalg.kernels.triton import lattice

    pattern, values = split(laplacian(12, 11, 10))
    A = Stencil.empty(find_lattice(pattern.crow, pattern.ccol), dtype, values.device)
    M, f, x, y, dots = (torch.zeros(A.n, dtype=dtype) for _ in range(5))
    numbers, flag = torch.zeros(6, dtype=torch.float64), torch.zeros(1, dtype=torch.int32)
    lattice.load(A, pattern.crow, pattern.ccol, values, 1.0)
    lattice.survey(A, M, numbers)
    lattice.contrary(A, (True, True, False), numbers[0])
    weights = [AxisWeights.empty(A, 0)]
    C = Stencil.empty(A.lattice.coarsened(0), dtype, values.device)
    lattice.axis_weights(A, weights[0])
    lattice.galerkin(A, weights[0], C)
    lattice.residual_after_first(A, M, f, y, flag)
    lattice.residual(A, f, x, y, flag)
    lattice.relax(A, M, f, x, y, dots.double(), flag)
    lattice.matvec_dot(A, x, y, dots.double(), flag)
    lattice.restrict(A.lattice, weights, y, x[: C.n], flag)
    lattice.correct(A.lattice, weights, x[: C.n], M, f, y, flag)
    lattice.dense_apply(torch.eye(64, dtype=dtype), f[:64], x[:64], flag, False)
    assert len(sizes) == 13
    assert min(sizes) > 0
