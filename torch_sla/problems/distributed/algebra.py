"""Linear systems, systems of equations and eigenproblems of given matrices, each process with its own rows.

Declarations are given meaning by the code of one process; what is here cuts the matrices it makes.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, RankError, SpecError
from torch_sla.lazy import cached_property
from torch_sla.linalg import SparseTensor
from torch_sla.linalg.distributed.communicator import described
from torch_sla.linalg.distributed.entries import Entries, cut as entries_of
from torch_sla.linalg.distributed.one_file import load_rows
from torch_sla.linalg.distributed.tensor import DSparseTensor
from torch_sla.linalg.distributed.vector import DVector
from torch_sla.linalg.info import SolveInfo
from torch_sla.problems.distributed.algebra_solution import DistributedAlgebraSolution
from torch_sla.problems.distributed.problem import Asked, DistributedProblem
from torch_sla.problems.distributed.scene import Verdict, refuse_batch, shared, start_here
from torch_sla.problems.lowering.algebra import Algebra, Eigen, Linear
from torch_sla.problems.lowering.parameters import Given
from torch_sla.problems.lowering.states import refuse_start
from torch_sla.problems.specs.algebra import MatrixFile
from torch_sla.problems.specs.value import Parameter

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager
    from types import SimpleNamespace

    from torch_sla.linalg.distributed.communicator import Communicator
    from torch_sla.linalg.distributed.layout import Layout

__all__ = [
    "AlgebraInParts",
    "DistributedAlgebra",
    "cut",
    "part_of_rows",
]


def cut(A: SparseTensor, comm: Communicator, parts: Tensor | None = None) -> DSparseTensor:
    """Keep the rows of this process, of a matrix that every process was given and that all have compared.

    Parameters
    ----------
    parts
        Part of each row; chosen by its graph where left out.
    """
    refuse_batch("the matrix", A.batch_shape)
    known = A.declared
    entries = Entries(A.values, A.row_indices, A.col_indices, tuple(A.shape))
    # What the values were computed from adds the shares up, and it was compared: as the declaration, or in `given`.
    how = known.coordinates, "auto", parts, known.near_nullspace
    return DSparseTensor.from_held(entries_of(comm, entries, *how, shares=True, compared=True))


class AlgebraInParts(Algebra):
    """A lowered algebraic problem whose values are the same on every process, and its matrices in parts."""

    comm: Communicator

    def shared_by(self, comm: Communicator, device: torch.device) -> None:
        """Say who shares it, and where this process computes."""
        self.comm, self.device = comm, device
        self._shares: dict[tuple[str, bool], tuple[Layout | None, DSparseTensor]] = {}

    def check(self) -> SimpleNamespace:
        """Check what needs no value; of files in parts each process reads its share."""
        self.read({n: m for n, m in self._matrices().items() if isinstance(m, MatrixFile)})
        return super().check()

    def read(self, files: Mapping[str, MatrixFile]) -> None:
        """Read the shares of files; all have one size."""
        like: Layout | None = None
        for name, value in files.items():
            like = self.in_parts(value, Given(), {}, name, like).layout

    def _at_once(self, value: Any) -> bool:
        return not isinstance(value, MatrixFile) and super()._at_once(value)

    def in_parts(
        self,
        value: Any,
        given: Given,
        matrices: Mapping[str, SparseTensor],
        path: str,
        like: Layout | None = None,
    ) -> DSparseTensor:
        """Return the rows of this process, of a matrix as it was declared or given.

        A file is read by shares, and no process has all of it; its rows are cut in runs, or along its graph.

        Parameters
        ----------
        like
            Cut it as another matrix is.
        """
        if not isinstance(value, MatrixFile):
            part = None if like is None else part_of_rows(like)
            return cut(self.matrix(value, given, matrices, path), self.comm, part)
        key = (value.file, like is None)
        # With the layout itself: every process must find the same one again, or none.
        cut_like, share = self._shares.get(key, (None, None))
        if share is None or cut_like is not like:
            try:
                D = load_rows(Path(value.file), self.comm, self.device, like)
            except (ArgumentError, RankError) as error:
                raise SpecError(f"cannot be read as a matrix: {error}", path=path) from None
            values = self._real(D.values, f"{path}: the matrix")
            share = DSparseTensor.from_sharding(D.sharding, values, D.near_nullspace)
            self._shares[key] = like, share
        return share

    def given(self, values: Mapping[str, Any]) -> tuple[Given, dict[str, SparseTensor]]:
        """Check what is given, and that it is the same everywhere; its gradients are summed over the processes."""
        given, matrices = super().given(values)
        if not self.comm.alone:
            facts = {f"the parameter {n!r}": described(x) for n, x in given.items()}
            for name, A in matrices.items():
                places = f"{described(A.row_indices)} {described(A.col_indices)}"
                facts[f"the matrix {name!r}"] = f"{list(A.shape)} {places} {described(A.values)}"
            self.comm.agree(facts)
        tensors = (*given.values(), *(A.values for A in matrices.values()))
        like = torch.zeros((), dtype=self.dtype, device=self.device)
        both = iter(shared(self.comm, like, Verdict(), tensors))
        for name in given:
            given[name] = next(both)
        return given, {
            name: SparseTensor.from_pattern(A.pattern, next(both), A.declared)
            for name, A in matrices.items()
        }

    def layouts(self) -> dict[str, Layout]:
        """Who has which entries of the fields that are in parts, by name; after `find`."""
        return self._layouts

    _layouts: dict[str, Layout]


def part_of_rows(layout: Layout) -> Tensor:
    """Return the part of each row, on every process."""
    parts = torch.zeros(layout.n, dtype=torch.int64, device=layout.device)
    places = layout.start + torch.arange(layout.n_held, device=layout.device)
    parts[layout.names] = layout.owner(places).long()
    return layout.comm.reduce(parts)


class SharedLinear(AlgebraInParts, Linear):
    """A linear system in parts."""

    def find(
        self, values: Mapping[str, Any], start: Tensor | None, *, throw: bool
    ) -> tuple[dict[str, Tensor], SolveInfo, torch.device]:
        """Solve with the methods of matrices in parts; right-hand sides of a batch are columns."""
        given, matrices = self.given(values)
        spec, solver, home = self.spec, self.spec.solver, given.home
        D = self.in_parts(spec.matrix, given, matrices, "matrix")
        rhs, names = spec.rhs, D.layout.names
        whole = given[rhs.name] if isinstance(rhs, Parameter) else rhs.array
        if tuple(whole.shape[-1:]) != (D.layout.n,):
            raise ArgumentError(
                f"matrix and rhs have shapes {list(D.shape)} and {list(whole.shape)}; expected [n, n] and [*batch, n]"
            )
        self._layouts = {"x": D.layout}
        batch = tuple(whole.shape[:-1])
        columns = math.prod(batch)
        if isinstance(whole, Tensor):
            b = whole.index_select(-1, names)
        else:
            b = torch.as_tensor(whole[..., names.cpu().numpy()]).to(self.device, self.dtype)
        own = b.reshape(columns, D.layout.n_held).T
        x0 = None
        if start is not None:
            n = D.layout.n_held
            first = start_here(self.comm, start, n, self.dtype, self.device, batch=batch)
            x0 = DVector(first.reshape(columns, len(own)).T, D.layout)
        x, info = D.solve(
            DVector(own if batch else own.squeeze(1), D.layout),
            method=solver.method,
            preconditioner=solver.preconditioner,
            rtol=solver.rtol,
            atol=solver.atol,
            maxiter=solver.maxiter,
            adjoint_rtol=solver.adjoint_rtol,
            x0=x0,
            info=True,
            throw=throw,
        )
        found = (x.local.T if batch else x.local).reshape(*batch, -1)
        return {"x": found}, info, home


class SharedEigen(AlgebraInParts, Eigen):
    """An eigenproblem of matrices in parts."""

    def find(
        self, values: Mapping[str, Any], start: Tensor | None, *, throw: bool
    ) -> tuple[dict[str, Tensor], SolveInfo, torch.device]:
        """Find pairs by LOBPCG, or by Arnoldi's method where the matrix is not symmetric."""
        del throw
        refuse_start(start)
        spec = self.spec
        given, matrices = self.given(values)
        if spec.matrix is None:
            raise ArgumentError("an eigenproblem without a physics has a matrix")
        D = self.in_parts(spec.matrix, given, matrices, "matrix")
        if spec.k > D.layout.n:
            raise SpecError(f"a matrix of size {D.layout.n} has no {spec.k} eigenvalues", path="k")
        M = None
        if spec.mass is not None:
            M = self.in_parts(spec.mass, given, matrices, "mass", D.layout)
        self._layouts = {"modes": D.layout}
        if D.knowledge().hermitian:
            which = spec.which if spec.sigma is None else "LM"
            w, V = D.eigsh(k=spec.k, which=which, sigma=spec.sigma, M=M)
            name = "eigsh"
        else:
            if M is not None or spec.sigma is not None:
                raise SpecError(
                    "the matrix is not symmetric, and its pairs with a mass or nearest to a number come of factors, "
                    "which one process makes",
                    path="matrix",
                )
            w, V = D.eigs(k=spec.k, which=spec.which)
            name = "eigs"
        modes = (V.local if isinstance(V, DVector) else V.index_select(0, D.layout.names)).T
        info = SolveInfo(method=f"{name} {spec.which}", backend=name)
        return {"eigenvalues": w, "modes": modes}, info, given.home


def _lowered(spec: Any) -> AlgebraInParts:
    if spec.type == "linear":
        return SharedLinear(spec)
    if spec.type == "eigen":
        return SharedEigen(spec)
    from torch_sla.problems.distributed.roots import SharedNonlinear

    return SharedNonlinear(spec)


class DistributedAlgebra(DistributedProblem):
    """A problem of given matrices in parts."""

    def remembering(self) -> AbstractContextManager[None]:
        """Keep nothing: matrices that are given are solved with as they come."""
        return nullcontext()

    @cached_property
    def lowered(self) -> AlgebraInParts:
        """The problem; every process reads what is declared, and keeps its own rows of what it makes of it."""
        with self._located():
            found = _lowered(self.spec)
            found.shared_by(self.comm, self.device)
            found.check()
            return found

    @property
    def whole(self) -> Any:
        """The problem before it was cut."""
        return self.lowered

    @property
    def counts(self) -> Mapping[str, int]:
        """None: there is no mesh."""
        return {}

    @property
    def unknowns(self) -> int:
        """How many unknowns there are in the whole; after a solve."""
        return max(layout.n for layout in self.lowered.layouts().values())

    def describe(self) -> str:
        """Return how the problem is cut, for people."""
        _ = self.lowered
        return f"{self.spec.type}\n  parts       {self.comm.parts} on {self.comm.world} processes"

    @property
    def components(self) -> int:
        """Return 1: vectors of unknowns have one dimension."""
        return 1

    def sites(self, name: str) -> Tensor:
        """Refuse: there is no mesh."""
        return self.lowered.nowhere(name)

    def gathered_start(self, start: Tensor) -> Any:
        """Return the starts of all processes behind each other: the cut is known after a solve only."""
        return torch.cat(self.comm.gather(start.to(self.device).flatten()))

    def found(self, values: dict[str, Any], asked: Asked) -> DistributedAlgebraSolution:
        """Solve for values, matrices among them."""
        if asked.points is not None:
            raise ArgumentError("points: there is no mesh to move")
        fields, report, home = self.lowered.find(values, asked.start, throw=asked.throw)
        if not report.converged and report.solved is None:
            report.solved = torch.tensor(False)
        if not asked.info:
            report.history.clear()
        return DistributedAlgebraSolution(self, fields, report, home)
