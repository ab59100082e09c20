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
    """Where a problem lives: ``module:class``, in this package, of its declaration and of its meaning."""

    spec: str
    lowering: str
    kind: str = "field"
    """``field`` (analyses may be of it), ``algebra``, ``analysis``, or ``search`` (no function of parameters)."""


PHYSICS = {
    "eigen": Entry("specs.algebra:EigenProblem", "analyses.modes:modes", "algebra"),
    "linear": Entry("specs.algebra:LinearProblem", "lowering.algebra:Linear", "algebra"),
    "nonlinear": Entry("specs.algebra:NonlinearProblem", "lowering.roots:Nonlinear", "algebra"),
    "design": Entry("specs.design:DesignProblem", "analyses.design.model:Design", "search"),
    "elasticity": Entry("specs.elasticity:ElasticityProblem", "lowering.elasticity:Elasticity"),
    "helmholtz": Entry("specs.helmholtz:HelmholtzProblem", "lowering.helmholtz:Helmholtz"),
    "hyperelasticity": Entry(
        "specs.hyperelasticity:HyperelasticityProblem", "lowering.hyperelasticity:Hyperelasticity"
    ),
    "poisson": Entry("specs.poisson:PoissonProblem", "lowering.poisson:Poisson"),
    "sweep": Entry("specs.sweep:SweepProblem", "analyses.sweep:Sweep", "analysis"),
    "transient": Entry(
        "specs.transient:TransientProblem", "analyses.transient:Transient", "analysis"
    ),
    "stokes": Entry("specs.stokes:StokesProblem", "lowering.stokes:Stokes"),
    "weak_form": Entry("specs.weakform:WeakFormProblem", "lowering.weakform:WeakForm"),
}


def _load(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(f"torch_sla.problems.{module}"), name)


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
    return _load(PHYSICS[kind].spec)


def verbs(kind: str) -> Any:
    """Return the class that gives meaning to declarations of this type."""
    return _load(PHYSICS[kind].lowering)
