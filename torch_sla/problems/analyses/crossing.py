"""When a number that is known at some times crosses a level."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["crossing"]


def crossing(times: Tensor, values: Tensor, level: float, direction: str) -> Tensor:
    """Return the first time at which a level is crossed, on straight lines between the times.

    Parameters
    ----------
    times
        ``[n]``.
    values
        ``[n, *batch]``.
    direction
        ``"up"``, ``"down"`` or ``"both"``.

    Returns
    -------
    Tensor ``[*batch]``
        Infinity where the level is not crossed; differentiable.
    """
    above = values - level
    before, after = above[:-1], above[1:]
    up, down = (before < 0) & (after >= 0), (before > 0) & (after <= 0)
    hit = {"up": up, "down": down, "both": up | down}[direction]
    never = torch.full_like(values[0], float("inf"))
    if not len(hit):
        return never
    found, i = hit.any(0), hit.to(torch.uint8).argmax(0)
    a, b = (x.gather(0, i[None])[0] for x in (before, after))
    share = a / torch.where(found, a - b, torch.ones_like(a))
    start, end = times[i], times[i + 1]
    return torch.where(found, start + (end - start) * share, never)
