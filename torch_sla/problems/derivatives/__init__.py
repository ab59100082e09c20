"""Derivatives of outputs by name, their checks, and problems as modules."""

from __future__ import annotations
