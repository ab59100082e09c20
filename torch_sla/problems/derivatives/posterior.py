"""How sure one may be of the result of an inverse problem: its misfits are the data, its regularisers the prior."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.problems.analyses.design.scope import DesignScope
from torch_sla.problems.derivatives.laplace import Posterior, about
from torch_sla.problems.derivatives.prior import Gaussian
from torch_sla.problems.derivatives.products import Linearised
from torch_sla.problems.design.vocabulary import CALLABLE
from torch_sla.problems.expression.nodes import Call, Name
from torch_sla.problems.specs.python import PythonFunction

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch_sla.problems.analyses.design.oracle import DesignOracle
    from torch_sla.problems.design.goal import Goal

__all__ = ["posterior"]

LARGEST = 4000
MISFIT = "misfit of the data"


def posterior(
    oracle: DesignOracle, x: Tensor, prior: Mapping[str, Gaussian] | None, rank: int | None
) -> Posterior:
    """Return the Gaussian about unknowns; see `DesignProblem.laplace`."""
    spec, unknowns = oracle.design.spec, oracle.unknowns
    if isinstance(spec.objective, PythonFunction):
        raise ArgumentError(
            "the objective is a Python function, so its misfits are not known; use problem.of.laplace"
        )
    if x.shape != (unknowns.n,):
        raise ArgumentError(f"`unknowns` has shape {list(x.shape)}; expected [{unknowns.n}]")
    goal = spec.objective.expression
    _refuse_others(goal, prior is not None)
    leaves = {n: x[where].detach().clone().requires_grad_() for n, where in unknowns.ranges.items()}
    with torch.enable_grad():
        joined = torch.cat(list(leaves.values()))
        values = unknowns.values(joined)
        seen = unknowns.plain(joined, values)
        solutions = oracle.forward.exact(values, oracle.design.models)
        scope = DesignScope(spec, unknowns, solutions, seen)
        misfit, regular = goal.residual(scope, True), goal.residual(scope, False)
    if misfit is None:
        raise ArgumentError("the objective has no misfit, so there are no data to learn from")
    outputs = {
        n: scope.value(n)
        for n, (case, own) in spec.results.items()
        if own in solutions[case].outputs
    }
    results = {**outputs, **seen, MISFIT: misfit}
    priors = dict(prior) if prior is not None else _precision(leaves, regular)
    point = Linearised(leaves, results, tuple(seen))
    return about(point, {MISFIT: torch.ones_like(misfit.detach())}, priors, rank)


def _refuse_others(goal: Goal, replaced: bool) -> None:
    """Refuse terms that are neither data nor prior; a prior that is given replaces regularisers of any kind."""
    for node, weight in goal.others:
        constant = not any(isinstance(n, Name) and n.name in goal.names for n in node.walk())
        regular = isinstance(node, Call) and CALLABLE[node.function].kind == "regulariser"
        if weight == 0 or constant or (replaced and regular):
            continue
        remedy = "write it as a misfit to data"
        if regular:
            remedy = "give prior={name: Gaussian(...)} for each variable"
        sign = " (of negative weight)" if weight < 0 else ""
        raise ArgumentError(
            f"the objective has the term {node}{sign}, which is neither data nor a Gaussian prior, so that its "
            f"curvature would be missing; {remedy}, or leave it out with problem.updated(objective=...).laplace(...)"
        )


def _precision(leaves: dict[str, Tensor], regular: Tensor | None) -> dict[str, Gaussian]:
    """Return the priors that the regularisers are: Jᵀ J of their residuals, for each variable."""
    found = {}
    for name, leaf in leaves.items():
        n = leaf.numel()
        remedy = f"give prior={{{name!r}: Gaussian(std=...)}} and one for each other variable"
        if n > LARGEST:
            raise ArgumentError(
                f"{name!r} has {n} unknowns, too many for a dense precision; {remedy}"
            )
        J = torch.zeros(0, n, dtype=torch.float64)
        if regular is not None and regular.requires_grad:
            ghost = torch.zeros_like(regular).requires_grad_()
            back: Tensor | None = torch.autograd.grad(
                regular, leaf, ghost, create_graph=True, allow_unused=True
            )[0]
            if back is not None and back.requires_grad:
                columns = [
                    torch.autograd.grad(back, ghost, unit, retain_graph=True)[0]
                    for unit in torch.eye(n, dtype=leaf.dtype)
                ]
                J = torch.stack(columns, 1).double()
        precision = J.T @ J
        if not bool(torch.linalg.eigvalsh(precision)[0] > 1e-13 * precision.diagonal().max()):
            raise ArgumentError(
                f"the regularisers leave something of {name!r} open, so they are no prior; add "
                f"tikhonov({name}), or {remedy}"
            )
        found[name] = Gaussian(precision=precision)
    return found
