"""That the watch over Triton's interpreter finds what it is there for; it then watches every test that runs kernels."""

from __future__ import annotations

import os

import pytest
import torch

from tests.helpers import races

triton = pytest.importorskip("triton")
if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("TRITON_INTERPRET=1 is not set", allow_module_level=True)
tl = triton.language


@triton.jit
def _shift(x, n, IN_PLACE: tl.constexpr, WAIT: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    a = tl.load(x + i, mask=i < n)
    if WAIT:
        tl.debug_barrier()
    tl.store(x + (i if IN_PLACE else i + 1), a + 1, mask=i < n)


@triton.jit
def _beyond(x, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(x + i, tl.load(x + i, mask=i < n), mask=i <= n)


@triton.jit
def _same(x, BLOCK: tl.constexpr):
    tl.store(x + tl.arange(0, BLOCK) // 2, tl.arange(0, BLOCK).to(tl.float32))


@triton.jit
def _number(x, y, WAIT: tl.constexpr):
    tl.store(x, 2.0)
    if WAIT:
        tl.debug_barrier()
    tl.store(y, tl.load(x))


@triton.jit
def _count(x, total, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.atomic_add(total, tl.sum(tl.load(x + i)))


@triton.jit
def _peek(x, total):
    tl.atomic_add(total, 1.0)
    tl.store(x + tl.program_id(0), tl.load(total))


def seen() -> list[str]:
    return sorted(races.found())


def test_threads_of_a_program() -> None:
    x, y = torch.zeros(16), torch.zeros(1)
    _shift[(1,)](x, 15, False, False, 16)
    assert seen() == ["_shift stores what another thread loads, of x"]
    _shift[(1,)](x, 15, False, True, 16)
    _shift[(1,)](x, 16, True, False, 16)
    assert not seen()
    _same[(1,)](x, 16)
    assert seen() == ["_same stores one place from two threads, of x"]
    _number[(1,)](x, y, False)
    assert seen() == ["_number loads what another thread stores, of x"]
    _number[(1,)](x, y, True)
    assert not seen()


def test_programs_of_a_launch() -> None:
    x, total = torch.zeros(17), torch.zeros(1)
    _shift[(4,)](x, 16, True, False, 4)
    _count[(4,)](x, total, 4)
    assert not seen()
    _shift[(4,)](x, 16, False, True, 4)
    assert seen() == ["_shift loads what another program stores, of x"]
    _number[(2,)](x, total, True)
    assert seen() == [
        "_number loads what another program stores, of x",
        "_number stores what another program stores, of x",
        "_number stores what another program stores, of y",
    ]
    _peek[(3,)](x, total)
    assert seen() == ["_peek loads what others add to, of total"]


def test_bounds_of_the_tensors() -> None:
    whole = torch.zeros(32)
    _beyond[(1,)](whole[:8], 7, 16)
    assert not seen()
    _beyond[(1,)](whole[:8], 8, 16)
    assert seen() == ["_beyond a store beyond its tensors"]
