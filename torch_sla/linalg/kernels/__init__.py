"""The door of `torch_sla.linalg` to the compiled extension: thin typed faces with fallbacks."""

from __future__ import annotations

from torch_sla._core import reason

__all__ = ["unavailable"]


def unavailable() -> str | None:
    """Why what has no fallback cannot be used, or None when it can."""
    return reason
