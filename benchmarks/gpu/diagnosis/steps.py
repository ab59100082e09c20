"""Steps that report, none of which stops the others."""

from __future__ import annotations

import contextlib
import time
import traceback
from typing import TYPE_CHECKING, Any

import torch
from grids import CUDA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

__all__ = ["STEPS", "attempt", "one", "report", "residual", "step"]

STEPS: dict[str, Callable[[bool], None]] = {}


def step(function: Callable[[bool], None]) -> Callable[[bool], None]:
    STEPS[function.__name__] = function
    return function


def report(*parts: Any) -> None:
    print("   ", *parts, flush=True)


@contextlib.contextmanager
def attempt(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the point is to go on
        last = traceback.extract_tb(error.__traceback__)[-3:]
        where = " < ".join(f"{f.filename.rsplit('/', 1)[-1]}:{f.lineno}" for f in reversed(last))
        said = str(error)[:600].partition("\n")[0]
        report(f"FAILED {what}: {type(error).__name__}: {said} [{where}]")


def residual(data: Any, x: Tensor, b: Tensor) -> float:
    crow, ccol, values = (t.to(CUDA) for t in data)
    A = torch.sparse_csr_tensor(
        crow, ccol, values, (b.shape[0], b.shape[0]), check_invariants=False
    )
    return float((A @ x.contiguous() - b).norm() / b.norm())


def one(name: str, quick: bool) -> None:
    print(f"== {name}", flush=True)
    start = time.perf_counter()
    with attempt(name):
        STEPS[name](quick)
    report(f"({time.perf_counter() - start:.1f} s)")
