"""What a candidate costs: operations, bytes moved, memory and seconds of everything that was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch_sla.linalg.plan.factor_costs import factor_costs, factor_costs_on_device
from torch_sla.linalg.plan.iteration_costs import krylov_costs, multigrid_costs

if TYPE_CHECKING:
    from torch_sla.linalg.backends.base import Method
    from torch_sla.linalg.plan.common_costs import Estimate
    from torch_sla.linalg.plan.facts import Facts
    from torch_sla.linalg.plan.machine import MachineModel

__all__ = ["estimate"]


def estimate(
    facts: Facts, backend: str, method: Method, preconditioner: str, machine: MachineModel
) -> Estimate:
    """Predict what `method` of `backend` costs for the whole of `facts`.

    Parameters
    ----------
    facts
        The question.
    backend, method, preconditioner
        The candidate.
    machine
        Speeds.
    """
    if backend == "cudss":
        return factor_costs_on_device(facts, method, machine)
    if method.kind == "direct":
        return factor_costs(facts, backend, method, machine)
    if preconditioner == "multigrid":
        return multigrid_costs(facts, method, machine)
    return krylov_costs(facts, backend, method, preconditioner, machine)
