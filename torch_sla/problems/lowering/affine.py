"""Outputs that are linear in the solution but for a constant, by structure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from torch_sla.problems.expression import degree
from torch_sla.problems.specs.outputs import Flux, Integral, Line, Probe, Reaction
from torch_sla.problems.specs.written import Formula

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.lowering.scene import Scene
    from torch_sla.problems.specs.outputs import OutputSpec

__all__ = ["batch_of", "batched", "is_affine", "is_plain", "shares_row"]


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


def batched(scene: Scene) -> frozenset[str]:
    """Return the names of the parameters that have batch dimensions."""
    return frozenset(name for name in scene.given if batch_of(scene, name))


def batch_of(scene: Scene, name: str) -> tuple[int, ...]:
    """Return the batch dimensions of a parameter."""
    parameter, value = scene.declared[name], scene.given[name]
    return tuple(value.shape[: value.ndim - len(parameter.shape) - (parameter.on != "constant")])


def is_plain(scene: Scene, *more: Tensor) -> bool:
    """Whether no transform of torch, tangent of forward mode or inference mode is about, which see every operation."""
    tensors = (*scene.tensors(), *more)
    if torch.is_inference_mode_enabled() or any(map(_wrapped, tensors)):
        return False
    return all(torch.autograd.forward_ad.unpack_dual(x).tangent is None for x in tensors)


def _wrapped(x: Tensor) -> bool:
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(x))


def shares_row(scene: Scene, output: OutputSpec) -> bool:
    """Whether a probe or an integral that is linear in the solution has the same coefficients for a whole batch."""
    match output:
        case Probe() | Line():
            names = Formula(output.quantity).expression.names
        case Integral():
            names = Formula(output.expression).expression.names | scene.model.names_of_measure
        case _:
            return False
    return not names & batched(scene)
