"""Measure ours against a peer in the same process and print a markdown table.

A row is a ratio: absolute times move with the machine, ratios much less. Each side runs until it has
had `seconds` of time or `rounds` rounds, ours and the peer's in turn, and the best round counts.
"""

from __future__ import annotations

import datetime as dt
import gc
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import torch

if TYPE_CHECKING:
    from collections.abc import Callable


def best(
    *functions: Callable[[], object], rounds: int = 5, seconds: float = 20.0
) -> tuple[float, ...]:
    """Best wall time of each function, run in turn so that all see the same machine."""
    times = [float("inf")] * len(functions)
    start = time.perf_counter()
    for _ in range(rounds):
        for k, function in enumerate(functions):
            gc.collect()
            t = time.perf_counter()
            function()
            times[k] = min(times[k], time.perf_counter() - t)
        if time.perf_counter() - start > seconds * len(functions):
            break
    return tuple(times)


def machine() -> str:
    """The processor, threads and versions a table was made with."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = models[0].split(":", 1)[1].strip() if models else name
    today = dt.date.today().isoformat()
    return f"{name}, {torch.get_num_threads()} thread(s), torch {torch.__version__}, {today}"


@dataclass
class Table:
    """Rows of (what, ours, peer, ratio, note)."""

    title: str
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def add(self, what: str, ours: float, peer: str, theirs: float, note: str = "") -> None:
        """Add a row; the ratio is the peer's time over ours, so more is better."""
        self.rows.append(
            (what, f"{ours:.3g} s", f"{peer} {theirs:.3g} s", f"{theirs / ours:.2f}x", note)
        )

    def __str__(self) -> str:
        head = ("work", "torch_sla", "peer", "peer / ours", "note")
        lines = [f"### {self.title}", "", machine(), ""]
        lines += ["| " + " | ".join(row) + " |" for row in (head, ("---",) * 5, *self.rows)]
        return "\n".join(lines)


def grid(cells: tuple[int, ...]) -> sp.csr_array:
    """Laplacian of a lattice, values given around it."""
    A = sp.csr_array((1, 1))
    for n in cells:
        ones = np.ones(n - 1)
        T = sp.diags_array([-ones, 2 * np.ones(n), -ones], offsets=[-1, 0, 1])
        A = sp.kron(A, sp.eye_array(n)) + sp.kron(sp.eye_array(A.shape[0]), T)
    A = sp.csr_array(A)
    A.sort_indices()
    return A
