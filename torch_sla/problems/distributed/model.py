"""A problem in parts with the face of a lowered one, so that whatever is written for one process works on several.

Vectors of unknowns are what this process holds of them ``[n_held]``; a matrix is the slots of its rows. Every
process assembles its own rows, so nothing of a matrix travels; products and solves exchange what lies beyond the
own part. All of it is recorded: local steps as operations of torch, what travels as nodes whose backward pass
sends the other way.

Backward passes run in lockstep, because every process records the same exchanges in the same order: what depends
on given values on one process is part of the graph on all (`anchored`).
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from torch_sla.assembly.constraints.linear import slack
from torch_sla.errors import ArgumentError
from torch_sla.lazy import cached_property
from torch_sla.linalg.adjoint.exchange import replicated, total
from torch_sla.linalg.adjoint.solve import linear_solve
from torch_sla.linalg.distributed.everywhere import agreed, everywhere
from torch_sla.linalg.distributed.sharding import Sharding
from torch_sla.linalg.distributed.space import PartSpace
from torch_sla.linalg.precond.multigrid import rigid_body_modes
from torch_sla.problems.distributed.constraint import SharedConstraint
from torch_sla.problems.distributed.scene import SharedScene, shared
from torch_sla.problems.distributed.solvers import Solvers, Wanted
from torch_sla.problems.distributed.together import anchored
from torch_sla.problems.distributed.window import points_named
from torch_sla.problems.lowering.compiled import contradiction
from torch_sla.problems.lowering.model import Model
from torch_sla.problems.lowering.operators import Operator, decided
from torch_sla.problems.lowering.terms import residual, tangent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from torch_sla.linalg.info import SolveInfo
    from torch_sla.problems.distributed.division import Division
    from torch_sla.problems.distributed.scene import Verdict
    from torch_sla.problems.distributed.share import Share
    from torch_sla.problems.lowering.scene import Scene
    from torch_sla.problems.lowering.terms import Term

__all__ = ["SharedModel"]

Answer = TypeVar("Answer")

_OF_DIVISION = frozenset({"counts", "determined", "free", "loose_motions", "prescribes"})
"""What is of all processes, or of the unknowns here."""


class SharedModel:
    """A division as a model; what is not algebra is that of the problem on the window of this process.

    Parameters
    ----------
    division
        The problem in parts.
    """

    part = None

    def __init__(self, division: Division) -> None:
        self.division, self.whole, self.comm = division, division.model, division.comm
        self.device = division.device
        self.space = PartSpace(division.layout)
        self._solvers = Solvers()
        self.numbering = SimpleNamespace(n=division.layout.n_held)
        # Made here, where all processes are together: what assembles may fail on one of them.
        self.positions = self._positions()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.division if name in _OF_DIVISION else self.whole, name)

    # -- structure ------------------------------------------------------------------------------

    def _positions(self) -> Sharding:
        """Return where the entries of the own rows of all shares are."""
        d = self.division
        rows, cols = [], []
        for share in d.shares:
            pattern = share.rows.numbering.pattern
            own = torch.arange(share.held.start, share.held.stop, device=d.device) + d.layout.start
            start, stop = d.ghost_slice(share)
            place = torch.cat([own, d.halo.places[start:stop]]).index_select(0, share.order)
            rows.append(place[pattern.csr_row.long()[share.own_rows]])
            cols.append(place[pattern.ccol.long()[share.own_rows]])
        empty = torch.zeros(0, dtype=torch.int64, device=d.device)
        return Sharding(d.layout, d.layout, torch.cat([empty, *rows]), torch.cat([empty, *cols]))

    @cached_property
    def sharding(self) -> Sharding:
        """Where the entries of a matrix are, of slots."""
        return self.positions.slots

    @cached_property
    def compiled(self) -> Any:
        """The constraint of the unknowns here, as `Compiled` has it."""
        free = self.division.free
        return SimpleNamespace(
            constraint=SharedConstraint(self.sharding, free),
            constrained=torch.nonzero(~free)[:, 0],
            sides=lambda g: g,
            key=self.whole.compiled.key,
        )

    def rest(self, scene: SharedScene) -> float:
        """Return the norm of what the unknowns are added to; all processes call it together."""
        if not self.whole.rest(scene):  # type: ignore[arg-type]
            return 0.0
        return self.division.spread_of_points * float(
            next(iter(self.division.n_nodes.values())) ** 0.5
        )

    @cached_property
    def near_nullspace(self) -> Tensor | None:
        """Rigid-body modes ``[n_held, k]`` where the first unknown is a displacement or a velocity."""
        d = self.division
        if self.whole.moving is None:
            return None
        modes = []
        for s in d.shares:
            if (x := s.rows.moving) is not None:
                still = rigid_body_modes(x)
                rest = s.rows.numbering.n - len(still)
                modes.append(torch.nn.functional.pad(still, (0, 0, 0, rest))[s.first])
        dim = self.whole.mesh.dim
        empty = torch.zeros(0, dim * (dim + 1) // 2, dtype=self.whole.dtype, device=d.device)
        return torch.cat([empty, *modes]) * d.free.unsqueeze(1)

    # -- values ---------------------------------------------------------------------------------

    def scene(
        self, values: Mapping[str, Any], points: Tensor | None = None, **options: Any
    ) -> SharedScene:
        """Check what is given; its gradients are summed over the processes."""
        if points is not None:
            reason = self._fixed()
            if reason is not None:
                raise ArgumentError(f"points: {reason}; do not distribute the problem")
        scene = SharedScene(self.whole, values, points=points, **options)
        self.comm.agree(scene.facts)
        scene = scene.put(self.replicated(scene.verdict, scene.tensors()))
        if points is not None and self.whole.multipliers is not None:
            self._check_moved(scene)
        return scene

    def _fixed(self) -> str | None:
        """Return why the points of the mesh cannot move."""
        if any(True for _ in points_named(self.spec)):
            return "probes, lines and loads at points would lie in the cells of other processes"
        if self.division.window.tied:
            return "sides that repeat each other stay where they are on several processes"
        return None

    def _check_moved(self, scene: SharedScene) -> None:
        """Refuse coordinates that surround the body, or open it, other than the declared ones."""
        shares = [s.rows for s in self.division.shares]

        def work() -> tuple[None, list[float]]:
            return None, [not all(rows.encloses(scene.of(rows).geometry) for rows in shares)]

        _, (opened,) = everywhere(self.comm, self.device, work, 1)
        self.whole.refuse_moved(self.division.surrounded, not opened)

    def replicated(self, verdict: Verdict, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return tensors that every process holds, with gradients that are whole on each."""
        like = torch.zeros((), dtype=self.whole.dtype, device=self.device)
        return shared(self.comm, like, verdict, tensors)

    def collected(
        self,
        scene: SharedScene,
        make: Callable[[Share, Scene], Tensor],
        join: Callable[[list[Tensor]], Tensor],
    ) -> Tensor:
        """Put together what the shares say; recorded on all processes, or on none."""

        def work() -> tuple[Tensor, list[float]]:
            x = join([make(s, scene.of(s.rows)) for s in self.division.shares])
            return x, [x.requires_grad]

        x, (recorded,) = everywhere(self.comm, self.device, work, 1)
        return anchored(x, recorded > 0, scene.tensors())

    def own_slots(self, parts: Sequence[Tensor]) -> Tensor:
        """Take the own rows of matrices of the shares ``[nnz]``: values on the slots."""
        shares = self.division.shares
        own = [p.index_select(0, s.own_rows) for s, p in zip(shares, parts, strict=True)]
        return self.positions.pattern.coalesce(self.joined(own))

    def own_entries(self, parts: Sequence[Tensor]) -> Tensor:
        """Add up the own unknowns of vectors of the shares ``[n_rows]``: ``[n_held]``."""
        own = []
        for s, p in zip(self.division.shares, parts, strict=True):
            zero = p.new_zeros(s.held.stop - s.held.start)
            own.append(zero.index_add(0, s.order[s.owned], p.index_select(0, s.owned)))
        return self.joined(own)

    def own_values(self, parts: Sequence[Tensor]) -> Tensor:
        """Take the values at the own unknowns of the shares ``[n_rows]``: ``[n_held]``."""
        shares = self.division.shares
        return self.joined([p.index_select(0, s.first) for s, p in zip(shares, parts, strict=True)])

    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        """Put what the shares say one after the other."""
        empty = torch.zeros(0, dtype=self.whole.field_dtype, device=self.device)
        return torch.cat([empty, *parts])

    def by_part(self, each: Sequence[Answer]) -> dict[int, Answer]:
        """Return what there is for each share by its part."""
        return {s.part: x for s, x in zip(self.division.shares, each, strict=True)}

    # -- operators ------------------------------------------------------------------------------

    def loaded(self, scene: SharedScene) -> Operator:
        """Assemble the operator and the whole load of the own rows."""
        return self._operator(scene, lambda rows, at: rows.loaded(at))

    def unloaded(self, scene: SharedScene) -> Operator:
        """Assemble the operator of the own rows with no load."""
        return self._operator(scene, lambda rows, at: rows.unloaded(at))

    def _operator(self, scene: SharedScene, make: Callable[[Model, Scene], Operator]) -> Operator:
        def work() -> tuple[Operator, list[float]]:
            found = [make(s.rows, scene.of(s.rows)) for s in self.division.shares]
            values = self.own_slots([f.values for f in found])
            load = self.own_entries([f.load for f in found])
            definite = max((_level(decided(f.definite)) for f in found), default=0.0)
            symmetric = max((_level(f.symmetric) for f in found), default=0.0)
            flags = [values.requires_grad, load.requires_grad, definite, symmetric]
            return Operator(values, load, None), flags

        found, (values, load, definite, symmetric) = everywhere(self.comm, self.device, work, 4)
        return Operator(
            anchored(found.values, values > 0, scene.tensors()),
            anchored(found.load, load > 0, scene.tensors()),
            _LEVELS[int(definite)],
            _LEVELS[int(symmetric)],
            None if self.whole.multipliers is None else partial(self.complement, scene),
        )

    @torch.no_grad()
    def complement(self, scene: SharedScene) -> Tensor:
        """Assemble what stands for the Schur complement, constrained, in the own rows; all call it together."""
        found = self.collected(scene, lambda s, at: s.rows.complement(at), self.own_slots)
        return self.compiled.constraint.matrix(found)

    def loads(self, scene: SharedScene) -> Tensor:
        """Assemble the whole load of the own rows."""
        return self.collected(scene, lambda s, at: s.rows.loads(at), self.own_entries)

    def mass(self, scene: SharedScene) -> Tensor:
        """Assemble the mass matrix of the own rows."""
        return self.collected(scene, lambda s, at: s.rows.mass(at), self.own_slots)

    def rate_matrix(self, scene: SharedScene) -> Tensor:
        """Assemble what multiplies ∂u/∂t in the own rows."""
        return self.collected(scene, lambda s, at: s.rows.rate_matrix(at), self.own_slots)

    def geometric(self, scene: SharedScene, u: Tensor) -> Tensor:
        """Assemble what the state `u` adds to the stiffness of the own rows."""
        spread = self.by_part(self.division.spread(u))
        return self.collected(
            scene, lambda s, at: s.rows.geometric(at, spread[s.part]), self.own_slots
        )

    def given_values(self, scene: SharedScene) -> Tensor:
        """Evaluate the Dirichlet conditions of the own unknowns."""

        def make(share: Share, at: Scene) -> Tensor:
            values = share.rows.given_values(at)
            a, b = values.detach().index_select(0, share.again.flatten()).chunk(2)
            if len(a):
                gap = float((a - b).abs().max())
                if gap > slack(values.dtype) * float(values.detach().abs().max()):
                    raise ArgumentError(contradiction(gap))
            return values.index_select(0, share.given)

        return self.collected(scene, make, self.joined)

    def terms(self, scene: SharedScene) -> list[list[Term]]:
        """Return the integrals of each share that depend on the solution in another way than linearly."""
        if not self.whole.nonlinear:
            return []
        return [s.rows.terms(scene.of(s.rows)) for s in self.division.shares]

    def unconstrained(
        self, scene: SharedScene, operator: Operator, terms: list[list[Term]], u: Tensor
    ) -> Tensor:
        """Return K u − F plus what is not linear, before constraints."""
        r = self.apply(operator.values, u) - operator.load
        if not self.whole.nonlinear:
            return r
        spread = self.by_part(self.division.spread(u))
        of = self.by_part(terms)

        def make(share: Share, at: Scene) -> Tensor:
            more = residual(at, of[share.part], spread[share.part])
            return torch.zeros_like(spread[share.part]) if more is None else more

        return r + self.collected(scene, make, self.own_entries)

    def tangent(
        self,
        scene: SharedScene,
        operator: Operator,
        terms: list[list[Term]],
        u: Tensor,
        *,
        recorded: bool = False,
    ) -> Tensor:
        """Return the derivative of `unconstrained`: values on the slots."""
        if not self.whole.nonlinear:
            return operator.values
        spread = self.by_part(self.division.spread(u))
        of = self.by_part(terms)

        def make(share: Share, at: Scene) -> Tensor:
            x = spread[share.part]
            more = tangent(at, of[share.part], x, recorded=recorded)
            if more is None:
                return x.new_zeros(share.rows.numbering.pattern.nnz_csr)
            return more if recorded else more.detach()

        return operator.values + self.collected(scene, make, self.own_slots)

    def apply(self, values: Tensor, u: Tensor) -> Tensor:
        """Multiply slot values with ``[n_held]``."""
        return self.sharding.apply(values, u.unsqueeze(1)).squeeze(1)

    def norm(self, u: Tensor) -> Tensor:
        """Return the Euclidean norm over all parts."""
        return self.space.norm(u.unsqueeze(1)).squeeze(-1)

    def rms(self, u: Tensor) -> Tensor:
        """Return the root mean square of the first unknown over all parts, as `Model.rms`."""
        places = next(iter(self.division.shown.values()))[1]
        own = u[places].square().sum()
        count = torch.full_like(own, places.numel())
        total, n = self.comm.reduce(torch.stack([own, count]))
        return (total / n.clamp(min=1.0)).sqrt()

    def finished(self, scene: SharedScene, u: Tensor) -> Tensor:
        """Fix what a linear problem leaves open, as `Model.finished` does."""
        d = self.division
        if not d.surrounded:
            return u
        parts = d.spread(u.detach())

        def work() -> Tensor:
            zero = torch.zeros(2, dtype=self.whole.dtype, device=self.device)
            found = [
                s.sums.through(scene.of(s.sums), x.index_select(0, s.into_sums))
                for s, x in zip(d.shares, parts, strict=True)
            ]
            return torch.stack([zero, *found]).sum(0)

        through = agreed(self.comm, self.device, work)
        self.whole.refuse_unbalanced(self.comm.reduce(through))
        if d.levelled:
            return u
        weights = self.collected(scene, lambda s, at: s.rows.weights(at), self.own_entries)
        sums = torch.stack([(weights * u).sum(), (weights * self.level).sum()])
        integral, volume = replicated(total(sums, self.comm), self.comm)
        level: Tensor = integral / volume * self.level
        return u - level

    @cached_property
    def level(self) -> Tensor:
        """One where the multipliers of a saddle point are, zero elsewhere ``[n_held]``."""
        return self.own_values([s.rows.level for s in self.division.shares])

    # -- solves ---------------------------------------------------------------------------------

    def remembering(self) -> AbstractContextManager[None]:
        """Let the solves inside, a loop over values, make their preconditioners of each other; see `Renewal`."""
        return self._solvers.remembering()

    def state(self, scene: SharedScene, *args: Any, **options: Any) -> Any:
        """Take the steps that one process takes; those of Newton's method are a loop over values."""
        same_face: Any = self
        with self.remembering() if self.whole.nonlinear else nullcontext():
            return Model.state(same_face, scene, *args, **options)  # type: ignore[arg-type]

    def solved(
        self,
        values: Tensor,
        load: Tensor,
        definite: bool | None,
        symmetric: bool | None,
        *,
        start: Tensor | None = None,
        throw: bool = True,
        transposed: bool = False,
        derivative: bool = False,
        rtol: float | None = None,
        repeats: int = 1,
        memory: object = None,
        known: object = None,
        complement: Callable[[], Tensor] | None = None,
        inertia: Callable[[], Tensor] | None = None,
    ) -> tuple[Tensor, SolveInfo]:
        """Solve with a constrained matrix; see `Model.solved`."""
        del symmetric, repeats, known, memory  # seen from the values; kept anyway; refused before
        wanted = Wanted(values, definite, complement, inertia, throw, rtol, derivative)
        solver = self._solvers.of(self, wanted)
        x0 = None if start is None else self.compiled.constraint.restrict(start).unsqueeze(1)
        x = linear_solve(values, load.unsqueeze(1), solver, adjoint=transposed, start=x0)
        report = solver.adjoint_info if transposed else solver.info
        return x.squeeze(1), report


_LEVELS = (True, None, False)


def _level(known: bool | None) -> float:
    return float(_LEVELS.index(known))
