"""What goals may call: elementwise functions, reductions, aggregates, regularisers, the misfit."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from torch_sla.problems.design.aggregates import AGGREGATES
from torch_sla.problems.design.regularisers import REGULARISERS
from torch_sla.problems.expression.functions import FUNCTIONS

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CALLABLE"]


class Entry(NamedTuple):
    """Something that may be called: what it is, least and greatest number of arguments, what it does."""

    kind: str
    arity: tuple[int, int]
    apply: Callable[..., Any]


def _numbers(function: Callable[..., Any], skip: int) -> tuple[int, int]:
    """Count the numbers that a function takes after its first arguments, as arity of a call."""
    rest = list(inspect.signature(function).parameters.values())[skip:]
    least = sum(p.default is inspect.Parameter.empty for p in rest)
    return 1 + least, 1 + len(rest)


def _reduction(
    all_of: Callable[[Tensor], Tensor], each: Callable[..., Tensor]
) -> Callable[..., Tensor]:
    def apply(first: Tensor, *others: Tensor) -> Tensor:
        return each(first, *others) if others else all_of(first)

    return apply


CALLABLE: dict[str, Entry] = {
    **{
        name: Entry("elementwise", f.arity, f.apply)
        for name, f in FUNCTIONS.items()
        if f.results is None
    },
    "max": Entry("elementwise", (1, 8), _reduction(torch.amax, FUNCTIONS["max"].apply)),
    "min": Entry("elementwise", (1, 8), _reduction(torch.amin, FUNCTIONS["min"].apply)),
    "sum": Entry("elementwise", (1, 1), torch.sum),
    "mean": Entry("elementwise", (1, 1), torch.mean),
    **{n: Entry("aggregate", _numbers(f, 1), f) for n, f in AGGREGATES.items()},
    **{n: Entry("regulariser", _numbers(f, 2), f) for n, f in REGULARISERS.items()},
    "misfit": Entry("misfit", (1, 2), torch.sum),
}
