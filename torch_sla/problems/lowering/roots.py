"""Systems of expressions: to residuals that Newton's method solves, with the implicit adjoint."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.linalg import SolveInfo, SparseTensor, nonlinear_solve
from torch_sla.linalg.adjoint.implicit import implicit_solve
from torch_sla.linalg.nonlinear.batched import newton_batch
from torch_sla.linalg.nonlinear.lagged import LaggedStep
from torch_sla.linalg.nonlinear.options import NonlinearInfo
from torch_sla.problems.expression import Ranked
from torch_sla.problems.lowering.algebra import Algebra
from torch_sla.problems.lowering.newton import newton_options
from torch_sla.problems.lowering.parameters import require_room
from torch_sla.problems.lowering.states import check_batch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch_sla.problems.specs.algebra import NonlinearProblem

__all__ = ["Nonlinear"]

_FULL = 64
"""Unknowns up to which the Jacobian is a full matrix.

Also a bound that must stay well below 128: on several threads torch's LU of a batch of larger matrices (2.13 with MKL
2024.2) gives wrong numbers without a word, or hangs; solves, inverses and determinants of one matrix do not.
"""


class Nonlinear(Algebra):
    """Lowers `NonlinearProblem`: a few equations with a full Jacobian, more of them with a sparse one."""

    spec: NonlinearProblem

    def __init__(self, spec: NonlinearProblem) -> None:
        super().__init__(spec)
        self.sizes = [unknown.size or 1 for unknown in spec.unknowns]
        self.parts: dict[str, slice] = {}
        at = 0
        for unknown, size in zip(spec.unknowns, self.sizes, strict=True):
            self.parts[unknown.name] = slice(at, at + size)
            at += size
        self.options = newton_options(spec.solver.nonlinear, self.dtype, line_search=True)

    def find(
        self, values: Mapping[str, Any], start: Tensor | None, *, throw: bool
    ) -> tuple[dict[str, Tensor], SolveInfo, torch.device]:
        """Find the root for every member of the batch."""
        given, whole = self.given(values)
        matrices = {
            name: self.matrix(value, given, whole, f"matrices.{name}")
            for name, value in self.spec.matrices.items()
        }
        taken = {m.name for m in self.spec.matrices.values() if hasattr(m, "name")}
        names = [name for name in given if name not in taken]
        u, found = self.root(given, names, matrices, start)
        if throw and not found.converged:
            raise found.failure()
        info = SolveInfo(
            result=found.result,
            iterations=found.iterations,
            residual=found.residual,
            history=list(found.history),
            method="newton",
            backend="pytorch",
            notes=list(found.notes),
            solved=found.solved,
        )
        return self.fields(u), info, given.home

    def root(
        self,
        given: Mapping[str, Tensor],
        names: list[str],
        matrices: Mapping[str, SparseTensor],
        start: Tensor | None,
    ) -> tuple[Tensor, NonlinearInfo]:
        """Find ``x`` ``[*batch, n]`` for what is given by name, some of it matrices, and say how."""
        leaves = tuple(given[name] for name in names)
        u0 = self._start(start)
        shapes = [tuple(self.declared[name].shape) for name in names]
        batches = [leaf.shape[: leaf.ndim - len(s)] for leaf, s in zip(leaves, shapes, strict=True)]
        check_batch(u0, np.broadcast_shapes(*batches), more=True)
        if matrices or sum(self.sizes) > _FULL:
            return self._sparse(names, leaves, matrices, u0)
        equation = _Equations(self, names)
        with torch.no_grad():
            batch = equation.residual(u0, leaves).shape[:-1]
        u = implicit_solve(equation, u0.expand(*batch, u0.shape[-1]), leaves)
        return u, equation.info

    def fields(self, x: Tensor) -> dict[str, Tensor]:
        """Return the unknowns that are vectors by name, and all of them as ``x``."""
        found = {"x": x}
        for unknown in self.spec.unknowns:
            if unknown.size is not None:
                found.setdefault(unknown.name, x[..., self.parts[unknown.name]])
        return found

    def _start(self, start: Tensor | None) -> Tensor:
        if start is not None:
            return self.given_start(start, sum(self.sizes))
        for i, n in enumerate(self.sizes):
            require_room(f"unknowns.{i}", (n,), self.dtype)
        first = [
            torch.full((n,), u.start) for u, n in zip(self.spec.unknowns, self.sizes, strict=True)
        ]
        return torch.cat(first).to(device=self.device, dtype=self.dtype)

    def equations(self, u: Tensor, known: Mapping[str, Ranked]) -> Tensor:
        """Evaluate all expressions ``[*batch, n]`` at ``u [*batch, n]``."""
        names = dict(known)
        for unknown in self.spec.unknowns:
            part = u[..., self.parts[unknown.name]]
            scalar = unknown.size is None
            names[unknown.name] = Ranked(part[..., 0] if scalar else part, int(not scalar))
        rows = []
        for i, (formula, size) in enumerate(zip(self.spec.residual, self.sizes, strict=True)):
            try:
                row = formula.expression.evaluate(names)  # type: ignore[attr-defined]
            except (ArgumentError, IndexError, RuntimeError) as error:  # sizes that do not fit
                raise ArgumentError(f"residual.{i} cannot be evaluated: {error}") from error
            tensor = row.tensor.to(u.dtype)
            tensor = tensor if row.rank else tensor[..., None]
            if tensor.shape[-1] != size:
                raise ArgumentError(
                    f"residual.{i} has {tensor.shape[-1]} components; "
                    f"{self.spec.unknowns[i].name!r} has {size}"
                )
            rows.append(tensor)
        batch = np.broadcast_shapes(*(row.shape[:-1] for row in rows), u.shape[:-1])
        return torch.cat([row.expand(*batch, row.shape[-1]) for row in rows], -1)

    def known(self, names: list[str], leaves: tuple[Tensor, ...]) -> dict[str, Ranked]:
        """Return the parameters with their ranks."""
        ranks = (len(self.declared[name].shape) for name in names)
        return dict(zip(names, map(Ranked, leaves, ranks), strict=True))

    # -- many unknowns ------------------------------------------------------------------------------

    def _sparse(
        self,
        names: list[str],
        leaves: tuple[Tensor, ...],
        matrices: Mapping[str, SparseTensor],
        u0: Tensor,
    ) -> tuple[Tensor, NonlinearInfo]:
        """Solve members one after another, each with a sparse Jacobian found by colouring."""
        for name, A in matrices.items():
            if A.is_batched:
                raise ArgumentError(f"the matrix {name!r} is a batch; one matrix is needed")
        shapes = [tuple(self.declared[name].shape) for name in names]
        batches = [leaf.shape[: leaf.ndim - len(s)] for leaf, s in zip(leaves, shapes, strict=True)]
        batch = np.broadcast_shapes(*batches, u0.shape[:-1])
        whole = [leaf.expand((*batch, *s)) for leaf, s in zip(leaves, shapes, strict=True)]
        starts = u0.expand(*batch, u0.shape[-1])
        guess = self._guess(matrices)

        def residual(u: Tensor, *params: Any) -> Tensor:
            known = self.known(names, params[: len(names)])
            for name, A in zip(matrices, params[len(names) :], strict=True):
                known[name] = Ranked(A, 2)  # a sparse matrix: it acts, and does nothing else
            return self.equations(u, known)

        solver, reports, found = self.spec.solver, [], []
        linear = {
            n: getattr(solver, n)
            for n in ("backend", "method", "preconditioner", "rtol", "maxiter")
        }
        for index in itertools.product(*map(range, batch)):
            u, report = nonlinear_solve(
                residual,
                starts[index],
                *(leaf[index] for leaf in whole),
                *matrices.values(),
                pattern=guess,
                rtol=self.options.rtol,
                atol=self.options.atol,
                maxiter=self.options.maxiter,
                line_search=self.options.line_search,
                linear=linear,
                info=True,
                throw=False,
            )
            found.append(u)
            reports.append(report)
        # The report of a batch is that of the member that did worst.
        worst = max(reports, key=lambda r: (not r.converged, r.iterations))
        if not worst.converged:
            worst.solved = torch.tensor([r.converged for r in reports]).reshape(batch)
        return torch.stack(found).reshape(*batch, -1), worst

    def _guess(self, matrices: Mapping[str, SparseTensor]) -> SparseTensor:
        """Return where the Jacobian may have entries, as ones: matrices that are used, and diagonals."""
        n = sum(self.sizes)
        if n <= _FULL:
            return SparseTensor.from_dense(torch.ones(n, n, dtype=self.dtype, device=self.device))
        rows: list[Tensor] = []
        cols: list[Tensor] = []
        parts = list(self.parts.values())
        for formula, place in zip(self.spec.residual, parts, strict=True):
            used = [A for name, A in matrices.items() if name in formula.expression.names]  # type: ignore[attr-defined]
            for other in parts:
                shape = (place.stop - place.start, other.stop - other.start)
                for A in used:
                    if tuple(A.shape) == shape:
                        rows.append(A.row_indices.long() + place.start)
                        cols.append(A.col_indices.long() + other.start)
                if shape[0] == shape[1]:
                    i = torch.arange(shape[0], device=self.device)
                    rows.append(i + place.start)
                    cols.append(i + other.start)
        row, col = torch.cat(rows), torch.cat(cols)
        return SparseTensor(
            torch.ones(len(row), dtype=self.dtype, device=self.device), row, col, (n, n)
        )


class _Equations:
    """The equations for `implicit_solve`; a handful, so the Jacobian is dense."""

    takes_many = True

    def __init__(self, model: Nonlinear, names: list[str]) -> None:
        self.model, self.names = model, names
        self._reuse = model.spec.solver.nonlinear.reuse
        self.info = NonlinearInfo(method="newton")

    def residual(self, u: Tensor, leaves: tuple[Tensor, ...]) -> Tensor:
        """Evaluate all expressions ``[*batch, n]``."""
        return self.model.equations(u, self.model.known(self.names, leaves))

    def _jacobian(self, u: Tensor, leaves: tuple[Tensor, ...], *, recorded: bool) -> Tensor:
        with torch.enable_grad():
            x = u if recorded and u.requires_grad else u.detach().requires_grad_()
            F = self.residual(x, leaves)
            rows = []
            for i in range(F.shape[-1]):
                row = None
                if F.requires_grad:
                    (row,) = torch.autograd.grad(
                        F[..., i].sum(),
                        x,
                        create_graph=recorded,
                        retain_graph=True,
                        allow_unused=True,
                    )
                rows.append(torch.zeros_like(x) if row is None else row)
            return torch.stack(rows, -2)

    def run(self, u0: Tensor, leaves: tuple[Tensor, ...]) -> Tensor:
        """Iterate to the root."""
        plain = tuple(leaf.detach() for leaf in leaves)

        def tangent(u: Tensor) -> Tensor:
            return self._jacobian(u, plain, recorded=False)

        def newton(J: Tensor, F: Tensor) -> Tensor:
            # A singular Jacobian gives infinities, which the iteration reports as such.
            solved, failed = torch.linalg.solve_ex(J, F)
            return solved + torch.where(failed[..., None] > 0, math.inf, 0.0)

        def evaluate(u: Tensor) -> Tensor:
            return self.residual(u, plain)

        with torch.no_grad():
            step = LaggedStep(tangent, newton, self._reuse)
            u, self.info = newton_batch(evaluate, step, u0.detach().clone(), self.model.options)
        return u

    def adjoint(self, u: Tensor, leaves: tuple[Tensor, ...], g: Tensor) -> Tensor:
        """Solve ``Jᵀ λ = g``."""
        self.info.require_derivative()
        J = self._jacobian(u, leaves, recorded=torch.is_grad_enabled())
        # A column, lest dimensions in front of g be taken for columns.
        return torch.linalg.solve(J.transpose(-1, -2), g.unsqueeze(-1)).squeeze(-1)

    def forward_solve(self, u: Tensor, leaves: tuple[Tensor, ...], b: Tensor) -> Tensor:
        """Solve ``J du = b``."""
        self.info.require_derivative()
        return torch.linalg.solve(self._jacobian(u, leaves, recorded=False), b)
