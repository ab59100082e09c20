"""Methods that look for a minimum: one per file, options and algorithm, over an `Oracle`."""

from __future__ import annotations
