"""The simulated device breaks where a real one would, or the tests that run on it prove nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from tests.helpers.devices import SIMULATION
from tests.helpers.simulated import counted

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = SIMULATION


def on_device(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64, device="cuda")


def test_two_devices_do_not_meet() -> None:
    x, y = on_device(1.0, 2.0), torch.ones(2, dtype=torch.float64)
    for mixed in (lambda: x + y, lambda: y * x, lambda: torch.cat([x, y]), lambda: x @ y):
        with pytest.raises(RuntimeError, match="same device"):
            mixed()
    with pytest.raises(RuntimeError, match="indexed tensor"):
        y[torch.tensor([0], device="cuda")]
    assert (x + torch.tensor(1.0)).is_cuda  # numbers without dimension may come from the host
    with pytest.raises(TypeError, match="numpy"):
        x.numpy()


@pytest.mark.parametrize(
    "ask",
    [
        lambda x: x.sum().item(),
        lambda x: float(x[0]),
        lambda x: bool((x > 0).all()),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x.nonzero(),
        lambda x: x[x > 1],
        lambda x: torch.equal(x, x),
        lambda x: torch.unique(x),
        lambda x: torch.cuda.synchronize(),
        lambda x: torch.tensor([1, 2], device="cuda"),
        lambda x: torch.ones(2).to("cuda"),
        lambda x: x.copy_(torch.ones(2)),
        lambda x: x[torch.tensor([0])],
    ],
)
def test_reading_and_sending_are_waits(ask: Callable[[torch.Tensor], object]) -> None:
    x, index = on_device(1.0, 2.0), torch.tensor([0, 1], device="cuda")
    with counted() as seen:
        2 * x - x[index] + torch.full((2,), 0.5, device="cuda") + torch.tensor(1.0)
        torch.ones(2).to("cuda", non_blocking=True)
    assert not seen
    with counted() as seen:
        ask(x)
    assert seen.total() == 1


def test_copies_arrive_when_they_are_waited_for() -> None:
    x, room = on_device(1.0, 2.0), torch.zeros(2, dtype=torch.float64, pin_memory=True)
    event = torch.cuda.Event()
    room.copy_(x, non_blocking=True)
    event.record()
    x.add_(1)
    later = x.to("cpu", non_blocking=True)
    assert room.tolist() == [0.0, 0.0]
    event.synchronize()
    assert room.tolist() == [1.0, 2.0]
    assert later.isnan().all()
    torch.cuda.synchronize()
    assert later.tolist() == [2.0, 3.0]


def test_graphs_run_when_they_are_replayed() -> None:
    x, total = on_device(1.0, 2.0), on_device(0.0)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = 2 * x
        total += y.sum()
    assert total.item() == 0.0
    assert y.isnan().all()
    graph.replay()
    x.copy_(on_device(3.0, 4.0))
    graph.replay()
    assert y.tolist() == [6.0, 8.0]
    assert total.item() == 20.0
    with pytest.raises(RuntimeError, match="capturing"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        x.sum().item()


def test_derivatives_stay_on_the_device() -> None:
    x = on_device(1.0, 2.0).requires_grad_()
    (x**3).sum().backward()
    assert x.grad is not None
    assert x.grad.is_cuda
    assert x.grad.tolist() == [3.0, 12.0]
    assert torch.func.jacrev(lambda v: v**2)(x.detach()).diagonal().tolist() == [2.0, 4.0]
    assert torch.autograd.gradcheck(lambda v: (v.mH @ v).real.sum(), torch.randn(
        3, 3, dtype=torch.complex128, device="cuda", requires_grad=True
    ))  # fmt: skip
    assert x.to("cuda") is x
    assert x.view(2, 1).to(dtype=torch.float64).data_ptr() == x.data_ptr()
