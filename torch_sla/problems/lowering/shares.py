r"""What one law adds to the load, as a matrix on its values at the quadrature points.

A load is linear in a law f but for a constant: :math:`F_i = F^0_i + \sum_p S_{ip} f_p` over the points p of its cells
or facets. S is found by assembling, instead of the law, what is one at one point of every site and zero at the others,
and not adding it up. A batch of laws is then evaluated and multiplied by S window after window of sites, so that
its values at all points never exist at once.
"""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from torch_sla.linalg.kernels import sparse as kernels
from torch_sla.linalg.kernels.detection import all_finite
from torch_sla.linalg.kernels.threads import resolve_threads, spread
from torch_sla.problems.expression import Ranked
from torch_sla.problems.lowering.affine import batched
from torch_sla.problems.lowering.scene import Scene
from torch_sla.problems.lowering.sites import BasisSites, RestrictedSites, Sites

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from torch_sla.assembly.dofs import DofMap

__all__ = ["Share", "Silent"]

_WINDOW = 2_000_000
"""Bytes of the values in one window, all members."""


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


class _Members(Scene):
    """A scene whose batch lies where the points of a site do: ``[1, members, *shape]``.

    So the members of one point are next to each other, as right-hand sides of a solver are.
    """

    def __init__(self, scene: Scene, batch: tuple[int, ...]) -> None:
        super().__init__(scene.model, scene.given, scene.geometry)
        self.__dict__.update(scene.__dict__)
        self._batch, self._names = batch, batched(scene)

    def constant(self, name: str) -> Ranked:
        """Return a parameter that is the same everywhere."""
        found = super().constant(name)
        if name not in self._names:
            return found
        shape = self.declared[name].shape
        value = found.tensor.squeeze((-1 - len(shape), -2 - len(shape)))
        return Ranked(value.expand(*self._batch, *shape).reshape(1, -1, *shape), len(shape))


class _Points(Sites):
    """The points of some consecutive sites, one by one."""

    def __init__(self, base: BasisSites, some: slice, placed: dict[Any, Tensor]) -> None:
        self._base, self._some, self._placed = base, some, placed
        self.n, self.q = (some.stop - some.start) * base.q, 1
        self.owners = None if base.owners is None else self._flat(base.owners[:, None], 0)[:, 0]

    @property
    def x(self) -> Tensor:
        """Coordinates ``[n, 1, dim]``."""
        return self._flat(self._base.x, 1)

    def place(self, values: Tensor, on: str, rank: int) -> Tensor:
        """Bring values here; see `Sites.place`."""
        key = (id(values), on)
        if key not in self._placed:
            self._placed[key] = self._base.place(values, on, rank)
        return self._flat(self._placed[key], rank)

    def field(self, name: str) -> Ranked:
        """Return the normal."""
        value, rank = self._base.field(name)
        return Ranked(self._flat(value, rank), rank)

    def _flat(self, value: Tensor, rank: int) -> Tensor:
        """Take the sites out of ``[n, q|1, *shape]``: ``[n q, 1, *shape]``."""
        some = value[self._some]
        full = some.expand(len(some), self._base.q, *value.shape[value.ndim - rank :])
        return full.flatten(0, 1).unsqueeze(1)


class _Window(NamedTuple):
    """Consecutive sites, the unknowns that they load, and the matrix from their points to these."""

    sites: slice
    rows: Tensor
    crow: Tensor
    ccol: Tensor
    values: Tensor


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
    """

    def __init__(
        self,
        silent: Silent,
        path: str,
        loads: Callable[[Scene], Tensor],
        free: Tensor,
        members: int,
    ) -> None:
        units = _Units(silent, path)
        loads(units)
        self._law, self._sites, _ = silent.met[path]
        self._path, self._count = path, silent.points(path)
        self._placed: dict[Any, Tensor] = {}
        self._parts: list[list[_Window]] = []
        self._late: list[_Window] = []
        if units.local is not None:
            self._cut(units.local, silent.model.numbering.all, free, members)

    def _cut(self, local: Tensor, dofs: DofMap, free: Tensor, members: int) -> None:
        """Make windows, and parts of them that do not load the same unknowns; what is left comes later."""
        basis, n = self._sites.basis, self._sites.n
        cells = torch.arange(n) if basis.facets is None else basis.mesh.facet_cells[basis.facets]
        rows = dofs.slots_of(cells, 1).reshape(n, -1)
        width = max(1, _WINDOW // (8 * self._count * members))
        starts = range(0, n, width)

        def made(low: int) -> _Window:
            some = slice(low, min(low + width, n))
            return _window(some, local[:, some], rows[some], free)

        windows = spread(made, starts, 4 * local.numel())
        team = resolve_threads(None, n * self._count * members)
        edges = [round(k * len(windows) / team) for k in range(team + 1)]
        owner = torch.full((dofs.n,), -1)
        for k, (a, b) in enumerate(pairwise(edges)):
            part: list[_Window] = []
            for window in windows[a:b]:
                before = owner[window.rows]
                if bool(((before == -1) | (before == k)).all()):
                    owner[window.rows] = k
                    part.append(window)
                else:
                    self._late.append(window)
            self._parts.append(part)

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
        members = _Members(scene, batch)
        members.trial = True  # sums are looked at, which are fewer

        @torch.no_grad()
        def through(part: list[_Window]) -> None:
            for window in part:
                self._add(load, members, window)

        spread(through, self._parts, load.shape[1] * self._sites.n * self._count)
        through(self._late)

    def _add(self, load: Tensor, members: _Members, window: _Window) -> None:
        sites = _Points(self._sites, window.sites, self._placed)
        value = members.evaluate(self._law, sites, self._path).tensor
        full = value.expand(sites.n, load.shape[1], *value.shape[2:])
        columns = full.movedim(1, -1).reshape(-1, load.shape[1])
        more = kernels.spmm(window.crow, window.ccol, window.values, columns)
        if not bool(all_finite(more)):
            members.trial = False
            members.evaluate(self._law, sites, self._path)
        load.index_add_(0, window.rows, more.to(load.dtype))


def _window(sites: slice, local: Tensor, dofs: Tensor, free: Tensor) -> _Window:
    """Arrange what points load ``[1 + points, sites, n_local]`` in rows of the unknowns ``[sites, n_local]``."""
    rows, row = dofs.unique(return_inverse=True)
    count = len(local) - 1
    entries = ((local[1:] - local[0]) * free[dofs]).flatten(1)
    offsets, order = kernels.segment_order(row.flatten().int(), len(rows))
    values = entries.index_select(1, order).T
    first = order.div(dofs.shape[1], rounding_mode="floor") * count
    column = first[:, None] + torch.arange(count, dtype=first.dtype)
    there = values != 0
    if bool(there.all()):
        return _Window(sites, rows, offsets * count, column.flatten(), values.flatten())
    ends = torch.nn.functional.pad(there.sum(1).cumsum(0), (1, 0))
    crow = ends[offsets.long()].to(column.dtype)
    return _Window(sites, rows, crow, column[there], values[there])
