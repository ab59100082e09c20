"""Factors of a whole matrix in parts, on one process."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, PlanError, Result, SolveError
from torch_sla.linalg.distributed.halo import Halo
from torch_sla.linalg.distributed.rows import BorrowedRows
from torch_sla.linalg.factorize import factorize
from torch_sla.linalg.sparse.tensor import SparseTensor
from torch_sla.linalg.sparse.transforms import outside_transforms

if TYPE_CHECKING:
    from torch_sla.linalg.direct_solver import DirectSolver
    from torch_sla.linalg.distributed.sharding import Sharding

__all__ = ["Gathered", "GatheredFactor"]

_METHODS = ("auto", "cholesky", "ldlt", "lu")
_CODES = list(Result)
_NO_PLAN = 1 + len(_CODES)  # no factorisation suits the matrix


@dataclass(frozen=True)
class Gathered:
    """Factors of the whole matrix, on the process of the first part, which has memory and work of all of it.

    Iterations end after one or two, whatever the number of parts and however indefinite the matrix is; a vector goes
    there and back in each. For systems that no other preconditioner suits and whose factors one process can hold:
    waves, saddle points, equations of several unknowns.

    Parameters
    ----------
    method
        As for `factorize`.
    nullspace
        A vector ``[n_held]`` that a Hermitian matrix sends to zero: one of its unknowns is held, so that there are
        factors, which solve for every right-hand side without a share of it.

    Examples
    --------
    >>> import torch
    >>> from torch_sla.linalg import SparseTensor
    >>> off = torch.tensor(-1.0, dtype=torch.float64)
    >>> waves = SparseTensor.tridiagonal(off, torch.full((40,), 1.2, dtype=torch.float64), off)
    >>> b = torch.ones(40, dtype=torch.float64)
    >>> x, info = waves.partition(4).solve(b, method="gmres", preconditioner=Gathered(), info=True)
    >>> info.iterations, torch.allclose(waves @ x, b)
    (1, True)
    """

    name: ClassVar[str] = "gathered"

    method: Literal["auto", "cholesky", "ldlt", "lu"] = "auto"
    nullspace: Tensor | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.method not in _METHODS:
            raise ArgumentError(
                f"`method` must be one of {', '.join(_METHODS)}, got {self.method!r}"
            )

    def build_parts(
        self,
        sharding: Sharding,
        values: Tensor,
        near_nullspace: Tensor | None,  # noqa: ARG002
    ) -> GatheredFactor:
        """Factorise for slot values ``[nnz_csr]``; all processes raise where that fails."""
        return GatheredFactor(sharding, values, self)


class GatheredFactor:
    """Brings a right-hand side to the process of the first part, and the solution back.

    Parameters
    ----------
    sharding, values
        The matrix, slot values.
    options
        What was asked for.
    """

    @outside_transforms
    def __init__(self, sharding: Sharding, values: Tensor, options: Gathered) -> None:
        rows, self._method = sharding.rows, options.method
        size = rows.n if rows.comm.held.start == 0 and rows.comm.held.stop > 0 else 0
        places = torch.arange(size, device=rows.device)
        self._halo = Halo(rows, places, torch.zeros_like(places))
        self._rows = BorrowedRows(sharding, self._halo)
        # In the order of the user, whose numbers may be those of a lattice.
        self._order = self._halo.fetch(rows.names).argsort()
        number = torch.empty_like(self._order)
        number[self._order] = places
        self._at = (number[self._rows.row], number[self._rows.col]) if size else None
        self._held: int | None = None
        if options.nullspace is not None:
            level = self._halo.fetch(options.nullspace.detach())
            self._held = int(number[level.abs().argmax()]) if size else None
        self._comm = rows.comm
        self._factorise(values.detach())

    @outside_transforms
    def renewed(self, values: Tensor, wanted: object = None) -> GatheredFactor:
        """Return factors for other slot values; the plan of exchange is shared with these, which stay."""
        del wanted
        out = copy(self)
        out._factorise(values.detach())
        return out

    def _factorise(self, values: Tensor) -> None:
        entries, n = self._rows.fetch(values.resolve_conj()), self._halo.size
        self._solver: DirectSolver | None = None
        failed: SolveError | PlanError | None = None
        if self._at is not None:
            try:
                entries, row, col = self._determined(entries, *self._at)
                whole = SparseTensor(entries, row, col, (n, n))
                (self._solver,) = factorize(whole, self._method)._solvers
            except (SolveError, PlanError) as error:
                failed = error
        # The others wait for the factors: what is wrong with them is told to all.
        code = 0
        if failed is not None:
            code = 1 + _CODES.index(failed.result) if isinstance(failed, SolveError) else _NO_PLAN
        worst = int(self._comm.reduce(torch.tensor([code], device=values.device), "max"))
        if failed is not None:
            raise failed
        if worst == _NO_PLAN:
            raise PlanError(
                f"the gathered matrix has no factors by {self._method!r}; see the process of the first part"
            )
        if worst:
            raise SolveError(_CODES[worst - 1], "factors of the gathered matrix")

    def _determined(
        self, entries: Tensor, row: Tensor, col: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Hold an unknown of the nullspace ``z`` by an entry ``s`` on the diagonal; values, rows, columns.

        ``(A + s e eᵀ) x = r`` with ``zᴴ r = 0`` has ``s (zᴴ e) (eᵀ x) = zᴴ r = 0``, so that ``A x = r``.
        """
        if self._held is None:
            return entries, row, col
        own = entries[row == self._held]
        at = row.new_full((1,), self._held)
        # Negative, as the other pivots of multipliers are.
        size = -own.abs().amax().reshape(1).to(entries.dtype)
        return torch.cat([entries, size]), torch.cat([row, at]), torch.cat([col, at])

    def apply(self, r: Tensor) -> Tensor:
        """Return ``A⁻¹ r`` for ``[n_held, K]``."""
        return self._solved(r, adjoint=False)

    def apply_adjoint(self, r: Tensor) -> Tensor:
        """Return ``A⁻ᴴ r``."""
        return self._solved(r, adjoint=True)

    def _solved(self, r: Tensor, *, adjoint: bool) -> Tensor:
        whole = self._halo.fetch(r)
        if self._solver is not None:
            x = self._solver.raw(whole[self._order].contiguous(), adjoint=adjoint)
            whole[self._order] = x.to(whole.dtype)
        return self._halo.give_back(whole)
