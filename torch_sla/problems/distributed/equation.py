"""The discrete equation of a problem in parts: residual, Newton's method, and the adjoint.

The unknowns are ``u = û + g``, with g the given values. A linear problem is one Newton step from g:

    J û = −(K g − F),        K g − F = the residual at g.

With the residual R(u, θ) of all rows, and the cotangent ḡ of u, the adjoint solves ``Jᴴ λ = ḡ`` on the free
unknowns, and

    θ̄ = −(∂R/∂θ)ᴴ λ + (∂g/∂θ)ᴴ (ḡ − (∂R/∂u)ᴴ λ)        on the given ones in the second term.

Every process differentiates its own rows; what that says about ghosts goes back through the halo, and what it
says about θ, which all have, is summed once at the end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, RankError, Result, SolveError, TorchSlaError
from torch_sla.linalg.distributed.knowledge import find_out
from torch_sla.linalg.distributed.sharding import Sharding
from torch_sla.linalg.distributed.solve import PartSolver, SolveRequest
from torch_sla.linalg.distributed.space import PartSpace
from torch_sla.linalg.nonlinear.batched import newton_batch
from torch_sla.linalg.nonlinear.options import NonlinearInfo, NonlinearOptions
from torch_sla.linalg.precond.multigrid import rigid_body_modes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch_sla.linalg import SolveInfo
    from torch_sla.problems.distributed.division import Division
    from torch_sla.problems.distributed.given import WholeValues
    from torch_sla.problems.lowering.operators import Operator
    from torch_sla.problems.lowering.scene import Scene
    from torch_sla.problems.lowering.terms import Term

__all__ = ["Equation", "everywhere"]

Answer = TypeVar("Answer")


def everywhere(division: Division, work: Callable[[], Answer]) -> Answer:
    """Do something on every process; where it fails on one, none goes on to wait for it."""
    failed: TorchSlaError | None = None
    answer: Answer | None = None
    try:
        answer = work()
    except TorchSlaError as error:
        failed = error
    kind = 0 if failed is None else 1 + isinstance(failed, ArgumentError)
    flag = torch.tensor([float(kind)], device=division.device)
    anywhere = int(division.comm.reduce(flag, "max"))
    if failed is not None:
        raise failed
    if anywhere or answer is None:
        # Of the kind that the failing process raises: all take it the same way.
        raised: type[TorchSlaError] = ArgumentError if anywhere == 2 else RankError
        raise raised("another process cannot assemble its part of the problem, and says why")
    return answer


@dataclass
class Assembled:
    """One share with values: what is linear, what is not."""

    scene: Scene
    operator: Operator
    terms: list[Term]


class Equation:
    """The equation of a division for one set of values.

    Parameters
    ----------
    division
        The problem in parts.
    given
        Its values.
    throw
        Whether failure raises.
    """

    def __init__(self, division: Division, given: WholeValues, *, throw: bool) -> None:
        self.division, self.given, self._throw = division, given, throw
        self._space = PartSpace(division.layout)
        solver = division.spec.solver
        small = division.whole.dtype == torch.float32
        self._rtol = 1e-5 if small else 1e-10
        self._request = SolveRequest(
            method=solver.method,
            preconditioner=solver.preconditioner,
            rtol=solver.rtol or self._rtol,
            atol=solver.atol,
            maxiter=solver.maxiter,
            adjoint_rtol=solver.adjoint_rtol,
            throw=throw,
        )
        self.info: SolveInfo | None = None
        self.nonlinear = any(s.rows.nonlinear for s in division.shares) or division.whole.nonlinear

    # -- what the shares say --------------------------------------------------------------------

    def assembled(self, leaves: tuple[Tensor, ...]) -> list[Assembled]:
        """Assemble the rows of every share; recorded where gradients are enabled."""
        found = []
        for share in self.division.shares:
            model = share.rows
            scene = self.given.scene(model, leaves)
            found.append(Assembled(scene, model.loaded(scene), model.terms(scene)))
        return found

    def residual(self, parts: list[Assembled], u: list[Tensor]) -> list[Tensor]:
        """Return K u − F and what is not linear, of every share ``[n_rows]``: right in its own rows."""
        return [
            share.rows.unconstrained(p.scene, p.operator, p.terms, x)
            for share, p, x in zip(self.division.shares, parts, u, strict=True)
        ]

    def given_values(self, parts: Sequence[Assembled]) -> list[Tensor]:
        """Return the given values of every share's own unknowns."""
        return [
            share.rows.given_values(p.scene)[share.given]
            for share, p in zip(self.division.shares, parts, strict=True)
        ]

    def _lift(self, parts: list[Assembled]) -> Tensor:
        """Put given values into a vector ``[n_held]``, zero elsewhere."""
        whole = self.division.whole
        lift = torch.zeros(
            self.division.layout.n_held, dtype=whole.field_dtype, device=self.division.device
        )
        for share, g in zip(self.division.shares, self.given_values(parts), strict=True):
            lift[share.held] = lift[share.held].masked_scatter(~share.free, g.detach())
        return lift

    def _free(self, x: Tensor) -> Tensor:
        return torch.where(self.division.free, x, torch.zeros((), dtype=x.dtype, device=x.device))

    # -- the matrix -----------------------------------------------------------------------------

    @cached_property
    def _positions(self) -> Sharding:
        """Where the entries of the own rows of all shares are."""
        d = self.division
        rows, cols = [], []
        for share in d.shares:
            pattern = share.rows.numbering.pattern
            place = torch.empty(pattern.shape[0], dtype=torch.int64, device=d.device)
            place[share.owned] = (
                torch.arange(share.held.start, share.held.stop, device=d.device) + d.layout.start
            )
            start, stop = d.ghost_slice(share)
            place[share.ghosts] = d.halo.places[start:stop]
            rows.append(place[pattern.csr_row.long()[share.own_rows]])
            cols.append(place[pattern.ccol.long()[share.own_rows]])
        empty = torch.zeros(0, dtype=torch.int64, device=d.device)
        return Sharding(d.layout, d.layout, torch.cat([empty, *rows]), torch.cat([empty, *cols]))

    @cached_property
    def _kept(self) -> tuple[Tensor, Tensor]:
        """Slots between free unknowns, and the diagonal slots of given ones."""
        sharding = self._positions.slots
        free = self.division.free
        ghosts = sharding.halo.fetch(free.to(torch.float64).unsqueeze(1)).squeeze(1) > 0.5
        of_columns = torch.cat([free, ghosts])
        pattern = sharding.pattern
        kept = free[pattern.csr_row.long()] & of_columns[pattern.ccol.long()]
        return kept, sharding.diagonal_slots[~free]

    def _matrix(self, values: list[Tensor]) -> Tensor:
        """Constrain the rows of all shares: slot values in which given unknowns stand alone."""
        parts = [
            v.detach()[share.own_rows]
            for v, share in zip(values, self.division.shares, strict=True)
        ]
        empty = torch.zeros(0, dtype=self.division.whole.field_dtype, device=self.division.device)
        slots = self._positions.pattern.coalesce(torch.cat([empty, *parts]))
        kept, diagonal = self._kept
        scale = slots[diagonal].abs()
        # Of the size of its own row, so that no rank needs to know another's.
        scale = torch.where(scale > 0, scale, torch.ones_like(scale)).to(slots.dtype)
        constrained = torch.where(kept, slots, torch.zeros_like(slots))
        return constrained.index_copy(0, diagonal, scale)

    def _solver(
        self, values: list[Tensor], definite: bool | None, start: Tensor | None = None
    ) -> tuple[PartSolver, Tensor]:
        sharding = self._positions.slots
        slots = self._matrix(values)
        known = find_out(sharding, slots)
        if known.hermitian and known.definite is None and definite:
            known = replace(known, definite=True)
        x0 = None if start is None else start.unsqueeze(1)
        return PartSolver(sharding, known, self._request, x0, self.near_nullspace), slots

    @cached_property
    def near_nullspace(self) -> Tensor | None:
        """Rigid-body modes ``[n_held, k]`` where the unknowns are displacements."""
        d = self.division
        if d.whole.coordinates is None:
            return None
        modes = []
        for share in d.shares:
            coordinates = share.rows.coordinates
            if coordinates is not None:
                modes.append(rigid_body_modes(coordinates)[share.owned])
        dim = d.whole.mesh.dim
        count = dim * (dim + 1) // 2
        empty = torch.zeros(0, count, dtype=d.whole.dtype, device=d.device)
        return self._free_rows(torch.cat([empty, *modes]))

    def _free_rows(self, modes: Tensor) -> Tensor:
        return modes * self.division.free.unsqueeze(1)

    def _definite(self, parts: list[Assembled]) -> bool | None:
        """Whether every share says that its rows are of a definite matrix."""
        if self.nonlinear:
            return self.division.whole.definite_tangent
        mine = all(p.operator.definite for p in parts)
        flag = torch.tensor([float(mine)], device=self.division.device)
        return bool(self.division.comm.reduce(flag, "min") > 0)

    # -- forward --------------------------------------------------------------------------------

    def _norm(self, x: Tensor) -> Tensor:
        return self._space.norm(x.unsqueeze(1)).squeeze(-1)

    @torch.no_grad()
    def solve(self, leaves: tuple[Tensor, ...], start: Tensor | None) -> Tensor:
        """Return the solution ``[n_held]``."""
        d = self.division
        plain = tuple(leaf.detach() for leaf in leaves)
        parts = everywhere(d, lambda: self.assembled(plain))
        lift = self._lift(parts)
        definite = self._definite(parts)

        def residual(u: Tensor) -> Tensor:
            spread = d.spread(u)
            found = everywhere(d, lambda: self.residual(parts, spread))
            return self._free(d.owned(found))

        def tangent(u: Tensor) -> list[Tensor]:
            return [
                share.rows.tangent(p.scene, p.operator, p.terms, x)
                for share, p, x in zip(d.shares, parts, d.spread(u), strict=True)
            ]

        def step(u: Tensor, F: Tensor) -> Tensor:
            solver, slots = self._solver(tangent(u), definite)
            x = solver.run(slots, F.unsqueeze(1), adjoint=False).squeeze(1)
            self.info = solver.info
            return x

        if not self.nonlinear:
            guess = None if start is None else self._free(start)
            solver, slots = self._solver(tangent(lift), definite, guess)
            first = residual(lift)
            x = solver.run(slots, -first.unsqueeze(1), adjoint=False).squeeze(1)
            self.info = solver.info
            return lift + x
        for p in parts:
            p.scene.trial = True
        u = lift if start is None else lift + self._free(start)
        u, report = newton_batch(
            residual, step, u, self._newton_options(), self._reference(parts, u), self._norm
        )
        return self._finished(parts, u, report)

    def _newton_options(self) -> NonlinearOptions:
        newton = self.division.spec.solver.nonlinear
        return NonlinearOptions(
            rtol=newton.rtol or self._rtol,
            atol=newton.atol,
            maxiter=newton.maxiter,
            line_search=True if newton.line_search is None else newton.line_search,
        )

    def _reference(self, parts: list[Assembled], u: Tensor) -> Tensor:
        """Size the forces at supports too: a residual that is small beside them is small."""
        d = self.division
        loads = d.owned([p.operator.load for p in parts])
        forces = d.owned(self.residual(parts, d.spread(u)))
        return torch.maximum(self._norm(self._free(loads)), self._norm(forces))

    def _finished(self, parts: list[Assembled], u: Tensor, report: NonlinearInfo) -> Tensor:
        d = self.division
        if report.converged:
            for p in parts:
                p.scene.trial = False
            # What an iteration may try, a solution may not be: laws are checked once more.
            spread = d.spread(u)
            everywhere(d, lambda: self.residual(parts, spread))
        elif self._throw:
            detail = f"nonlinear solve by newton in {d.comm.parts} parts"
            raise SolveError(
                report.result, detail, iterations=report.iterations, residual=report.residual
            )
        from torch_sla.linalg import SolveInfo

        info = SolveInfo() if self.info is None else replace(self.info)
        inner = "" if self.info is None else f" with {info.method}"
        rounded = report.result is Result.ROUNDOFF
        info.result = Result.CONVERGED if rounded else report.result
        info.iterations, info.residual = report.iterations, report.residual
        info.history, info.notes = list(report.history), [*report.notes, *info.notes]
        info.method = f"newton{inner}"
        self.info = info
        return u

    # -- adjoint --------------------------------------------------------------------------------

    def pull_back(
        self, u: Tensor, leaves: tuple[Tensor, ...], needed: list[Tensor], cotangent: Tensor
    ) -> list[Tensor | None]:
        """Return this process's share of the gradient of each needed leaf, given that of u ``[n_held]``.

        Parameters
        ----------
        leaves, needed
            Leaves that are recorded, and those of them whose gradient is wanted.
        """
        d = self.division
        with torch.enable_grad():
            parts = everywhere(d, lambda: self.assembled(leaves))
            spread = [x.requires_grad_() for x in d.spread(u)]
            residuals = self.residual(parts, spread)
            given = self.given_values(parts)
        with torch.no_grad():
            values = [
                share.rows.tangent(p.scene, p.operator, p.terms, x.detach())
                for share, p, x in zip(d.shares, parts, spread, strict=True)
            ]
            definite = self._definite(parts)
            solver, slots = self._solver(values, definite)
            right = self._free(cotangent)
            lam = self._free(solver.run(slots, right.unsqueeze(1), adjoint=True).squeeze(1))
        seeds = []
        for share, r in zip(d.shares, residuals, strict=True):
            seed = torch.zeros_like(r)
            seed[share.owned] = -lam[share.held]
            seeds.append(seed)
        first = _grad(residuals, [*needed, *spread], seeds)
        of_u = [
            torch.zeros_like(x) if g is None else g
            for x, g in zip(spread, first[len(needed) :], strict=True)
        ]
        at_given = cotangent + d.collect(of_u)
        seeds = [at_given[share.held][~share.free] for share in d.shares]
        second = _grad(given, needed, seeds)
        return [_sum(a, b) for a, b in zip(first[: len(needed)], second, strict=True)]


def _grad(outputs: list[Tensor], inputs: list[Tensor], seeds: list[Tensor]) -> list[Tensor | None]:
    """`torch.autograd.grad` where some outputs, or all, depend on nothing."""
    live = [(o, s) for o, s in zip(outputs, seeds, strict=True) if o.requires_grad]
    if not live or not inputs:
        return [None] * len(inputs)
    found: Any = torch.autograd.grad(
        [o for o, _ in live], inputs, [s for _, s in live], allow_unused=True
    )
    return list(found)


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b
