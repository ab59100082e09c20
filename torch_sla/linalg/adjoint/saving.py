"""What a Function keeps for its derivatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.autograd import forward_ad

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["keep"]


def keep(ctx: Any, *tensors: Tensor) -> None:
    """Save tensors for ``backward``, and for ``jvp`` where forward mode is on.

    What is saved for ``jvp`` is held by the node itself, out of reach of checkpointing, so that it would make the
    memory of a long march grow with its steps.
    """
    ctx.save_for_backward(*tensors)
    if forward_ad._current_level >= 0:
        ctx.save_for_forward(*tensors)
