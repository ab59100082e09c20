"""What would wait for the garbage collector."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["left_over"]


def left_over(run: Callable[[], object]) -> list[torch.Size]:
    """Return the shapes of tensors that a second run leaves in cycles of references, and lets nobody else have."""
    run()
    gc.collect()
    enabled, flags = gc.isenabled(), gc.get_debug()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        run()
        gc.collect()
        return [x.shape for x in gc.garbage if isinstance(x, torch.Tensor)]
    finally:
        gc.garbage.clear()
        gc.set_debug(flags)
        if enabled:
            gc.enable()
