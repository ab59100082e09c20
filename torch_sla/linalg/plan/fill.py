"""What a symmetric factorisation will hold and take, before there is an analysis.

The closed form is that of nested dissection on a graph of growth dimension d: about ``2 n log2 n``
entries and ``18 n^1.5`` flops for d = 2, ``5 n^(4/3)`` entries and ``4 n²`` flops for d = 3
(George, SIAM J. Numer. Anal. 10, 1973; constants fitted to 5- and 7-point grids of up to a million
unknowns).
"""

from __future__ import annotations

from math import log2

from torch_sla.linalg.backends.base import Counts

__all__ = ["closed_form"]


def closed_form(n: float, nnz: float, d: float) -> Counts:
    """Estimate the counts of a symmetric factorisation before there is an analysis."""
    n = max(n, 1.0)
    width = max(nnz / n, 1.0)
    if d <= 1.5:
        entries, flops = nnz, n * width**2
    else:
        # Wider stencils have thicker separators.
        thick = max(1.0, width / (5.0 if d < 2.5 else 7.0)) ** 0.5
        surface = (2.1 * n * log2(n + 1) + nnz, 18 * n**1.5 + nnz)
        solid = (5.2 * n ** (4 / 3) + nnz, 4 * n**2 + nnz)
        t = min(max(d - 2.0, 0.0), 1.0)
        entries, flops = (a ** (1 - t) * b**t for a, b in zip(surface, solid, strict=True))
        entries, flops = entries * thick, flops * thick**2
    entries, flops = min(entries, n * (n + 1) / 2), min(flops, n**3 / 3 + n)
    # Supernodes keep some zeros; a front carries about eight columns.
    return Counts(
        int(entries), flops, int(1.6 * entries), int(0.2 * entries), int(n / 8 + 1), 1.1 * flops
    )
