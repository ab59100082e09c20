"""What tests share: the zoo of matrices, covering arrays."""

from __future__ import annotations
