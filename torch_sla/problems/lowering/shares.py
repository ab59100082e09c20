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

from torch_sla.linalg.kernels import sparse as kernels, tables
from torch_sla.linalg.kernels.arguments import empty
from torch_sla.linalg.kernels.threads import SMALL_WORK, resolve_threads, spread
from torch_sla.problems.expression import Ranked
from torch_sla.problems.lowering.cache import structures
from torch_sla.problems.lowering.members import Members, PartedLaw
from torch_sla.problems.lowering.scene import Scene
from torch_sla.problems.lowering.sites import BasisSites, RestrictedSites, Sites
from torch_sla.problems.lowering.tabled import Tabled, TabledLaw
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
        self._units = every.reshape(-1, 1, sites.q, *shape)
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


class _Matrix:
    """The matrix that takes a law at the points of its sites to the load, without its rows of held unknowns."""

    def __init__(
        self, silent: Silent, path: str, free: Tensor, local: Tensor, columns: Tensor
    ) -> None:
        self._silent, self._free, self._columns = silent, free, columns
        self.sites, self.points, self.local = silent.met[path][1], silent.points(path), local

    @classmethod
    def of(
        cls, silent: Silent, path: str, loads: Callable[[Scene], Tensor], free: Tensor
    ) -> _Matrix | None:
        """Assemble it; None where the law loads nothing."""
        units = _Units(silent, path)
        loads(units)
        local = units.local
        if local is None:
            return None
        local = local[1:] - local[:1] if bool(local[0].any()) else local[1:]
        columns = columns_of(local)
        return None if columns is None else cls(silent, path, free, local, columns)

    def windows(self, width: int) -> Windows:
        """Return its pattern in windows of so many sites."""
        facets, key = self.sites.basis.facets, self._silent.model.compiled.key
        at = None if facets is None else facets.numpy().tobytes()

        def make() -> Windows:
            rows = _rows(self._silent, self.sites)
            return Windows(rows, self._free, self._columns, self.points, width)

        kind = (at, str(self._columns.tolist()), self.points, width)
        return structures.get(("windows", key, *kind), make)


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
        law, sites, _ = silent.met[path]
        self._matrix = _Matrix.of(silent, path, loads, free)
        self._law = PartedLaw(law, sites, path, silent, names)
        self._tabled = TabledLaw.of(self._law, silent, names)
        self._points, self._members = sites.n * silent.points(path), members

    def _team(self, members: int) -> int:
        return resolve_threads(None, min(members * self._points, members // _FEW * SMALL_WORK))

    def add(
        self, load: Tensor, scene: Scene, batch: tuple[int, ...], start: Tensor | None = None
    ) -> None:
        """Add what the laws of a batch load to ``[n, members]``.

        Parameters
        ----------
        scene
            Their values.
        batch
            Dimensions of the batch, which the members are in the order of.
        start
            What all loads begin with ``[n]``; without it, what they hold.

        Raises
        ------
        ArgumentError
            If a law is not finite.
        """
        matrix, products = self._matrix, None
        if matrix is not None and self._tabled is not None:
            every = slice(0, load.shape[1])
            with torch.no_grad():
                products = self._tabled.tabled(Members(scene, batch, every, self._law))
        if matrix is not None and products is not None:
            _multiply(matrix, load, products, start)
            return
        if start is not None:
            load.copy_(start[:, None])
        if matrix is not None:
            self._evaluate(matrix, load, scene, batch)

    def _evaluate(
        self, matrix: _Matrix, load: Tensor, scene: Scene, batch: tuple[int, ...]
    ) -> None:
        """Add the law at all points, window by window."""
        count = load.shape[1]
        team = self._team(count)
        each = -(-self._members // self._team(self._members))
        windows = matrix.windows(max(1, _WINDOW // (8 * matrix.points * each)))
        values = empty((len(windows.slots),), matrix.local.dtype)
        torch.index_select(matrix.local.flatten(), 0, windows.slots, out=values)

        @torch.no_grad()
        def through(k: int) -> None:
            some = slice(k * count // team, (k + 1) * count // team)
            members = Members(scene, batch, some, self._law)
            for window in windows.every:
                columns = members.columns(window.sites)
                more = kernels.spmm(window.crow, window.ccol, values[window.slots], columns)
                if not isfinite(abs(more.sum().item())):
                    members.blame(window.sites)
                _add(load[:, some], window, more)

        spread(through, range(team), count * self._points)


def _multiply(matrix: _Matrix, load: Tensor, products: list[Tabled], start: Tensor | None) -> None:
    """Add products of tables to a load, or to what it begins with."""
    windows = matrix.windows(matrix.sites.n)
    window = next(iter(windows.every), None)  # none where all unknowns are held
    rows, same = slice(0, 0), load.dtype == matrix.local.dtype
    if window is not None and isinstance(window.rows, slice) and same:
        rows = window.rows
    if start is not None:
        for part in (slice(0, rows.start), slice(rows.stop, None)):
            load[part] = start[part, None]
    if window is None:
        return
    direct = rows.stop > 0
    y = load[rows] if direct else matrix.local.new_zeros(len(window.crow) - 1, load.shape[1])
    first = start[rows] if direct and start is not None else None
    for one in products:
        tables.add_products(
            y,
            window.crow,
            window.ccol,
            windows.slots,
            matrix.local,
            one.tables,
            one.levels,
            one.weight,
            component=one.component,
            components=one.components,
            start=first,
        )
        first = None
    if not direct:
        _add(load, window, y)


def _add(load: Tensor, window: Window, more: Tensor) -> None:
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
