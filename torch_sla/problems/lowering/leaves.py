"""The tensors that a scene depends on, taken out of it and put back: what implicit nodes differentiate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch_sla.problems.lowering.parameters import Given, bound, law_tensors
from torch_sla.problems.lowering.scene import Geometry

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.problems.lowering.scene import Scene

__all__ = ["scene_tensors", "scene_with"]


def scene_tensors(scene: Scene) -> tuple[Tensor, ...]:
    """Return every tensor a scene depends on: given values, weights of laws, moved points."""
    found = list(scene.given.values())
    for law in scene.given.laws.values():
        found += law_tensors(law)
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
        own = [rest.pop(0) for _ in law_tensors(law)]
        given.laws[name] = bound(law, own)
    geometry = scene.geometry
    if geometry.moved:
        geometry = Geometry(scene.model, rest.pop(0), moved=True)
    return scene.like(given, geometry)
