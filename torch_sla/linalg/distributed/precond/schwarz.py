"""Additive Schwarz: solves on subdomains that may overlap, and a coarse space that joins them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.linalg.distributed.everywhere import agreed
from torch_sla.linalg.distributed.halo import Halo
from torch_sla.linalg.distributed.layout import Layout
from torch_sla.linalg.distributed.precond.coarse import GatheredInverse
from torch_sla.linalg.distributed.precond.galerkin import galerkin
from torch_sla.linalg.distributed.rows import BorrowedRows
from torch_sla.linalg.distributed.sharding import Product, Sharding
from torch_sla.linalg.factorize import factorize
from torch_sla.linalg.precond.base import NAMES, make_preconditioner
from torch_sla.linalg.sparse.pattern import Pattern
from torch_sla.linalg.sparse.tensor import SparseTensor
from torch_sla.linalg.sparse.transforms import outside_transforms

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.linalg.distributed.communicator import Communicator
    from torch_sla.linalg.precond.base import PreconditionerOptions

__all__ = ["Schwarz", "Subdomains"]


@dataclass(frozen=True)
class Schwarz:
    """One solve for each part, added up; with overlap and a coarse space, iterations grow slowly with the parts.

    Parameters
    ----------
    overlap
        Layers of neighbouring unknowns added to each part; 0 is block Jacobi, one block for each part.
    inner
        ``"direct"`` factorises each subdomain; else a preconditioner of the serial library, by name (``"multigrid"
        "ilu" "ichol" "ssor"`` ...) or options, applied once.
    coarse
        ``"deflation"``: the near-nullspace (constants) on each part, one small matrix that every process has; it
        takes out the error that is smooth over parts. None: no coarse space.
    transmission
        What holds on the rim of a subdomain: ``"fixed"``, the value there is left alone; ``"outgoing"``, waves leave
        it (complex matrices), so that it does not resonate. Then each part keeps of its solve what it owns.

    Notes
    -----
    Toselli and Widlund, Domain decomposition methods, Springer 2005, sections 2.2 and 3.6; the coarse space is
    that of Nicolaides, SIAM J. Numer. Anal. 24, 1987, applied as in the balanced form ``B = C + (1 - C A) S (1 - A
    C)`` (Mandel, Comm. Numer. Meth. Eng. 9, 1993), which stays symmetric.

    Outgoing waves are Després's condition (Domain decomposition method and the Helmholtz problem, in Mathematical and
    Numerical Aspects of Wave Propagation, SIAM 1991) with restricted updates (St-Cyr, Gander and Thomas, Optimized
    multiplicative, additive, and restricted additive Schwarz preconditioning, SIAM J. Sci. Comput. 29, 2007), in the
    algebra: a neighbour that is cut off is taken to be the rim's value times ``exp(i k h)``, and ``(k h)²`` is what a
    row sums up to over what it is coupled to there.
    """

    overlap: int = 1
    inner: str | PreconditionerOptions = "direct"
    coarse: Literal["deflation"] | None = "deflation"
    transmission: Literal["fixed", "outgoing"] = "fixed"
    name: ClassVar[str] = "schwarz"

    def __post_init__(self) -> None:
        if self.overlap < 0:
            raise ArgumentError(f"`overlap` must be at least 0, got {self.overlap}")
        if isinstance(self.inner, str) and self.inner not in ("direct", *NAMES):
            raise ArgumentError(
                f"`inner` must be direct, {', '.join(NAMES)} or options, got {self.inner!r}"
            )
        if self.coarse not in (None, "deflation"):
            raise ArgumentError(f"`coarse` must be 'deflation' or None, got {self.coarse!r}")
        if self.transmission not in ("fixed", "outgoing"):
            raise ArgumentError(
                f"`transmission` must be 'fixed' or 'outgoing', got {self.transmission!r}"
            )

    def build_parts(
        self, sharding: Sharding, values: Tensor, near_nullspace: Tensor | None
    ) -> Subdomains:
        """Set subdomains up for slot values ``[nnz_csr]``."""
        return Subdomains(sharding, values, self, near_nullspace)


class Subdomains:
    """A solver for each part held here, and the coarse space."""

    @outside_transforms
    def __init__(
        self, sharding: Sharding, values: Tensor, options: Schwarz, near_nullspace: Tensor | None
    ) -> None:
        values = values.detach()
        self._outgoing = options.transmission == "outgoing"
        if self._outgoing and not values.is_complex():
            raise ArgumentError(
                f"`transmission` is 'outgoing', which a matrix of {values.dtype} cannot say: take a complex dtype, or "
                "'fixed'"
            )
        self._halo = sharding.halo if options.overlap else None
        for _ in range(options.overlap - 1):
            self._halo = _wider(sharding, self._halo or sharding.halo)
        squares = _squares(sharding, values, self._halo, outgoing=self._outgoing)
        self._places = [place for place, _, _ in squares]
        self._solvers = agreed(
            sharding.rows.comm,
            sharding.rows.device,
            lambda: [_solver(pattern, a, options.inner) for _, pattern, a in squares],
        )
        self._coarse: _Deflation | None = None
        if options.coarse is not None and sharding.rows.comm.parts > 1:
            self._coarse = _Deflation(sharding, values, near_nullspace)
        self._A = Product(sharding, values)

    def apply(self, r: Tensor) -> Tensor:
        """Return ``B r`` for ``[n_held, K]``."""
        return self._balanced(r, adjoint=False)

    def apply_adjoint(self, r: Tensor) -> Tensor:
        """Return ``Bᴴ r``."""
        return self._balanced(r, adjoint=True)

    def _balanced(self, r: Tensor, *, adjoint: bool) -> Tensor:
        """``C + (1 - C A) S (1 - A C)``: coarse, subdomains, coarse, each on what is left."""
        if self._coarse is None:
            return self._subdomains(r, adjoint=adjoint)
        A = self._A.turned(adjoint=adjoint)
        z = self._coarse.apply(r, adjoint=adjoint)
        s = self._subdomains(r - A(z), adjoint=adjoint)
        return z + s - self._coarse.apply(A(s), adjoint=adjoint)

    def _subdomains(self, r: Tensor, *, adjoint: bool) -> Tensor:
        halo, n = self._halo, len(r)
        x = r
        if halo is not None:
            # Restricted: each keeps what it owns; the adjoint takes it from there.
            alone = self._outgoing and adjoint
            beside = r.new_zeros(halo.size, *r.shape[1:]) if alone else halo.fetch(r)
            x = torch.cat([r, beside])
        out = torch.zeros_like(x)
        for place, solvers in zip(self._places, self._solvers, strict=True):
            if place.numel():
                # Every entry is of one part: nothing is written twice.
                out[place] = solvers[adjoint](x[place].contiguous())
        if halo is None or (self._outgoing and not adjoint):
            return out[:n]
        return halo.start_back(out[n:].contiguous())(out[:n].clone())


def _wider(sharding: Sharding, halo: Halo) -> Halo:
    """Add to each part what the rows of its halo reach."""
    borrowed, columns = BorrowedRows(sharding, halo), sharding.columns
    part = halo.parts[borrowed.row]
    foreign = columns.owner(borrowed.col) != part
    size = max(columns.n, 1)
    found = part[foreign] * size + borrowed.col[foreign]
    wanted = torch.unique(torch.cat([found, halo.parts * size + halo.places]))
    return Halo(columns, wanted % size, torch.div(wanted, size, rounding_mode="floor"))


def _squares(
    sharding: Sharding, values: Tensor, halo: Halo | None, *, outgoing: bool
) -> list[tuple[Tensor, Pattern, Tensor]]:
    """Return for each part where its unknowns are among owned ones and halo, and the square matrix of them."""
    rows, own, n = sharding.rows, sharding.pattern, sharding.rows.n_held
    mine = rows.owner(torch.arange(rows.start, rows.start + n, device=rows.device))
    row, place, a, part = (
        own.csr_row.long(),
        sharding.column_places[own.ccol.long()],
        values,
        mine,
    )
    key = place.new_empty(0)
    size = max(rows.n, 1)
    if halo is not None:
        borrowed = BorrowedRows(sharding, halo)
        row = torch.cat([row, n + borrowed.row])
        place = torch.cat([place, borrowed.col])
        a = torch.cat([a, borrowed.fetch(values)])
        part = torch.cat([mine, halo.parts])
        key = halo.parts * size + halo.places
    wanted = part[row].long() * size + place
    found = torch.searchsorted(key, wanted).clamp(max=max(len(key) - 1, 0))
    borrowed_col = key[found] == wanted if len(key) else torch.zeros_like(wanted, dtype=torch.bool)
    owned_col = rows.owner(place) == part[row]
    col = torch.where(owned_col, place - rows.start, n + found)
    inside = owned_col | borrowed_col
    rim = _rim(rows.comm, row, a, inside, len(part)) if outgoing else None
    row, col, a = row[inside], col[inside], a[inside]
    if rim is not None:
        place = torch.arange(len(part), device=row.device)
        row, col, a = torch.cat([row, place]), torch.cat([col, place]), torch.cat([a, rim])
    number = torch.empty_like(part, dtype=torch.int64)
    out = []
    for p in rows.comm.held:
        members = (part == p).nonzero().squeeze(1)
        number[members] = torch.arange(len(members), device=row.device)
        here = (part[row] == p).nonzero().squeeze(1)
        shape = (len(members), len(members))
        pattern = Pattern.from_coo(number[row[here]], number[col[here]], shape)
        out.append((members, pattern.slots, pattern.coalesce(a[here])))
    return out


def _rim(comm: Communicator, row: Tensor, a: Tensor, inside: Tensor, n: int) -> Tensor:
    """Return what outgoing waves add to the diagonal ``[n]``; zero where no coupling was cut.

    Parameters
    ----------
    row, a, inside
        Row and value of each entry, and whether its column is in the subdomain.
    """
    everything = a.new_zeros(n).index_add_(0, row, a)
    cut = a.new_zeros(n).index_add_(0, row[~inside], a[~inside])
    # The time factor is the one with which the matrix loses energy.
    loss = comm.reduce(a.imag.sum().reshape(1))
    square = everything.real / torch.where(cut.real < 0, cut.real, -torch.inf)
    half = (
        square.clamp(min=0).sqrt() / 2
    )  # sin(k h / 2): a grid carries no shorter waves than two cells
    angle = torch.where(half < 1, 2 * torch.asin(half.clamp(max=1)), 0)
    turn = torch.polar(torch.ones_like(angle), -angle if float(loss) > 0 else angle)
    return cut * turn


def _solver(
    pattern: Pattern, values: Tensor, inner: Any
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Return how to apply the approximate inverse of one subdomain, and its adjoint."""
    if not pattern.shape[0]:
        return (lambda r: r), (lambda r: r)
    matrix = SparseTensor.from_pattern(pattern, values)
    if inner == "direct":
        (solver,) = factorize(matrix)._solvers
        return solver.raw, lambda r: solver.raw(r, adjoint=True)
    made = make_preconditioner(inner, pattern, values, matrix.known_structure())
    if made is None:
        return (lambda r: r), (lambda r: r)
    return made.apply, made.apply_adjoint


class _Deflation:
    """The coarse space: each near-nullspace vector cut into parts, constants by default."""

    def __init__(self, sharding: Sharding, values: Tensor, near_nullspace: Tensor | None) -> None:
        rows, comm = sharding.rows, sharding.rows.comm
        n = rows.n_held
        Z = values.new_ones(n, 1) if near_nullspace is None else near_nullspace.to(values.dtype)
        blocks = []
        filled = torch.zeros(comm.parts, dtype=torch.int64)
        for p, here in zip(comm.held, rows.slices, strict=True):
            # Orthonormal on each part; vectors that depend on others there vanish.
            Q, s, _ = torch.linalg.svd(Z[here], full_matrices=False)
            Q = Q[:, s > 1e-10 * s.max()] if s.numel() else Q[:, :0]
            filled[p] = Q.shape[1]
            blocks.append(Q)
        filled = comm.reduce(filled.to(rows.device)).cpu()
        layout = Layout(comm, filled, device=rows.device)
        row, col, entries = [], [], []
        for p, here, Q in zip(comm.held, rows.slices, blocks, strict=True):
            i = torch.arange(here.start, here.stop, device=rows.device)
            c = int(layout.offsets[p]) + torch.arange(Q.shape[1], device=rows.device)
            row.append((rows.start + i).repeat_interleave(Q.shape[1]))
            col.append(c.repeat(len(i)))
            entries.append(Q.flatten())
        P = Sharding(rows, layout, torch.cat(row), torch.cat(col))
        transfer = P.pattern.coalesce(torch.cat(entries))
        self._P = Product(P.slots, transfer)
        self._inverse = GatheredInverse(*galerkin(sharding, values, P.slots, transfer))

    def apply(self, r: Tensor, *, adjoint: bool) -> Tensor:
        """Return ``Z (Zᴴ A Z)⁺ Zᴴ r``."""
        return self._P(self._inverse.apply(self._P.adjoint(r), adjoint=adjoint))
