"""Launching without Triton's dispatch: what reaches the launcher, and when Triton is asked instead."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("triton", "3.3", reason="needs triton 3.3, whose launchers these are")

from torch_sla.linalg.kernels.triton import launch as module

STREAM = 77


class Kernel:
    """A jitted function with two compile-time constants, which counts how often Triton is asked."""

    constexprs = (2, 3)

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.ran: list[Any] = []
        self.function, self.packed_metadata = "function", "metadata"

    def __getitem__(self, grid: Any) -> Any:
        def dispatch(*args: Any, num_warps: int, enable_fp_fusion: bool) -> Kernel:
            assert enable_fp_fusion
            self.asked.append((grid, args, num_warps))
            return self

        return dispatch

    def run(self, *args: Any) -> None:
        self.ran.append(args)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    monkeypatch.setattr(module, "JITFunction", Kernel)
    monkeypatch.setattr(module, "_stream", lambda _: STREAM)
    monkeypatch.setattr(module, "_device", lambda: -1)  # what CPU tensors say
    monkeypatch.setattr(module, "_known", {})
    monkeypatch.setattr(module, "_runtime", {})
    return Kernel()


def test_the_second_launch_goes_to_the_launcher(kernel: Kernel) -> None:
    x, y = torch.ones(8), torch.ones(16)
    for t, n in ((x, 5), (y, 6)):
        module.launch(kernel, (3, 2), t, n, True, (1, 2), num_warps=8)
    assert len(kernel.asked) == 1
    assert kernel.asked[0][2] == 8
    (ran,) = kernel.ran
    assert ran[:6] == (3, 2, 1, STREAM, "function", "metadata")
    assert ran[6:] == (None, None, None, y.data_ptr(), 6, True, (1, 2))


def test_triton_is_asked_again_for_what_makes_another_binary(kernel: Kernel) -> None:
    x = torch.ones(8)
    module.launch(kernel, (1,), x, 5, True, 1)
    others: list[tuple[Any, ...]] = [
        (x.double(), 5, True, 1),
        (x, 5, False, 1),
        (x, 5, True, 2),
        (x, 2**31, True, 1),  # wider than the binary's integers
        (x[1:], 5, True, 1),  # an address that is no multiple of 16
    ]
    for k, args in enumerate(others):
        module.launch(kernel, (1,), *args)
        assert len(kernel.asked) == 2 + k
    module.launch(kernel, (1,), x, 5, True, 1, num_warps=1)
    assert len(kernel.asked) == 2 + len(others)
    assert not kernel.ran
    module.launch(kernel, (1,), x, 5, True, 1)
    assert len(kernel.ran) == 1


def test_blocks() -> None:
    assert [module.blocks(n, 4) for n in (0, 1, 4, 5)] == [0, 1, 1, 2]


def test_the_largest_integer_and_every_grid_go_past_triton(kernel: Kernel) -> None:
    x = torch.ones(8)
    module.launch(kernel, (1,), x, 2**31 - 1, True, 1)
    for grid in ((4,), (4, 3), (4, 3, 2)):
        module.launch(kernel, grid, x, 2**31 - 1, True, 1)
    module.launch(kernel, (1,), x, 0.5, True, 1)  # a number is a number
    assert len(kernel.asked) == 1
    assert [ran[:3] for ran in kernel.ran] == [(4, 1, 1), (4, 3, 1), (4, 3, 2), (1, 1, 1)]


def test_what_cannot_go_past_triton_does_not(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.ones(8)
    for name, value in (("_DIRECT", False), ("_stream", None), ("JITFunction", int)):
        with monkeypatch.context() as without:
            without.setattr(module, name, value)
            without.setattr(module, "_runtime", {})
            for _ in range(2):
                module.launch(kernel, (1,), x, 5, True, 1)
    assert len(kernel.asked) == 6
    assert not kernel.ran
    assert not module._known


class There(torch.Tensor):
    """Says that it is on the second device."""

    def get_device(self) -> int:
        return 1


@pytest.mark.parametrize("direct", [True, False])
def test_kernels_run_on_the_device_of_their_first_argument(
    direct: bool, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    current, entered = [3], []

    class Device:
        def __init__(self, index: int) -> None:
            self.index = index

        def __enter__(self) -> None:
            entered.append(self.index)
            current.append(self.index)

        def __exit__(self, *_: object) -> None:
            current.pop()

    monkeypatch.setattr(module, "_DIRECT", direct)
    monkeypatch.setattr(module, "_device", lambda: current[-1])
    monkeypatch.setattr(torch.cuda, "device", Device)
    x = torch.ones(8).as_subclass(There)
    for _ in range(2):
        module.launch(kernel, (1,), x, 5, True, 1)
    assert entered == [1, 1]
    assert current == [3]
    assert (len(kernel.asked), len(kernel.ran)) == ((1, 1) if direct else (2, 0))
    module.launch(kernel, (1,), torch.ones(8), 5, True, 1)  # on the host, for the interpreter
    assert entered == [1, 1]
