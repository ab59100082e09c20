"""Which outputs are linear in the solution but for a constant, by structure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch_sla.problems.expression import degree
from torch_sla.problems.specs.outputs import Flux, Integral, Line, Probe, Reaction
from torch_sla.problems.specs.value import Formula

if TYPE_CHECKING:
    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.specs.outputs import OutputSpec

__all__ = ["is_affine"]


def is_affine(model: Model, output: OutputSpec) -> bool:
    """Whether an output is linear in the solution but for a constant."""
    match output:
        case Probe() | Line():
            text = output.quantity
        case Integral():
            text = output.expression
        case Flux() | Reaction():
            return not model.nonlinear
        case _:
            return False
    laws = {name for name, parameter in model.declared.items() if parameter.of}
    others = (model.declared.keys() - laws) | set("xyzt") | {"normal"}
    return degree(Formula(text).expression, model.ranks.keys(), others) <= 1
