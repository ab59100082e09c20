"""What costs consist of, and what all candidates have in common: how often they solve, and checks of solves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch_sla.linalg.backends.base import groups_of

if TYPE_CHECKING:
    from torch_sla.linalg.plan.facts import Facts
    from torch_sla.linalg.plan.machine import MachineModel

__all__ = [
    "COPIES",
    "ROUNDING",
    "Estimate",
    "checks_of",
    "held_of",
    "members_of",
    "solves_of",
    "weight_of",
]

# Passes over the stored entries that a solve makes besides the method itself: residual, norms,
# fingerprint, scales.
_PASSES = 6
# Passes over its vectors, of which several side by side are read less well.
_JUDGED = (4, 24)
# Vectors, and copies of the values, that a solve holds besides the solver's data.
_VECTORS, COPIES = 8, 2
# What pages round up to.
ROUNDING = 1e6


@dataclass(frozen=True)
class Estimate:
    """Predicted cost of everything the facts ask for, and how it comes about.

    Parameters
    ----------
    seconds
        On the machine model.
    nbytes
        Memory at its peak, beyond the matrix itself.
    flops
        Multiplications and additions, counted together as one.
    traffic
        Bytes moved.
    detail
        In words.
    iterations
        0 for a direct method.
    """

    seconds: float
    nbytes: float
    flops: float
    traffic: float
    detail: str
    iterations: float = 0.0


def solves_of(facts: Facts) -> tuple[int, int, int]:
    """Return factorisations, solves after them, and right-hand sides of one solve."""
    factorisations = facts.batch * facts.repeats
    return factorisations, factorisations * (2 if facts.needs_grad else 1), facts.rhs


def members_of(facts: Facts) -> int:
    """Matrices that are iterated on at once, see `Backend.joins` and `Backend.iterate_batch`."""
    if facts.device == "cpu":
        return 1
    return -(-facts.batch // len(groups_of(facts.batch, facts.rows)))


def checks_of(facts: Facts, machine: MachineModel) -> tuple[float, float]:
    """Seconds and bytes moved of judging one solve."""
    size = facts.dtype.itemsize
    vectors = _JUDGED[facts.rhs > 1] * facts.rhs * facts.rows
    moved = _PASSES * facts.nnz * (size + 4) + vectors * size
    return machine.solve + machine.stream(moved / _PASSES) * _PASSES, moved


def held_of(facts: Facts, copies: int = COPIES) -> float:
    """Bytes of vectors and copies of the values."""
    size = facts.dtype.itemsize
    return size * (copies * facts.nnz + _VECTORS * facts.rows * min(facts.rhs, 16))


def weight_of(facts: Facts) -> float:
    """Time of an operation relative to one on real double precision numbers."""
    weight = 4.0 if facts.dtype.is_complex else 1.0
    return weight * (0.55 if facts.dtype.itemsize == 4 * (1 + facts.dtype.is_complex) else 1.0)
