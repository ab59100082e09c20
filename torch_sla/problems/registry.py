"""Which problems there are: one line per physics, loaded on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, NamedTuple

from torch_sla.errors import SpecError
from torch_sla.problems.expression import nearest

if TYPE_CHECKING:
    from torch_sla.problems.specs.problem import Problem

__all__ = ["PHYSICS", "Entry", "problem_class", "verbs"]


class Entry(NamedTuple):
    """Where a problem lives: ``module:class`` of its declaration and of its meaning."""

    spec: str
    lowering: str
    kind: str = "field"
    """``field`` (analyses may be of it), ``algebra``, ``analysis``, or ``search`` (no function of parameters)."""


PHYSICS = {
    "eigen": Entry(
        "torch_sla.problems.specs.algebra:EigenProblem",
        "torch_sla.problems.analyses.modes:modes",
        "algebra",
    ),
    "linear": Entry(
        "torch_sla.problems.specs.algebra:LinearProblem",
        "torch_sla.problems.lowering.algebra:Linear",
        "algebra",
    ),
    "nonlinear": Entry(
        "torch_sla.problems.specs.algebra:NonlinearProblem",
        "torch_sla.problems.lowering.roots:Nonlinear",
        "algebra",
    ),
    "design": Entry(
        "torch_sla.problems.specs.design:DesignProblem",
        "torch_sla.problems.analyses.design.model:Design",
        "search",
    ),
    "elasticity": Entry(
        "torch_sla.problems.specs.elasticity:ElasticityProblem",
        "torch_sla.problems.lowering.elasticity:Elasticity",
    ),
    "helmholtz": Entry(
        "torch_sla.problems.specs.helmholtz:HelmholtzProblem",
        "torch_sla.problems.lowering.helmholtz:Helmholtz",
    ),
    "hyperelasticity": Entry(
        "torch_sla.problems.specs.hyperelasticity:HyperelasticityProblem",
        "torch_sla.problems.lowering.hyperelasticity:Hyperelasticity",
    ),
    "poisson": Entry(
        "torch_sla.problems.specs.poisson:PoissonProblem",
        "torch_sla.problems.lowering.poisson:Poisson",
    ),
    "sweep": Entry(
        "torch_sla.problems.specs.sweep:SweepProblem",
        "torch_sla.problems.analyses.sweep:Sweep",
        "analysis",
    ),
    "transient": Entry(
        "torch_sla.problems.specs.transient:TransientProblem",
        "torch_sla.problems.analyses.transient:Transient",
        "analysis",
    ),
    "stokes": Entry(
        "torch_sla.problems.specs.stokes:StokesProblem",
        "torch_sla.problems.lowering.stokes:Stokes",
    ),
    "weak_form": Entry(
        "torch_sla.problems.specs.weakform:WeakFormProblem",
        "torch_sla.problems.lowering.weakform:WeakForm",
    ),
}


def _load(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def problem_class(kind: object) -> type[Problem]:
    """Return the declaration class of a type tag.

    Raises
    ------
    SpecError
        If there is none; the message names the nearest.
    """
    if not isinstance(kind, str) or kind not in PHYSICS:
        guess = nearest(kind, PHYSICS) if isinstance(kind, str) else ""
        raise SpecError(f"received {kind!r}{guess}; one of: {' '.join(PHYSICS)}", path="type")
    found: type[Problem] = _load(PHYSICS[kind].spec)
    return found


def verbs(kind: str) -> Any:
    """Return the class that gives meaning to declarations of this type."""
    return _load(PHYSICS[kind].lowering)
