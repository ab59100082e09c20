"""The frame of a lowered problem: mesh, numbering, selections, and how values come to sites."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, cast

import torch
from torch import Tensor

from torch_sla.assembly.mesh import raised
from torch_sla.assembly.mesh.topology import bodies
from torch_sla.errors import ArgumentError, DTypeError, MeshError, SpecError
from torch_sla.lazy import cached_property
from torch_sla.linalg.checks import require, together
from torch_sla.linalg.kernels.detection import all_finite
from torch_sla.problems.lowering.acting import ActingLaws
from torch_sla.problems.lowering.compiled import Compiled, Unknown, compiled, structure_key
from torch_sla.problems.lowering.conditions import check_overlap, given_values, select
from torch_sla.problems.lowering.device import Placement, about, solver_device, travelling
from torch_sla.problems.lowering.geometry import Geometry, degree_of
from torch_sla.problems.lowering.mesh import build_mesh
from torch_sla.problems.lowering.parameters import Given, resolve
from torch_sla.problems.lowering.scene import Scene
from torch_sla.problems.lowering.selection import select_facets
from torch_sla.problems.specs.arrays import numbers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch_sla.assembly import Dofs, Element, Mesh
    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.lowering.numbering import Numbering
    from torch_sla.problems.lowering.part import PartOfMesh
    from torch_sla.problems.specs.field_problem import FieldProblem
    from torch_sla.problems.specs.value import ArrayFile, Grid, Parameter

__all__ = ["Frame"]


def interpolated(nodal: Tensor, cell_nodes: Tensor, element: Element, mesh: Mesh) -> Tensor:
    """Evaluate nodal values ``[*batch, nodes, m]`` of an element on the same cells at the points of a mesh."""
    table = element.values(mesh.geometry.nodes.to(nodal))
    local = nodal.index_select(-2, cell_nodes.flatten()).unflatten(-2, tuple(cell_nodes.shape))
    flat = torch.einsum("kb,...cbi->...cki", table, local).flatten(-3, -2)
    place = torch.empty(mesh.n_points, dtype=torch.int64, device=nodal.device)
    place[mesh.cells.flatten()] = torch.arange(mesh.cells.numel(), device=nodal.device)
    return flat.index_select(-2, place)


def _torn(points: Tensor, ours: Tensor, theirs: Tensor, stray: Tensor) -> MeshError:
    """Say where periodic sides have come apart."""
    first = torch.nonzero(stray)[0, 0]
    a, b = int(ours[first]), int(theirs[first])
    return MeshError(
        f"points: periodic sides stay translated copies of each other; {points[a].tolist()} (point {a}) "
        f"and {points[b].tolist()} (point {b}) no longer are where the others put them"
    )


class Frame(ActingLaws):
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
    degree
        Degree of the quadrature in cells and on facets.
    """

    def __init__(self, spec: FieldProblem, part: PartOfMesh | None = None) -> None:
        self.spec, self.part = spec, part
        self.declared = spec.declared
        self.dtype: torch.dtype = getattr(torch, spec.solver.dtype)
        self.field_dtype = self.dtype.to_complex() if spec.is_complex else self.dtype
        self.ranks = spec.fields
        mesh = build_mesh(spec.mesh) if part is None else part.mesh
        self.unknowns = self.unknowns_of(spec, mesh.dim)
        self.degree = degree_of(spec, self.unknowns)
        selections = tuple(
            select(spec, i, mesh, self.unknowns, part) for i in range(len(spec.boundary))
        )
        check_overlap(spec, selections, mesh)
        size = about(mesh, self.unknowns)
        if part is not None:
            self.device = part.device
            self.placement = Placement(str(part.device), "of the process that has this part")
        else:
            self.device, self.placement = solver_device(
                spec.solver.device,
                size,
                travelling(mesh, self.declared.values(), size, self.field_dtype.itemsize),
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
        self._arrays: dict[tuple[str, str | None], Tensor] = {}
        physics = self._physics
        if part is None and physics.levelled:
            apart = int(bodies(mesh.cells, mesh.n_points).amax()) + 1
            physics.refuse_levels(physics.surrounded, apart)

    @staticmethod
    def unknowns_of(spec: Any, dim: int) -> tuple[Unknown, ...]:
        """Choose element and components of each field."""
        return tuple(Unknown(n, spec.order, dim if r else 0) for n, r in spec.fields.items())

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

    def dof_points(self) -> Tensor:
        """Return where the unknowns live ``[n_nodes, dim]``: the nodes of the first field."""
        return self.dofs.points(self.mesh.points)

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
        raise ArgumentError(
            f"{name!r} is one constant and has no sites; declare it on cells, facets, nodes or quadrature points"
        )

    def select_facets(self, on: tuple[str, ...], path: str) -> Tensor:
        """Return the facets of a selector."""
        return self.once(("facets", on), lambda: select_facets(self.mesh, on, path))

    def file_array(self, value: ArrayFile | Grid, path: str) -> Tensor:
        """Return the numbers of a file, which a law at a path or a default names; it is read once."""
        key = (value.file, value.key)
        if key not in self._arrays:
            array = numbers(value.file, value.key, path, allow_complex=self.spec.is_complex)
            dtype = self.field_dtype if array.dtype.kind == "c" else self.dtype
            self._arrays[key] = torch.as_tensor(array, dtype=dtype, device=self.device)
        return self._arrays[key]

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
        optional: frozenset[str] = frozenset(),
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
        optional
            Names that need no value, since nothing that is asked for uses them.
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
            optional=optional,
            counts=self.counts,
            sites=lambda name: self.sites(name, geometry, declared),
            files=self.file_array,
            dtype=self.dtype,
            device=self.device,
            allow_complex=self.spec.is_complex,
        )
        given.came_from(points)
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
        with together():
            found = resolve(
                {},
                chosen,
                reaching=chosen,
                counts=self.counts,
                sites=lambda name: self.sites(name, None, declared),
                files=self.file_array,
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
            batch = points.ndim > 2 and points.shape[-2:] == self.mesh.points.shape
            remedy = "; only steady problems on one process take a batch of meshes, here they are one by one"
            raise MeshError(
                f"points has shape {tuple(points.shape)}; the mesh has {tuple(self.mesh.points.shape)}"
                f"{remedy if batch else ''}"
            )
        moved = points.to(device=self.device, dtype=self.dtype)
        seen = moved.detach()
        require(all_finite(seen), lambda: MeshError("points holds NaN or infinity"))
        for ours, theirs in self.compiled.periodic:
            size = (self.mesh.points.amax(0) - self.mesh.points.amin(0)).amax()
            apart = seen[ours] - seen[theirs]
            stray = (apart - apart[0]).abs().amax(-1) > 1e-6 * size
            require(~stray.any(), partial(_torn, seen, ours, theirs, stray))
        found = Geometry(self._physics, moved, moved=True)
        if self.part is None:  # of parts, whoever has all asks all of them
            physics = self._physics
            physics.refuse_moved(physics.surrounded, physics.encloses(found))
        return found

    def unplaced(self, points: Tensor) -> Geometry:
        """Return the coordinates of a batch of meshes ``[*batch, n_points, dim]``, which has no bases."""
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
