"""Cached properties under threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from torch_sla.lazy import cached_property


class Thing:
    def __init__(self, parties: int) -> None:
        self.here, self.go = threading.Barrier(parties), threading.Event()

    @cached_property
    def found(self) -> list[int]:
        self.here.wait(10)
        assert self.go.wait(10)
        return []


def test_objects_do_not_wait_for_each_other() -> None:
    slow, quick = Thing(2), Thing(1)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(lambda: slow.found)
        slow.here.wait(10)
        quick.go.set()
        assert quick.found is quick.found
        slow.go.set()
        assert asked.result() is slow.found


def test_the_first_result_stays() -> None:
    thing = Thing(3)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(lambda: thing.found) for _ in range(2)]
        thing.here.wait(10)
        thing.go.set()
        assert asked[0].result() is asked[1].result() is thing.found
    assert isinstance(Thing.found, cached_property)
