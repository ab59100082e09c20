"""Planning a matrix in two stages: closed forms first, exact counts where a direct method is within reach."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import TYPE_CHECKING, Generic, TypeVar

from torch_sla.errors import SolveError
from torch_sla.linalg.backends.base import Counts
from torch_sla.linalg.backends.registry import backend as get_backend
from torch_sla.linalg.kernels.threads import FreshLock
from torch_sla.linalg.plan.machine import machine as machine_in_force
from torch_sla.linalg.plan.plan import SolvePlan, forget_choices, make_plan

if TYPE_CHECKING:
    from torch_sla.linalg.plan.facts import Facts
    from torch_sla.linalg.plan.rules import Candidate
    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure

__all__ = ["forget_plans", "plan_matrix"]

# A direct method that closed forms put within this factor of the best may turn out to be it.
_REACH = 3.0
# Where it does not lead, its analysis may be in vain, and must cost less than this part of the best.
_STAKE = 0.15
# Below this many stored entries a mistake costs less than finding out.
_WORTH = 5_000
# Whose analyses count.
_COUNTING = ("native",)
_KEPT = 1024

T = TypeVar("T")


class _Memory(Generic[T]):
    """The last so many answers, oldest forgotten first; safe to use from several threads and after a fork."""

    def __init__(self, size: int) -> None:
        self._size, self._items = size, dict[Hashable, T]()
        self._lock = FreshLock()

    def get(self, key: Hashable) -> T | None:
        with self._lock.held:
            return self._items.get(key)

    def clear(self) -> None:
        with self._lock.held:
            self._items.clear()

    def put(self, key: Hashable, item: T) -> None:
        with self._lock.held:
            self._items[key] = item
            if len(self._items) > self._size:
                del self._items[next(iter(self._items))]


# Counts are kept as tuples of one or none.
_counts = _Memory[tuple[Counts, ...]](_KEPT)
_plans = _Memory[SolvePlan](_KEPT)


def plan_matrix(facts: Facts, pattern: Pattern, structure: Structure) -> SolvePlan:
    """Plan a solve with a matrix on `pattern`; remembered.

    The analysis of the second stage is kept by the backend, where a factorisation finds it.

    Parameters
    ----------
    facts
        Without counts.
    pattern
        Scalar slots of the matrix.
    structure
        May bring an ordering.
    """
    model = machine_in_force(facts.device)
    key = (pattern.key, structure.ordering_mark, facts, model)
    found = _plans.get(key)
    if found is not None:
        return found
    plan = make_plan(facts, model)
    if _worth_counting(plan, pattern):
        counts = _count(pattern, structure)
        if counts is not None:
            plan = make_plan(replace(facts, counts=counts), model)
    _plans.put(key, plan)
    return plan


def forget_plans() -> None:
    """Plan anew from now on: for when what can be used has changed."""
    _plans.clear()
    _counts.clear()
    forget_choices()


def _worth_counting(plan: SolvePlan, pattern: Pattern) -> bool:
    facts = plan.facts
    if facts.nnz < _WORTH or facts.counts is not None or facts.rows != facts.columns:
        return False
    if facts.device != "cpu":
        return False
    direct = [v for v in plan.verdicts if _counts_for(v.candidate) and v.cost is not None]
    if not direct:
        return False
    nearest = min(v.seconds for v in direct)
    if not _counts_for(plan.choice):
        model = machine_in_force(facts.device)
        stake = model.order(facts.rows, facts.nnz, facts.spread / facts.block**2)
        if not (nearest <= _REACH * plan.seconds and stake <= _STAKE * plan.seconds):
            return False
    return pattern.symmetric  # last: it keeps an array as long as the entries


def _counts_for(candidate: Candidate) -> bool:
    """Whether a candidate factorises on the ordering that is counted."""
    return candidate.backend in _COUNTING or candidate.method == "superlu"


def _count(pattern: Pattern, structure: Structure) -> Counts | None:
    key = (pattern.key, structure.ordering_mark)
    known = _counts.get(key)
    if known is None:
        found = (_counted_by(name, pattern, structure) for name in _COUNTING)
        known = tuple(counts for counts in found if counts is not None)[:1]
        _counts.put(key, known)
    return known[0] if known else None


def _counted_by(name: str, pattern: Pattern, structure: Structure) -> Counts | None:
    try:
        return get_backend(name).counts(pattern, structure)
    except SolveError:
        # Counts overflow: the solver itself says so if it is asked for.
        return None
