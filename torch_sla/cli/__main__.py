"""``python -m torch_sla.cli``."""

from __future__ import annotations

from torch_sla.cli import main

main()
