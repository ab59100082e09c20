"""Declarations: frozen data, one physical noun per file."""

from __future__ import annotations
