"""Values given to a problem in parts: whole on every process, cut for each share."""

from __future__ import annotations

import hashlib
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from torch_sla.errors import ArgumentError, GradientError
from torch_sla.problems.lowering.parameters import check_names, whole_value
from torch_sla.problems.specs.python import PythonFunction
from torch_sla.problems.specs.value import Formula

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.lowering.scene import Scene

__all__ = ["WholeValues"]


class WholeValues:
    """What the caller gave, the same on every process.

    Parameters
    ----------
    whole
        The problem before it was cut.
    values
        Tensors, numbers and modules by name.

    Attributes
    ----------
    leaves
        Every tensor that a result may depend on: given values, then weights of modules.
    """

    def __init__(self, whole: Model, values: Mapping[str, Any]) -> None:
        self._whole = whole
        check_names(values, whole.declared)
        self._tensors: dict[str, Tensor] = {}
        self._modules: dict[str, nn.Module] = {}
        self._rest: dict[str, Any] = {}
        self.home = torch.device("cpu")
        for name, parameter in whole.declared.items():
            value = values.get(name, parameter.default)
            if name not in whole.reaching:
                if isinstance(value, Tensor) and value.requires_grad:
                    raise GradientError(
                        f"{name!r} requires grad, but no law and no output uses it, so its gradient would be "
                        "zero in silence; use it in an expression, or pass it detached"
                    )
            elif isinstance(value, nn.Module):
                self._modules[name] = value
            elif isinstance(value, PythonFunction | Formula) or value is None:
                # Evaluated on the sites of each share; what is missing is said there.
                if name in values:
                    self._rest[name] = value
            else:
                if isinstance(value, Tensor) and value.device.type != "cpu":
                    self.home = value.device
                self._tensors[name] = self._checked(name, value)
        weights = chain.from_iterable(m.parameters() for m in self._modules.values())
        self.leaves: tuple[Tensor, ...] = (*self._tensors.values(), *weights)

    def _checked(self, name: str, value: Any) -> Tensor:
        whole = self._whole
        parameter = whole.declared[name]
        tensor = whole_value(name, value, parameter, whole.counts, whole.dtype)
        sites = [] if parameter.on == "constant" else [whole.counts[parameter.on]]
        batch = tensor.ndim - len(sites) - len(parameter.shape)
        if batch > 0:
            raise ArgumentError(
                f"{name!r} has batch dimensions {list(tensor.shape[:batch])}; several processes share one problem at "
                "a time: solve for one member after the other"
            )
        return tensor

    @property
    def facts(self) -> dict[str, object]:
        """What all processes must have the same, by name."""
        found: dict[str, object] = {}
        for name, tensor in self._tensors.items():
            found[f"the parameter {name!r}"] = _described(tensor)
        for name, module in self._modules.items():
            shown = [_described(p) for p in module.parameters()]
            found[f"the module {name!r}"] = f"{type(module).__name__} {' '.join(shown)}"
        return found

    def scene(self, model: Model, leaves: tuple[Tensor, ...]) -> Scene:
        """Put leaves in the places of the values and cut them for a lowered piece; recorded."""
        rest = iter(leaves)
        values: dict[str, Any] = dict(self._rest)
        for name in self._tensors:
            home, tensor = self._whole.declared[name].on, next(rest)
            if name in model.reaching:
                values[name] = model.localised(tensor, home, 0)
        for name, module in self._modules.items():
            own = {n: next(rest) for n, _ in module.named_parameters()}
            if name in model.reaching:
                values[name] = _WithWeights(module, own)
        return model.scene(values)


class _WithWeights(nn.Module):
    """A module with other tensors in the places of its weights."""

    def __init__(self, module: nn.Module, own: dict[str, Tensor]) -> None:
        super().__init__()
        # In a list: the module's own weights are not those of this one.
        self._of, self._own = [module], own

    def parameters(self, recurse: bool = True) -> Any:
        del recurse
        return iter(self._own.values())

    def forward(self, x: Tensor) -> Any:
        return torch.func.functional_call(self._of[0], self._own, (x,))


def _described(tensor: Tensor) -> str:
    data = np.ascontiguousarray(tensor.detach().cpu().resolve_conj().numpy())
    content = hashlib.blake2b(data.tobytes(), digest_size=8).hexdigest()
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)} (content {content})"
