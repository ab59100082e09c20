"""Numbering of all unknowns of a problem: field after field, each as its element numbers it."""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.linalg import Pattern
from torch_sla.linalg.sparse.segments import SegmentMap

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch_sla.assembly import Dofs

__all__ = ["Numbering"]


class Numbering:
    """The dofs of several fields on one mesh, behind each other.

    Parameters
    ----------
    fields
        Numbering of each field, by name.

    Attributes
    ----------
    n
        Number of unknowns.
    ranges
        Where each field lies in a vector of unknowns: ``(start, stop)``.
    """

    def __init__(self, fields: Mapping[str, Dofs]) -> None:
        self.fields = dict(fields)
        ends = [0]
        for dofs in self.fields.values():
            ends.append(ends[-1] + dofs.n)
        self.n = ends[-1]
        self.ranges = dict(zip(self.fields, pairwise(ends), strict=True))
        self._only = next(iter(self.fields.values())) if len(self.fields) == 1 else None
        self._maps: dict[tuple[str, ...] | tuple[object, ...], SegmentMap] = {}

    @cached_property
    def _joint(self) -> tuple[Pattern, Tensor]:
        """Pattern of all unknowns, and the slot of each pair of a cell's ``[n_cells, L, L]``."""
        parts = [d.cell_dofs + self.ranges[name][0] for name, d in self.fields.items()]
        cell = torch.cat(parts, 1)
        L = cell.shape[1]
        row = cell[:, :, None].expand(-1, L, L).flatten()
        col = cell[:, None, :].expand(-1, L, L).flatten()
        pattern = Pattern.from_coo(row, col, (self.n, self.n))
        if pattern.entries is None:
            slots = torch.arange(len(row), device=row.device)
        else:
            slots = pattern.entries.target
        return pattern.slots, slots.reshape(-1, L, L)

    @cached_property
    def _places(self) -> dict[str, slice]:
        """Where each field lies among the unknowns of a cell."""
        ends = [0]
        for dofs in self.fields.values():
            ends.append(ends[-1] + dofs.n_local)
        return {name: slice(*ends[i : i + 2]) for i, name in enumerate(self.fields)}

    @property
    def pattern(self) -> Pattern:
        """Pattern of the matrix ``n`` by ``n``; entries are slots."""
        return self._joint[0] if self._only is None else self._only.pattern

    def _map(self, test: str, trial: str | None, facets: Tensor | None) -> SegmentMap:
        key = (test, trial, None if facets is None else facets.cpu().numpy().tobytes())
        if key not in self._maps:
            dofs = self.fields[test]
            if trial is None:
                target, size = dofs.cell_dofs + self.ranges[test][0], self.n
            else:
                pattern, slots = self._joint
                target = slots[:, self._places[test], self._places[trial]]
                size = pattern.nnz_csr
            if facets is not None:
                target = target[dofs.mesh.facet_cells[facets]]
            small = torch.int32 if size < 2**31 else torch.int64
            self._maps[key] = SegmentMap(target.to(small).flatten(), size)
        return self._maps[key]

    def matrix(
        self, blocks: Mapping[tuple[str, str], Tensor], facets: Tensor | None = None
    ) -> Tensor:
        """Sum element matrices by (test, trial) field into values ``[*batch, nnz]`` of the pattern."""
        total: Tensor | None = None
        for (test, trial), local in blocks.items():
            if self._only is not None:
                values = self._only.assemble_matrix(local, facets)
            else:
                values = self._map(test, trial, facets).sum(local.flatten(-3))
            total = values if total is None else total + values
        if total is None:
            raise ValueError("no block to assemble")
        return total

    def vector(self, parts: Mapping[str, Tensor], facets: Tensor | None = None) -> Tensor:
        """Sum element vectors by field into ``[*batch, n]``."""
        total: Tensor | None = None
        for test, local in parts.items():
            if self._only is not None:
                values = self._only.assemble_vector(local, facets)
            else:
                values = self._map(test, None, facets).sum(local.flatten(-2))
            total = values if total is None else total + values
        if total is None:
            raise ValueError("no part to assemble")
        return total

    def part(self, u: Tensor, name: str) -> Tensor:
        """Take the unknowns of one field out of ``[*batch, n]``."""
        start, stop = self.ranges[name]
        return u[..., start:stop]

    def shaped(self, u: Tensor, name: str) -> Tensor:
        """Take one field as people see it: ``[*batch, n_nodes]`` or ``[*batch, n_nodes, components]``."""
        part, components = self.part(u, name), self.fields[name].components
        return part if components == 1 else part.unflatten(-1, (-1, components))
