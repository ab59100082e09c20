"""Hierarchies over tensors serve several threads and streams, one after the other."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import torch

from tests.helpers.devices import ON_CUDA
from tests.helpers.grids import poisson
from tests.helpers.meshed import split
from tests.helpers.simulated import SIMULATED
from torch_sla.linalg.methods.outcome import KrylovOptions
from torch_sla.linalg.precond.multigrid import AMG
from torch_sla.linalg.precond.multigrid.device.aggregation import DeviceAggregation
from torch_sla.linalg.precond.multigrid.device.lattice import DeviceLattice
from torch_sla.linalg.precond.multigrid.device.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch_sla.linalg.precond.multigrid.device import DeviceHierarchy


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads that are interrupted often."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("device", ["cpu", ON_CUDA])
@pytest.mark.parametrize("kind", ["lattice", "aggregates"])
def test_threads_that_share_a_hierarchy_get_the_bits_that_one_alone_gets(kind, device):
    if device == "cuda" and SIMULATED:
        pytest.skip("the simulated device is that of one thread")
    pattern, values = split(poisson(60, 50), device)
    hierarchy: DeviceHierarchy = (
        DeviceLattice(pattern, values, AMG())
        if kind == "lattice"
        else DeviceAggregation(pattern, values, AMG(), None)
    )
    sides = torch.randn(24, hierarchy.n, 1, dtype=torch.float64).to(device)
    options = KrylovOptions(rtol=1e-8)

    def work(b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return hierarchy.cg(values, b, options=options).x, hierarchy.apply(b)

    def aside(b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if not b.is_cuda:
            return work(b)
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            done = work(b)
        stream.synchronize()
        return done

    alone = [work(b) for b in sides]
    if device == "cuda":
        torch.cuda.synchronize()
    with ThreadPoolExecutor(4) as pool:
        shared = list(pool.map(aside, sides))
    for expected, found in zip(alone, shared, strict=True):
        assert torch.equal(expected[0], found[0])
        assert torch.equal(expected[1], found[1])


def test_a_stream_waits_for_the_one_that_was_served_before(monkeypatch):
    class Stream:
        def __init__(self) -> None:
            self.waited: list[Stream] = []

        def wait_stream(self, other: Stream) -> None:
            self.waited.append(other)

    first, second = Stream(), Stream()
    current = [first]
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: current[0])
    turns = Turns(torch.device("cuda"))
    for stream, waits in ((first, []), (second, [first]), (second, []), (first, [second])):
        current[0] = stream
        stream.waited.clear()
        with turns.next():
            assert stream.waited == waits
