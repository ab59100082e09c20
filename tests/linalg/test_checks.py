"""Conditions are told at once on the host, and together on a device, in the order in which they were asked."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event

import pytest
import torch
from torch import Tensor

from tests.helpers.devices import NEEDS_CUDA, SIMULATION
from tests.helpers.simulated import counted
from torch_sla.linalg.checks import (
    _Asked,
    ask,
    gathers,
    read,
    require,
    settle,
    together,
    told,
    was_asked,
)


def holds(what: bool, device: str = "cuda") -> Tensor:
    return torch.tensor(what, device=device)


def wrong(name: str) -> ValueError:
    return ValueError(name)


def test_the_host_tells_at_once() -> None:
    with together():
        require(holds(True, "cpu"), lambda: wrong("a"))
        assert told(holds(False, "cpu")) is False
        with pytest.raises(ValueError, match="b"):
            require(holds(False, "cpu"), lambda: wrong("b"))
        with pytest.raises(ValueError, match="c"):
            ask(torch.ones(2), lambda found: partial(wrong, "c") if found == [1.0, 1.0] else None)
        assert not gathers(torch.ones(1))
    assert read(torch.tensor([[1.0], [2.0]])) == [1.0, 2.0]


def test_nothing_is_gathered_outside() -> None:
    settle()
    with pytest.raises(ValueError, match="a"):
        require(holds(False, "cpu"), lambda: wrong("a"))


class TestOnADevice:
    pytestmark = NEEDS_CUDA

    def test_outside_it_tells_at_once(self) -> None:
        assert told(holds(False)) is False
        with pytest.raises(ValueError, match="a"):
            require(holds(False), lambda: wrong("a"))

    def test_the_first_is_raised_at_the_end(self) -> None:
        reached = False
        with pytest.raises(ValueError, match="b"), together():  # noqa: PT012
            require(holds(True), lambda: wrong("a"))
            require(holds(False), lambda: wrong("b"))
            require(holds(False), lambda: wrong("c"))
            reached = True
        assert reached

    def test_what_was_wrong_before_goes_before_another_error(self) -> None:
        with pytest.raises(ValueError, match="a") as caught, together():  # noqa: PT012
            require(holds(False), lambda: wrong("a"))
            raise TypeError("b")
        assert caught.value.__suppress_context__
        with pytest.raises(TypeError, match="b"), together():  # noqa: PT012
            require(holds(True), lambda: wrong("a"))
            raise TypeError("b")

    def test_an_answer_settles_what_was_asked(self) -> None:
        with together():
            yes, no = told(holds(True)), told(holds(False))
            assert (bool(yes), bool(no)) == (True, False)
            unread = told(holds(True))
        assert unread
        with pytest.raises(ValueError, match="a"), together():  # noqa: PT012
            require(holds(False), lambda: wrong("a"))
            bool(told(holds(True)))
            pytest.fail("an answer came before what was wrong")

    def test_numbers_are_read_with_what_is_read_next(self) -> None:
        numbers: list[list[float]] = []
        with counted() as seen, together():
            assert gathers(holds(True))
            ask(torch.arange(3.0, device="cuda"), numbers.append)
            yes = told(holds(True))
            assert read(torch.tensor(5.0, device="cuda")) == [5.0]
            assert numbers == [[0.0, 1.0, 2.0]]
            assert yes
        assert sum(n for place, n in seen.items() if "checks.py" in place) == 1
        with pytest.raises(ValueError, match="b"), together():  # noqa: PT012
            ask(holds(True), lambda found: partial(wrong, "b") if found == [1.0] else None)
            require(holds(False), lambda: wrong("c"))

    def test_only_the_first_error_is_made(self) -> None:
        made: list[str] = []

        def fault(name: str) -> ValueError:
            made.append(name)
            return wrong(name)

        with pytest.raises(ValueError, match="a") as caught, together():  # noqa: PT012
            require(holds(False), lambda: fault("a"))
            require(holds(False), lambda: fault("b"))
        assert made == ["a"]
        assert was_asked(caught.value)
        assert not was_asked(ValueError("a"))

    def test_inner_blocks_settle_and_reading_does(self) -> None:
        with pytest.raises(ValueError, match="a"), together():  # noqa: PT012
            require(holds(False), lambda: wrong("a"))
            with together():
                pass
            pytest.fail("an inner block ended without settling")
        with pytest.raises(ValueError, match="a"), together():  # noqa: PT012
            require(holds(False), lambda: wrong("a"))
            read(torch.ones(1, device="cuda"))
            pytest.fail("numbers were read before what was wrong was told")
        with together():
            known = told(holds(True))
            assert read(torch.tensor([0.25, -2.0], device="cuda")) == [0.25, -2.0]
            assert known

    def test_a_backward_pass_tells_at_its_end(self) -> None:
        x = torch.ones(2, device="cuda", requires_grad=True)

        def differentiated(*verdicts: bool) -> Tensor:
            y, seen = x, []
            for i, verdict in enumerate(verdicts):
                y = 2 * y

                def look(_: Tensor, i: int = i, verdict: bool = verdict) -> None:
                    seen.append(i)
                    require(holds(verdict), lambda: wrong(f"number {i}"))

                y.register_hook(look)
            try:
                return torch.autograd.grad(y.sum(), x)[0]
            finally:
                assert len(seen) == len(verdicts)

        with pytest.raises(ValueError, match="number 2"):
            differentiated(False, True, False, True)
        assert differentiated(True, True).tolist() == [4.0, 4.0]

    def test_a_pass_that_fails_leaves_nothing_behind(self) -> None:
        x = torch.ones(2, device="cuda", requires_grad=True)

        def fails(_: Tensor) -> None:
            require(holds(False), lambda: wrong("a"))
            raise TypeError("b")

        y = 2 * x
        y.register_hook(fails)
        with pytest.raises((TypeError, ValueError)):
            torch.autograd.grad(y.sum(), x)
        assert torch.autograd.grad((2 * x).sum(), x)[0].tolist() == [2.0, 2.0]

    @SIMULATION[1]
    def test_all_is_read_at_once(self) -> None:
        yes, numbers = holds(True), torch.ones(3, device="cuda")
        with counted() as seen, together():
            for _ in range(20):
                require(yes, lambda: wrong("a"))
            answer = told(yes)
            assert read(numbers) == [1.0] * 3
            assert answer
        assert seen.total() == 1, seen


def test_an_answer_that_another_thread_reads_is_waited_for() -> None:
    """As in a backward pass over several devices, which has a thread for each."""
    asked, reads, asks = _Asked(), Event(), Event()

    def judge(_: list[float]) -> None:
        reads.set()
        asks.wait(0.2)  # nobody sets it: the other thread waits meanwhile

    asked.ask(holds(True, "cpu"), judge)
    answer = asked.add(holds(True, "cpu"), None)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(asked.settle)
        reads.wait()
        second = pool.submit(bool, answer)
        assert second.result()
        first.result()
