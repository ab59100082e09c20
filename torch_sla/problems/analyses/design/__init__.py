"""The meaning of a design problem: unknowns, the oracle over forward solves, the loop and its records."""

from __future__ import annotations
