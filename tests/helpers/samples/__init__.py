"""One small problem for each physics in the registry, with every kind of parameter it can have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tests.helpers.samples import algebra, analyses, bodies, weak_forms

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.problems.specs.problem import Problem

__all__ = ["SAMPLES", "Sample"]


@dataclass(frozen=True)
class Sample:
    """A problem, and the values it is solved with where defaults would not do.

    Parameters
    ----------
    make
        Declares the problem.
    second
        Fields that have second derivatives; None means all.
    """

    make: Callable[[], Problem]
    second: tuple[str, ...] | None = None

    def values(self, problem: Problem) -> dict[str, torch.Tensor]:
        """Return random values around the defaults, one per site."""
        model = problem.compile()
        generator = torch.Generator().manual_seed(90210)
        found = {}
        names = list(getattr(model, "unvaried", problem.declared))
        for name, default in model.defaults(names).items():
            noise = torch.rand(default.shape, generator=generator, dtype=torch.float64)
            found[name] = default * (0.9 + 0.2 * noise)
        return found


SAMPLES: dict[str, dict[str, Sample]] = {
    "poisson": {"linear": Sample(bodies.diffusion), "nonlinear": Sample(bodies.radiating)},
    "helmholtz": {"layer": Sample(bodies.wave)},
    "linear": {"entries": Sample(algebra.system)},
    "eigen": {
        "pair": Sample(algebra.spectrum, second=("eigenvalues",)),
        "modes": Sample(analyses.vibrating, second=("eigenvalues",)),
    },
    "transient": {
        "heating": Sample(analyses.heating),
        "swinging": Sample(analyses.swinging),
        "nonlinear": Sample(analyses.hot),
    },
    "sweep": {"loads": Sample(analyses.cases)},
    "nonlinear": {"two": Sample(algebra.equations)},
    "hyperelasticity": {"pressed": Sample(bodies.rubber), "energy": Sample(bodies.energy)},
    "stokes": {"channel": Sample(bodies.flow), "cavity": Sample(bodies.enclosed)},
    "weak_form": {"linear": Sample(weak_forms.written), "pair": Sample(weak_forms.written_pair)},
    "elasticity": {"plane": Sample(bodies.plate), "orthotropic": Sample(bodies.orthotropic)},
}
"""By type of the registry: what the contract suite walks."""
