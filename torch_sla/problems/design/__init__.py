"""Design and inverse problems: optimizers, and the loop around a forward problem."""

from __future__ import annotations
