"""Problems that several processes share, solved by one and by many, and what is compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from tests.helpers.shared import diffusion, equations, flows, forms, many, solids, waves
from torch_sla.linalg import SparseTensor
from torch_sla.problems.distributed.problem import DistributedProblem, distribute

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.distributed import ProcessGroup

__all__ = ["CASES", "Found", "on_ranks", "problem_of", "solved"]

CASES: dict[str, Callable[[], tuple[Any, dict[str, Any]]]] = {
    name: getattr(room, name)
    for room in (diffusion, solids, forms, waves, equations, many, flows)
    for name in room.__all__
}


class Found(NamedTuple):
    """Solution, outputs, loss and gradients by name."""

    u: Tensor
    outputs: dict[str, Tensor]
    loss: Tensor
    gradients: dict[str, Tensor]


def solved(problem: Any, values: dict[str, Any]) -> Found:
    """Solve and differentiate a cubic functional of everything, by one process or by many."""
    given: dict[str, Any] = {}
    for name, value in values.items():
        given[name] = value.clone().requires_grad_() if isinstance(value, Tensor) else value
        if isinstance(value, SparseTensor):
            own = value.values.clone().requires_grad_()
            given[name] = SparseTensor.from_pattern(value.pattern, own)
        if isinstance(value, torch.nn.Module):
            value.zero_grad()
    moved = {"points": given["points"]} if "points" in given else {}
    solution = problem.solve({n: x for n, x in given.items() if n not in moved}, **moved)
    shared = isinstance(problem, DistributedProblem)
    name = {"linear": "x", "nonlinear": "x", "eigen": "modes"}.get(
        problem.spec.type if shared else problem.type, "u"
    )
    u = solution.whole(name) if shared else solution[name]
    if problem.spec.is_complex if shared else problem.is_complex:
        u = torch.view_as_real(u)
    fields = set(solution.numbers) if shared else set()
    outputs = {
        name: solution.whole(name) if shared and name in fields else solution[name]
        for name in solution
    }
    weights = 1 + torch.arange(u.numel(), dtype=u.dtype).reshape(u.shape) / u.numel()
    loss = (weights * u**3).sum()
    for value in outputs.values():
        weights = 1 + torch.arange(value.numel(), dtype=value.dtype).reshape(value.shape)
        loss = loss + (weights * (value**3 + value)).sum() / value.numel()
    loss.backward()
    gradients: dict[str, Tensor] = {}
    for name, value in given.items():
        if isinstance(value, SparseTensor):
            slope = value.values.grad
            gradients[name] = torch.zeros_like(value.values) if slope is None else slope
        elif isinstance(value, Tensor):
            gradients[name] = torch.zeros_like(value) if value.grad is None else value.grad
        else:
            gradients |= {f"{name}.{n}": w.grad.clone() for n, w in value.named_parameters()}
    detached = {name: value.detach() for name, value in outputs.items()}
    return Found(u.detach(), detached, loss.detach(), gradients)


def problem_of(case: str) -> tuple[Any, dict[str, Any]]:
    """Return a case by name."""
    return CASES[case]()


def on_ranks(group: ProcessGroup, case: str) -> Found:
    """Solve a case with all processes of a group."""
    problem, values = problem_of(case)
    return solved(distribute(problem, group=group), values)
