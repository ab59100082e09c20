"""Preconditioners made from another matrix than the one that is solved with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from torch_sla.errors import ArgumentError
from torch_sla.linalg.precond.base import Preconditioner, make_preconditioner

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure
    from torch_sla.linalg.sparse.tensor import SparseTensor

__all__ = ["OfMatrix", "shifted_laplacian"]


@dataclass(frozen=True, eq=False)
class OfMatrix:
    """Precondition with what is made of `matrix`, whatever the values of the system are.

    For systems that a method would misjudge, and a neighbour of them that it suits: a shifted Laplacian
    for waves, a pressure mass matrix for a Schur complement, the linear part of a nonlinear operator.

    Parameters
    ----------
    matrix
        Square, without a batch, of the size of the system; real ones serve complex systems too.
    by
        Name or options of the preconditioner.

    Examples
    --------
    >>> import torch
    >>> from torch_sla.linalg import SparseTensor
    >>> A = SparseTensor.diag(torch.tensor([1.0, -2.0], dtype=torch.float64))
    >>> near = SparseTensor.diag(torch.tensor([1.0, 2.0], dtype=torch.float64))
    >>> b = torch.ones(2, dtype=torch.float64)
    >>> A.solve(b, method="gmres", preconditioner=OfMatrix(near, "jacobi")).tolist()
    [1.0, -0.5]
    """

    matrix: SparseTensor
    by: Any = "multigrid"

    def build(
        self,
        pattern: Pattern,
        values: Tensor,
        structure: Structure,  # noqa: ARG002
    ) -> Preconditioner:
        """Make it for a square scalar matrix of the same size."""
        given = getattr(self.matrix, "flat_shape", None)
        if given is None or self.matrix.is_batched or tuple(given) != tuple(pattern.shape):
            got = type(self.matrix).__name__ if given is None else list(self.matrix.shape)
            raise ArgumentError(
                f"`matrix` must be {list(pattern.shape)} without a batch, as a SparseTensor, got {got}"
            )
        other, entries = self.matrix.flat_slots()
        entries = entries.detach()
        if entries.is_complex() and not values.is_complex():
            raise ArgumentError("`matrix` is complex, and the system is real")
        made = make_preconditioner(self.by, other, entries, self.matrix.known_structure())
        if made is None:
            raise ArgumentError(f"`by` must name a preconditioner, got {self.by!r}")
        return _Parts(made) if values.is_complex() and not entries.is_complex() else made


class _Parts:
    """A real preconditioner applied to real and imaginary parts."""

    def __init__(self, real: Preconditioner) -> None:
        self._real = real

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._real.nbytes

    def apply(self, r: Tensor) -> Tensor:
        """Return ``B r``."""
        return self._columns(r, adjoint=False)

    def apply_adjoint(self, r: Tensor) -> Tensor:
        """Return ``Bᵀ r``."""
        return self._columns(r, adjoint=True)

    def _columns(self, r: Tensor, *, adjoint: bool) -> Tensor:
        flat = torch.view_as_real(r.resolve_conj().contiguous()).reshape(r.shape[0], -1)
        z = self._real.apply_adjoint(flat) if adjoint else self._real.apply(flat)
        return torch.view_as_complex(z.reshape(*r.shape, 2))


def shifted_laplacian(
    stiffness: SparseTensor, mass: SparseTensor, *, shift: float = 1.0, by: Any = "multigrid"
) -> OfMatrix:
    """Precondition a Helmholtz matrix ``K - k² M`` with multigrid for ``K + shift k² M``.

    The shift makes it definite (Laird and Giles, NA 02/12, Oxford 2002, have 1; Bayliss, Goldstein and
    Turkel, J. Comput. Phys. 49, 1983, have 0). Iterations of GMRES grow like k, not like 1/h; below a
    few hundred thousand unknowns a factorisation is the better choice, and the one a plan makes.

    Parameters
    ----------
    stiffness
        ``K``, positive (semi)definite.
    mass
        ``k² M``, the wavenumber included.
    shift
        At least 0.
    by
        Name or options of the preconditioner.
    """
    if not shift >= 0:
        raise ArgumentError(f"`shift` must be at least 0, got {shift!r}")
    real = [m if not m.dtype.is_complex else _real_part(m) for m in (stiffness, mass)]
    return OfMatrix(real[0] + real[1] * shift, by)


def _real_part(m: SparseTensor) -> SparseTensor:
    from torch_sla.linalg.sparse.tensor import SparseTensor as Sparse

    return Sparse.from_pattern(m.pattern, m.values.detach().real.contiguous())
