"""The thread policy: obeyed, small work alone, one thread after a fork."""

from __future__ import annotations

import inspect
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
import torch

from torch_sla.errors import ArgumentError
from torch_sla.linalg.factor_cache import count
from torch_sla.linalg.kernels import patterns, sparse as kernels
from torch_sla.linalg.kernels.threads import SMALL_WORK, one_thread_each, resolve_threads, spread
from torch_sla.linalg.plan.stages import _Memory
from torch_sla.linalg.precond.multigrid.device.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable


def test_an_explicit_number_is_obeyed_or_refused() -> None:
    assert resolve_threads(5, work=1) == 5
    with pytest.raises(ArgumentError, match="`threads` is 0"):
        resolve_threads(0, work=1)


def test_short_work_stays_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert resolve_threads(None, work=2 * SMALL_WORK - 1) == 1
    assert resolve_threads(None, work=3 * SMALL_WORK) == 3
    assert resolve_threads(None, work=1000 * SMALL_WORK) == 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_computes_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    target = torch.randint(1000, (400_000,))
    expected = kernels.segment_order(target, 1000)  # threads have run in the parent
    asked: list[int] = []
    monkeypatch.setattr(
        patterns,
        "resolve_threads",
        lambda threads, work: asked.append(resolve_threads(threads, work)) or asked[-1],
    )
    child = os.fork()
    if child == 0:
        same = all(
            torch.equal(a, b)
            for a, b in zip(kernels.segment_order(target, 1000), expected, strict=True)
        )
        os._exit(0 if same and asked == [1] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert resolve_threads(None, work=10 * SMALL_WORK) == 2


def test_teams_that_overlap_leave_the_number_of_threads_as_it_was() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        first, second = one_thread_each(), one_thread_each()
        first.__enter__()
        second.__enter__()  # meets the one thread that the first asked for
        assert torch.get_num_threads() == 1
        first.__exit__(None, None, None)
        second.__exit__(None, None, None)
        assert torch.get_num_threads() == 2
        assert spread(lambda x: x + torch.get_num_threads(), range(3), 10**7) == [1, 2, 3]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def stopped(work: Callable[[], object], at: int) -> bool:
    """Call with Ctrl-C where the n-th function begins or returns; whether there was one."""
    left = at

    def trace(frame: Any, event: str, _: object) -> Any:
        nonlocal left
        code = frame.f_code
        if "torch_sla" not in code.co_filename and not code.co_filename.endswith("contextlib.py"):
            return None
        # No signal comes where a generator yields, and what a trace raises there skips its `finally`.
        yields = code.co_flags & inspect.CO_GENERATOR
        if event == "call" or (event == "return" and not yields):
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def turn(turns: Turns) -> None:
    with turns.next():
        pass


def users() -> dict[str, Callable[[], object]]:
    memory, turns = _Memory[int](2), Turns(torch.device("cpu"))
    return {
        "look up": lambda: memory.get("a"),
        "put": lambda: memory.put("a", 1),
        "count": lambda: count("test", 0),
        "turn": lambda: turn(turns),
    }


@pytest.mark.parametrize("kind", users())
def test_an_interrupt_leaves_no_lock_taken(kind: str) -> None:
    """Behind one that came as the lock was taken or given back, the next call waited for ever."""
    at, work = 1, users()[kind]
    while stopped(work, at):
        other = threading.Thread(target=work, daemon=True)
        other.start()
        other.join(10)
        assert not other.is_alive(), at
        at += 1
    assert at > 2


def test_an_interrupt_leaves_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    before, calls = torch.get_num_threads(), [1]
    real = torch.set_num_threads

    def interrupted(n: int) -> None:
        real(n)
        if calls and calls.pop():
            raise KeyboardInterrupt

    real(2)
    monkeypatch.setattr(torch, "set_num_threads", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt), one_thread_each():
            pass
        assert torch.get_num_threads() == 2
        real(3)  # which is what the next team returns to
        with one_thread_each():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3
    finally:
        real(before)
