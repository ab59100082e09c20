"""Degrees of freedom of several fields that are solved for together."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from torch_sla.assembly.checks import numbered
from torch_sla.assembly.dofs.dof_map import DofMap
from torch_sla.errors import ArgumentError
from torch_sla.lazy import cached_property

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch_sla.assembly.dofs.dofs import Dofs

__all__ = ["MixedDofs"]


class MixedDofs(DofMap):
    """Numbering of several fields on one mesh: all dofs of the first, then all of the second, and so on.

    Parameters
    ----------
    fields
        Numbering of each field by name, on one mesh.
    interior
        Whether the pattern also couples the two cells at every interior facet.

    Attributes
    ----------
    fields
        As given.
    ranges
        By name, the slice of the field's dofs in the whole vector.

    Raises
    ------
    ArgumentError
        If there is no field, or the meshes differ.

    Examples
    --------
    The Taylor-Hood pair: quadratic velocities and a linear pressure.

    >>> from torch_sla.assembly import Dofs, lagrange, rectangle_mesh
    >>> mesh = rectangle_mesh((2, 2))
    >>> pair = MixedDofs(
    ...     {
    ...         "u": Dofs(mesh, lagrange("triangle", 2), components=2),
    ...         "p": Dofs(mesh, lagrange("triangle", 1)),
    ...     }
    ... )
    >>> pair.n, pair.ranges["p"], pair.cell_dofs.shape
    (59, slice(50, 59, None), torch.Size([8, 15]))
    """

    def __init__(self, fields: Mapping[str, Dofs], *, interior: bool = False) -> None:
        super().__init__(interior=interior)
        if not fields:
            raise ArgumentError("fields: got none; give the numbering of at least one field")
        numberings = list(fields.values())
        mesh = numberings[0].mesh
        for name, dofs in fields.items():
            if dofs.mesh is not mesh:
                raise ArgumentError(
                    f"fields: {name!r} is numbered on another mesh; use one mesh for all"
                )
        self.mesh = mesh
        self.fields: Mapping[str, Dofs] = MappingProxyType(dict(fields))
        tables, ranges = [], {}
        self.n_nodes = self.n = 0
        for name, dofs in fields.items():
            tables.append(dofs.cell_nodes + self.n_nodes)
            ranges[name] = slice(self.n, self.n + dofs.n)
            self.n_nodes += dofs.n_nodes
            self.n += dofs.n
        self.cell_nodes = torch.cat(tables, 1)
        self.ranges: Mapping[str, slice] = MappingProxyType(ranges)

    @property
    def local_sizes(self) -> tuple[int, ...]:
        """Components of each local node of a cell ``(nb,)``."""
        return tuple(size for dofs in self.fields.values() for size in dofs.local_sizes)

    @cached_property
    def node_starts(self) -> Tensor:
        """First dof of each node, and their total: ``[n_nodes + 1]``."""
        parts = [
            dofs.node_starts[:-1] + self.ranges[name].start for name, dofs in self.fields.items()
        ]
        total = torch.tensor([self.n], device=self.cell_nodes.device)
        return torch.cat([*parts, total])

    def split(self, u: Tensor) -> dict[str, Tensor]:
        """Split a vector ``[*batch, n]`` into the vectors of the fields."""
        if u.shape[-1] != self.n:
            raise ArgumentError(
                f"u: got shape {tuple(u.shape)}; the last dimension must be the {self.n} dofs"
            )
        return {name: u[..., where] for name, where in self.ranges.items()}

    def join(self, fields: Mapping[str, Tensor]) -> Tensor:
        """Join the vectors ``[*batch, n_field]`` of all fields into ``[*batch, n]``."""
        self._check_names(fields)
        parts = [fields[name] for name in self.fields]
        batch = np.broadcast_shapes(*(part.shape[:-1] for part in parts))
        return torch.cat([part.expand(*batch, part.shape[-1]) for part in parts], -1)

    def place(self, name: str, dofs: Tensor) -> Tensor:
        """Give dofs of one field their numbers in the whole vector."""
        self._check_names([name], complete=False)
        own = self.fields[name].n
        return numbered(dofs, own, f"dofs of {name!r}", "dofs") + self.ranges[name].start

    def block_matrices(self, blocks: Mapping[tuple[str, str], Tensor]) -> Tensor:
        """Join element matrices of pairs of fields; pairs left out are zero.

        Parameters
        ----------
        blocks
            By (test field, trial field), ``[*batch, n_sites, n_local of the test, n_local of the trial]``.

        Returns
        -------
        Tensor ``[*batch, n_sites, n_local, n_local]``, for `assemble_matrix`.

        Raises
        ------
        ArgumentError
            If a name is unknown, or there is no block.
        """
        if not blocks:
            raise ArgumentError("blocks: got none; give at least one pair of fields")
        self._check_names([name for pair in blocks for name in pair], complete=False)
        like = next(iter(blocks.values()))
        batch = np.broadcast_shapes(*(block.shape[:-2] for block in blocks.values()))
        dtype = like.dtype
        for block in blocks.values():
            dtype = torch.promote_types(dtype, block.dtype)
        nothing = torch.zeros((), dtype=dtype, device=like.device)
        rows = []
        for test, rows_of in self.fields.items():
            row = []
            for trial, columns_of in self.fields.items():
                shape = (*batch, rows_of.n_local, columns_of.n_local)
                block = blocks.get((test, trial), nothing)
                row.append(block.to(dtype).expand(shape))
            rows.append(torch.cat(row, -1))
        return torch.cat(rows, -2)

    def block_vectors(self, blocks: Mapping[str, Tensor]) -> Tensor:
        """Join element vectors ``[*batch, n_sites, n_local of the field]``; fields left out are zero."""
        if not blocks:
            raise ArgumentError("blocks: got none; give the vectors of at least one field")
        self._check_names(blocks, complete=False)
        like = next(iter(blocks.values()))
        batch = np.broadcast_shapes(*(block.shape[:-1] for block in blocks.values()))
        nothing = torch.zeros((), dtype=like.dtype, device=like.device)
        parts = [
            blocks.get(name, nothing).expand(*batch, dofs.n_local)
            for name, dofs in self.fields.items()
        ]
        return torch.cat(parts, -1)

    def _check_names(self, names: Iterable[str], *, complete: bool = True) -> None:
        given = set(names)
        unknown = sorted(given - self.fields.keys())
        missing = sorted(self.fields.keys() - given) if complete else []
        if unknown or missing:
            raise ArgumentError(
                f"fields: got {' '.join(sorted(given))}; this numbering has {' '.join(self.fields)}"
            )

    def __repr__(self) -> str:
        parts = ", ".join(f"{name}: {dofs!r}" for name, dofs in self.fields.items())
        return f"MixedDofs({parts})"
