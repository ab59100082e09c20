"""What design needs of mathematics: optimizers, transforms, regularisers, aggregates."""

from __future__ import annotations
