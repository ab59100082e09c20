"""One page about one run: what was declared, decided, found, and how to do it again. It holds all it shows."""

from __future__ import annotations

from torch_sla.problems.report.page.page import write_report
from torch_sla.problems.report.page.section import Section

__all__ = ["Section", "write_report"]
