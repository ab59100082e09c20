"""Value and gradient of an output with respect to everything given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, GradientError
from torch_sla.linalg.sparse.transforms import outside_compiler

if TYPE_CHECKING:
    from torch_sla.problems.solution import Solution
    from torch_sla.problems.specs.problem import Problem

__all__ = [
    "Output",
    "filled",
    "leaves_of",
    "nothing_given",
    "reaching",
    "scalar",
    "solved",
    "value_and_grad",
]

Output = str | Callable[["Solution"], Tensor]


def leaves_of(values: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return fresh leaves that require grad, one per number, array or tensor."""
    found = {}
    for name, value in values.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = torch.tensor(float(value), dtype=torch.float64)
        if isinstance(value, np.ndarray) and value.dtype.kind in "iuf":
            value = torch.as_tensor(value, dtype=None if value.dtype.kind == "f" else torch.float64)
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise ArgumentError(
                f"{name!r} is a {type(value).__name__}; derivatives are taken with respect to numbers and floating "
                "point tensors"
            )
        found[name] = value.detach().clone().requires_grad_()
    return found


def solved(problem: Problem, values: Mapping[str, Tensor], start: Tensor | None = None) -> Solution:
    """Solve for tensors by name, of which ``points`` may be one; iterations begin at `start`."""
    given = dict(values)
    points = given.pop("points", None)
    return problem.solve(given, points=points, start=start)


def reaching(problem: Problem, values: Mapping[str, Any]) -> set[str]:
    """Return the names among numbers and tensors on which, by structure, the fields or an output depend."""
    from torch_sla.problems.lowering.parameters import among_others

    leaves = leaves_of(values)
    with torch.enable_grad(), among_others():
        solution = solved(problem, leaves)
    names = {id(leaf): name for name, leaf in leaves.items()}
    ways = [x.grad_fn for x in (*solution.fields.values(), *solution.outputs.values())]
    seen, found = set(ways), set[str]()
    while ways:
        way = ways.pop()
        if way is None:
            continue
        found |= {names[i] for i in (id(getattr(way, "variable", None)),) if i in names}
        new = {further for further, _ in way.next_functions} - seen
        seen |= new
        ways.extend(new)
    return found


def scalar(solution: Solution, output: Output) -> Tensor:
    """Evaluate an output that must be one number."""
    value: Any = solution[output] if isinstance(output, str) else output(solution)
    if not isinstance(value, Tensor) or value.numel() != 1:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ArgumentError(
            f"a gradient needs one number, and the output has shape {shape}; give a function of the solution, "
            "such as lambda s: s['sensors'].square().sum()"
        )
    return value.reshape(())


@outside_compiler
def value_and_grad(
    problem: Problem, output: Output, values: Mapping[str, Any], start: Tensor | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return an output and its gradient by name; see `Problem.value_and_grad`."""
    leaves = leaves_of(values)
    with torch.enable_grad():
        value = scalar(solved(problem, leaves, start), output)
    if not value.requires_grad:
        raise GradientError("the output does not depend on anything that was given")
    gradients = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
    return value.detach(), filled(leaves, gradients)


def nothing_given(problem: Problem) -> ArgumentError:
    """Say what could be differentiated with respect to; a sweep takes no value of what its cases vary."""
    can = list(getattr(problem.compile(), "unvaried", problem.declared))
    if not problem.declared:
        remedy = "the problem declares no parameter; make a value a Parameter('name', default=...)"
    elif can:
        remedy = f"give values of parameters (there are: {' '.join(can)})"
    else:
        every = " ".join(problem.declared)
        remedy = f"the cases vary every parameter ({every}); check the problem that the sweep is of"
    return ArgumentError(f"there is nothing to differentiate: {remedy}, or give points")


def filled(leaves: Mapping[str, Tensor], gradients: Sequence[Tensor | None]) -> dict[str, Tensor]:
    """Return gradients by name of the leaf, zero where torch has none."""
    return {
        name: torch.zeros_like(leaf) if gradient is None else gradient
        for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True)
    }
