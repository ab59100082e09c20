"""Reading and writing declarations as files."""

from __future__ import annotations
