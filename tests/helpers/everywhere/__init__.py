"""What the library does, as functions of a device: the table of the device contract.

Each entry takes a device and returns named tensors, gradients among them. Whatever device it ran on, the numbers
must be those of the CPU.
"""

from __future__ import annotations

from tests.helpers.everywhere import matrices, problems, solves
from tests.helpers.everywhere.table import ENTRIES, NEEDS_FACTORS

__all__ = ["ENTRIES", "NEEDS_FACTORS", "matrices", "problems", "solves"]
