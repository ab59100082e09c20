"""A problem as a module: its trainable parameters are ``nn.Parameter``s."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from torch_sla.errors import ArgumentError
from torch_sla.problems.specs.given import joined

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch_sla.problems.solution import Solution
    from torch_sla.problems.specs.problem import Problem

__all__ = ["ProblemModule"]


class ProblemModule(nn.Module):
    """``forward(**p)`` solves with the trained values and those given.

    Parameters
    ----------
    problem
        The problem.
    trainable
        Names of parameters with a default, from which they start.

    Raises
    ------
    ArgumentError
        If a name is unknown or has no default to start from.
    """

    def __init__(self, problem: Problem, trainable: Sequence[str]) -> None:
        super().__init__()
        self.problem = problem
        start = problem.compile().defaults(trainable)
        self.trained = nn.ParameterDict(
            {name: nn.Parameter(value.clone()) for name, value in start.items()}
        )

    def forward(
        self,
        values: Mapping[str, Any] | None = None,
        /,
        *,
        points: Tensor | None = None,
        start: Tensor | None = None,
        **named: Any,
    ) -> Solution:
        """Solve; what is given takes the place of nothing that is trained."""
        given = joined(values, named)
        for name in given:
            if name in self.trained:
                raise ArgumentError(f"{name!r} is trained by this module; do not pass it as well")
        every = {**given, **dict(self.trained.items())}
        return self.problem.solve(every, points=points, start=start)
