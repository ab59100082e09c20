"""Left vectors of a general pencil, for the derivatives of its pairs: solutions with bordered matrices."""

from __future__ import annotations

import torch
from torch import Tensor

from torch_sla.errors import GradientError, SolveError
from torch_sla.linalg.eigen.operators import WholeSpace, max_norm, solver_of
from torch_sla.linalg.sparse.pattern import Pattern
from torch_sla.linalg.sparse.tensor import SparseTensor
from torch_sla.linalg.sparse.transforms import outside_transforms, physical

__all__ = ["LeftVectors"]

_MULTIPLE = "eigenvalue {} is multiple or nearly defective, so it and its vector have no derivative"
_SECOND = (
    "eigenvalue {} is multiple, and second derivatives of multiple eigenvalues are not available"
)


class LeftVectors(WholeSpace):
    """How the derivatives of `torch_sla.linalg.adjoint.general_eigenpairs` solve, of a matrix held whole."""

    pattern: Pattern
    _groups: tuple[Tensor, Tensor]

    def _group(self, w: Tensor, beyond: Tensor, size: Tensor) -> None:
        """Remember which eigenvalues count as equal.

        Parameters
        ----------
        w, beyond
            Those that are returned ``[k]``, and others that were found.
        size
            A bound on ``‖A - λ M‖ / ‖M v‖`` of each ``[k]``: with unit rounding, what an eigenvalue may be off by.
        """
        eps = torch.finfo(w.dtype).eps
        reach = torch.maximum(eps ** (2 / 3) * w.abs(), 10 * eps * size)
        apart = (w.unsqueeze(1) - w).abs()
        close = apart <= torch.maximum(reach.unsqueeze(1), reach)
        close |= torch.eye(len(w), dtype=torch.bool, device=w.device)
        # Equals of equals are equal; each pass doubles the reach.
        for _ in range(len(w).bit_length()):
            close = (close.double() @ close.double()) > 0
        cut = ((w.unsqueeze(1) - beyond).abs() <= reach.unsqueeze(1)).any(1)
        self._groups = close, (close & cut).any(1)

    def refuse_parts(self, g: Tensor | None, G: Tensor | None) -> None:
        """Refuse cotangents of copies of a multiple eigenvalue that are not of all of them alike."""
        close, cut = self._groups
        many = close.sum(1) > 1
        if G is not None:
            bad = many & physical(G.detach() != 0).reshape(-1, len(many)).any(0)
            if bool(bad.any()):
                raise GradientError(
                    f"eigenvalue {int(bad.nonzero()[0])} is multiple, so its vector has no derivative"
                )
        if g is None:
            return
        rows = physical(g.detach()).reshape(-1, len(many))
        bad = cut & (rows != 0).any(0)
        if bool(bad.any()):
            raise GradientError(
                f"eigenvalue {int(bad.nonzero()[0])} is multiple or defective, and its equal was not asked for, so "
                "it has no derivative; ask for the whole group (a larger `k`) and use its members alike, or leave "
                "them out of the loss"
            )
        apart = (rows.unsqueeze(2) - rows.unsqueeze(1)).abs()
        most = torch.finfo(rows.dtype).eps ** 0.5 * rows.abs().amax(1)
        uneven = (close & (apart > most[:, None, None]).any(0)).nonzero()
        if uneven.numel():
            i, j = uneven[0].tolist()
            raise GradientError(
                f"eigenvalues {i} and {j} are one multiple eigenvalue, so they have no derivatives of their own; only "
                "losses that treat them alike (their sum, a symmetric function) have a gradient"
            )

    @outside_transforms
    def left(
        self, values: Tensor, mass: Tensor | None, w: Tensor, V: Tensor, Q: Tensor, wanted: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Left vectors and adjoint solutions from the bordered matrix of each group that is wanted."""
        values, w, V, Q = (physical(t) for t in (values, w, V, Q))
        mass = None if mass is None else physical(mass)
        n, close = self.pattern.shape[0], self._groups[0]
        W, Z = torch.zeros_like(V), torch.zeros_like(V)
        eps = torch.finfo(w.dtype).eps
        # Many seen from inside a transform have their dimensions in front.
        some = physical(wanted).reshape(-1, len(w)).any(0)
        for i in torch.nonzero(some & ~(close & some).tril(-1).any(1))[:, 0].tolist():
            own = torch.nonzero(close[i])[:, 0]
            m = len(own)
            P, basis, inner = self._border(mass, V[:, own])
            if m > 1:
                # Vectors of a defective eigenvalue are parallel, to the root of rounding.
                for factor in (basis.mH @ V[:, own], inner):
                    sizes = torch.linalg.svdvals(factor)
                    if not float(sizes[-1]) * 0.1 > eps**0.5 * float(sizes[0]):
                        raise GradientError(_MULTIPLE.format(i))
            B, scale = self._bordered(values, mass, w[own].mean(), P, basis)
            rhs = torch.zeros(n + m, 2 * m, dtype=V.dtype, device=V.device)
            rhs[n:, :m], rhs[:n, m:] = scale * torch.eye(m).to(rhs), Q[:, own]
            try:
                x = solver_of(B).raw(rhs, adjoint=True)
            except SolveError as error:
                raise GradientError(_MULTIPLE.format(i)) from error
            if float(torch.linalg.matrix_norm(x[:n, :m])) * eps**0.5 > 0.1:
                raise GradientError(_MULTIPLE.format(i))
            W[:, own], Z[:, own] = x[:n, :m] @ torch.linalg.inv(inner).mH, x[:n, m:]
        return W, Z

    def recorded_left(
        self, values: Tensor, mass: Tensor | None, w: Tensor, V: Tensor, wanted: Tensor
    ) -> Tensor:
        """Left vectors that are wanted, differentiable in all four; they exist, since `left` found them."""
        n, columns = self.pattern.shape[0], []
        some = physical(wanted).reshape(-1, V.shape[1]).any(0)
        several = torch.nonzero(some & (self._groups[0].sum(1) > 1))
        if len(several):
            raise GradientError(_SECOND.format(int(several[0])))
        self.left(values, mass, w, V, torch.zeros_like(physical(V)), wanted)
        for i, needed in enumerate(some.tolist()):
            if not needed:
                columns.append(torch.zeros_like(V[:, i]))
                continue
            P, v, across = self._border(mass, V[:, i : i + 1])
            B, scale = self._bordered(values, mass, w[i], P, v)
            rhs = torch.zeros(n + 1, dtype=V.dtype, device=V.device)
            rhs[n] = scale / across[0, 0]
            columns.append(B.H().solve(rhs, method="lu")[:n])
        return torch.stack(columns, 1)

    def _border(self, mass: Tensor | None, V: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return bases of ``M V`` and of ``V``, and the coordinates of ``M V`` in its basis.

        The bases have unit columns, so that pivoting sees a border of known size; where there are several, they are
        orthogonal.
        """
        moved = V
        if mass is not None:
            moved = SparseTensor.from_pattern(self.pattern, mass.to(V.dtype)) @ V
        if V.shape[1] > 1:
            (basis, _), (P, inner) = torch.linalg.qr(V), torch.linalg.qr(moved)
            return P, basis, inner
        across = torch.linalg.vector_norm(physical(moved).detach()) if mass is not None else None
        size = 1.0 if across is None else float(across) or torch.finfo(V.dtype).tiny
        return moved / size, V, torch.full((1, 1), size, dtype=V.dtype, device=V.device)

    def _bordered(
        self, values: Tensor, mass: Tensor | None, w: Tensor, P: Tensor, basis: Tensor
    ) -> tuple[SparseTensor, float]:
        """Matrix ``A - λ M`` bordered by ``P`` and ``basisᴴ``, with the scale of its border, which is its own."""
        n, m = self.pattern.shape[0], P.shape[1]
        bordered = _bordered(self.pattern, m)
        scale = max(max_norm(self.pattern, physical(values)), torch.finfo(w.dtype).tiny)
        wide = values.to(P.dtype)
        if mass is None:
            shift = -w.expand(n)
        else:
            wide, shift = wide - w * mass.to(P.dtype), w.new_zeros(n)
        edges = [P.T.reshape(-1) * scale, basis.conj().T.reshape(-1) * scale]
        entries = torch.cat([wide, shift, *edges])
        return SparseTensor.from_pattern(bordered.slots, bordered.coalesce(entries)), scale


@outside_transforms
def _bordered(pattern: Pattern, m: int) -> Pattern:
    """Pattern of ``[[A - λ, V], [Vᴴ, 0]]`` over the entries ``[A, -λ on the diagonal, V, V̄]``, column by column."""
    n = pattern.shape[0]
    i = torch.arange(n, device=pattern.device)
    along, edge = i.repeat(m), n + torch.arange(m, device=i.device).repeat_interleave(n)
    row = torch.cat([pattern.csr_row.long(), i, along, edge])
    col = torch.cat([pattern.ccol.long(), i, edge, along])
    return Pattern.from_coo(row, col, (n + m, n + m))
