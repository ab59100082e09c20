"""Supernodal analyses of a pattern, shared by everything that needs an ordering or a count."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from torch_sla.linalg.factor_cache import count, symbolics
from torch_sla.linalg.kernels import symbolic as kernels
from torch_sla.linalg.kernels.threads import FreshLock
from torch_sla.linalg.sparse.pattern import Pattern

if TYPE_CHECKING:
    from collections.abc import Hashable

    from torch import Tensor

    from torch_sla.linalg.sparse.structure import Structure

__all__ = ["Analyses", "analyses_of", "with_mirror"]


# Analyses that depend on values are few; the last ones are kept.
_KEPT = 4


class Analyses:
    """Analyses of one pattern: the plain one, and those that values ask for.

    Rows with a negligible diagonal are pivoted in pairs, and fronts that ran out of pivots join their
    parents. Both are read off the values, so each such analysis is kept under what was asked for.

    Parameters
    ----------
    pattern
        Symmetric scalar pattern.
    ordering
        ``"auto"``, another name, or a permutation; see `kernels.symbolic.analyze`.
    """

    def __init__(self, pattern: Pattern, ordering: Tensor | str) -> None:
        self.pattern, self.ordering = pattern, ordering
        self.plain: kernels.Analysis | None = None
        self._lanes: kernels.Analysis | None = None
        self._special: dict[Hashable, kernels.Analysis] = {}
        self._lock = FreshLock()
        # Of a typical analysis, until there is one.
        self.nbytes = 40 * pattern.nnz_csr

    def get(self, mates: Tensor | None = None, joined: Tensor | None = None) -> kernels.Analysis:
        """Return the analysis for these pairs and joined fronts, see `kernels.symbolic.analyze`."""
        with self._lock.held:
            if mates is None and joined is None:
                self.plain = self.plain or self._analyze(None, None)
                return self.plain
            key = (_content(mates), _content(joined))
            if key not in self._special:
                self._special[key] = self._analyze(mates, joined)
                if len(self._special) > _KEPT:
                    del self._special[next(iter(self._special))]
            return self._special[key]

    def lanes(self) -> kernels.Analysis:
        """Return the plain analysis with fronts that suit many matrices in the lanes of registers."""
        plain = self.get()
        with self._lock.held:
            if self._lanes is None:
                p = self.pattern
                self._lanes = kernels.analyze(p.crow, p.ccol, ordering=plain.order, lanes=True)
                self.nbytes += self._lanes.nbytes
            return self._lanes

    def _analyze(self, mates: Tensor | None, joined: Tensor | None) -> kernels.Analysis:
        count("analyze")
        p, ordering = self.pattern, self.ordering
        if joined is not None and mates is None and self.plain is not None:
            # Only fronts change: the order is there.
            ordering = self.plain.order
        made = kernels.analyze(p.crow, p.ccol, ordering=ordering, mates=mates, joined=joined)  # type: ignore[arg-type]
        self.nbytes = max(self.nbytes, made.nbytes)
        return made


def _content(rows: Tensor | None) -> bytes:
    return b"" if rows is None else rows.numpy().tobytes()


def analyses_of(pattern: Pattern, structure: Structure | None = None) -> Analyses:
    """Return the analyses of a symmetric scalar pattern: methods and plans find the same ones."""
    ordering = None if structure is None else structure.ordering
    mark = None if structure is None else structure.ordering_mark
    key = ("analyses", pattern.key, mark)
    return symbolics.get(key, lambda: Analyses(pattern, "auto" if ordering is None else ordering))


def with_mirror(pattern: Pattern) -> Pattern:
    """Return the pattern of ``A + Aᵀ``: `pattern` itself where it is symmetric."""
    if pattern.symmetric:
        return pattern
    row, col = pattern.csr_row.long(), pattern.ccol.long()
    both = Pattern.from_coo(torch.cat([row, col]), torch.cat([col, row]), pattern.shape)
    return both.slots
