"""From declarations to sparse operators: structure once, values at every solve."""

from __future__ import annotations
