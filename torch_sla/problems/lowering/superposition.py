"""Many loads on one matrix that are sums of a few: as many solves as there are summands."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from torch_sla.linalg.solve import default_rtol
from torch_sla.problems.lowering.affine import batch_of, batched, is_plain
from torch_sla.problems.lowering.linear import solve_batch
from torch_sla.problems.lowering.phases import phases_of_batch

if TYPE_CHECKING:
    from torch_sla.linalg import SolveInfo
    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.lowering.scene import Scene

__all__ = ["superposed"]

_SPARE = 0.1
"""Tolerance of a summand in that of the sum, which may be smaller."""


def superposed(model: Model, scene: Scene) -> tuple[Tensor, SolveInfo] | None:
    """Solve a linear problem for a batch of numbers that its loads are linear in, by adding up solutions.

    Returns
    -------
    tuple or None
        The solution ``[*batch, n]`` and the report; None where loads are not of that kind, there are not many more
        of them than summands, or summands cancel so far that the sum would miss the tolerance.
    """
    names = batched(scene)
    if model.nonlinear or not names or not is_plain(scene):
        return None
    phases = phases_of_batch(model, names)
    if phases is None or not phases.parts:
        return None
    shapes = [batch_of(scene, name) for name in names & phases.names]
    batch = tuple(np.broadcast_shapes(*shapes))
    if prod(batch) < 2 * (len(phases.parts) + 1):
        return None
    constraint, solver = model.compiled.constraint, model.spec.solver
    matrix = model.matrix(scene)
    values = matrix.values.to(model.field_dtype)
    F = torch.stack(phases.pieces(scene, model.loads))
    g = torch.stack(
        phases.pieces(scene, lambda part: model.compiled.sides(model.given_values(part)))
    )
    held, loads = constraint.apply(values, F, g)
    rtol = solver.rtol or default_rtol(model.dtype)
    u_hat, info = solve_batch(
        constraint.pattern,
        held,
        loads,
        model.structure(matrix.definite, matrix.symmetric),
        solver,
        throw=False,
        rtol=max(_SPARE * rtol, 50.0 * torch.finfo(model.dtype).eps),
    )
    numbers = torch.stack(
        [x.expand(batch).to(model.field_dtype) for x in phases.numbers(scene)], -1
    )
    left = _left(loads.detach(), numbers.detach(), info.residual)
    if not info.converged or not left <= rtol:
        return None
    info.residual = left
    info.notes.append(f"{prod(batch)} loads are sums of {len(F)}")
    first, *rest = constraint.recover(u_hat, g).unbind(0)
    u = torch.addmm(first, numbers.flatten(0, -2), torch.stack(rest)).reshape(*batch, -1)
    return model.finished(scene, u), info


def _left(loads: Tensor, numbers: Tensor, residual: float) -> float:
    """Bound the relative residual of the sums by that of the summands ``[m, n]``, the worst of all members."""
    gram = loads @ loads.mH
    weights = torch.nn.functional.pad(numbers.flatten(0, -2), (1, 0), value=1.0)
    size = torch.einsum("bi,ij,bj->b", weights, gram, weights.conj()).real.clamp_min(0.0).sqrt()
    bound = residual * (weights.abs() @ gram.diagonal().real.clamp_min(0.0).sqrt())
    worst = torch.where(bound > 0, bound / size.clamp_min(torch.finfo(size.dtype).tiny), bound)
    return float(worst.max())
