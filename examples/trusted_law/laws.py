"""A conductivity written in Python, which fire_clay.yaml names; reading that file runs this one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def conductivity(u: Tensor) -> Tensor:
    """Return the conductivity in W/(m K) of fire clay at ``u [...]`` degrees Celsius."""
    return 1.0 + 0.002 * u
