"""The operators of a problem, before constraints."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch_sla.lazy import cached_property
from torch_sla.linalg import SparseTensor
from torch_sla.linalg.checks import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.lowering.shapes import Shapes

__all__ = ["Assembled", "Matrix", "Operator", "decided"]


def decided(known: bool | Answer | None) -> bool | None:
    """Return what is known, read where a device has to tell; what does not hold may be true in another way."""
    return (bool(known) or None) if isinstance(known, Answer) else known


class Matrix(NamedTuple):
    """A matrix before constraints.

    Parameters
    ----------
    values
        ``[*batch, nnz]`` on the pattern.
    definite
        Whether the constrained matrix is known to be symmetric positive definite.
    symmetric
        Whether it is known to be symmetric; None means that the values are looked at.
    """

    values: Tensor
    definite: bool | Answer | None
    symmetric: bool | None = True


class Operator(NamedTuple):
    """A linear operator before constraints.

    Parameters
    ----------
    values
        ``[*batch, nnz]`` on the pattern.
    load
        ``[*batch, n]``.
    definite
        Whether the constrained matrix is known to be symmetric positive definite.
    symmetric
        Whether it is known to be symmetric; None means that the values are looked at.
    complement
        Makes what stands for the Schur complement of a saddle point ``[nnz]``; see `Model.complement`.
    """

    values: Tensor
    load: Tensor
    definite: bool | Answer | None
    symmetric: bool | None = True
    complement: Callable[[], Tensor] | None = None

    @property
    def flags(self) -> tuple[bool | None, bool | None]:
        """What is known: `definite` and `symmetric`."""
        return decided(self.definite), self.symmetric


class Assembled:
    """The operators themselves, before constraints; everything is differentiable.

    Attributes
    ----------
    matrix
        K, `SparseTensor` ``[*batch, n, n]``.
    load
        F ``[*batch, n]``.
    free
        Mask ``[n]`` of the dofs without a given value.
    lift
        ``[*batch, n]``: given values where there are, else 0. The solution satisfies
        ``(K u − F)[free] = 0`` and ``u = lift`` elsewhere; not so where sides repeat each other (`Periodic`), whose
        rows stand apart here: add those of the repeated nodes to those they repeat.
    """

    def __init__(self, model: Model, shapes: Shapes) -> None:
        self._model, self._shapes = model, shapes
        operators = shapes.each(model.loaded, shapes.scenes)
        values = shapes.joined([one.values for one in operators], 1)
        self.matrix = SparseTensor.from_pattern(model.numbering.pattern, values)
        self.load = shapes.joined([one.load for one in operators], 1)
        self.free = model.free
        self.lift = model.lift(shapes.joined(shapes.each(model.given_values, shapes.scenes), 1))

    @cached_property
    def mass(self) -> SparseTensor:
        """M, the matrix of capacity or density, ``[*batch, n, n]``."""
        values = self._shapes.joined(self._shapes.each(self._model.mass, self._shapes.scenes), 1)
        return SparseTensor.from_pattern(self._model.numbering.pattern, values)
