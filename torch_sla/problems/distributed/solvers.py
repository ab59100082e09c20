"""Solvers of matrices in parts: made once for the same values, of each other in a loop over values."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.linalg.distributed.knowledge import find_out
from torch_sla.linalg.distributed.nullspace import PartNullspace
from torch_sla.linalg.distributed.precond.base import SMALL
from torch_sla.linalg.distributed.precond.block import PartSchur
from torch_sla.linalg.distributed.precond.chebyshev import PartChebyshev
from torch_sla.linalg.distributed.precond.gathered import Gathered
from torch_sla.linalg.distributed.precond.renewal import Renewal
from torch_sla.linalg.distributed.solve import PartSolver, SolveRequest
from torch_sla.linalg.kernels.sparse import fingerprint
from torch_sla.linalg.solve import default_rtol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch_sla.problems.distributed.model import SharedModel

__all__ = ["Solvers", "Wanted"]

# How many are kept, with their preconditioners.
_KEPT = 6
# Unknowns up to which one process has the factors of a flow, as it has of what is `SMALL`: MINRES takes dozens of
# iterations with dozens of messages in each, whatever the size, and factors one with a message to every process.
_TOGETHER = 20_000
# Fingerprints are added up over processes.
_MARKS = 2**40


@dataclass(frozen=True)
class Wanted:
    """A solver that is asked for.

    Attributes
    ----------
    values
        Entries of the matrix in the slots of this process.
    definite
        Whether the problem knows its matrix to be definite; None where it does not.
    complement, inertia
        What makes the Schur complement of a saddle point, and the part of it that time adds; called where a
        preconditioner wants them.
    throw
        Whether a failure is raised.
    rtol
        Relative tolerance; None means that of the problem.
    derivative
        Whether it is for a derivative, see `solve_batch`.
    """

    values: Tensor
    definite: bool | None
    complement: Callable[[], Tensor] | None = None
    inertia: Callable[[], Tensor] | None = None
    throw: bool = True
    rtol: float | None = None
    derivative: bool = False


class Solvers:
    """The solvers of one model that are kept."""

    def __init__(self) -> None:
        self._kept: dict[tuple[object, ...], PartSolver] = {}
        self.renewal: Renewal | None = None

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Let the solves inside, a loop over values, make their preconditioners of each other; see `Renewal`."""
        outer = self.renewal
        self.renewal = outer or Renewal()
        try:
            yield
        finally:
            self.renewal = outer

    def of(self, model: SharedModel, wanted: Wanted) -> PartSolver:
        """Return the solver that is wanted; with what was made before, where it was for these values."""
        # The same key on every process, so that all of them find a solver or none does.
        own = torch.tensor([fingerprint(wanted.values.detach()) % _MARKS], device=model.device)
        key = (int(model.comm.reduce(own)), wanted.definite, wanted.throw, wanted.rtol)
        if key not in self._kept:
            while len(self._kept) >= _KEPT:
                del self._kept[next(iter(self._kept))]
            at_rest = replace(wanted, values=wanted.values.detach())
            self._kept[key] = self._made(model, at_rest)
        return self._kept[key].afresh(derivative=wanted.derivative)

    def _made(self, model: SharedModel, wanted: Wanted) -> PartSolver:
        known, asked = find_out(model.sharding, wanted.values), model.spec.solver
        if known.hermitian and known.definite is None and wanted.definite:
            known = replace(known, definite=True)
        preconditioner: Any = asked.preconditioner
        method, null = asked.method, None
        if model.division.surrounded and not model.division.levelled:
            null = PartNullspace(model.level.unsqueeze(1), model.space)
        saddle = wanted.complement is not None
        if preconditioner == "auto" and model.sharding.rows.n <= (_TOGETHER if saddle else SMALL):
            preconditioner = Gathered(nullspace=None if null is None else model.level)
            method = "gmres" if saddle and method == "auto" else method
        elif wanted.complement is not None and preconditioner in ("auto", "schur"):
            preconditioner = PartSchur(
                model.level > 0,
                dual=PartChebyshev(),
                complement=wanted.complement(),
                inertia=None if wanted.inertia is None else wanted.inertia(),
            )
        request = SolveRequest(
            method=method,
            preconditioner=preconditioner,
            rtol=wanted.rtol or asked.rtol or default_rtol(model.whole.dtype),
            atol=asked.atol,
            maxiter=asked.maxiter,
            adjoint_rtol=asked.adjoint_rtol,
            throw=wanted.throw,
        )
        return PartSolver(
            model.sharding, known, request, None, model.near_nullspace, null, self.renewal
        )
