"""Matrices and clocks that the sections share."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch

from torch_sla.linalg import SparseTensor
from torch_sla.linalg.sparse.pattern import Pattern

if TYPE_CHECKING:
    from collections.abc import Callable

CUDA = torch.device("cuda", 0)


def poisson_csr(
    n: int, device: torch.device | str = CUDA, dtype: torch.dtype = torch.float64
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """CSR arrays of the 5-point Laplacian on n x n points, int32 indices."""
    i = torch.arange(n * n, dtype=torch.int32, device=device)
    x, y = i % n, i // n
    offsets = torch.tensor([-n, -1, 0, 1, n], dtype=torch.int32, device=device)
    here = torch.ones_like(x, dtype=torch.bool)
    inside = torch.stack([y > 0, x > 0, here, x < n - 1, y < n - 1], 1)
    ccol = (i[:, None] + offsets)[inside]
    crow = torch.zeros(n * n + 1, dtype=torch.int32, device=device)
    crow[1:] = inside.sum(1).cumsum(0)
    stencil = torch.tensor([-1.0, -1, 4, -1, -1], dtype=dtype, device=device)
    return crow, ccol, stencil.expand(n * n, 5)[inside].contiguous()


def matrix(crow: torch.Tensor, ccol: torch.Tensor, values: torch.Tensor) -> SparseTensor:
    """Make a matrix whose pattern has not been seen."""
    n = crow.numel() - 1
    return SparseTensor.from_pattern(Pattern.from_csr(crow, ccol, (n, n)), values)


def clock(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds until the device is done, and what came out."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    out = function()
    torch.cuda.synchronize()
    return time.perf_counter() - start, out


def said(row: dict[str, Any]) -> dict[str, Any]:
    """Print a row as it comes, in case a later one is cut off."""
    print("  ", {k: f"{v:.3g}" if isinstance(v, float) else v for k, v in row.items()}, flush=True)
    return row


def table(title: str, rows: list[dict[str, Any]]) -> str:
    """Rows of equal keys as markdown."""
    if not rows:
        return f"## {title}\n\nnothing ran"
    heads = list(dict.fromkeys(key for row in rows for key in row))
    lines = [f"## {title}", "", "| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in rows:
        cells = (row.get(h, "") for h in heads)
        lines.append(
            "| " + " | ".join(f"{c:.3g}" if isinstance(c, float) else str(c) for c in cells) + " |"
        )
    return "\n".join(lines)
