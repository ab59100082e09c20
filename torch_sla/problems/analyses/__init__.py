"""Analyses: modes, time, cases; each written once, for every physics."""

from __future__ import annotations
