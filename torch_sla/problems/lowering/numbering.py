"""Numbering of all unknowns of a problem: field after field, each as its element numbers it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch_sla.assembly import MixedDofs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from torch_sla.assembly import Dofs
    from torch_sla.linalg import Pattern

__all__ = ["Numbering"]


class Numbering:
    """The dofs of one field or of several behind each other, with one face for both.

    Parameters
    ----------
    fields
        Numbering of each field, by name.

    Attributes
    ----------
    n
        Number of unknowns.
    ranges
        Where each field lies in a vector of unknowns.
    """

    def __init__(self, fields: Mapping[str, Dofs]) -> None:
        self.fields = dict(fields)
        first = next(iter(self.fields.values()))
        self._mixed = MixedDofs(self.fields) if len(self.fields) > 1 else None
        self.all: Dofs | MixedDofs = first if self._mixed is None else self._mixed
        self.n = self.all.n
        self.ranges = (
            {name: slice(0, first.n) for name in self.fields}
            if self._mixed is None
            else dict(self._mixed.ranges)
        )

    @property
    def pattern(self) -> Pattern:
        """Pattern of the matrix ``n`` by ``n``; entries are slots."""
        return self.all.pattern

    def matrix(
        self, blocks: Mapping[tuple[str, str], Tensor], facets: Tensor | None = None
    ) -> Tensor:
        """Sum element matrices by (test, trial) field into values ``[*batch, nnz]`` of the pattern."""
        if self._mixed is None:
            (local,) = blocks.values()
        else:
            local = self._mixed.block_matrices(blocks)
        return self.all.assemble_matrix(local, facets)

    def vector(self, parts: Mapping[str, Tensor], facets: Tensor | None = None) -> Tensor:
        """Sum element vectors by field into ``[*batch, n]``."""
        return self.all.assemble_vector(self.joined(parts), facets)

    def joined(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Join element vectors by field: ``[*batch, n_sites, n_local]`` with all unknowns of a site."""
        if self._mixed is not None:
            return self._mixed.block_vectors(parts)
        (local,) = parts.values()
        return local

    def part(self, u: Tensor, name: str) -> Tensor:
        """Take the unknowns of one field out of ``[*batch, n]``."""
        return u[..., self.ranges[name]]

    def placed(self, part: Tensor, name: str) -> Tensor:
        """Put the unknowns of one field into ``[*batch, n]``, zero elsewhere."""
        if self._mixed is None:
            return part
        whole = part.new_zeros(*part.shape[:-1], self.n)
        whole[..., self.ranges[name]] = part
        return whole

    def shaped(self, u: Tensor, name: str) -> Tensor:
        """Take one field as people see it: ``[*batch, n_nodes]`` or ``[*batch, n_nodes, components]``."""
        part, components = self.part(u, name), self.fields[name].components
        return part if components == 1 else part.unflatten(-1, (-1, components))
