"""Solving a nonlinear problem: from its values to unknowns and a report."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from torch_sla.errors import Result
from torch_sla.linalg.adjoint.implicit import implicit_solve
from torch_sla.linalg.info import UNTRIED
from torch_sla.problems.lowering.newton import Equation
from torch_sla.problems.lowering.states import check_batch

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg import SolveInfo
    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.lowering.scene import Scene
    from torch_sla.problems.progress import ProgressCallback

__all__ = ["solve_nonlinear"]


def solve_nonlinear(
    model: Model,
    scene: Scene,
    start: Tensor | None,
    *,
    throw: bool,
    progress: ProgressCallback | None,
) -> tuple[Tensor, SolveInfo]:
    """Solve a nonlinear problem: ``u [*batch, n]``, and the report."""
    equation = Equation(model, scene, throw=throw, progress=progress)
    leaves = equation.leaves
    n = model.numbering.n
    u0 = torch.zeros(n, dtype=model.field_dtype, device=model.device)
    if start is not None:
        u0 = model.compiled.constraint.restrict(start)
    with torch.no_grad():
        plain = tuple(leaf.detach() for leaf in leaves)
        if u0.ndim > 1:
            one = equation.first(u0.reshape(-1, n)[0], plain)
            check_batch(u0, one.shape[:-1], more=True)
        batch = equation.first(u0, plain).shape[:-1]
    u0 = u0.expand(*np.broadcast_shapes(batch, u0.shape[:-1]), n)
    u_hat = implicit_solve(equation, u0, leaves)
    info, linear = equation.info, equation.linear
    if throw and not info.converged:
        raise info.failure()
    g = model.compiled.sides(model.given_values(scene))
    u = model.compiled.constraint.recover(u_hat, g)
    from torch_sla.linalg import SolveInfo

    report = SolveInfo() if linear is None else replace(linear)
    report.result = info.result if info.result is not Result.ROUNDOFF else Result.CONVERGED
    report.iterations, report.residual = info.iterations, info.residual
    report.history = list(info.history)
    # Members that are done have zeros on the right, which are none of the problem.
    report.notes = [*info.notes, *(note for note in report.notes if note != UNTRIED)]
    report.solved = info.solved
    if not report.converged and report.solved is None:
        report.solved = torch.zeros(u_hat.shape[:-1], dtype=torch.bool)
    inner = f" with {report.method}" if linear is not None else ""
    report.method = f"newton{inner}"
    return u, report
