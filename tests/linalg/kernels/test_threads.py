"""The thread policy: obeyed, small work alone, one thread after a fork."""

from __future__ import annotations

import os

import pytest
import torch

from torch_sla.errors import ArgumentError
from torch_sla.linalg.kernels import patterns, sparse as kernels
from torch_sla.linalg.kernels.threads import SMALL_WORK, one_thread_each, resolve_threads, spread


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
