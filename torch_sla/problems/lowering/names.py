"""What the names in a law mean at some places."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from torch_sla.errors import SpecError
from torch_sla.problems.expression import Ranked
from torch_sla.problems.lowering.selection import AXES

if TYPE_CHECKING:
    from torch_sla.problems.lowering.scene import Scene
    from torch_sla.problems.lowering.sites import Sites
    from torch_sla.problems.lowering.slopes import Watch

__all__ = ["Names", "no_such_axis"]


def no_such_axis(name: str, dim: int, path: str | None = None) -> SpecError:
    """Return the error for a coordinate that a mesh of `dim` dimensions does not have."""
    return SpecError(f"{name!r} does not exist in {dim} dimensions", path=path)


class Names(Mapping[str, Ranked]):
    """What an expression can see at some sites, looked up when it asks; numbers of the body without sites."""

    def __init__(self, scene: Scene, sites: Sites | None, watch: Watch | None = None) -> None:
        self.scene, self._sites, self._watch = scene, sites, watch

    @property
    def sites(self) -> Sites:
        """Where."""
        if self._sites is None:
            raise SpecError("this law is one number for the whole body")
        return self._sites

    def __getitem__(self, name: str) -> Ranked:
        found = self._found(name)
        given = name in self.scene.declared or name in AXES or self.scene.blaming
        return found if self._watch is None or not given else self._watch.argument(name, found)

    def _found(self, name: str) -> Ranked:
        if name in self.scene.known:
            return Ranked(self.scene.known[name])
        if name in self.scene.declared:
            constant = self.scene.declared[name].on == "constant" and self._sites is None
            return self.scene.constant(name) if constant else self.scene.parameter(name, self.sites)
        if name == "t" and self.scene.time is not None:
            return Ranked(self.scene.time)
        if name in AXES:
            x = self.sites.x
            axis = AXES.index(name)
            if axis >= x.shape[-1]:
                raise no_such_axis(name, x.shape[-1])
            return Ranked(x[..., axis])
        if name in self.scene.model.spec.derived_of:
            return self.scene.model.derived(name, self.scene, self.sites)
        return self.sites.field(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0
