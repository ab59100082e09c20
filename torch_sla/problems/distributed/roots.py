"""Systems of equations in parts: vectors are cut, numbers are the same everywhere.

A cotangent here is the share that comes of what this process makes of a value; shares are added where the values
given, of which every process has a copy, enter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.linalg.adjoint.exchange import summed
from torch_sla.linalg.distributed.partition import choose_parts
from torch_sla.linalg.distributed.tensor import DSparseTensor
from torch_sla.linalg.distributed.vector import DVector
from torch_sla.problems.distributed.algebra import AlgebraInParts, cut, part_of_rows
from torch_sla.problems.distributed.scene import refuse_batch, start_here
from torch_sla.problems.expression import Expression, Ranked
from torch_sla.problems.expression.nodes import Call, Index, Name
from torch_sla.problems.expression.parser import error_at
from torch_sla.problems.lowering.parameters import Given
from torch_sla.problems.lowering.roots import Nonlinear
from torch_sla.problems.specs.algebra import MatrixFile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch_sla.linalg import SparseTensor
    from torch_sla.linalg.distributed.communicator import Communicator
    from torch_sla.linalg.distributed.layout import Layout
    from torch_sla.linalg.nonlinear.options import NonlinearInfo
    from torch_sla.problems.expression.nodes import Node

__all__ = ["SharedNonlinear"]


class SharedNonlinear(AlgebraInParts, Nonlinear):
    """Newton's method whose steps are found by GMRES with products, as matrices in parts have it.

    Vectors of one length lie in the same parts, those of the first matrix of that size. Numbers belong to the first
    part.
    """

    def shared_by(self, comm: Communicator, device: torch.device) -> None:
        """Say who shares it, and where this process computes."""
        super().shared_by(comm, device)
        self._cut_of: dict[int, Layout] = {}

    def read(self, files: Mapping[str, MatrixFile]) -> None:
        """Read the shares of files; those of one size are cut alike."""
        for name, value in files.items():
            self._share(value, name)

    def _share(self, value: MatrixFile, path: str) -> DSparseTensor:
        D = self.in_parts(value, Given(), {}, path)
        first = self._cut_of.setdefault(D.layout.n, D.layout)
        other = torch.tensor([float(not first.same(D.layout))], device=self.device)
        alike = float(self.comm.reduce(other, "max")) == 0
        return D if alike else self.in_parts(value, Given(), {}, path, first)

    def matrix(
        self, value: Any, given: Given, matrices: Mapping[str, SparseTensor], path: str
    ) -> Any:
        """Return a matrix as it was declared or given; of one in a file, the rows of this process."""
        if isinstance(value, MatrixFile):
            return self._share(value, path)
        return super().matrix(value, given, matrices, path)

    def root(
        self,
        given: Mapping[str, Tensor],
        names: list[str],
        matrices: Mapping[str, Any],
        start: Tensor | None,
    ) -> tuple[Tensor, NonlinearInfo]:
        """Find what is here of ``x``; of the start, too, or all of it."""
        for name in names:
            batch = given[name].ndim - len(self.declared[name].shape)
            refuse_batch(repr(name), given[name].shape[: max(batch, 0)])
        lengths = self._lengths(names)
        part = self._parts_of_sizes(matrices, set(lengths.values()))
        cuts = _Cuts(self.comm, lengths, part)
        D = self._nearby(matrices, part)
        places = D.layout.names
        here = {
            n: torch.nonzero((places >= s.start) & (places < s.stop))[:, 0]
            for n, s in self.parts.items()
        }
        acting = {
            name: A if isinstance(A, DSparseTensor) else cut(A, self.comm, part[A.shape[0]])
            for name, A in matrices.items()
        }
        equations = [_InParts(f.expression, cuts) for f in self.spec.residual]  # type: ignore[attr-defined]

        def residual(u: DVector, _: DSparseTensor, *params: Any) -> DVector:
            rest = iter(params)
            known: dict[str, Ranked] = {}
            for name in names:
                value, n = next(rest), lengths.get(name)
                own = value if n is None else value.index_select(0, cuts.held(n))
                known[name] = Ranked(own, int(n is not None))
            known |= {n: Ranked(_Acting(next(rest)), 2) for n in acting}  # type: ignore[arg-type]
            for unknown in self.spec.unknowns:
                own = u.local.index_select(0, here[unknown.name])
                if unknown.size is None:
                    own = summed(own.sum(), self.comm)
                known[unknown.name] = Ranked(own, int(unknown.size is not None))
            rows = u.local.new_zeros(len(u.local))
            for i, (equation, unknown) in enumerate(
                zip(equations, self.spec.unknowns, strict=True)
            ):
                places = here[unknown.name]
                try:
                    found = equation.evaluate(known).tensor.to(rows.dtype)
                except (IndexError, RuntimeError) as error:  # sizes that do not fit
                    raise ArgumentError(f"residual.{i} cannot be evaluated: {error}") from error
                rows = rows.index_copy(0, places, found.expand(len(places)))
            return DVector(rows, u.layout)

        n, own = D.layout.n, len(places)
        whole = start is None or start.shape[-1:] == (n,)
        first = self._start(None) if start is None else start
        u0 = start_here(self.comm, first, n if whole else own, self.dtype, self.device)
        if whole:
            u0 = u0.index_select(-1, places)
        u, report = D.nonlinear_solve(
            residual,
            DVector(u0, D.layout),
            *(given[name] for name in names),
            *acting.values(),
            rtol=self.options.rtol,
            atol=self.options.atol,
            maxiter=self.options.maxiter,
            line_search=self.options.line_search,
            preconditioner=self.spec.solver.preconditioner,
            info=True,
            throw=False,
        )
        self._layouts = {"x": D.layout}
        return u.local, report

    def fields(self, x: Tensor) -> dict[str, Tensor]:
        """Return what is here of the unknowns."""
        return {"x": x}

    def _lengths(self, names: list[str]) -> dict[str, int]:
        """Return how long each vector is, by name."""
        found = {u.name: u.size for u in self.spec.unknowns if u.size is not None}
        for name in names:
            shape = tuple(self.declared[name].shape)
            if len(shape) > 1:
                raise ArgumentError(
                    f"{name!r} has shape {list(shape)}; several processes have vectors in parts, and matrices that are "
                    "sparse (matrices)"
                )
            if shape:
                found[name] = shape[0]
        return found

    def _parts_of_sizes(self, matrices: Mapping[str, Any], lengths: set[int]) -> dict[int, Tensor]:
        """Return the part of each entry of vectors, by their length; files say it first."""
        found = {n: part_of_rows(layout) for n, layout in self._cut_of.items()}
        for name, A in matrices.items():
            n = A.shape[0]
            if A.shape != (n, n):
                raise ArgumentError(
                    f"the matrix {name!r} is {list(A.shape)}; in parts matrices are square"
                )
            if n not in found:
                chosen = torch.empty(n, dtype=torch.int64, device=self.device)
                if self.comm.rank == 0:
                    chosen = choose_parts(
                        *(A.row_indices, A.col_indices, n, self.comm.parts),
                        coords=A.declared.coordinates,
                    ).to(self.device)
                found[n] = self.comm.broadcast(chosen)
        for n in lengths - found.keys():
            found[n] = torch.arange(n, device=self.device) * self.comm.parts // n
        return found

    def _nearby(self, matrices: Mapping[str, Any], part: Mapping[int, Tensor]) -> DSparseTensor:
        """Return the matrices of the equations on the diagonal, for preconditioners; ones where there is none."""
        held = self.comm.held
        values, rows, cols = [], [], []
        owned: list[list[Tensor]] = [[] for _ in held]
        for formula, unknown in zip(self.spec.residual, self.spec.unknowns, strict=True):
            n, at = unknown.size or 1, self.parts[unknown.name].start
            used = [
                A
                for name, A in matrices.items()
                if name in formula.expression.names and A.shape[0] == n  # type: ignore[attr-defined]
            ]
            first = torch.zeros(1, dtype=torch.int64, device=self.device)
            of = first if unknown.size is None else part[n]
            v, row, col = self._own_entries(used[0] if used else None, of)
            values.append(v)
            rows.append(row + at)
            cols.append(col + at)
            for p, names in zip(held, owned, strict=True):
                names.append(torch.nonzero(of == p)[:, 0] + at)
        n = sum(self.sizes)
        return DSparseTensor.from_local(
            *(torch.cat(values), torch.cat(rows), torch.cat(cols), (n, n)),
            [torch.cat(names) for names in owned],
            comm=self.comm,
        ).settled()

    def _own_entries(self, A: Any, part: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return values, rows and columns of what this process has of a matrix; of the identity where it is None."""
        if isinstance(A, DSparseTensor):
            s, names = A.sharding, part.argsort(stable=True)
            row = names[s.rows.start + s.pattern.csr_row.long()]
            col = names[s.column_places.long()[s.pattern.ccol.long()]]
            return A.slot_values().detach(), row, col
        mine = (part >= self.comm.held.start) & (part < self.comm.held.stop)
        if A is None:
            place = torch.nonzero(mine)[:, 0]
            return torch.ones(len(place), dtype=self.dtype, device=self.device), place, place
        here = mine[A.row_indices.long()]
        return A.values.detach()[here], A.row_indices.long()[here], A.col_indices.long()[here]


class _Cuts:
    """Which entries of vectors are here.

    Parameters
    ----------
    comm
        Who has the others.
    lengths
        Of vectors by name.
    part
        Part of each entry, by length.
    """

    def __init__(
        self, comm: Communicator, lengths: Mapping[str, int], part: Mapping[int, Tensor]
    ) -> None:
        self.comm, self.lengths, self.part = comm, lengths, part
        self._held: dict[int, Tensor] = {}

    def held(self, n: int) -> Tensor:
        """Return the numbers of the entries here of a vector of some length, part after part."""
        if n not in self._held:
            part, parts = self.part[n], self.comm.held
            mine = torch.nonzero((part >= parts.start) & (part < parts.stop))[:, 0]
            self._held[n] = mine[part[mine].argsort(stable=True)]
        return self._held[n]


class _Acting:
    """A matrix in parts as expressions take it: it acts on what is here of a vector."""

    pattern = None

    def __init__(self, D: DSparseTensor) -> None:
        self._D = D
        self.dtype = D.dtype

    def __matmul__(self, x: Tensor) -> Tensor:
        product = self._D @ DVector(x, self._D.layout)
        return product.local


class _InParts(Expression):
    """An expression of vectors of which each process has some entries.

    Parameters
    ----------
    whole
        The expression.
    cuts
        How vectors are cut, and their lengths by name.
    """

    def __init__(self, whole: Expression, cuts: _Cuts) -> None:
        super().__init__(whole.text, whole.root)
        self._cuts = cuts

    def _evaluate(self, node: Node, values: Mapping[str, Ranked]) -> Ranked | float | complex:
        n = self._length(node.operand) if isinstance(node, Index) else None
        if n is None or not isinstance(node, Index):
            return super()._evaluate(node, values)
        (index,) = node.indices
        if index >= n:
            raise error_at(self.text, node.at, f"{node} is out of range for shape ({n},)")
        vector = self._evaluate(node.operand, values)
        if not isinstance(vector, Ranked):
            raise ArgumentError(f"{node.operand} has no components")
        return self._sum(vector.tensor[self._cuts.held(n) == index])

    def _call(
        self, function: str, arguments: tuple[Node, ...], values: Mapping[str, Ranked]
    ) -> Ranked:
        if function == "dot" and self._length(arguments[0]) is not None:
            a, b = (self._evaluate(argument, values) for argument in arguments)
            if isinstance(a, Ranked) and isinstance(b, Ranked):
                return self._sum(a.tensor * b.tensor)
        elif function == "norm":
            (a,) = (self._evaluate(argument, values) for argument in arguments)
            if isinstance(a, Ranked):
                square = self._sum(a.tensor.square()).tensor
                safe = torch.where(square > 0, square, torch.ones_like(square))
                return Ranked(torch.where(square > 0, safe.sqrt(), torch.zeros_like(square)))
        return super()._call(function, arguments, values)

    def _length(self, node: Node) -> int | None:
        """Return how long a vector is on the whole; None of a number or a matrix."""
        match node:
            case Name(_, name):
                return self._cuts.lengths.get(name)
            case Index() | Call(_, "norm"):
                return None
            case Call(_, "dot", (first, second)):
                return None if self._length(first) is not None else self._length(second)
        found = (self._length(child) for child in node.children)
        return next((n for n in found if n is not None), None)

    def _sum(self, x: Tensor) -> Ranked:
        return Ranked(summed(x.sum(-1), self._cuts.comm))
