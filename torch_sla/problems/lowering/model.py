"""A lowered problem for fields on a mesh: the steps every physics shares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, DTypeError, MeshError, PlanError, SpecError
from torch_sla.linalg import SparseTensor, Structure
from torch_sla.problems.lowering.compiled import Compiled, Selection, Unknown, compiled
from torch_sla.problems.lowering.conditions import (
    check_overlap,
    given_values,
    point_loads,
    positions,
)
from torch_sla.problems.lowering.linear import solve_batch
from torch_sla.problems.lowering.mesh import build_mesh
from torch_sla.problems.lowering.newton import solve_nonlinear
from torch_sla.problems.lowering.operators import Assembled, Operator
from torch_sla.problems.lowering.outputs import Taken, check_places, take
from torch_sla.problems.lowering.parameters import Given, resolve
from torch_sla.problems.lowering.scene import Geometry, Scene
from torch_sla.problems.lowering.selection import select_facets, tag_entries
from torch_sla.problems.lowering.terms import residual, tangent
from torch_sla.problems.solution import Solution
from torch_sla.problems.specs.arrays import load_array
from torch_sla.problems.specs.boundary import Dirichlet, PointLoad
from torch_sla.problems.specs.laws import laws
from torch_sla.problems.specs.value import ArrayFile, Formula, FrozenMap, Parameter, leaves

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch_sla.assembly import Dofs, Mesh
    from torch_sla.problems.expression import Ranked
    from torch_sla.problems.files.loader import DataPath
    from torch_sla.problems.lowering.numbering import Numbering
    from torch_sla.problems.lowering.sites import BasisSites, Sites
    from torch_sla.problems.lowering.terms import Term
    from torch_sla.problems.specs.problem import FieldProblem

__all__ = ["Model", "solver_device"]


class Model(ABC):
    """What `compile` returns: a declaration with its structure, ready for values.

    Parameters
    ----------
    spec
        The declaration.

    Attributes
    ----------
    compiled
        The structure, shared by all problems with the same structural hash.
    mesh
        The mesh with the declared coordinates.
    """

    def __init__(self, spec: FieldProblem) -> None:
        self.spec = spec
        self.declared = spec.declared
        self.dtype: torch.dtype = getattr(torch, spec.solver.dtype)
        self.field_dtype = self.dtype.to_complex() if spec.is_complex else self.dtype
        self.device = solver_device(spec.solver.device)
        self.ranks = spec.fields
        mesh = build_mesh(spec.mesh)
        self.unknowns = self._unknowns(mesh)
        selections = tuple(self._selection(mesh, i) for i in range(len(spec.boundary)))
        check_overlap(spec, selections, mesh)
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
        self.compiled: Compiled = compiled(mesh, self.unknowns, selections, numeric)
        shared = self.compiled.mesh
        self.mesh: Mesh = shared if torch.equal(shared.points, mesh.points) else mesh
        self.selections = selections
        self._entries: dict[tuple[tuple[str, ...], str], Tensor] = {}
        self._arrays: dict[tuple[str, str | None], Tensor] = {}

    def _unknowns(self, mesh: Mesh) -> tuple[Unknown, ...]:
        """Choose element and components of each field."""
        order = self.spec.order
        return tuple(Unknown(n, order, mesh.dim if r else 0) for n, r in self.spec.fields.items())

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
        component = getattr(condition, "component", None)
        size = {u.name: u.components for u in self.unknowns}[unknown]
        if component is not None and component >= size:
            raise SpecError(
                f"{unknown!r} has components 0 to {size - 1}; received {component}",
                path=f"boundary.{i}.component",
            )
        return Selection(condition.type, facets, unknown, component, to)

    # -- what a physics says --------------------------------------------------------------------

    @abstractmethod
    def operator(self, scene: Scene) -> Operator:
        """Assemble what is linear: the operator and the load, without forces at points."""

    definite: bool | None = True
    """Whether the constrained matrix of sensible values is symmetric positive definite."""
    symmetric: bool | None = True
    """Whether the matrix or tangent of sensible values is symmetric."""
    nonlinear: bool = False
    """Whether there are `terms`, by structure."""

    def terms(self, scene: Scene) -> list[Term]:
        """Return the integrals that depend on the solution in another way than linearly."""
        del scene
        return []

    load_steps: int = 1
    """In how many steps the loads of a nonlinear problem are applied."""
    may_step: bool = False
    """Whether load steps that fail are cut."""
    definite_tangent: bool | None = None
    """Whether the constrained tangent is known to be symmetric positive definite."""

    def finished(self, scene: Scene, u: Tensor) -> Tensor:
        """Fix what a linear problem leaves open, such as the level of a pressure."""
        del scene
        return u

    def derived(self, name: str, scene: Scene, sites: Sites) -> Ranked:
        """Evaluate a quantity of the physics, such as a stress, where the solution is seen."""
        raise SpecError(f"{name!r} is not known here")

    def measure(self, scene: Scene, sites: Sites) -> Tensor | None:
        """Return what a length or area element stands for (a thickness); None for 1."""
        del scene, sites
        return None

    @abstractmethod
    def mass(self, scene: Scene) -> Tensor:
        """Assemble the values of the mass matrix ``[*batch, nnz]``."""

    def natural_outflow(self, scene: Scene, u: Tensor, facets: Tensor) -> Tensor:
        """Integrate the outflow through facets whose flux a condition gives ``[*batch]``."""
        raise SpecError("an outflow has no meaning here")

    @abstractmethod
    def energy(self, scene: Scene, u: Tensor) -> Tensor:
        """Integrate the energy stored in the cells ``[*batch]``."""

    def integrate(self, scene: Scene, sites: BasisSites, value: Tensor) -> Tensor:
        """Integrate ``[*batch, n|1, q|1]`` over each site, with what `measure` says: ``[*batch, n]``."""
        factor = self.measure(scene, sites)
        return sites.basis.integrate(value if factor is None else factor * value)

    @property
    @abstractmethod
    def determined(self) -> bool:
        """Whether the structure fixes the solution (else the matrix is singular)."""

    inertial: ClassVar[frozenset[str]] = frozenset({"capacity"})
    """Laws that only the mass uses."""
    measuring: ClassVar[frozenset[str]] = frozenset()
    """Laws that `measure` uses."""

    undetermined: ClassVar[str] = ""
    """What to say, with the remedy, when it does not."""

    # -- structure ------------------------------------------------------------------------------

    @property
    def numbering(self) -> Numbering:
        """Numbering of all unknowns."""
        return self.compiled.numbering

    @property
    def dofs(self) -> Dofs:
        """Numbering of the first unknown."""
        return next(iter(self.numbering.fields.values()))

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
        return Geometry(self, self.mesh.points.to(self.dtype), moved=False)

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

    @cached_property
    def reaching(self) -> frozenset[str]:
        """Names of the parameters that a steady solve or an output uses, in some cell at least."""
        return self._names(lambda path: path[0] not in self.inertial)

    @cached_property
    def reaching_mass(self) -> frozenset[str]:
        """Names of the parameters that the mass matrix uses."""
        return self._names(lambda path: path[0] in self.inertial or path[0] in self.measuring)

    def _names(self, wanted: Callable[[DataPath], bool]) -> frozenset[str]:
        names: set[str] = set()
        for law in laws(self.spec):
            if not wanted(law.path) or self._overridden(law.path):
                continue
            value = law.value
            if isinstance(value, FrozenMap):
                path = ".".join(str(part) for part in law.path)
                used = set(self.tag_entries(tuple(value), path).unique().tolist())
                value = tuple(item for i, item in enumerate(value.values()) if i in used)
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

    def at_points(self, u: Tensor, name: str | None = None) -> Tensor:
        """Evaluate a field at the mesh points: ``[*batch, n]`` to ``[*batch, n_points(, components)]``."""
        name = name or next(iter(self.ranks))
        mesh, dofs = self.mesh, self.numbering.fields[name]
        nodal = self.numbering.part(u, name).unflatten(-1, (-1, dofs.components))
        if mesh.cells.shape[1] == mesh.reference.n_vertices:
            # Nodes of any element start with the points of a straight mesh.
            found = nodal[..., : mesh.n_points, :]
        else:
            table = dofs.element.values(mesh.geometry.nodes.to(nodal))
            local = nodal.index_select(-2, dofs.cell_nodes.flatten())
            local = local.unflatten(-2, tuple(dofs.cell_nodes.shape))
            flat = torch.einsum("kb,...cbi->...cki", table, local).flatten(-3, -2)
            place = torch.empty(mesh.n_points, dtype=torch.int64, device=self.device)
            place[mesh.cells.flatten()] = torch.arange(mesh.cells.numel(), device=self.device)
            found = flat.index_select(-2, place)
        return found[..., 0] if dofs.components == 1 else found

    def sites(self, name: str, geometry: Geometry | None = None) -> Tensor:
        """Return the coordinates ``[n, dim]`` where a parameter lives."""
        if name not in self.declared:
            known = " ".join(self.declared) or "none"
            raise ArgumentError(f"{name!r} is no parameter of this problem; parameters: {known}")
        geometry = geometry or self.geometry
        points, mesh = geometry.points, self.mesh
        match self.declared[name].on:
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

    def file_array(self, value: ArrayFile) -> Tensor:
        """Return the numbers of a file."""
        key = (value.file, value.key)
        if key not in self._arrays:
            array = load_array(value.file, value.key)
            self._arrays[key] = torch.as_tensor(array.copy(), dtype=self.dtype, device=self.device)
        return self._arrays[key]

    @staticmethod
    def _select(mesh: Mesh, on: tuple[str, ...], path: str) -> Tensor:
        return select_facets(mesh, on, path)

    # -- values ---------------------------------------------------------------------------------

    def scene(
        self, values: Mapping[str, Any], points: Tensor | None = None, *, mass: bool = False
    ) -> Scene:
        """Check and cast what is given, for a solve or with `mass`, and put it on a geometry."""
        geometry = self.geometry if points is None else self._moved(points)
        given: Given = resolve(
            values,
            self.declared,
            reaching=self.reaching | self.reaching_mass if mass else self.reaching,
            counts=self.counts,
            sites=lambda name: self.sites(name, geometry),
            dtype=self.dtype,
            device=self.device,
            allow_complex=self.spec.is_complex,
        )
        return Scene(self, given, geometry)

    def defaults(self, names: Sequence[str]) -> dict[str, Tensor]:
        """Return the default values of some parameters, one per site."""
        chosen = {name: self.declared[name] for name in names if name in self.declared}
        for name in names:
            if name not in chosen or chosen[name].default is None:
                known = " ".join(n for n, p in self.declared.items() if p.default is not None)
                raise ArgumentError(
                    f"{name!r} is no parameter with a default to start from; there are: {known or 'none'}"
                )
        return dict(
            resolve(
                {},
                chosen,
                reaching=chosen,
                counts=self.counts,
                sites=self.sites,
                dtype=self.dtype,
                device=self.device,
            )
        )

    def _moved(self, points: Tensor) -> Geometry:
        if not points.is_floating_point():
            raise DTypeError(f"points has dtype {points.dtype}; coordinates are floating point")
        if points.shape != self.mesh.points.shape:
            raise MeshError(
                f"points has shape {tuple(points.shape)}; the mesh has {tuple(self.mesh.points.shape)}"
            )
        if not bool(torch.isfinite(points.detach()).all()):
            raise MeshError("points holds NaN or infinity")
        return Geometry(self, points.to(device=self.device, dtype=self.dtype), moved=True)

    def given_values(self, scene: Scene) -> Tensor:
        """Evaluate the Dirichlet conditions: ``[*batch, n_constrained]``."""
        return given_values(self, scene)

    def lift(self, g: Tensor) -> Tensor:
        """Put given values into a vector ``[*batch, n]``, zero elsewhere."""
        zero = torch.zeros(
            *g.shape[:-1], self.numbering.n, dtype=self.field_dtype, device=self.device
        )
        return zero.index_copy(-1, self.compiled.constrained, g)

    # -- verbs ----------------------------------------------------------------------------------

    def solve(
        self,
        values: Mapping[str, Any],
        *,
        points: Tensor | None = None,
        start: Tensor | None = None,
        info: bool = False,
        throw: bool = True,
    ) -> Solution:
        """Solve; see `FieldProblem.solve`."""
        if not self.determined:
            raise SpecError(self.undetermined, path="boundary")
        scene = self.scene(values, points)
        if start is not None:
            start = self._flat(start, "start")
        if self.nonlinear:
            u, report = solve_nonlinear(self, scene, start, throw=throw)
            operator = self.loaded(scene)
        else:
            operator = self.loaded(scene)
            g = self.compiled.sides(self.given_values(scene))
            constraint = self.compiled.constraint
            constrained, load = constraint.apply(operator.values, operator.load, g)
            u_hat, report = solve_batch(
                constraint.pattern,
                constrained,
                load,
                self.structure(operator.definite, operator.symmetric),
                self.spec.solver,
                start=None if start is None else start.to(load),
                throw=throw,
            )
            u = self.finished(scene, constraint.recover(u_hat, g))
        if not info:
            report.history.clear()
        taken = Taken(self, scene, operator, u)
        return Solution(taken, take(taken), report)

    def _flat(self, u: Tensor, name: str) -> Tensor:
        """Accept a vector of unknowns ``[*batch, n]``, or one field ``[*batch, n_nodes, components]``."""
        c, n = self.dofs.components, self.numbering.n
        if c > 1 and u.shape[-2:] == (n // c, c) and len(self.ranks) == 1:
            return u.flatten(-2)
        if u.shape[-1:] != (n,):
            shapes = f"[*batch, {n}]" + (f" or [*batch, {n // c}, {c}]" if c > 1 else "")
            raise ArgumentError(f"{name} has shape {tuple(u.shape)}; expected {shapes}")
        return u

    def loaded(self, scene: Scene) -> Operator:
        """Assemble the operator and the whole load, forces at points included."""
        operator = self.operator(scene)
        load = operator.load.to(self.field_dtype)
        forces = point_loads(self, scene)
        if forces is not None:
            load = load + forces
        return operator._replace(values=operator.values.to(self.field_dtype), load=load)

    def unconstrained(
        self, scene: Scene, operator: Operator, terms: list[Term], u: Tensor
    ) -> Tensor:
        """Return K u − F plus what is not linear, before constraints."""
        r = self.apply(operator.values, u) - operator.load
        more = residual(scene, terms, u)
        return r if more is None else r + more

    def tangent(
        self,
        scene: Scene,
        operator: Operator,
        terms: list[Term],
        u: Tensor,
        *,
        recorded: bool = False,
    ) -> Tensor:
        """Return the derivative of `unconstrained`: values ``[*batch, nnz]``."""
        more = tangent(scene, terms, u, recorded=recorded)
        return operator.values if more is None else operator.values + more

    def structure(self, definite: bool | None, symmetric: bool | None) -> Structure:
        """Return what is known about the constrained matrix (or tangent)."""
        if symmetric is False:
            return Structure(symmetric=False, hermitian=False, positive_definite=False)
        hermitian = symmetric
        if self.spec.is_complex:
            hermitian = definite = False
        return Structure(
            symmetric=symmetric,
            hermitian=hermitian,
            positive_definite=definite,
            coordinates=self.coordinates,
        )

    coordinates: Tensor | None = None
    """Where the nodes of a vector field are, for multigrid: its rigid-body modes are nearly free."""

    def assemble(self, values: Mapping[str, Any], *, points: Tensor | None = None) -> Assembled:
        """Assemble; see `FieldProblem.assemble`."""
        return Assembled(self, self.scene(values, points, mass=True))

    def residual(
        self,
        u: Tensor,
        values: Mapping[str, Any],
        *,
        points: Tensor | None = None,
        constrained: bool = True,
    ) -> Tensor:
        """Return K u − F; see `FieldProblem.residual`."""
        flat = self._flat(u, "u").to(self.field_dtype)
        scene = self.scene(values, points)
        r = self.unconstrained(scene, self.loaded(scene), self.terms(scene), flat)
        if constrained:
            constraint = self.compiled.constraint
            g = self.compiled.sides(self.given_values(scene))
            held = constraint.recover(constraint.restrict(flat), g)
            zero = torch.zeros((), dtype=r.dtype, device=r.device)
            r = constraint.reduce(r) + torch.where(self.free, zero, flat - held)
        return r if u.shape[-1:] == flat.shape[-1:] else r.unflatten(-1, u.shape[-2:])

    def jacobian(
        self,
        u: Tensor | None,
        values: Mapping[str, Any],
        *,
        points: Tensor | None = None,
        constrained: bool = True,
    ) -> SparseTensor:
        """Return the derivative of `residual`; for a linear problem it does not depend on u."""
        scene = self.scene(values, points)
        operator = self.loaded(scene)
        matrix = operator.values
        if self.nonlinear:
            if u is None:
                raise ArgumentError("the problem is nonlinear: its derivative is taken at some u")
            flat = self._flat(u, "u").to(self.field_dtype)
            terms = self.terms(scene)
            shape = self.unconstrained(scene, operator, terms, flat).shape
            matrix = self.tangent(scene, operator, terms, flat.expand(shape), recorded=True)
        pattern = self.numbering.pattern
        if constrained:
            if any(s.to is not None for s in self.selections):
                raise ArgumentError(
                    "constrained: with periodic conditions only constrained=False has a matrix on the pattern"
                )
            row = pattern.csr_row.long()
            on_diagonal = (row == pattern.ccol.long()).to(matrix)
            matrix = torch.where(self.free[row], matrix, on_diagonal)
        return SparseTensor.from_pattern(pattern, matrix)

    def apply(self, values: Tensor, u: Tensor) -> Tensor:
        """Multiply ``[*batch, nnz]`` with ``[*batch, n]``; batches broadcast."""
        batch = np.broadcast_shapes(values.shape[:-1], u.shape[:-1])
        if not values.shape[:-1]:
            A = SparseTensor.from_pattern(self.numbering.pattern, values)
            columns: Tensor = A @ u.reshape(-1, u.shape[-1]).T
            return columns.T.reshape(*batch, -1)
        each = values.expand(*batch, -1).reshape(-1, values.shape[-1])
        full = u.expand(*batch, -1).reshape(-1, u.shape[-1])
        product: Tensor = SparseTensor.from_pattern(self.numbering.pattern, each) @ full
        return product.reshape(*batch, -1)

    def check(self) -> Mesh:
        """Check everything that needs no value: level, selections, tags, places; return the mesh.

        Raises
        ------
        SpecError, MeshError
            At the first thing that is wrong.
        """
        if not self.determined:
            raise SpecError(self.undetermined, path="boundary")
        for law in laws(self.spec):
            if isinstance(law.value, FrozenMap):
                self.tag_entries(tuple(law.value), ".".join(str(part) for part in law.path))
        for i, condition in enumerate(self.spec.boundary):
            if isinstance(condition, PointLoad):
                at = positions(self, condition.at, f"boundary.{i}.at")
                try:
                    self.geometry.located(at, self.dofs)
                except MeshError as error:
                    raise SpecError(str(error), path=f"boundary.{i}.at") from None
        for i, output in enumerate(self.spec.outputs):
            check_places(self, output, f"outputs.{i}")
        return self.mesh


def solver_device(name: str) -> torch.device:
    """Return where work happens.

    Raises
    ------
    PlanError
        If CUDA is asked for and cannot be used.
    """
    if name != "cuda":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        why = (
            "no CUDA device is visible"
            if torch.version.cuda
            else "this torch is built without CUDA"
        )
        raise PlanError(f"solver.device: 'cuda' cannot be used here: {why}; use 'cpu'")
    return torch.device("cuda", torch.cuda.current_device())
