"""From the unknowns of an optimiser to the values of a parameter: differentiable maps, prepared once.

Each transform is a frozen dataclass of options; `Transform.prepare` does what values do not change at a
`Place`, and a `Chain` composes them.
"""

from __future__ import annotations

from torch_sla.problems.design.transforms.base import (
    Pointwise,
    Reparametrisation,
    Stage,
    Transform,
)
from torch_sla.problems.design.transforms.chain import Chain
from torch_sla.problems.design.transforms.cone import ConeFilter, SensitivityFilter
from torch_sla.problems.design.transforms.helmholtz import HelmholtzFilter
from torch_sla.problems.design.transforms.motion import BoundaryMotion
from torch_sla.problems.design.transforms.neural import NeuralField
from torch_sla.problems.design.transforms.place import Place
from torch_sla.problems.design.transforms.pointwise import (
    RAMP,
    SIMP,
    Log,
    Logit,
    Projection,
    Softplus,
)
from torch_sla.problems.design.transforms.symmetry import Fixed, Symmetry

TRANSFORMS: tuple[type[Transform], ...] = (
    *(Log, Softplus, Logit, Projection, SIMP, RAMP),
    *(ConeFilter, SensitivityFilter, HelmholtzFilter, Symmetry, Fixed, NeuralField, BoundaryMotion),
)
"""All of them, as declarations may use them."""

__all__ = [
    "RAMP",
    "SIMP",
    "TRANSFORMS",
    "BoundaryMotion",
    "Chain",
    "ConeFilter",
    "Fixed",
    "HelmholtzFilter",
    "Log",
    "Logit",
    "NeuralField",
    "Place",
    "Pointwise",
    "Projection",
    "Reparametrisation",
    "SensitivityFilter",
    "Softplus",
    "Stage",
    "Symmetry",
    "Transform",
]
