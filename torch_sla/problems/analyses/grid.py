"""A physics on a grid of times: what schemes ask of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, SolveError, SpecError
from torch_sla.linalg.adjoint.implicit import implicit_solve
from torch_sla.linalg.solve import default_rtol
from torch_sla.problems.lowering.linear import solve_batch
from torch_sla.problems.lowering.newton import Equation
from torch_sla.problems.lowering.parameters import Given

if TYPE_CHECKING:
    from torch_sla.linalg import SolveInfo
    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.lowering.operators import Operator
    from torch_sla.problems.lowering.scene import Scene

__all__ = ["TimeGrid"]


class Now(NamedTuple):
    """Everything about one time: its scene, operator and given values."""

    scene: Scene
    operator: Operator
    g: Tensor


class TimeGrid:
    """One problem with values, at the times ``0, h, ... end``.

    Parameters
    ----------
    model
        The lowered physics.
    scene
        Its values at the start.
    series
        Values that have one entry for each time, with the dimension of the times.
    times
        ``[steps + 1]``.
    factors
        Every c of the scheme; constant operators are constrained for each of them once.
    lumped
        Whether the mass is used lumped only.
    """

    def __init__(
        self,
        model: Model,
        scene: Scene,
        series: dict[str, tuple[Tensor, int]],
        times: Tensor,
        factors: tuple[float, ...],
        *,
        lumped: bool,
    ) -> None:
        self.model, self._base, self._series, self.times = model, scene, series, times
        self.h = float(times[-1]) / (len(times) - 1)
        self.constant = not model.timed
        self.info: SolveInfo | None = None
        # Errors of the steps add up, so each is given its share.
        solver, floor = model.spec.solver, 50.0 * torch.finfo(model.dtype).eps
        share = (solver.rtol or default_rtol(model.dtype)) / (len(times) - 1)
        self._solver = solver.updated(rtol=max(share, floor))
        first = self.scene(0)
        self.M = model.mass(first)
        self._zero = torch.zeros(model.numbering.n, dtype=model.field_dtype, device=model.device)
        self._first = Now(first, model.loaded(first), self._sides(first))
        self._implicit: dict[float, tuple[Tensor, Tensor]] = {}
        if self.constant and not model.nonlinear:
            self._implicit = {c: self._constrained(self._first, c) for c in factors}
        self._lumped = self._lump() if lumped else None

    # -- values at a time -----------------------------------------------------------------------

    def scene(self, i: int) -> Scene:
        """Return the values at one time."""
        given = Given()
        given.home, given.laws = self._base.given.home, self._base.given.laws
        given.update(self._base.given)
        for name, (tensor, axis) in self._series.items():
            given[name] = tensor.select(axis, i)
        scene = self._base.like(given)
        scene.time = self.times[i]
        return scene

    def _sides(self, scene: Scene) -> Tensor:
        return self.model.compiled.sides(self.model.given_values(scene))

    def now(self, i: int) -> Now:
        """Return everything about one time; made once where nothing depends on it."""
        if i == 0:
            return self._first
        if self.constant:
            return self._first._replace(scene=self.scene(i))
        scene = self.scene(i)
        return Now(scene, self.model.loaded(scene), self._sides(scene))

    def batch(self, *more: Tensor) -> tuple[int, ...]:
        """Batch dimensions of the state."""
        now = self._first
        with torch.no_grad():
            r = self._unconstrained(now, self._zero)
        shapes = [r.shape[:-1], self.M.shape[:-1], now.g.shape[:-1], *(m.shape[:-1] for m in more)]
        return tuple(np.broadcast_shapes(*shapes))

    # -- what schemes ask -----------------------------------------------------------------------

    def mass(self, v: Tensor) -> Tensor:
        """Return ``M v``."""
        return self.model.apply(self.M, v)

    def residual(self, i: int, u: Tensor) -> Tensor:
        """Return ``R(t_i, u)``, before constraints."""
        return self._unconstrained(self.now(i), u)

    def _unconstrained(self, now: Now, u: Tensor) -> Tensor:
        model = self.model
        return model.unconstrained(now.scene, now.operator, model.terms(now.scene), u)

    def given(self, i: int, u: Tensor) -> Tensor:
        """Return u with the values given at ``t_i``."""
        constraint = self.model.compiled.constraint
        return constraint.recover(constraint.restrict(u), self.now(i).g)

    def implicit(self, i: int, c: float, b: Tensor, guess: Tensor) -> Tensor:
        """Return u with ``c M u + R(t_i, u) = b`` and the values given at ``t_i``."""
        now, model = self.now(i), self.model
        if model.nonlinear:
            return self._newton(now, i, c, b, guess)
        constraint = model.compiled.constraint
        values, lift = self._implicit.get(c) or self._constrained(now, c)
        load = constraint.reduce(now.operator.load + b - lift)
        u_hat, self.info = solve_batch(
            constraint.pattern,
            values,
            load,
            model.structure(now.operator.definite, now.operator.symmetric),
            self._solver,
            start=constraint.restrict(guess.detach()),
            repeats=len(self.times),
        )
        return model.finished(now.scene, constraint.recover(u_hat, now.g))

    def _constrained(self, now: Now, c: float) -> tuple[Tensor, Tensor]:
        """Return the constrained ``K + c M``, and what the given values alone make of it."""
        whole = now.operator.values + c * self.M
        values, lift = self._applied(whole, now.g)
        return values, lift

    def _applied(self, whole: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        constraint = self.model.compiled.constraint
        values, _ = constraint.apply(whole, self._zero, torch.zeros_like(g))
        if not g.shape[-1]:
            return values, self._zero
        alone = constraint.recover(self._zero.expand(*g.shape[:-1], -1), g)
        return values, self.model.apply(whole, alone)

    def _newton(self, now: Now, i: int, c: float, b: Tensor, guess: Tensor) -> Tensor:
        constraint = self.model.compiled.constraint
        equation = _Step(self.model, now.scene, c, b)
        u_hat = implicit_solve(equation, constraint.restrict(guess.detach()), equation.leaves)
        if not equation.info.converged:
            raise SolveError(
                equation.info.result,
                f"Newton's method in step {i}",
                iterations=equation.info.iterations,
                residual=equation.info.residual,
            )
        self.info = equation.linear
        return constraint.recover(u_hat, now.g)

    # -- accelerations --------------------------------------------------------------------------

    def acceleration(self, i: int, u: Tensor, *, lumped: bool) -> Tensor:
        """Return a with ``M a + R(t_i, u) = 0`` on the free unknowns."""
        model, constraint = self.model, self.model.compiled.constraint
        now = self.now(i)
        r = self._unconstrained(now, u)
        if lumped and self._lumped is not None:
            still = torch.zeros_like(now.g)
            return constraint.recover(-constraint.reduce(r) / self._lumped, still)
        given = self._given_acceleration()
        values, lift = self._applied(self.M, given)
        a, _ = solve_batch(
            constraint.pattern,
            values,
            constraint.reduce(-r - lift),
            model.structure(True, True),
            self._solver,
        )
        return constraint.recover(a, given)

    def given_velocity(self) -> Tensor:
        """Rate of the given values at the start, by differences of second order."""
        g = self._first.g
        if self.constant or len(self.times) < 3 or not g.shape[-1]:
            return torch.zeros_like(g)
        second, third = (self._sides(self.scene(i)) for i in (1, 2))
        return (-3.0 * g + 4.0 * second - third) / (2.0 * self.h)

    def _given_acceleration(self) -> Tensor:
        g = self._first.g
        if self.constant or len(self.times) < 3 or not g.shape[-1]:
            return torch.zeros_like(g)
        second, third = (self._sides(self.scene(i)) for i in (1, 2))
        return (g - 2.0 * second + third) / self.h**2

    def _lump(self) -> Tensor:
        """Row sums of the mass, reduced; one where a value is given."""
        model = self.model
        if max(u.order for u in model.unknowns) > 1:
            raise SpecError(
                "row sums of elements of order 2 are not positive; take order: 1, or an implicit scheme",
                path="scheme",
            )
        rows = model.apply(self.M, torch.ones_like(self._zero))
        reduced = model.compiled.constraint.reduce(rows)
        return torch.where(model.free, reduced, torch.ones_like(reduced))

    def check_step(self, u: Tensor) -> None:
        """Refuse a step above the critical one of central differences, ``2 / ω`` of the highest frequency."""
        model, constraint = self.model, self.model.compiled.constraint
        if self._lumped is None:
            return
        with torch.no_grad():
            now = self._first
            K = model.tangent(now.scene, now.operator, model.terms(now.scene), u.detach())
            generator = torch.Generator().manual_seed(1)
            v = torch.rand(u.shape, generator=generator, dtype=torch.float64).to(u) - 0.5
            highest = 0.0
            for _ in range(40):
                v = constraint.restrict(v)
                v = v / torch.linalg.vector_norm(v, dim=-1, keepdim=True).clamp_min(1e-300)
                full = constraint.recover(v, torch.zeros_like(now.g))
                v = constraint.reduce(model.apply(K, full)) / self._lumped
                highest = float(torch.linalg.vector_norm(v, dim=-1).max())
        critical = 2.0 / max(highest, 1e-300) ** 0.5
        if self.h > critical:
            steps = int(np.ceil(float(self.times[-1]) / critical))
            raise ArgumentError(
                f"steps: the step {self.h:.4g} is above the critical one of the explicit scheme, about {critical:.4g}; "
                f"take at least {steps} steps, or an implicit scheme"
            )


class _Step(Equation):
    """One implicit step of a nonlinear problem: ``c M u + R(u) − b = 0``."""

    def __init__(self, model: Model, scene: Scene, c: float, b: Tensor) -> None:
        super().__init__(model, scene, throw=True)
        self._c, self._b, self.load_steps = c, b, 1

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        """Every tensor the equation depends on, what is known among them."""
        return (*super().leaves, self._b)

    def _state(self, leaves: tuple[Tensor, ...], factor: float = 1.0) -> Any:
        *rest, b = leaves
        state = super()._state(tuple(rest), factor)
        operator = state.operator
        values = operator.values + self._c * self.model.mass(state.scene)
        state.operator = operator._replace(values=values, load=operator.load + factor * b)
        return state
