r"""What one law adds to the load, as a matrix on its values at the quadrature points.

A load is linear in a law f but for a constant: :math:`F_i = F^0_i + \sum_p S_{ip} f_p` over the points p of its cells
or facets. S is found by assembling, instead of the law, what is one at one point of every site and zero at the others,
and not adding it up. A batch of laws is then evaluated and multiplied by S window after window of sites, so that
its values at all points never exist at once.
"""

from __future__ import annotations

from itertools import pairwise
from math import isfinite, prod
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from torch_sla.linalg.kernels import sparse as kernels
from torch_sla.linalg.kernels.threads import SMALL_WORK, resolve_threads, spread
from torch_sla.problems.expression import Ranked
from torch_sla.problems.lowering.members import Members, PartedLaw
from torch_sla.problems.lowering.scene import Scene
from torch_sla.problems.lowering.sites import BasisSites, RestrictedSites, Sites

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


class _Window(NamedTuple):
    """Consecutive sites, the unknowns that they load, and the matrix from their points to these."""

    sites: slice
    rows: Tensor | slice
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
        self._windows: list[_Window] = []
        if units.local is not None:
            each = -(-members // self._team(members))
            width = max(1, _WINDOW // (8 * silent.points(path) * each))
            self._windows = _windows(units.local, _rows(silent, sites), free, width)

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
                _add(load[:, some], members, window)

        spread(through, range(team), count * self._points)


def _add(load: Tensor, members: Members, window: _Window) -> None:
    columns = members.at(window.sites)
    more = kernels.spmm(window.crow, window.ccol, window.values, columns)
    if not isfinite(abs(more.sum().item())):
        members.blame(window.sites)
    if isinstance(window.rows, slice):
        load[window.rows] += more
    else:
        load.index_put_((window.rows,), more.to(load.dtype), accumulate=True)


def _rows(scene: Scene, sites: BasisSites) -> Tensor:
    """Return the unknowns that each site loads ``[n, n_local]``."""
    cells = torch.arange(sites.n)
    if sites.basis.facets is not None:
        cells = sites.basis.mesh.facet_cells[sites.basis.facets]
    return scene.model.numbering.all.slots_of(cells, 1).reshape(sites.n, -1).int()


def _windows(local: Tensor, rows: Tensor, free: Tensor, width: int) -> list[_Window]:
    """Arrange what points load ``[1 + points, n, n_local]`` in rows of the unknowns ``[n, n_local]``.

    Parameters
    ----------
    width
        Sites of a window.
    """
    (n, each), count = rows.shape, len(local) - 1
    # By unknown, and then by window, each in the order of before.
    order = kernels.segment_order(rows.flatten(), len(free))[1]
    site = order.div(each, rounding_mode="floor")
    ends, again = kernels.segment_order(site.div(width, rounding_mode="floor"), -(-n // width))
    order, site = order[again], site[again]
    row = rows.flatten()[order]
    begins = torch.ones(len(row), dtype=torch.bool)
    begins[1:] = row[1:] != row[:-1]
    begins[ends[:-1].long()] = True
    first = torch.nonzero(begins)[:, 0]
    # Slots: an entry has one for each point, of which those count that are not zero.
    values = ((local[1:] - local[0]) * free[rows.long()]).flatten(1).index_select(1, order).T
    column = (site % width * count)[:, None] + torch.arange(count, dtype=site.dtype)
    bounds, there = torch.nn.functional.pad(first, (0, 1), value=len(row)), values != 0
    if bool(there.all()):
        bounds, values, column = bounds * count, values.flatten(), column.flatten()
    else:
        bounds = torch.nn.functional.pad(there.sum(1).cumsum(0), (1, 0))[bounds]
        values, column = values[there], column[there]
    crow, row = bounds.to(column.dtype), row[first]
    found = []
    cuts = torch.searchsorted(first, ends.long()).tolist()
    for k, (a, b) in enumerate(pairwise(cuts)):
        slots, some = slice(int(bounds[a]), int(bounds[b])), row[a:b]
        low, high = int(some[0]), int(some[-1]) + 1
        found.append(
            _Window(
                slice(k * width, min((k + 1) * width, n)),
                slice(low, high) if high - low == b - a else some.long(),
                crow[a : b + 1] - crow[a],
                column[slots],
                values[slots],
            )
        )
    return found
