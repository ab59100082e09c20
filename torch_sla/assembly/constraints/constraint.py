"""The one mechanism behind every condition on unknowns: ``u = T u_hat + g``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["Constraint"]


class Constraint(Protocol):
    """A map from the unknowns of the constrained system to the field, ``u = T u_hat + g``.

    `T` is structure, fixed when the constraint is made; `g` is a tensor given with every use, which may require a
    gradient. With the unconstrained system ``K u = f`` the constrained one is ``T^H K T u_hat = T^H (f - K g)``.
    Vectors keep their length: dofs that the constraint fixes are decoupled by a scaled diagonal.

    Attributes
    ----------
    pattern
        Pattern of the constrained matrix.
    free
        Mask ``[n]`` of the dofs that remain unknown; spectra, determinants and inertia act on these.
    """

    pattern: Pattern
    free: Tensor

    def apply(self, values: Tensor, load: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        """Constrain matrix values ``[*batch, nnz]`` and a load ``[*batch, n]``."""
        ...

    def load(self, values: Tensor, load: Tensor, g: Tensor) -> Tensor:
        """Constrain a load alone; `values` are those of the unconstrained matrix."""
        ...

    def recover(self, u_hat: Tensor, g: Tensor, out: Tensor | None = None) -> Tensor:
        """Compute ``u = T u_hat + g``, ``[*batch, n]``; into `out`, without derivatives, where it is given."""
        ...

    def restrict(self, u: Tensor) -> Tensor:
        """Return ``u_hat`` of a field that satisfies the constraint."""
        ...

    def reduce(self, residual: Tensor, out: Tensor | None = None) -> Tensor:
        """Reduce a residual or a load to the unknowns: ``T^H r``; into `out`, without derivatives, if given."""
        ...
