r"""What one law adds to the load, as a matrix on its values at the quadrature points.

A load is linear in a law f but for a constant: :math:`F_i = F^0_i + \sum_p S_{ip} f_p` over the points p of its cells
or facets. S is found by assembling, instead of the law, what is one at one point of every site and zero at the others,
and not adding it up. A batch of laws is then evaluated and multiplied by S window after window of sites, so that
its values at all points never exist at once.
"""

from __future__ import annotations

from math import isfinite, prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.linalg.kernels import sparse as kernels
from torch_sla.linalg.kernels.arguments import empty
from torch_sla.linalg.kernels.threads import SMALL_WORK, resolve_threads, spread
from torch_sla.problems.expression import Ranked
from torch_sla.problems.lowering.cache import structures
from torch_sla.problems.lowering.members import Members, PartedLaw
from torch_sla.problems.lowering.scene import Scene
from torch_sla.problems.lowering.sites import BasisSites, RestrictedSites, Sites
from torch_sla.problems.lowering.windows import Window, Windows, columns_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping


__all__ = ["Share", "Silent"]

_WINDOW = 2_000_000
"""Bytes of the values in one window, all members of a thread."""
_FEW = 8
"""Members that a thread has at least: vectors of the processor."""


class Silent(Scene):
    """A scene where some laws of the load are zero.

    Parameters
    ----------
    scene
        The scene.
    paths
        Of the laws.

    Attributes
    ----------
    met
        Each of these laws that was evaluated: the law, where, and its shape at one point.
    """

    def __init__(self, scene: Scene, paths: Collection[str]) -> None:
        super().__init__(scene.model, scene.given, scene.geometry)
        self.__dict__.update(scene.__dict__)
        self.paths = paths
        self.met: dict[str, tuple[Any, BasisSites, tuple[int, ...]]] = {}

    def evaluate(self, value: Any, sites: Sites, path: str) -> Ranked:
        """Evaluate a law at sites; see `Scene.evaluate`."""
        if path not in self.paths or not isinstance(sites, BasisSites):
            return super().evaluate(value, sites, path)
        first = torch.zeros(min(sites.n, 1), dtype=torch.int64, device=self.model.device)
        like = super().evaluate(value, RestrictedSites(sites, first), path)
        shape = tuple(like.tensor.shape[like.tensor.ndim - like.rank :])
        self.met[path] = (value, sites, shape)
        return Ranked(like.tensor.new_zeros(1, 1, *shape), like.rank)

    def points(self, path: str) -> int:
        """Return how many numbers a law has at one site."""
        _, sites, shape = self.met[path]
        return sites.q * prod(shape)


class _Units(Silent):
    """A scene where one law is nothing first, and then one at one point of each site after the other.

    Attributes
    ----------
    local
        What the law adds to the unknowns of each site ``[1 + points, n, n_local]``; None where it loads nothing.
    """

    def __init__(self, silent: Silent, path: str) -> None:
        super().__init__(silent, silent.paths)
        _, sites, shape = silent.met[path]
        units = torch.eye(silent.points(path), dtype=self.model.dtype, device=self.model.device)
        every = torch.cat([torch.zeros_like(units[:1]), units])
        self._units = every.reshape(-1, 1, sites.q, *shape).expand(-1, sites.n, sites.q, *shape)
        self._path, self._rank = path, len(shape)
        self.local: Tensor | None = None

    def evaluate(self, value: Any, sites: Sites, path: str) -> Ranked:
        """Evaluate a law at sites; see `Scene.evaluate`."""
        if path == self._path:
            return Ranked(self._units, self._rank)
        return super().evaluate(value, sites, path)

    def summed(self, parts: Mapping[str, Tensor], facets: Tensor | None = None) -> Tensor:
        """Keep what depends on the law, before it is summed."""
        del facets  # those of its sites
        if any(part.ndim > 2 for part in parts.values()):
            local = self.model.numbering.joined(parts)
            self.local = local if self.local is None else self.local + local
        return torch.zeros((), dtype=self.model.field_dtype, device=self.model.device)


class Share:
    """What one law of a batch adds to a load.

    Parameters
    ----------
    silent
        The scene without it, after a load was made.
    path
        Of the law.
    loads
        Makes a load of a scene.
    free
        Mask of the unknowns whose loads count ``[n]``.
    members
        How many are evaluated at once.
    names
        Parameters that change from member to member.
    """

    def __init__(
        self,
        silent: Silent,
        path: str,
        loads: Callable[[Scene], Tensor],
        free: Tensor,
        members: int,
        names: Collection[str],
    ) -> None:
        units = _Units(silent, path)
        loads(units)
        law, sites, _ = silent.met[path]
        self._law = PartedLaw(law, sites, path, silent, names)
        self._points = sites.n * silent.points(path)
        self._windows: list[Window] = []
        local = units.local
        if local is None:
            return
        local = local[1:] - local[:1] if bool(local[0].any()) else local[1:]
        columns = columns_of(local)
        if columns is None:
            return
        each = -(-members // self._team(members))
        width = max(1, _WINDOW // (8 * silent.points(path) * each))
        facets = sites.basis.facets
        at = None if facets is None else facets.numpy().tobytes()

        def make() -> Windows:
            return Windows(_rows(silent, sites), free, columns, len(local), width)

        kind = (at, str(columns.tolist()), len(local), width)
        windows = structures.get(("windows", silent.model.compiled.key, *kind), make)
        self._windows = windows.every
        self._values = torch.index_select(
            local.flatten(), 0, windows.slots, out=empty((len(windows.slots),), local.dtype)
        )

    def _team(self, members: int) -> int:
        return resolve_threads(None, min(members * self._points, members // _FEW * SMALL_WORK))

    def add(self, load: Tensor, scene: Scene, batch: tuple[int, ...]) -> None:
        """Add what the laws of a batch load to ``[n, members]``.

        Parameters
        ----------
        scene
            Their values.
        batch
            Dimensions of the batch, which the members are in the order of.

        Raises
        ------
        ArgumentError
            If a law is not finite.
        """
        count = load.shape[1]
        team = self._team(count)

        @torch.no_grad()
        def through(k: int) -> None:
            some = slice(k * count // team, (k + 1) * count // team)
            members = Members(scene, batch, some, self._law)
            for window in self._windows:
                self._add(load[:, some], members, window)

        spread(through, range(team), count * self._points)

    def _add(self, load: Tensor, members: Members, window: Window) -> None:
        columns = members.columns(window.sites)
        more = kernels.spmm(window.crow, window.ccol, self._values[window.slots], columns)
        if not isfinite(abs(more.sum().item())):
            members.blame(window.sites)
        if isinstance(window.rows, slice):
            load[window.rows].add_(more)
        else:
            load.index_put_((window.rows,), more.to(load.dtype), accumulate=True)


def _rows(scene: Scene, sites: BasisSites) -> Tensor:
    """Return the unknowns that each site loads ``[n, n_local]``."""
    cells = torch.arange(sites.n)
    if sites.basis.facets is not None:
        cells = sites.basis.mesh.facet_cells[sites.basis.facets]
    return scene.model.numbering.all.slots_of(cells, 1).reshape(sites.n, -1).int()
