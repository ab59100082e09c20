"""Where an optimizer is: the design, what is known there, and what the method remembers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.problems.design.optimizers.optimality import reaches
from torch_sla.problems.design.optimizers.oracle import Evaluation

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["GROWING", "NOTHING", "SINCE", "SLOPES", "Memory", "State"]

NOTHING = 1e-4
"""Of the change that the first slopes foretold: an objective below that share of it has fallen to nothing."""

GROWING = "log."
"""How the names of memory begin that is only ever added to: a checkpoint writes what is new of it."""

SINCE = "since"
"""Memory with the iteration after which such memory begins; what was added before is not needed any more."""

SLOPES = ("gradient", "constraints", "jacobian")
"""What an evaluation holds besides its value."""

_ALWAYS = ("lengths", "slope")
"""Memory of every method."""

Memory = dict[str, Tensor | float | int | str | bool]
"""What a method remembers: flat, so that it can be written as it is."""


@dataclass(frozen=True, eq=False)
class State:
    """Where an optimizer is: all that it needs to go on.

    Parameters
    ----------
    x
        The design ``[n]``.
    lower, upper
        Bounds ``[n]``; infinite where there are none.
    evaluation
        What is known at ``x``.
    iteration
        Steps taken.
    converged
        Whether a tolerance was met.
    reason
        Why it stopped; empty while it goes on.
    figures
        Numbers of this iteration for the history, such as ``optimality`` and ``violation``.
    memory
        What the method remembers.
    """

    x: Tensor
    lower: Tensor
    upper: Tensor
    evaluation: Evaluation
    iteration: int = 0
    converged: bool = False
    reason: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    memory: Memory = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether there is nothing left to do, for a good or a bad reason."""
        return bool(self.reason)

    @property
    def value(self) -> float:
        """The objective at ``x``."""
        return self.evaluation.value

    @property
    def gradient(self) -> Tensor:
        """Its gradient ``[n]``."""
        return self.evaluation.gradient

    @property
    def constraints(self) -> Tensor:
        """Values of the constraints ``[m]``."""
        return self.evaluation.constraints

    @property
    def lengths(self) -> Tensor:
        """How far each variable may be expected to go from ``x`` ``[n]``."""
        return reaches(self.x, self.lower, self.upper, self.tensor("lengths"))

    @property
    def size(self) -> float:
        """What changes of the objective are measured in: its value, unless that is nothing beside its first slopes."""
        return max(abs(self.value), NOTHING * float(self.memory["slope"]))

    @property
    def share(self) -> float:
        """What is left to gain, to first order, over the size of the objective."""
        left = self.figures["optimality"] * float(self.memory["slope"])
        return left / self.size if left > 0 else 0.0

    @property
    def outlook(self) -> str:
        """That share where a person reads of it."""
        return f"by its slope, {self.share:.2g} times the objective is left to gain"

    def tensor(self, name: str) -> Tensor:
        """Return what the method remembers as a tensor."""
        kept = self.memory.get(name)
        if not isinstance(kept, Tensor):
            raise ArgumentError("the state does not come from this optimizer")
        return kept

    def pack(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors by name, and a mapping that JSON can hold, for a checkpoint."""
        at, memory = self.evaluation, self.memory
        tensors = {"x": self.x, "lower": self.lower, "upper": self.upper}
        tensors |= {name: getattr(at, name) for name in SLOPES}
        tensors |= {f"memory.{n}": kept for n, kept in memory.items() if isinstance(kept, Tensor)}
        data = {
            "value": at.value,
            "iteration": self.iteration,
            "converged": self.converged,
            "reason": self.reason,
            "figures": dict(self.figures),
            "memory": {n: kept for n, kept in memory.items() if not isinstance(kept, Tensor)},
        }
        return tensors, data

    @classmethod
    def unpack(cls, tensors: Mapping[str, Tensor], data: Mapping[str, Any]) -> State:
        """Return the state that `pack` wrote down."""
        kept = {n.removeprefix("memory."): t for n, t in tensors.items() if n.startswith("memory.")}
        memory: Memory = {**kept, **data["memory"]}
        return cls(
            x=tensors["x"],
            lower=tensors["lower"],
            upper=tensors["upper"],
            evaluation=Evaluation(float(data["value"]), *(tensors[n] for n in SLOPES)),
            iteration=int(data["iteration"]),
            converged=bool(data["converged"]),
            reason=str(data["reason"]),
            figures=dict(data["figures"]),
            memory=memory | {name: memory[name] for name in _ALWAYS},
        )
