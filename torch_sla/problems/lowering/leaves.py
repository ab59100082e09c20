"""The tensors that a scene depends on, taken out of it and put back: what implicit nodes differentiate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from torch_sla.problems.lowering.parameters import Given
from torch_sla.problems.lowering.scene import Geometry

if TYPE_CHECKING:
    from torch_sla.problems.lowering.scene import Scene

__all__ = ["scene_tensors", "scene_with"]


def scene_tensors(scene: Scene) -> tuple[Tensor, ...]:
    """Return every tensor a scene depends on: given values, weights of laws, moved points."""
    found = list(scene.given.values())
    for law in scene.given.laws.values():
        found += list(law.parameters()) if isinstance(law, nn.Module) else []
    if scene.geometry.moved:
        found.append(scene.geometry.points)
    return tuple(found)


def scene_with(scene: Scene, tensors: tuple[Tensor, ...]) -> Scene:
    """Return the scene with other tensors in the places of `scene_tensors`."""
    given, rest = Given(), list(tensors)
    given.home = scene.given.home
    for name in scene.given:
        given[name] = rest.pop(0)
    for name, law in scene.given.laws.items():
        if isinstance(law, nn.Module):
            own = {n: rest.pop(0) for n, _ in law.named_parameters()}
            given.laws[name] = _Bound(law, own)
        else:
            given.laws[name] = law
    geometry = scene.geometry
    if geometry.moved:
        geometry = Geometry(scene.model, rest.pop(0), moved=True)
    return scene.like(given, geometry)


class _Bound:
    """A module with other tensors in the place of its parameters."""

    def __init__(self, module: nn.Module, own: dict[str, Tensor]) -> None:
        self._module, self._own = module, own

    def __call__(self, x: Tensor) -> Any:
        return torch.func.functional_call(self._module, self._own, (x,))
