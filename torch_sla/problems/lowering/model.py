"""A lowered problem for one field: the steps every physics shares."""

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
from torch_sla.problems.lowering.compiled import Compiled, Selection, compiled
from torch_sla.problems.lowering.conditions import check_overlap, given_values
from torch_sla.problems.lowering.linear import solve_batch
from torch_sla.problems.lowering.mesh import build_mesh
from torch_sla.problems.lowering.operators import Assembled, Operator
from torch_sla.problems.lowering.outputs import Taken, check_places, take
from torch_sla.problems.lowering.parameters import Given, resolve
from torch_sla.problems.lowering.scene import Geometry, Scene
from torch_sla.problems.lowering.selection import select_facets, tag_entries
from torch_sla.problems.solution import Solution
from torch_sla.problems.specs.arrays import load_array
from torch_sla.problems.specs.boundary import Dirichlet
from torch_sla.problems.specs.laws import laws
from torch_sla.problems.specs.value import ArrayFile, Formula, FrozenMap, Parameter, leaves

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch_sla.assembly import Dofs, Mesh
    from torch_sla.problems.files.loader import DataPath
    from torch_sla.problems.specs.problem import FieldProblem

__all__ = ["Model"]


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

    components: ClassVar[int] = 1

    def __init__(self, spec: FieldProblem) -> None:
        self.spec = spec
        self.declared = spec.declared
        self.dtype: torch.dtype = getattr(torch, spec.solver.dtype)
        self.device = _device(spec.solver.device)
        mesh = build_mesh(spec.mesh)
        selections = tuple(
            Selection(c.type, self._select(mesh, c.on, f"boundary.{i}.on"))
            for i, c in enumerate(spec.boundary)
        )
        check_overlap(spec, selections, mesh)
        # Places are chosen on the host, once; everything after that happens on the device.
        mesh = mesh.to(self.device)
        selections = tuple(replace(s, facets=s.facets.to(self.device)) for s in selections)
        numeric = f"{spec.solver.dtype} {self.device}"
        self.compiled: Compiled = compiled(mesh, spec.order, self.components, selections, numeric)
        shared = self.compiled.mesh
        self.mesh: Mesh = shared if torch.equal(shared.points, mesh.points) else mesh
        self.selections = selections
        self._entries: dict[tuple[tuple[str, ...], str], Tensor] = {}
        self._arrays: dict[tuple[str, str | None], Tensor] = {}

    # -- what a physics says --------------------------------------------------------------------

    @abstractmethod
    def operator(self, scene: Scene) -> Operator:
        """Assemble the operator and the load."""

    @abstractmethod
    def mass(self, scene: Scene) -> Tensor:
        """Assemble the values of the mass matrix ``[*batch, nnz]``."""

    @abstractmethod
    def natural_outflow(self, scene: Scene, u: Tensor, facets: Tensor) -> Tensor:
        """Integrate the outflow through facets whose flux a condition gives ``[*batch]``."""

    @abstractmethod
    def energy(self, scene: Scene, u: Tensor) -> Tensor:
        """Integrate the energy stored in the cells ``[*batch]``."""

    @property
    @abstractmethod
    def determined(self) -> bool:
        """Whether the structure fixes the solution (else the matrix is singular)."""

    undetermined: ClassVar[str] = ""
    """What to say, with the remedy, when it does not."""

    # -- structure ------------------------------------------------------------------------------

    @property
    def dofs(self) -> Dofs:
        """Numbering of the unknowns."""
        return self.compiled.dofs

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
        mask = torch.ones(self.dofs.n, dtype=torch.bool, device=self.device)
        mask[self.compiled.constrained] = False
        return mask

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
        return self._names(lambda path: path[0] != "capacity")

    @cached_property
    def reaching_mass(self) -> frozenset[str]:
        """Names of the parameters that the mass matrix uses."""
        return self._names(lambda path: path[0] == "capacity")

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
        """Return where the unknowns live ``[n, dim]``."""
        at_nodes = self.dofs.points(self.mesh.points if points is None else points)
        return at_nodes.repeat_interleave(self.dofs.components, 0)

    def at_points(self, u: Tensor) -> Tensor:
        """Evaluate the field at the mesh points: ``[*batch, n]`` to ``[*batch, n_points]``."""
        mesh, dofs = self.mesh, self.dofs
        if mesh.cells.shape[1] == mesh.reference.n_vertices:
            # Nodes of any element start with the points of a straight mesh.
            return u[..., : mesh.n_points]
        table = dofs.element.values(mesh.geometry.nodes.to(u))
        local = torch.einsum("kb,...cb->...ck", table, dofs.restrict(u)).flatten(-2)
        place = torch.empty(mesh.n_points, dtype=torch.int64, device=self.device)
        place[mesh.cells.flatten()] = torch.arange(mesh.cells.numel(), device=self.device)
        return local.index_select(-1, place)

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
        zero = torch.zeros(*g.shape[:-1], self.dofs.n, dtype=self.dtype, device=self.device)
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
        operator = self.operator(scene)
        g = self.given_values(scene)
        constraint = self.compiled.constraint
        constrained, load = constraint.apply(operator.values, operator.load, g)
        structure = self.structure(operator.definite)
        if start is not None and start.shape[-1:] != (self.dofs.n,):
            raise ArgumentError(
                f"start has shape {tuple(start.shape)}; expected [*batch, {self.dofs.n}]"
            )
        u_hat, report = solve_batch(
            self.dofs.pattern,
            constrained,
            load,
            structure,
            self.spec.solver,
            start=None if start is None else start.to(load),
            throw=throw,
        )
        u = constraint.recover(u_hat, g)
        if not info:
            report.history.clear()
        taken = Taken(self, scene, operator, u)
        return Solution(taken, take(taken), report)

    def structure(self, definite: bool | None) -> Structure:
        """Return what is known about the constrained matrix."""
        return Structure(symmetric=True, hermitian=True, positive_definite=definite)

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
        if u.shape[-1:] != (self.dofs.n,):
            raise ArgumentError(f"u has shape {tuple(u.shape)}; expected [*batch, {self.dofs.n}]")
        scene = self.scene(values, points)
        operator = self.operator(scene)
        r = self.apply(operator.values, u.to(self.dtype)) - operator.load
        if not constrained:
            return r
        lift = self.lift(self.given_values(scene))
        return torch.where(self.free, r, u - lift)

    def jacobian(
        self,
        u: Tensor | None,
        values: Mapping[str, Any],
        *,
        points: Tensor | None = None,
        constrained: bool = True,
    ) -> SparseTensor:
        """Return the derivative of `residual`; for a linear problem it does not depend on u."""
        del u
        operator = self.operator(self.scene(values, points))
        matrix = operator.values
        pattern = self.dofs.pattern
        if constrained:
            row = pattern.csr_row.long()
            on_diagonal = (row == pattern.ccol.long()).to(matrix)
            matrix = torch.where(self.free[row], matrix, on_diagonal)
        return SparseTensor.from_pattern(pattern, matrix)

    def apply(self, values: Tensor, u: Tensor) -> Tensor:
        """Multiply ``[*batch, nnz]`` with ``[*batch, n]``; batches broadcast."""
        batch = np.broadcast_shapes(values.shape[:-1], u.shape[:-1])
        if not values.shape[:-1]:
            A = SparseTensor.from_pattern(self.dofs.pattern, values)
            columns: Tensor = A @ u.reshape(-1, u.shape[-1]).T
            return columns.T.reshape(*batch, -1)
        each = values.expand(*batch, -1).reshape(-1, values.shape[-1])
        full = u.expand(*batch, -1).reshape(-1, u.shape[-1])
        product: Tensor = SparseTensor.from_pattern(self.dofs.pattern, each) @ full
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
        for i, output in enumerate(self.spec.outputs):
            check_places(self, output, f"outputs.{i}")
        return self.mesh


def _device(name: str) -> torch.device:
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
