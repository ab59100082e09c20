"""Counting, on the CPU, the places where the host would have to wait for a device.

Every tensor that comes from the inputs counts as one on a device, every tensor that was fetched with
``cpu()`` (or made without a device) as one of the host. Reading the former is a wait, reading the
latter is not. Compiled kernels would hide what happens on CUDA, so `on_a_device` turns them off.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from tests.helpers.passes import tensors

if TYPE_CHECKING:
    import pytest
    from torch import Tensor

__all__ = ["Waits", "on_a_device", "place"]

_READS = {
    torch.Tensor.item,
    torch.Tensor.tolist,
    torch.Tensor.cpu,
    torch.Tensor.numpy,
    torch.Tensor.__bool__,
    torch.Tensor.__float__,
    torch.Tensor.__int__,
    torch.Tensor.__index__,
    torch.Tensor.nonzero,
    torch.nonzero,
    torch.equal,
    torch.Tensor.equal,
    torch.masked_select,
    torch.unique,
    torch.unique_consecutive,
}


class Waits(TorchFunctionMode):
    """Counts waits by place: ``places["file.py:12"]``."""

    def __init__(self) -> None:
        super().__init__()
        self.places: Counter[str] = Counter()

    @property
    def total(self) -> int:
        return sum(self.places.values())

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        given = [*tensors(args), *tensors(tuple(kwargs.values()))]
        made_here = not given and kwargs.get("device") is None
        host = made_here or (bool(given) and all(getattr(t, "_host", False) for t in given))
        if not host and self._waits(func, args):
            self.places[place()] += 1
        out = func(*args, **kwargs)
        fetched = func is torch.Tensor.cpu and not host
        out = out.clone() if fetched else out
        if host or fetched:
            for t in tensors(out):
                t._host = True  # type: ignore[attr-defined]
        return out

    @staticmethod
    def _waits(func: Any, args: tuple[Any, ...]) -> bool:
        if func in _READS:
            return True
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            # A mask as an index: how many entries it picks is for the host to find out.
            return func is torch.Tensor.__getitem__ and any(
                t.dtype is torch.bool for t in tensors(args[1])
            )
        return False


def place() -> str:
    """Line of the package that the caller was called by."""
    frame: Any = sys._getframe(2)
    while frame is not None and "/torch_sla/" not in frame.f_code.co_filename:
        frame = frame.f_back
    if frame is None:
        return "elsewhere"
    return f"{frame.f_code.co_filename.rsplit('/torch_sla/', 1)[-1]}:{frame.f_lineno}"


def on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run kernels and loops as on CUDA, in torch."""
    from torch_sla.linalg.kernels import lanes, patterns, sparse, sparse_fallback, structure
    from torch_sla.linalg.methods import cg

    def product(crow: Tensor, ccol: Tensor, values: Tensor, x: Tensor) -> Tensor:
        terms = values.unsqueeze(1) * x.index_select(0, ccol)
        return sparse_fallback._reduce(terms, crow)

    steps = cg.Watch.steps
    for module in (patterns, sparse):
        monkeypatch.setattr(module, "runs_compiled", lambda *_: False)
    monkeypatch.setattr(structure, "_compiled", None)
    monkeypatch.setattr(lanes, "_takes", lambda *_: False)
    monkeypatch.setattr(sparse_fallback, "_scipy_matmul", product)
    monkeypatch.setattr(cg.Watch, "steps", lambda self, _: steps(self, "cuda"))
