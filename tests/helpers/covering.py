"""Pairwise covering arrays: few combinations in which every pair of choices occurs."""

from __future__ import annotations

from itertools import combinations, product
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["pairwise"]


def pairwise(
    *factors: Sequence[Any], allowed: Callable[[tuple[Any, ...]], bool] = lambda _: True
) -> list[tuple[Any, ...]]:
    """Choose rows of the product of `factors` greedily until every possible pair is covered.

    Parameters
    ----------
    factors
        Levels of each factor.
    allowed
        Which rows exist at all.

    Examples
    --------
    >>> rows = pairwise("ab", "cd", "ef")
    >>> len(rows)
    4
    """
    rows = [row for row in product(*factors) if allowed(row)]

    def pairs(row: tuple[Any, ...]) -> set[Any]:
        return {(i, row[i], j, row[j]) for i, j in combinations(range(len(row)), 2)}

    left = set().union(*(pairs(row) for row in rows)) if rows else set()
    chosen = []
    while left:
        best = max(rows, key=lambda row: len(pairs(row) & left))
        chosen.append(best)
        left -= pairs(best)
    return chosen
