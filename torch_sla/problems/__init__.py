"""The declarative layer: problems as data, lowered to sparse operators."""

from __future__ import annotations
