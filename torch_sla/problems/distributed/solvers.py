"""Solvers of matrices in parts: made once for the same values, of each other in a loop over values."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.linalg.distributed.knowledge import find_out
from torch_sla.linalg.distributed.nullspace import PartNullspace
from torch_sla.linalg.distributed.precond.block import PartSchur
from torch_sla.linalg.distributed.precond.chebyshev import PartChebyshev
from torch_sla.linalg.distributed.precond.renewal import Renewal
from torch_sla.linalg.distributed.solve import PartSolver, SolveRequest
from torch_sla.linalg.kernels.sparse import fingerprint
from torch_sla.linalg.solve import default_rtol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch_sla.problems.distributed.model import SharedModel

__all__ = ["Solvers"]

# How many are kept, with their preconditioners.
_KEPT = 6
# Fingerprints are added up over processes.
_MARKS = 2**40


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

    def of(
        self,
        model: SharedModel,
        values: Tensor,
        definite: bool | None,
        complement: Callable[[], Tensor] | None,
        inertia: Callable[[], Tensor] | None,
        *,
        throw: bool,
        rtol: float | None,
    ) -> PartSolver:
        """Return the solver of a matrix; one that was made before, where it was for these values."""
        # The same key on every process, so that all of them find a solver or none does.
        own = torch.tensor([fingerprint(values.detach()) % _MARKS], device=model.device)
        key = (int(model.comm.reduce(own)), definite, throw, rtol)
        if key not in self._kept:
            while len(self._kept) >= _KEPT:
                del self._kept[next(iter(self._kept))]
            at_rest = values.detach()
            made = self._made(model, at_rest, definite, complement, inertia, throw=throw, rtol=rtol)
            self._kept[key] = made
        return self._kept[key]

    def _made(
        self,
        model: SharedModel,
        values: Tensor,
        definite: bool | None,
        complement: Callable[[], Tensor] | None,
        inertia: Callable[[], Tensor] | None,
        *,
        throw: bool,
        rtol: float | None,
    ) -> PartSolver:
        known, asked = find_out(model.sharding, values), model.spec.solver
        if known.hermitian and known.definite is None and definite:
            known = replace(known, definite=True)
        preconditioner: Any = asked.preconditioner
        if complement is not None and preconditioner in ("auto", "schur"):
            preconditioner = PartSchur(
                model.level > 0,
                dual=PartChebyshev(),
                complement=complement(),
                inertia=None if inertia is None else inertia(),
            )
        null = None
        if model.division.surrounded and not model.division.levelled:
            null = PartNullspace(model.level.unsqueeze(1), model.space)
        request = SolveRequest(
            method=asked.method,
            preconditioner=preconditioner,
            rtol=rtol or asked.rtol or default_rtol(model.whole.dtype),
            atol=asked.atol,
            maxiter=asked.maxiter,
            adjoint_rtol=asked.adjoint_rtol,
            throw=throw,
        )
        return PartSolver(
            model.sharding, known, request, None, model.near_nullspace, null, self.renewal
        )
