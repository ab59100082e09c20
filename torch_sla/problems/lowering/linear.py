"""The linear solve of a batch: what does not reach the matrix becomes columns on one factor."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from torch_sla.linalg import SparseTensor, Structure
from torch_sla.linalg.solve import solve
from torch_sla.problems.lowering.states import check_batch

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg import LaggedMultigrid, Pattern, SolveInfo
    from torch_sla.linalg.known import Known
    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.lowering.operators import Operator
    from torch_sla.problems.specs.solver import Solver

__all__ = ["Batch", "solve_batch", "solve_constrained"]


class Batch:
    """Splits batch dimensions into those the matrix has and those it does not.

    Parameters
    ----------
    matrix, load
        Batch shapes of the values and of the right-hand side.

    Examples
    --------
    >>> batch = Batch((3, 1), (5,))
    >>> batch.full, batch.of_matrix, batch.columns
    ((3, 5), (3,), 5)
    """

    def __init__(self, matrix: tuple[int, ...], load: tuple[int, ...]) -> None:
        self.full = tuple(np.broadcast_shapes(matrix, load))
        padded = (1,) * (len(self.full) - len(matrix)) + matrix
        self._own = [d for d, size in enumerate(padded) if size > 1]
        self._shared = [d for d, size in enumerate(padded) if size == 1]
        self.of_matrix = tuple(padded[d] for d in self._own)
        self.columns = prod(self.full[d] for d in self._shared)

    def values(self, values: Tensor) -> Tensor:
        """Arrange ``[*matrix, nnz]`` as ``[*of_matrix, nnz]``."""
        shape = (*self.of_matrix, values.shape[-1])
        return values if values.shape == shape else values.reshape(shape)

    def split(self, b: Tensor) -> Tensor:
        """Arrange ``[*load, n]`` as ``[*of_matrix, n, columns]``."""
        n = b.shape[-1]
        full = b.expand(*self.full, n)
        order = [*self._own, len(self.full), *self._shared]
        return full.permute(order).reshape(*self.of_matrix, n, self.columns)

    def join(self, x: Tensor) -> Tensor:
        """Arrange ``[*of_matrix, n, columns]`` as ``[*full, n]``."""
        n = x.shape[-2]
        shape = (*self.of_matrix, n, *(self.full[d] for d in self._shared))
        order = [*self._own, len(self.full), *self._shared]
        inverse = sorted(range(len(order)), key=order.__getitem__)
        return x.reshape(shape).permute(inverse)


def solve_batch(
    pattern: Pattern,
    values: Tensor,
    load: Tensor,
    structure: Structure,
    solver: Solver,
    *,
    start: Tensor | None = None,
    throw: bool = True,
    transposed: bool = False,
    derivative: bool = False,
    repeats: int = 1,
    rtol: float | None = None,
    memory: LaggedMultigrid | None = None,
    known: Known | None = None,
) -> tuple[Tensor, SolveInfo]:
    """Solve for a batch of matrices and loads.

    Parameters
    ----------
    values
        ``[*matrix_batch, nnz]``.
    load
        ``[*load_batch, n]``; batches broadcast.
    transposed
        Whether to solve with the transposed matrix, to the accuracy of adjoints.
    derivative
        Whether a derivative is solved for, as with the transposed matrix: to a relative tolerance alone.
    repeats
        How often the matrix is solved with, for the plan.
    rtol
        Tolerance in the place of the solver's.
    memory
        Of a loop over values: what preconditions where the plan takes multigrid by aggregation.
    known
        Of a loop over loads that is not recorded, with values that nobody changes: what it knows of them.

    Returns
    -------
    x, info
        ``[*batch, n]`` and the report.
    """
    batch = Batch(tuple(values.shape[:-1]), tuple(load.shape[:-1]))
    values, rtol = batch.values(values), rtol or solver.rtol
    if transposed:
        rtol = solver.adjoint_rtol or rtol
        if not structure.symmetric:
            values = pattern.transpose_values(values)
            pattern = pattern.transposed
    A = SparseTensor.from_pattern(pattern, values, structure=structure)
    single = batch.columns == 1
    b, x0 = batch.split(load), None if start is None else batch.split(start.detach())
    requests: dict[str, Any] = {
        name: getattr(solver, name) for name in ("backend", "method", "preconditioner")
    }
    if memory is not None and not A.is_batched and A.device.type == "cpu":
        plan = A.plan(repeats=repeats, **requests)
        if plan.choice.preconditioner == "multigrid" and not plan.facts.lattice:
            backend, method = plan.choice.backend, plan.choice.method
            requests = {"backend": backend, "method": method, "preconditioner": memory}
    x, info = solve(
        A,
        b.squeeze(-1) if single else b,
        **requests,
        rtol=rtol,
        atol=0.0 if derivative or transposed else solver.atol,
        maxiter=solver.maxiter,
        adjoint_rtol=solver.adjoint_rtol,
        x0=x0 if x0 is None or not single else x0.squeeze(-1),
        repeats=repeats,
        throw=throw,
        known=None if A.is_batched else known,
    )
    if info.solved is not None:
        columns = info.solved[..., None, None].expand(*batch.of_matrix, 1, batch.columns)
        info.solved = batch.join(columns).squeeze(-1)
    return batch.join(x.unsqueeze(-1) if single else x), info


def solve_constrained(
    model: Model, operator: Operator, g: Tensor, start: Tensor | None, *, throw: bool
) -> tuple[Tensor, SolveInfo]:
    """Solve a linear problem under its conditions, of which ``g`` are the values: ``[*batch, n]`` and the report."""
    constraint = model.compiled.constraint
    constrained, load = constraint.apply(operator.values, operator.load, g)
    if start is not None:
        check_batch(start, np.broadcast_shapes(constrained.shape[:-1], load.shape[:-1]))
    u_hat, report = model.solved(
        constrained,
        load,
        operator.definite,
        operator.symmetric,
        start=start,
        throw=throw,
        complement=operator.complement,
    )
    return constraint.recover(u_hat, g), report
