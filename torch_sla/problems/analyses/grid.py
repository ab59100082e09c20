"""A physics in time: what schemes ask of it."""

from __future__ import annotations

from copy import copy
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from torch_sla.assembly.constraints import DirichletConstraint
from torch_sla.errors import ArgumentError, SolveError
from torch_sla.lazy import cached_property
from torch_sla.linalg.adjoint.implicit import implicit_solve
from torch_sla.linalg.kept import is_direct
from torch_sla.linalg.kernels import lanes
from torch_sla.linalg.known import Known
from torch_sla.linalg.solve import default_rtol
from torch_sla.problems.analyses.explicit import critical_step, lumped_mass, row_sums
from torch_sla.problems.analyses.now import Now
from torch_sla.problems.analyses.rates import rates
from torch_sla.problems.analyses.step_equation import StepEquation
from torch_sla.problems.lowering.affine import is_plain
from torch_sla.problems.lowering.damping import undeformed
from torch_sla.problems.lowering.phases import phases_of, together

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.linalg import SolveInfo
    from torch_sla.problems.analyses.series import Damping, Series
    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.lowering.scene import Scene

__all__ = ["TimeGrid"]

# Constrained matrices that are kept, of steps of different lengths.
_KEPT = 6


class _Whole(NamedTuple):
    """Of steps of one length: constrained values, which stay here alone, pieces of the load, and what is known."""

    values: Tensor
    rest: list[Tensor]
    known: Known


class TimeGrid:
    """One problem with values, in time.

    Parameters
    ----------
    model
        The lowered physics.
    scene
        Its values at the start.
    series
        Values that have one entry for each time.
    steps
        About how many steps there will be.
    damping
        Of a problem with two derivatives in time.
    order
        Which derivative in time the mass multiplies.
    lumped
        Whether the mass is used lumped only.

    Attributes
    ----------
    fixed
        Every tensor that all times share, by name: matrices, and loads where they do not change.
    """

    def __init__(
        self,
        model: Model,
        scene: Scene,
        series: Series,
        steps: int,
        damping: Damping,
        *,
        order: int,
        lumped: bool,
    ) -> None:
        self.model, self.base, self.series, self._steps = model, scene, series, steps
        self.info: SolveInfo | None = None
        # Errors of the steps add up, so each is given its share.
        floor = 50.0 * torch.finfo(model.dtype).eps
        share = (model.spec.solver.rtol or default_rtol(model.dtype)) / steps
        self._rtol = max(share, floor)
        first = self.scene(0.0)
        operator = model.loaded(first)
        self.flags, self._complement = operator.flags, operator.complement
        self._zero = torch.zeros(model.numbering.n, dtype=model.field_dtype, device=model.device)
        self.fixed: dict[str, Tensor] = {"M": model.rate_matrix(first)}
        if order == 2 and model.upwinded:
            self.fixed["weight"] = model.mass(first)
        # Loads and given values that change are sums of fixed ones, where the laws let them be.
        self.phases = phases_of(model)
        if self.phases is not None:
            for name, make in (("F", model.loads), ("g", self.sides)):
                pieces = self.phases.pieces(first, make)
                self.fixed |= {name if k == 0 else f"{name} {k}": p for k, p in enumerate(pieces)}
        if not model.timed_matrix:
            self.fixed["K"] = operator.values
        if damping.mass is not None:
            self.fixed["mass damping"] = damping.mass
        if damping.stiffness is not None:
            K = undeformed(model, first, operator)
            self.fixed["stiffness damping"] = damping.stiffness[..., None] * K
        if lumped:
            sums = row_sums(model, self.fixed["M"])
            self.fixed |= {"row sums": sums, "lumped": lumped_mass(model, sums)}
        self._now: dict[float, Now] = {}
        self._whole: dict[tuple[float, float], _Whole] = {}

    def cut(self, fixed: tuple[Tensor, ...], leaves: tuple[Tensor, ...], count: int) -> TimeGrid:
        """Return the grid on other tensors: those of `fixed`, of the scene, and of the series.

        Parameters
        ----------
        count
            How many of the leaves belong to the scene.
        """
        other = copy(self)
        other.fixed = dict(zip(self.fixed, fixed, strict=True))
        other.base = self.base.put(leaves[:count])
        names = zip(self.series.values.items(), leaves[count:], strict=True)
        values = {name: (tensor, axis) for (name, (_, axis)), tensor in names}
        other.series = self.series._replace(values=values)
        other._now, other._whole = {}, {}
        for name in ("_plain", "_pull"):
            other.__dict__.pop(name, None)
        return other

    def forget(self, *, all_times: bool = False) -> None:
        """Let go of what was made for single times, or also for all of them."""
        self._now.clear()
        if all_times:
            self._whole.clear()

    # -- values at a time -----------------------------------------------------------------------

    def scene(self, t: float) -> Scene:
        """Return the values at one time."""
        return self.base.at(t, {name: self.series.at(name, t) for name in self.series.values})

    def sides(self, scene: Scene) -> Tensor:
        """Return the given values of a scene, as the constraint takes them."""
        return self.model.compiled.sides(self.model.given_values(scene))

    def now(self, t: float) -> Now:
        """Return everything about one time; made once where nothing depends on it."""
        if t in self._now:
            return self._now[t]
        now = Now(self, t)
        while len(self._now) > 1:
            del self._now[next(iter(self._now))]
        self._now[t] = now
        return now

    def pieces(self, name: str) -> list[Tensor]:
        """Return the fixed parts of loads ``F`` or given values ``g``."""
        return [x for n, x in self.fixed.items() if n == name or n.startswith(f"{name} ")]

    def batch(self, u: Tensor, v: Tensor) -> tuple[int, ...]:
        """Batch dimensions of the state, from what it is at the start: laws may make no sense elsewhere."""
        now = self.now(0.0)
        with torch.no_grad():
            shape = np.broadcast_shapes(u.shape[:-1], now.g.shape[:-1])
            r = self._unconstrained(now, self.given(0.0, u.expand(*shape, -1)))
        every = [r, self.fixed["M"], now.g, u, v]
        shapes = [self.model.seen_batch(now.scene), *(tensor.shape[:-1] for tensor in every)]
        for name in ("mass damping", "stiffness damping"):
            if name in self.fixed:
                tensor = self.fixed[name]
                shapes.append(tensor.shape if name == "mass damping" else tensor.shape[:-1])
        return tuple(np.broadcast_shapes(*shapes))

    def rms(self, u: Tensor) -> Tensor:
        """Root mean square of the first unknown ``[*batch]``."""
        found: Tensor = self.model.rms(u.detach())
        return found

    # -- what schemes ask -----------------------------------------------------------------------

    def mass(self, v: Tensor) -> Tensor:
        """Return ``M v``, M lumped where the scheme takes it so: its momentum and energy are what is in balance."""
        sums = self.fixed.get("row sums")
        return self.model.apply(self.fixed["M"], v) if sums is None else sums * v

    def momentum(self, v: Tensor) -> Tensor:
        """Return what the kinetic energy is made of: ``M v`` with the mass itself, however rates are tested."""
        weight = self.fixed.get("weight")
        return self.mass(v) if weight is None else self.model.apply(weight, v)

    def damping(self, v: Tensor) -> Tensor | None:
        """Return ``C v``; None without damping."""
        found: Tensor | None = None
        if "mass damping" in self.fixed:
            found = self.mass(self.fixed["mass damping"][..., None] * v)
        if "stiffness damping" in self.fixed:
            part = self.model.apply(self.fixed["stiffness damping"], v)
            found = part if found is None else found + part
        return found

    def residual(self, t: float, u: Tensor) -> Tensor:
        """Return ``R(t, u)``, before constraints."""
        return self._unconstrained(self.now(t), u)

    def _unconstrained(self, now: Now, u: Tensor) -> Tensor:
        model = self.model
        return model.unconstrained(now.scene, now.operator, model.terms(now.scene), u)

    def given(self, t: float, u: Tensor) -> Tensor:
        """Return u with the values given at t."""
        constraint = self.model.compiled.constraint
        return constraint.recover(constraint.restrict(u), self.now(t).g)

    def implicit(
        self,
        t: float,
        factors: tuple[float, float],
        v: Tensor,
        guess: Callable[[], Tensor],
        b: Tensor | None = None,
    ) -> Tensor:
        """Return u with ``c M u + d C u + R(t, u) = M v + b`` and the values given at t, near a guess."""
        now, model = self.now(t), self.model
        if model.nonlinear:
            more = self.mass(v) if b is None else self.mass(v) + b
            return self._newton(now, t, factors, more, guess().detach())
        constraint = model.compiled.constraint
        values, push, known = self._constrained(now, factors)
        if torch.is_grad_enabled() or not self._plain:
            known = None
        flags = now.operator.flags if model.timed_matrix else self.flags
        start = None if self._direct else constraint.restrict(guess().detach())
        u_hat, self.info = model.solved(
            values,
            self._load(push if b is None else push + b, v, known),
            *flags,
            complement=now.operator.complement if model.timed_matrix else self._complement,
            inertia=partial(self._inertia, factors),
            rtol=self._rtol,
            start=start,
            repeats=self._steps,
            known=known,
        )
        if known is None or not isinstance(constraint, DirichletConstraint) or now.g.ndim > 1:
            return model.finished(now.scene, constraint.recover(u_hat, now.g))
        # The solution is new and nothing else has it, so given values are put in place.
        return model.finished(now.scene, constraint.recover(u_hat, now.g, out=u_hat))

    @property
    def _direct(self) -> bool:
        """Whether solves are known to factorise, and so to begin at no guess."""
        plan = None if self.info is None else self.info.plan
        return plan is not None and is_direct(plan.choice)

    def _load(self, push: Tensor, v: Tensor, known: Known | None) -> Tensor:
        """Return ``push + M v``, reduced to the unknowns."""
        constraint, found = self.model.compiled.constraint, None
        in_place = known is not None and isinstance(constraint, DirichletConstraint)
        if in_place and push.ndim == v.ndim == 1:
            pattern = self.model.numbering.pattern
            found = lanes.residual(
                pattern.crow, pattern.ccol, self._pull, v[None, :, None], push[None, :, None]
            )
        if found is None:
            return constraint.reduce(push + self.mass(v))
        load = found[0].flatten()
        return constraint.reduce(load, out=load)

    @cached_property
    def _pull(self) -> Tensor:
        """Minus the mass: what is left of a load is the load and what moves."""
        return -self.fixed["M"].detach().unsqueeze(0)

    def _moving(self, factors: tuple[float, float]) -> Tensor:
        """Return ``c M + d C``: values ``[*batch, nnz]``."""
        c, d = factors
        M, alpha = self.fixed["M"], self.fixed.get("mass damping")
        whole = c * M if alpha is None else (c + d * alpha)[..., None] * M
        drag = self.fixed.get("stiffness damping")
        return whole if drag is None else whole + d * drag

    @torch.no_grad()
    def _inertia(self, factors: tuple[float, float]) -> Tensor:
        """Return ``c M + d C``, constrained."""
        return self._held(self._moving(factors))

    @cached_property
    def _plain(self) -> bool:
        series = (tensor for tensor, _ in self.series.values.values())
        return is_plain(self.base, *self.fixed.values(), *series)

    def _constrained(
        self, now: Now, factors: tuple[float, float]
    ) -> tuple[Tensor, Tensor, Known | None]:
        """Return the constrained ``K + c M + d C``, the load less what given values make of it, what is known."""
        if self.model.timed_matrix:
            whole = now.operator.values + self._moving(factors)
            return self._held(whole), now.operator.load - self._lift(whole, now.g), None
        if factors not in self._whole:
            while len(self._whole) >= _KEPT:
                del self._whole[next(iter(self._whole))]
            whole = self.fixed["K"] + self._moving(factors)
            rest = [whole]
            if "F" in self.fixed:
                each = zip(self.pieces("F"), self.pieces("g"), strict=True)
                rest = [F - self._lift(whole, g) for F, g in each]
            self._whole[factors] = _Whole(self._held(whole), rest, Known())
        values, rest, known = self._whole[factors]
        if "F" in self.fixed:
            return values, together(rest, now.numbers), known
        return values, now.operator.load - self._lift(rest[0], now.g), known

    def _held(self, whole: Tensor) -> Tensor:
        compiled = self.model.compiled
        none = compiled.sides(self._zero.new_zeros(len(compiled.constrained)))
        values, _ = compiled.constraint.apply(whole, self._zero, none)
        return values

    def _lift(self, whole: Tensor, g: Tensor) -> Tensor:
        if not self.model.prescribes:
            return self._zero
        constraint = self.model.compiled.constraint
        alone = constraint.recover(self._zero.expand(*g.shape[:-1], -1), g)
        return self.model.apply(whole, alone)

    def _newton(
        self, now: Now, t: float, factors: tuple[float, float], b: Tensor, guess: Tensor
    ) -> Tensor:
        constraint = self.model.compiled.constraint
        equation = StepEquation(self.model, now.scene, self._moving(factors), b)
        u_hat = implicit_solve(equation, constraint.restrict(guess.detach()), equation.leaves)
        if not equation.info.converged:
            raise SolveError(
                equation.info.result,
                f"Newton's method in the step to t = {t:.6g}",
                iterations=equation.info.iterations,
                residual=equation.info.residual,
            )
        self.info = equation.linear
        return constraint.recover(u_hat, now.g)

    # -- accelerations --------------------------------------------------------------------------

    def acceleration(self, t: float, u: Tensor, v: Tensor) -> Tensor:
        """Return a with ``M a + C v + R(t, u) = 0`` on the free unknowns."""
        model, constraint = self.model, self.model.compiled.constraint
        r = self._unconstrained(self.now(t), u)
        drag = self.damping(v)
        r = r if drag is None else r + drag
        given, M = self._given_acceleration(t, self.series.end / self.series.steps), self.fixed["M"]
        a, _ = model.solved(
            self._held(M),
            constraint.reduce(-r - self._lift(M, given)),
            True,
            True,
            rtol=self._rtol,
        )
        return constraint.recover(a, given)

    def pushed(self, t: float, u: Tensor, v: Tensor, h: float) -> Tensor:
        """Return a with ``M a + C (v + h a) + R(t, u) = 0`` on the free unknowns, M lumped."""
        constraint = self.model.compiled.constraint
        now = self.now(t)
        r, weight = self._unconstrained(now, u), self.fixed["lumped"]
        alpha = self.fixed.get("mass damping")
        pull = constraint.reduce(-r) / weight
        if alpha is not None:
            free = constraint.restrict(v)
            pull = (pull - alpha[..., None] * free) / (1.0 + h * alpha[..., None])
        return constraint.recover(
            pull, self._given_acceleration(t, 2.0 * h or self.series.end / self.series.steps)
        )

    def put(self, x: Tensor, given: Tensor) -> Tensor:
        """Return x with something else where values are given."""
        constraint = self.model.compiled.constraint
        return constraint.recover(constraint.restrict(x), given)

    def motion(self, t: float, h: float) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return the given values at t with their first and second rates; None where they do not change.

        By differences of second order, of the length of the step `h`, or of that of all values that are known at
        times alone.
        """
        known = "g" in self.fixed
        if not self.model.timed or not self.model.prescribes or (known and "g 1" not in self.fixed):
            return None
        end = self.series.end
        if self.series.values:
            h = max(h, end / self.series.steps)
        return rates(lambda at: Now(self, at).g, t, h, end, first=self.now(t).g)

    def given_velocity(self) -> Tensor:
        """Rate of the given values at the start."""
        found = self.motion(0.0, self.series.end / self.series.steps)
        return torch.zeros_like(self.now(0.0).g) if found is None else found[1]

    def _given_acceleration(self, t: float, h: float) -> Tensor:
        found = self.motion(t, h)
        return torch.zeros_like(self.now(t).g) if found is None else found[2]

    def check_step(self, u: Tensor, h: float) -> None:
        """Refuse a step above the critical one of central differences."""
        model, now = self.model, self.now(0.0)
        with torch.no_grad():
            K = model.tangent(now.scene, now.operator, model.terms(now.scene), u.detach())
            critical = critical_step(model, K, self.fixed["lumped"], u, now.g)
        if h > critical:
            steps = int(np.ceil(self.series.end / critical))
            raise ArgumentError(
                f"steps: the step {h:.4g} is above the critical one of the explicit scheme, about {critical:.4g}; "
                f"take at least {steps} steps, or an implicit scheme"
            )
