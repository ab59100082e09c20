"""Signals reach compiled work while it goes on: it ends from within, and what comes next is right."""

from __future__ import annotations

import operator
import signal
import threading
from contextlib import contextmanager
from itertools import starmap
from typing import TYPE_CHECKING

import pytest
import torch

from tests.helpers.grids import poisson, rhs, split
from torch_sla import clear_cache
from torch_sla._core import extension
from torch_sla.linalg import SparseTensor
from torch_sla.linalg.kernels.symbolic import analyze

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(
    extension is None or not hasattr(signal, "setitimer"),
    reason="needs the compiled extension, and a timer that sends signals",
)


class StopError(Exception):
    """What the handler raises, as Python's own raises KeyboardInterrupt."""


@contextmanager
def alarms(act: Callable[[], None]) -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, lambda *_: act())
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def stop() -> None:
    raise StopError


def soon(*call: object) -> list[object]:
    """Set the timer and call something, without a step of the interpreter between or behind; return what came of both.

    Signals that no compiled code looks for wait for such a step, so nothing can be lost of what was finished.
    """
    finished: list[object] = []
    timer = (signal.setitimer, signal.ITIMER_REAL, 0.02)
    with pytest.raises(StopError):
        list(map(finished.append, starmap(operator.call, [timer, call])))
    return finished


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", ["cholesky", "symmetric"])
def test_a_factorisation_ends_from_within(kind: str, threads: int) -> None:
    pattern, values = split(poisson(36, 36, 36))
    symbolic = analyze(pattern.crow, pattern.ccol).payload
    given = (symbolic, values.numpy(), kind, None, threads)
    with alarms(stop):
        assert len(soon(extension.cholesky.factorize, *given)) == 1


@pytest.mark.parametrize("method", ["dissection", "amd"])
def test_an_ordering_ends_from_within(method: str) -> None:
    pattern, _ = split(poisson(600, 600))
    given = (pattern.crow.numpy(), pattern.ccol.numpy(), method, None, 1)
    with alarms(stop):
        assert len(soon(extension.cholesky.order, *given)) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"backend": "native", "method": "cholesky"},
        {"backend": "pytorch", "method": "cg", "preconditioner": "multigrid"},
        {"backend": "pytorch", "method": "gmres", "preconditioner": "multigrid"},
        {"backend": "eigen", "method": "cg", "preconditioner": "jacobi"},
    ],
    ids=lambda options: f"{options['backend']}-{options['method']}",
)
def test_the_next_solve_is_right(options: dict[str, str]) -> None:
    pattern, values = split(poisson(30, 30, 16))
    A, b = SparseTensor.from_pattern(pattern, values), rhs(14_400)[:, 0]
    x = A.solve(b, **options)
    for delay in (0.005, 0.03, 0.1):
        clear_cache()
        with alarms(stop):
            signal.setitimer(signal.ITIMER_REAL, delay)
            try:
                A.solve(b, **options)
                signal.setitimer(signal.ITIMER_REAL, 0.0)
            except StopError:
                pass
        # With whatever the solve that was ended has left behind, and from nothing.
        assert torch.equal(A.solve(b, **options), x)
        clear_cache()
        assert torch.equal(A.solve(b, **options), x)


def test_handlers_that_raise_nothing_and_other_threads_change_nothing() -> None:
    pattern, values = split(poisson(20, 20, 20))
    A, b = SparseTensor.from_pattern(pattern, values), rhs(8_000)[:, 0]
    options = {"backend": "native", "method": "cholesky"}
    x = A.solve(b, **options)
    seen: list[int] = []
    found: list[torch.Tensor] = []

    def work() -> None:
        for _ in range(3):
            clear_cache()
            found.append(A.solve(b, **options))

    other = threading.Thread(target=work)
    with alarms(lambda: seen.append(1)):
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        other.start()
        work()
        other.join()
    assert seen
    assert len(found) == 6
    assert all(torch.equal(one, x) for one in found)
