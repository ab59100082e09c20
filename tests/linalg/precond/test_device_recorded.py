"""Recorded iterations and cycles: when memory ends, on which device they are, and that they go with their owners."""

from __future__ import annotations

import gc
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.helpers.grids import rhs, split
from tests.helpers.lattices import laplacian
from tests.helpers.simulated import SIMULATED
from torch_sla.linalg.precond.multigrid import AMG
from torch_sla.linalg.precond.multigrid.device.aggregation import DeviceAggregation
from torch_sla.linalg.precond.multigrid.device.lattice import DeviceLattice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ON_SIMULATION = [
    pytest.mark.gpu,
    pytest.mark.skipif(not SIMULATED, reason="needs TORCH_SLA_SIMULATED_CUDA=1"),
]
DEVICES = ["cpu", pytest.param("cuda", marks=ON_SIMULATION)]


def lattice(device: str) -> tuple[DeviceLattice, torch.Tensor]:
    pattern, values = split(laplacian(13, 12))
    values = values.to(device)
    return DeviceLattice(pattern.to(device), values, AMG()), values


def aggregation(device: str) -> tuple[DeviceAggregation, torch.Tensor]:
    pattern, values = split(laplacian(13, 12))
    values = values.to(device)
    return DeviceAggregation(pattern.to(device), values, AMG(coarse_size=20), None), values


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("make", [lattice, aggregation])
def test_hierarchies_leave_nothing_to_the_garbage_collector(
    make: Callable[[str], Any], device: str
) -> None:
    hierarchy, values = make(device)
    b = rhs(156).to(device)
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            hierarchy.cg(values, b)
            hierarchy.apply(b[:, 0].contiguous())
        assert not gc.isenabled()
        watched = weakref.ref(hierarchy)
        del hierarchy
        assert watched() is None
    finally:
        gc.enable()


@pytest.mark.gpu
@pytest.mark.skipif(not SIMULATED, reason="needs TORCH_SLA_SIMULATED_CUDA=1")
@pytest.mark.parametrize("fails", [1, 100])
@pytest.mark.parametrize("make", [lattice, aggregation])
def test_no_memory_for_a_graph_is_no_failure(
    make: Callable[[str], Any], fails: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    hierarchy, values = make("cuda")
    b = rhs(156).cuda()
    expected, cycle = hierarchy.cg(values, b), hierarchy.apply(b)
    hierarchy, values = make("cuda")
    left, given_back = fails, 0
    real = torch.cuda.CUDAGraph.capture_end

    def full(graph: Any) -> None:
        nonlocal left
        real(graph)
        left -= 1
        if left >= 0:
            raise torch.OutOfMemoryError("no room")

    def counting() -> None:
        nonlocal given_back
        given_back += 1

    monkeypatch.setattr(torch.cuda.CUDAGraph, "capture_end", full)
    monkeypatch.setattr(torch.cuda, "empty_cache", counting)
    for _ in range(3):
        found = hierarchy.cg(values, b)
        assert torch.equal(found.x, expected.x)
        assert found.iterations == expected.iterations
        assert torch.equal(hierarchy.apply(b), cycle)
    assert gc.isenabled()
    assert not torch.cuda.is_current_stream_capturing()
    attempts = fails - left
    assert given_back == min(fails, attempts) > 0


@pytest.mark.gpu
@pytest.mark.skipif(not SIMULATED, reason="needs TORCH_SLA_SIMULATED_CUDA=1")
@pytest.mark.parametrize("make", [lattice, aggregation])
def test_graphs_and_events_belong_to_the_device_of_the_vectors(
    make: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one may be current: work on the first is then not recorded on the stream of the other."""
    current = "cuda:1"
    seen = []

    @contextmanager
    def device(where: torch.device) -> Iterator[None]:
        nonlocal current
        before, current = current, str(where)
        yield
        current = before

    def noted(name: str) -> Callable[..., Any]:
        real = getattr(torch.cuda.CUDAGraph, name)

        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append((name, current))
            return real(self, *args, **kwargs)

        return call

    hierarchy, values = make("cuda")
    b = rhs(156).cuda()
    monkeypatch.setattr(torch.cuda, "device", device)
    for name in ("capture_begin", "replay"):
        monkeypatch.setattr(torch.cuda.CUDAGraph, name, noted(name))
    record = torch.cuda.Event.record
    monkeypatch.setattr(
        torch.cuda.Event, "record", lambda e: seen.append(("record", current)) or record(e)
    )
    for _ in range(2):
        hierarchy.cg(values, b)
        hierarchy.apply(b)
    assert {name for name, _ in seen} == {"capture_begin", "replay", "record"}
    assert {where for _, where in seen} == {"cuda:0"}
    assert current == "cuda:1"
