"""The frame of a lowered problem: mesh, numbering, selections, and how values come to sites."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, cast

import torch
from torch import Tensor

from torch_sla.assembly.mesh import raised
from torch_sla.errors import ArgumentError, DTypeError, MeshError, SpecError
from torch_sla.problems.lowering.compiled import (
    Compiled,
    Selection,
    Unknown,
    compiled,
    structure_key,
)
from torch_sla.problems.lowering.conditions import check_coordinates, check_overlap, given_values
from torch_sla.problems.lowering.device import Placement, solver_device
from torch_sla.problems.lowering.mesh import build_mesh
from torch_sla.problems.lowering.parameters import Given, resolve
from torch_sla.problems.lowering.scene import Geometry, Scene
from torch_sla.problems.lowering.selection import select_facets, tag_entries
from torch_sla.problems.lowering.timing import in_load, timed_laws
from torch_sla.problems.specs.arrays import numbers
from torch_sla.problems.specs.boundary import Dirichlet
from torch_sla.problems.specs.laws import laws
from torch_sla.problems.specs.value import ArrayFile, Formula, FrozenMap, Grid, Parameter, leaves

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch_sla.assembly import Dofs, Element, Mesh
    from torch_sla.problems.files.loader import DataPath
    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.lowering.numbering import Numbering
    from torch_sla.problems.lowering.part import PartOfMesh
    from torch_sla.problems.specs.problem import FieldProblem

__all__ = ["Frame"]


def interpolated(nodal: Tensor, cell_nodes: Tensor, element: Element, mesh: Mesh) -> Tensor:
    """Evaluate nodal values ``[*batch, nodes, m]`` of an element on the same cells at the points of a mesh."""
    table = element.values(mesh.geometry.nodes.to(nodal))
    local = nodal.index_select(-2, cell_nodes.flatten()).unflatten(-2, tuple(cell_nodes.shape))
    flat = torch.einsum("kb,...cbi->...cki", table, local).flatten(-3, -2)
    place = torch.empty(mesh.n_points, dtype=torch.int64, device=nodal.device)
    place[mesh.cells.flatten()] = torch.arange(mesh.cells.numel(), device=nodal.device)
    return flat.index_select(-2, place)


class Frame:
    """What a declaration is before anything is computed.

    Parameters
    ----------
    spec
        The declaration.
    part
        A part of the mesh and the device it is solved on, of a problem that several processes share; None for
        the whole.

    Attributes
    ----------
    compiled
        The structure, shared by all problems with the same structural hash.
    mesh
        The mesh with the declared coordinates.
    """

    inertial: ClassVar[frozenset[str]] = frozenset({"capacity"})
    """Laws that only the mass uses."""
    measuring: ClassVar[frozenset[str]] = frozenset()
    """Laws that `measure` uses."""
    loading: ClassVar[frozenset[str]] = frozenset({"source", "body_force"})
    multiplied: ClassVar[tuple[frozenset[str], ...]] = ()
    """Laws of the cells that only the load uses."""

    def __init__(self, spec: FieldProblem, part: PartOfMesh | None = None) -> None:
        self.spec, self.part = spec, part
        self.declared = spec.declared
        self.dtype: torch.dtype = getattr(torch, spec.solver.dtype)
        self.field_dtype = self.dtype.to_complex() if spec.is_complex else self.dtype
        self.ranks = spec.fields
        mesh = build_mesh(spec.mesh) if part is None else part.mesh
        self.unknowns = self.unknowns_of(spec, mesh.dim)
        selections = tuple(self._selection(mesh, i) for i in range(len(spec.boundary)))
        check_overlap(spec, selections, mesh)
        size = self._size(mesh)
        if part is not None:
            self.device = part.device
            self.placement = Placement(str(part.device), "of the process that has this part")
        else:
            self.device, self.placement = solver_device(
                spec.solver.device,
                size,
                self._travelling(mesh, size),
                definite=self._physics.definite is True,
                backend=spec.solver.backend,
            )
        # Places are chosen on the host, once; everything after that happens on the device.
        mesh = mesh.to(self.device)
        selections = tuple(
            replace(
                s,
                facets=s.facets.to(self.device),
                to=None if s.to is None else s.to.to(self.device),
            )
            for s in selections
        )
        numeric = f"{self.field_dtype} {self.device}"
        self.compiled: Compiled = (
            compiled(mesh, self.unknowns, selections, numeric)
            if part is None
            else Compiled(
                structure_key(mesh, self.unknowns, selections, numeric),
                *(mesh, self.unknowns, selections),
            )
        )
        shared = self.compiled.mesh
        self.mesh: Mesh = shared if torch.equal(shared.points, mesh.points) else mesh
        self.selections = selections
        self._entries: dict[tuple[tuple[str, ...], str], Tensor] = {}
        self._arrays: dict[tuple[str, str | None], Tensor] = {}

    @staticmethod
    def unknowns_of(spec: Any, dim: int) -> tuple[Unknown, ...]:
        """Choose element and components of each field."""
        return tuple(Unknown(n, spec.order, dim if r else 0) for n, r in spec.fields.items())

    def _selection(self, mesh: Mesh, i: int) -> Selection:
        condition = self.spec.boundary[i]
        unknown = condition.unknown or next(iter(self.ranks))
        on = getattr(condition, "on", None)
        facets = torch.zeros(0, dtype=torch.int64)
        if on is not None:
            facets = self._select(mesh, on, f"boundary.{i}.on")
        to = getattr(condition, "to", None)
        if to is not None:
            to = self._select(mesh, to, f"boundary.{i}.to")
            if bool(torch.isin(facets, to).any()):
                raise SpecError(
                    "a facet cannot repeat itself; name two sides", path=f"boundary.{i}.to"
                )
        component = getattr(condition, "component", None)
        size = {u.name: u.components for u in self.unknowns}[unknown]
        if component is not None and component >= size:
            raise SpecError(
                f"{unknown!r} has components 0 to {size - 1}; received {component}",
                path=f"boundary.{i}.component",
            )
        at = getattr(condition, "at", None) if condition.type == "dirichlet" else None
        held, path = None, f"boundary.{i}.at"
        if at is not None:
            known = None if self.part is None else self.part.held.get(path)
            held = self._corners(mesh, at, path) if known is None else known
        return Selection(condition.type, facets, unknown, component, to, held)

    @staticmethod
    def _corners(mesh: Mesh, at: tuple[tuple[float, ...], ...], path: str) -> Tensor:
        """Find the corners of cells at some positions."""
        check_coordinates(at, mesh.dim, path)
        corners = mesh.cells[:, : mesh.reference.n_vertices].unique().cpu()
        x = mesh.points.cpu()[corners]
        size = float((x.amax(0) - x.amin(0)).amax())
        found = []
        for j, point in enumerate(at):
            away = torch.linalg.vector_norm(x - torch.tensor(point, dtype=x.dtype), dim=-1)
            nearest = int(away.argmin())
            if float(away[nearest]) > 1e-8 * size:
                raise SpecError(
                    f"no corner of a cell lies at {point}; the nearest one is {tuple(x[nearest].tolist())}",
                    path=f"{path}.{j}",
                )
            found.append(corners[nearest])
        return torch.stack(found).to(mesh.cells.device)

    def _size(self, mesh: Mesh) -> int:
        """About how many unknowns there are, before they are numbered."""
        straight = mesh.cells.shape[1] == mesh.reference.n_vertices
        size: int = sum(
            mesh.n_points * max(u.components, 1) * (2**mesh.dim if u.order == 2 and straight else 1)
            for u in self.unknowns
        )
        return size

    def _travelling(self, mesh: Mesh, size: int) -> int:
        """Bytes of parameters in, fields out, and the same back for gradients."""
        homes = {
            "constant": 1,
            "cells": mesh.n_cells,
            "facets": mesh.n_facets,
            "nodes": mesh.n_points,
            "quadrature": 4 * mesh.n_cells,
        }
        numbers: int = sum(homes[p.on] * prod(p.shape) for p in self.declared.values())
        size_of: int = self.field_dtype.itemsize
        return 2 * size_of * (numbers + size)

    # -- structure ------------------------------------------------------------------------------

    @property
    def _physics(self) -> Model:
        """The frame as the physics it is; frames are never made on their own."""
        return cast("Model", self)

    @property
    def numbering(self) -> Numbering:
        """Numbering of all unknowns."""
        return self.compiled.numbering

    @property
    def dofs(self) -> Dofs:
        """Numbering of the first unknown."""
        return next(iter(self.numbering.fields.values()))

    @property
    def boundary(self) -> Tensor:
        """The facets of this mesh that lie in the boundary of the whole."""
        known = None if self.part is None else self.part.outer
        return self.mesh.boundary if known is None else known

    @cached_property
    def degree(self) -> int:
        """Degree of the quadrature."""
        return max(2 * max(u.order for u in self.unknowns), 1)

    @property
    def nodal(self) -> Dofs:
        """Numbering of the mesh points."""
        return self.compiled.nodal

    @cached_property
    def geometry(self) -> Geometry:
        """Bases on the declared coordinates."""
        return Geometry(self._physics, self.mesh.points.to(self.dtype), moved=False)

    @cached_property
    def free(self) -> Tensor:
        """Mask of the dofs without a given value ``[n]``."""
        return self.compiled.constraint.free

    @cached_property
    def counts(self) -> dict[str, int]:
        """Number of sites of each kind."""
        mesh = self.mesh
        return {
            "cells": mesh.n_cells,
            "facets": mesh.n_facets,
            "nodes": mesh.n_points,
            "quadrature": mesh.n_cells * len(self.geometry.cells.rule),
        }

    @property
    def whole_counts(self) -> dict[str, int]:
        """Number of sites of each kind in the whole mesh, of which this may be a part."""
        if self.part is None or not self.part.counts:
            return self.counts
        cells = self.part.counts["cells"]
        return {**self.part.counts, "quadrature": cells * len(self.geometry.cells.rule)}

    def localised(self, values: Tensor, home: str, dim: int) -> Tensor:
        """Take what lives here from values on all sites of the whole mesh, along `dim`."""
        if self.part is None:
            return values
        return self.part.localised(values, home, dim, len(self.geometry.cells.rule))

    @cached_property
    def reaching(self) -> frozenset[str]:
        """Names of the parameters that a steady solve or an output uses, in some cell at least."""
        return self.names_in(lambda path: path[0] not in self.inertial)

    @cached_property
    def reaching_mass(self) -> frozenset[str]:
        """Names of the parameters that the mass matrix uses."""
        return self.names_in(lambda path: path[0] in self.inertial or path[0] in self.measuring)

    @cached_property
    def names_of_measure(self) -> frozenset[str]:
        """Names of the parameters that a length or area element depends on."""
        return self.names_in(lambda path: path[0] in self.measuring)

    @cached_property
    def timed(self) -> tuple[str, ...]:
        """Paths of the laws that depend on time."""
        paths = timed_laws(self.spec, self.declared)
        return tuple(".".join(str(part) for part in path) for path in paths)

    @cached_property
    def timed_matrix(self) -> bool:
        """Whether a law that depends on time reaches the matrix, the tangent or the mass."""
        paths = timed_laws(self.spec, self.declared)
        return any(not in_load(path, self.loading) for path in paths)

    @cached_property
    def timed_mass(self) -> str | None:
        """Path of a law of the mass that depends on time."""
        inertial = self.inertial | self.measuring
        paths = timed_laws(self.spec, self.declared)
        return next((str(path[0]) for path in paths if path[0] in inertial), None)

    acting: frozenset[tuple[DataPath, int]] | None = None
    """`acting_entries` of the whole, where this is a part; None for those of this mesh."""

    def acting_laws(self) -> Iterator[tuple[DataPath, Any]]:
        """Yield paths and values of the laws that count: nothing overridden, of a map what some cell uses."""
        acting = frozenset(self.acting_entries()) if self.acting is None else self.acting
        for (path, i), value in self.entries_of_laws():
            if (path, i) in acting:
                yield path, value

    def entries_of_laws(self) -> Iterator[tuple[tuple[DataPath, int], Any]]:
        """Yield every law, of a map each entry, by its path and the number of the entry."""
        for law in laws(self.spec):
            items = law.value.values() if isinstance(law.value, FrozenMap) else (law.value,)
            for i, item in enumerate(items):
                yield (law.path, i), item

    def acting_entries(self) -> Iterator[tuple[DataPath, int]]:
        """Yield which of `entries_of_laws` count on this mesh."""
        for law in laws(self.spec):
            if self._overridden(law.path):
                continue
            used = [0]
            if isinstance(law.value, FrozenMap):
                path = ".".join(str(part) for part in law.path)
                used = self.tag_entries(tuple(law.value), path).unique().tolist()
            yield from ((law.path, i) for i in used)

    def names_in(self, wanted: Callable[[DataPath], bool]) -> frozenset[str]:
        """Return the names of the parameters in the laws at some paths."""
        names: set[str] = set()
        for path, value in self.acting_laws():
            if not wanted(path):
                continue
            for _, leaf in leaves(value):
                if isinstance(leaf, Parameter):
                    names.add(leaf.name)
                elif isinstance(leaf, Formula):
                    names |= leaf.expression.names & self.declared.keys()
        return frozenset(names)

    def _overridden(self, path: DataPath) -> bool:
        """Whether a law is the value of a Dirichlet condition that others replace everywhere."""
        if len(path) < 2 or path[0] != "boundary" or not isinstance(path[1], int):
            return False
        if not isinstance(self.spec.boundary[path[1]], Dirichlet):
            return False
        return not bool((self.compiled.owner == path[1]).any())

    def dof_points(self, points: Tensor | None = None) -> Tensor:
        """Return where the unknowns live ``[n_nodes, dim]``: the nodes of the first field."""
        return self.dofs.points(self.mesh.points if points is None else points)

    @cached_property
    def full_mesh(self) -> Mesh:
        """The mesh with a point at every node of fields of order 2, for viewers."""
        straight = self.mesh.cells.shape[1] == self.mesh.reference.n_vertices
        return (
            raised(self.mesh) if straight and max(u.order for u in self.unknowns) > 1 else self.mesh
        )

    def at_points(self, u: Tensor, name: str | None = None, *, full: bool = False) -> Tensor:
        """Evaluate a field at the mesh points: ``[*batch, n]`` to ``[*batch, n_points(, components)]``.

        Parameters
        ----------
        full
            Whether the points are those of `full_mesh`.
        """
        name = name or next(iter(self.ranks))
        mesh, dofs = self.full_mesh if full else self.mesh, self.numbering.fields[name]
        nodal = self.numbering.part(u, name).unflatten(-1, (-1, dofs.components))
        if mesh.cells.shape[1] == mesh.reference.n_vertices:
            # Nodes of any element start with the points of a straight mesh.
            found = nodal[..., : mesh.n_points, :]
        else:
            found = interpolated(nodal, dofs.cell_nodes, dofs.element, mesh)
        scalar: Tensor = found[..., 0]
        return scalar if dofs.components == 1 else found

    def filled(self, values: Tensor) -> Tensor:
        """Carry values at the mesh points, coordinates too, to those of `full_mesh`: ``[*batch, n_points, m]``.

        In between they are what the shape of the cells makes of them.
        """
        if self.full_mesh is self.mesh:
            return values
        return interpolated(values, self.mesh.cells, self.mesh.geometry, self.full_mesh)

    def sites(
        self,
        name: str,
        geometry: Geometry | None = None,
        declared: Mapping[str, Parameter] | None = None,
    ) -> Tensor:
        """Return the coordinates ``[n, dim]`` where a parameter lives."""
        declared = self.declared if declared is None else declared
        if name not in declared:
            known = " ".join(declared) or "none"
            raise ArgumentError(f"{name!r} is no parameter of this problem; parameters: {known}")
        geometry = geometry or self.geometry
        points, mesh = geometry.points, self.mesh
        match declared[name].on:
            case "nodes":
                return points
            case "cells":
                return points[mesh.vertices].mean(1)
            case "facets":
                return points[mesh.facets].mean(1)
            case "quadrature":
                return geometry.cells.x.flatten(0, 1)
        raise ArgumentError(f"{name!r} is one constant and lives nowhere in particular")

    def tag_entries(self, tags: tuple[str, ...], path: str) -> Tensor:
        """Return which entry of a map over cell tags each cell takes."""
        if (tags, path) not in self._entries:
            self._entries[tags, path] = tag_entries(self.mesh, tags, path)
        return self._entries[tags, path]

    def select_facets(self, on: tuple[str, ...], path: str) -> Tensor:
        """Return the facets of a selector."""
        return self._select(self.mesh, on, path)

    def file_array(self, value: ArrayFile | Grid, path: str) -> Tensor:
        """Return the numbers of a file, which a law at a path names."""
        key = (value.file, value.key)
        if key not in self._arrays:
            array = numbers(value.file, value.key, path, allow_complex=self.spec.is_complex)
            dtype = self.field_dtype if array.dtype.kind == "c" else self.dtype
            self._arrays[key] = torch.as_tensor(array, dtype=dtype, device=self.device)
        return self._arrays[key]

    @staticmethod
    def _select(mesh: Mesh, on: tuple[str, ...], path: str) -> Tensor:
        return select_facets(mesh, on, path)

    # -- values ---------------------------------------------------------------------------------

    def scene(
        self,
        values: Mapping[str, Any],
        points: Tensor | None = None,
        *,
        mass: bool = False,
        timed: bool = False,
        declared: Mapping[str, Parameter] | None = None,
        reaching: frozenset[str] = frozenset(),
    ) -> Scene:
        """Check and cast what is given, and put it on a geometry.

        Parameters
        ----------
        mass
            Whether the mass is asked for.
        timed
            Whether there is a time, which laws may use.
        declared, reaching
            The parameters, and names that are used, of an analysis; those of the problem otherwise.
        """
        if self.timed and not timed:
            self.refuse_time()
        geometry = self.geometry if points is None else self._moved(points)
        declared = self.declared if declared is None else declared
        needed = self.reaching | reaching
        given: Given = resolve(
            values,
            declared,
            reaching=needed | self.reaching_mass if mass else needed,
            counts=self.counts,
            sites=lambda name: self.sites(name, geometry, declared),
            dtype=self.dtype,
            device=self.device,
            allow_complex=self.spec.is_complex,
        )
        scene = Scene(self._physics, given, geometry)
        scene.declared = dict(declared)
        return scene

    def refuse_time(self) -> NoReturn:
        """Say that laws which depend on time have no meaning in a steady solve."""
        raise SpecError(
            "it depends on time, and this solve is steady; put the problem into TransientProblem(of=...)",
            path=self.timed[0],
        )

    def defaults(
        self, names: Sequence[str], declared: Mapping[str, Parameter] | None = None
    ) -> dict[str, Tensor]:
        """Return the default values of some parameters, one per site."""
        declared = self.declared if declared is None else declared
        chosen = {name: declared[name] for name in names if name in declared}
        for name in names:
            if name not in chosen or chosen[name].default is None:
                known = " ".join(n for n, p in declared.items() if p.default is not None)
                raise ArgumentError(
                    f"{name!r} is no parameter with a default to start from; there are: {known or 'none'}"
                )
        found = resolve(
            {},
            chosen,
            reaching=chosen,
            counts=self.counts,
            sites=lambda name: self.sites(name, None, declared),
            dtype=self.dtype,
            device=self.device,
        )
        if found.laws:
            raise ArgumentError(f"{next(iter(found.laws))!r} is a law of the solution, not numbers")
        return dict(found)

    def _moved(self, points: Tensor) -> Geometry:
        if not points.is_floating_point():
            raise DTypeError(f"points has dtype {points.dtype}; coordinates are floating point")
        if points.shape != self.mesh.points.shape:
            raise MeshError(
                f"points has shape {tuple(points.shape)}; the mesh has {tuple(self.mesh.points.shape)}"
            )
        if not bool(torch.isfinite(points.detach()).all()):
            raise MeshError("points holds NaN or infinity")
        size = float((self.mesh.points.amax(0) - self.mesh.points.amin(0)).amax())
        for ours, theirs in self.compiled.periodic:
            apart = points.detach()[ours] - points.detach()[theirs]
            strays = torch.nonzero((apart - apart[0]).abs().amax(-1) > 1e-6 * size)[:, 0]
            if len(strays):
                a, b = int(ours[strays[0]]), int(theirs[strays[0]])
                raise MeshError(
                    f"points: periodic sides stay translated copies of each other; {points[a].tolist()} (point {a}) "
                    f"and {points[b].tolist()} (point {b}) no longer are where the others put them"
                )
        return Geometry(self._physics, points.to(device=self.device, dtype=self.dtype), moved=True)

    def given_values(self, scene: Scene) -> Tensor:
        """Evaluate the Dirichlet conditions: ``[*batch, n_constrained]``."""
        return given_values(self._physics, scene)

    def lift(self, g: Tensor) -> Tensor:
        """Put given values into a vector ``[*batch, n]``, zero elsewhere."""
        zero = torch.zeros(
            *g.shape[:-1], self.numbering.n, dtype=self.field_dtype, device=self.device
        )
        return zero.index_copy(-1, self.compiled.constrained, g)
