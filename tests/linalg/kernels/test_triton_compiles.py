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
    from torch_sla.linalg.kernels.triton import (
        aggregate,
        csr,
        lattice_cycle,
        lattice_levels,
        rows,
        spgemm,
        strength,
    )

    found: list[int] = []

    def launch(*args: Any, **options: Any) -> None:
        found.append(len(compile_for_hopper(*args, **options)))

    for module in (aggregate, csr, lattice_cycle, lattice_levels, rows, spgemm, strength):
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("index", [torch.int32, torch.int64])
def test_aggregates(
    dtype: torch.dtype, index: torch.dtype, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing runs, so that numbers of entries that kernels would have found are made up."""
    from torch_sla.linalg.kernels.triton import aggregate, csr, rows, spgemm, strength

    monkeypatch.setattr(rows, "_TURNS", 1)
    n = 40
    crow = torch.arange(n + 1).to(index)
    ccol, values = torch.arange(n).to(index), torch.ones(n, dtype=dtype)
    options = {"bits": 8, "decoupled": 0.05, "kept": 0.1, "tied": 0.55}
    chosen = strength.choose(crow, ccol, values, 0.25, None, **options)
    strength.choose(crow, ccol, values, 0.25, chosen.keep, **options)
    strength.take(crow, ccol, values, chosen._replace(total=n), 0.5, bits=8)
    none = torch.iinfo(index).max
    for fill in (False, True):
        rest = (crow, ccol, n, fill, none, 8, 64)
        spgemm.launch(spgemm._union, (1,), crow, ccol, crow, ccol, *rest)
    some = torch.zeros(n, dtype=torch.int64)
    rows.decide(crow, ccol, some)
    key, number = some.clone(), some.clone()
    grid, tile = (1,), (64, 8)
    given = (crow, ccol, some, key)
    aggregate.launch(aggregate._crowded, grid, *given, n, 3, 2 << 60, *tile)
    aggregate.launch(aggregate._spread, grid, *given, number, some[:1], n, 2 << 60, *tile)
    aggregate.launch(aggregate._join, grid, crow, ccol, torch.ones(n), some, number, n, *tile)
    rows.hashed_keys(some)
    x = values[None, :, None]
    csr.product(
        crow, ccol, values[None], x, torch.empty_like(x), longest=1, finish="scaled",
        b=values[:1, None], w=values,
    )  # fmt: skip
    assert len(sizes) == 14
    assert min(sizes) > 0
