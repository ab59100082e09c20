"""A nonlinear problem as an implicit equation: Newton forward, one node in the graph, its adjoint.

With the constraint ``u = T û + g`` the equation is ``F(û) = Tᴴ r(T û + g) = 0`` and its derivative ``Tᴴ J T``,
which the constraint makes of the tangent in the same way as of any matrix. The gradient comes from the
converged discrete state alone: neither load steps nor iterations enter it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, Result, SolveError
from torch_sla.linalg import LaggedMultigrid
from torch_sla.linalg.checks import settle
from torch_sla.linalg.nonlinear.arc import follow
from torch_sla.linalg.nonlinear.batched import newton_batch
from torch_sla.linalg.nonlinear.forcing import Forcing
from torch_sla.linalg.nonlinear.lagged import LaggedStep
from torch_sla.linalg.nonlinear.options import NonlinearInfo, NonlinearOptions, inside_step
from torch_sla.linalg.solve import default_rtol
from torch_sla.problems.lowering.apart import StepsApart
from torch_sla.problems.progress import Reporter

if TYPE_CHECKING:
    from torch_sla.linalg import SolveInfo
    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.lowering.operators import Operator
    from torch_sla.problems.lowering.scene import Scene
    from torch_sla.problems.lowering.terms import Term
    from torch_sla.problems.progress import ProgressCallback
    from torch_sla.problems.specs.solver import Newton

__all__ = ["Equation", "newton_options"]

logger = logging.getLogger(__name__)

_CUTS = 12


@dataclass
class _State:
    """Everything about one set of values that iterations share."""

    scene: Scene
    operator: Operator
    terms: list[Term]
    g: Tensor


def newton_options(newton: Newton, dtype: torch.dtype, *, line_search: bool) -> NonlinearOptions:
    """Return what is asked for of Newton's method; `line_search` says whether to take one where nothing is said."""
    return NonlinearOptions(
        rtol=newton.rtol or default_rtol(dtype),
        atol=newton.atol,
        maxiter=newton.maxiter,
        line_search=line_search if newton.line_search is None else newton.line_search,
    )


class Equation:
    """The equation ``F(û, leaves) = 0``, for `implicit_solve`.

    Parameters
    ----------
    model
        The lowered problem.
    scene
        Its values; their tensors are the leaves.
    throw
        Whether failure raises.
    progress
        Told after each load step, or where there is one alone after each step of Newton's method.
    """

    takes_many = True

    def __init__(
        self,
        model: Model,
        scene: Scene,
        *,
        throw: bool,
        progress: ProgressCallback | None = None,
    ) -> None:
        self.model, self._scene, self._throw = model, scene, throw
        self._progress = progress
        solver = model.spec.solver
        newton = solver.nonlinear
        self._options = newton_options(newton, model.dtype, line_search=not model.may_step)
        self._reuse, self._inexact = newton.reuse, newton.inexact
        self._memory = LaggedMultigrid() if newton.inexact else None
        self.info = NonlinearInfo(method="newton")
        self.linear: SolveInfo | None = None
        self.batch: tuple[int, ...] = ()
        self.load_steps = model.load_steps

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        """Every tensor the equation depends on."""
        return self._scene.tensors()

    def _state(self, leaves: tuple[Tensor, ...], factor: float = 1.0) -> _State:
        """Put leaves in the place of the values and assemble what is linear."""
        scene = self._scene.put(leaves)
        scene.factor = factor
        operator = self.model.loaded(scene)
        g = self.model.given_values(scene)
        if factor != 1.0:
            operator = operator._replace(load=factor * operator.load)
            g = factor * g
        g = self.model.compiled.sides(g)
        return _State(scene, operator, self.model.terms(scene), g)

    # -- the equation ---------------------------------------------------------------------------

    def residual(self, u: Tensor, leaves: tuple[Tensor, ...]) -> Tensor:
        """Evaluate ``F(û)``."""
        return self._residual(self._state(leaves), u)

    def first(self, u: Tensor, leaves: tuple[Tensor, ...]) -> Tensor:
        """Evaluate ``F(û)`` where an iteration begins."""
        state = self._state(leaves)
        state.scene.beginning = True
        return self._residual(state, u)

    def _residual(self, state: _State, u_hat: Tensor) -> Tensor:
        model = self.model
        u = model.compiled.constraint.recover(u_hat, state.g)
        r = model.unconstrained(state.scene, state.operator, state.terms, u)
        idle = torch.where(model.free, torch.zeros((), dtype=u_hat.dtype, device=r.device), u_hat)
        return model.compiled.constraint.reduce(r) + idle

    def _values(self, state: _State, u_hat: Tensor, *, recorded: bool) -> Tensor:
        """Assemble ``Tᴴ J T`` at ``û``."""
        model = self.model
        u = model.compiled.constraint.recover(u_hat, state.g)
        values = model.tangent(state.scene, state.operator, state.terms, u, recorded=recorded)
        zero = torch.zeros(model.numbering.n, dtype=values.dtype, device=values.device)
        none = torch.zeros(state.g.shape[-1], dtype=values.dtype, device=values.device)
        constrained, _ = model.compiled.constraint.apply(values, zero, none)
        return constrained

    # -- forward --------------------------------------------------------------------------------

    @torch.no_grad()
    def run(self, u0: Tensor, leaves: tuple[Tensor, ...]) -> Tensor:
        """Iterate to the root, applying the loads in steps where that is asked for or needed."""
        plain = tuple(leaf.detach() for leaf in leaves)
        if self.model.arc_length:
            return self._follow(u0.detach(), plain)
        u, done, step, cuts = u0.detach().clone(), 0.0, 1.0 / self.load_steps, 0
        smallest = step / 2**_CUTS
        gone: Tensor | None = None
        total = why = NonlinearInfo(method="newton")

        stepped = self.load_steps > 1
        tell = Reporter(
            "load steps" if stepped else "Newton steps",
            self.load_steps if stepped else None,
            self._progress,
        )
        tangents = count()

        def tangent(at: Tensor) -> Tensor:
            if not stepped:
                tell(next(tangents))
            return self._values(state, at, recorded=False)

        rtol: float | None = None

        def solve(values: Tensor, F: Tensor) -> Tensor:
            return self._solve(values, F, rtol=rtol, memory=self._memory)

        apart = StepsApart(solve)

        def solve_all(values: Tensor, F: Tensor) -> Tensor:
            nonlocal rtol
            if self._inexact:
                # Once in a step, however many solves it takes: the tolerance follows from that of the step before.
                rtol = forcing(float(self.model.norm(F).max()))
            return apart(values, F)

        step_by = LaggedStep(tangent, solve_all, self._reuse)
        while done < 1.0:
            to = 1.0 if done + step >= 1.0 - 1e-12 else done + step
            state = self._state(plain, to)
            state.scene.trial = True
            forcing = Forcing(self._options.rtol)
            v, info = self._newton(state, u, step_by, gone)
            apart.blame(info)
            if self.model.may_step:
                self._withdraw(state, v, info)
            total.iterations += info.iterations
            total.history += info.history
            total.residual, total.result = info.residual, info.result
            total.notes = info.notes
            logger.debug(
                "load factor %.6g: %s after %d steps of Newton's method, residual %.3e",
                *(to, info.result.name.lower(), info.iterations, info.residual),
            )
            if info.converged:
                u, done = v, to
                if stepped:
                    tell(int(done * self.load_steps + 1e-9), load=done)
            elif step > smallest and self.model.may_step:
                step, cuts = 0.5 * step, cuts + 1
            elif to < 1.0 and not self._throw and info.solved is not None and info.solved.any():
                # Some cannot carry more, and stay where they are; the others go on.
                why = info if gone is None else why
                gone, step = ~info.solved, 1.0 / self.load_steps
            else:
                u = v
                total.solved = info.solved if to == 1.0 or self._throw else None  # under all loads
                break
        if gone is not None and total.converged:
            total.result, total.notes, total.solved = why.result, why.notes, info.solved
        if self._throw and total.result is Result.NONFINITE and not done:
            first = self._state(plain, step)
            first.scene.trial = True
            at = self.model.compiled.constraint.recover(u0.detach(), first.g)
            self.model.refuse_start(first.scene, at)
        self._lawful(plain, u, total)
        notes = self._told(step_by)
        if stepped or cuts:
            notes.append(f"load factor {done:.6g}, the load step was cut {cuts} times")
        total.notes = [*total.notes, *notes]
        self.info = total
        return u

    def _told(self, step_by: LaggedStep) -> list[str]:
        """Return what was kept from step to step, in words."""
        notes = []
        if self._reuse:
            notes.append(f"{step_by.made} tangents, {step_by.aged} steps with an older one")
        if self._memory is not None and self._memory.set_ups:
            notes.append(f"{self._memory.set_ups} multigrid set-ups")
        return notes

    def _follow(self, u: Tensor, plain: tuple[Tensor, ...]) -> Tensor:
        """Follow the path of equilibria until the whole load is carried."""
        if u.ndim > 1:
            raise ArgumentError(
                f"control: arc_length follows one path; received a batch {list(u.shape[:-1])}; solve its members "
                "one by one"
            )
        if bool(u.any()):
            raise ArgumentError("control: arc_length starts at the undeformed body; drop start=")
        states: dict[float, _State] = {}
        tangents: list[tuple[Tensor, float, Tensor]] = []

        def state(factor: float) -> _State:
            if factor not in states:
                if len(states) > 3:
                    del states[next(iter(states))]
                states[factor] = self._state(plain, factor)
                states[factor].scene.trial = True
            return states[factor]

        def residual(at: Tensor, factor: float) -> Tensor:
            return self._residual(state(factor), at)

        def solve(at: Tensor, factor: float, b: Tensor) -> Tensor:
            if not tangents or tangents[0][0] is not at or tangents[0][1] != factor:
                tangents[:] = [(at, factor, self._values(state(factor), at, recorded=False))]
            return self._solve(tangents[0][2], b)

        first = 1.0 / max(self.model.load_steps, 4)
        reporter = Reporter("load steps", None, self._progress)

        def tell(done: int, factor: float) -> None:
            reporter(done, load=factor)

        path = follow(residual, solve, u, first=first, rtol=self._options.rtol, tell=tell)
        limits = ", ".join(f"{factor:.6g}" for factor in path.limits) or "none"
        notes = [
            f"arc length: {len(path.factors) - 1} steps, limit points at load factors: {limits}"
        ]
        if not path.result.ok:
            notes.append(f"load factor reached: {max(path.factors):.6g}")
        else:
            end = self._state(plain)
            self._residual(end, path.u)
            if not bool(self._sound(end, path.u).all()):
                notes.append(f"the path carries the whole load only with {self.model.unsound}")
        self.info = NonlinearInfo(
            path.result, path.iterations, path.residual, method="newton", notes=notes
        )
        return path.u

    def _withdraw(self, state: _State, u_hat: Tensor, info: NonlinearInfo) -> None:
        """Take back that members are solved whose roots are no solutions."""
        solved = torch.tensor(info.converged) if info.solved is None else info.solved
        if not solved.any():
            return
        kept = solved & self._sound(state, u_hat)
        if bool((kept == solved).all()):
            return
        info.solved = kept
        if info.converged:
            info.result = Result.NONFINITE
            info.notes.append(
                f"Newton's method ended with {self.model.unsound}; more load_steps lead to another "
                "equilibrium, where there is one"
            )

    def _lawful(self, plain: tuple[Tensor, ...], u: Tensor, info: NonlinearInfo) -> None:
        """Check laws once more, which an iteration may break on its way and a solution may not."""
        if not info.converged:
            if info.solved is None or not info.solved.any():
                return
            good = info.solved.to(u.device)
            u = torch.where(good[..., None], u, u[good][0])
        try:
            self._residual(self._state(plain), u)
            if not info.converged:
                settle()
        except ArgumentError as error:
            if info.converged:
                raise
            info.notes.append(f"members that converged may break a law, as some do: {error}")
            info.solved = None

    def _sound(self, state: _State, u_hat: Tensor) -> Tensor:
        """Which roots ``[*batch]`` are solutions: some have no meaning, and fewer loads at a time lead to another."""
        scene, model = state.scene, self.model
        scene.ended = True
        u = model.compiled.constraint.recover(u_hat, state.g)
        size = model.norm(model.unconstrained(scene, state.operator, state.terms, u))
        scene.ended = False
        return torch.isfinite(size).cpu()

    def _newton(
        self, state: _State, u: Tensor, step: LaggedStep, gone: Tensor | None
    ) -> tuple[Tensor, NonlinearInfo]:
        notes: list[str] = []
        settle()  # before what is wrong makes the iteration fail

        def evaluate(at: Tensor) -> Tensor:
            return self._residual(state, at)

        constraint, operator = self.model.compiled.constraint, state.operator
        start = constraint.recover(u, state.g)
        forces = self.model.unconstrained(state.scene, operator, state.terms, start)
        size = self.model.norm
        # Forces at supports count: a residual that is small beside them is small.
        reference = torch.maximum(self._driving(state), size(forces)).expand(u.shape[:-1])
        try:
            rest = self.model.rest(state.scene)
            u, info = newton_batch(
                evaluate, step, u, self._options, reference, size, rest=rest, without=gone
            )
        except SolveError as error:
            info = NonlinearInfo(result=error.result, method="newton", residual=float("nan"))
            notes.append(inside_step(error))
        info.notes = notes + info.notes
        return u, info

    def _driving(self, state: _State) -> Tensor:
        """Return the size of what residuals are to be small beside ``[*batch]``: that of the loads."""
        return self.model.norm(self.model.compiled.constraint.reduce(state.operator.load))

    def _solve(
        self,
        values: Tensor,
        b: Tensor,
        *,
        transposed: bool = False,
        derivative: bool = False,
        rtol: float | None = None,
        memory: LaggedMultigrid | None = None,
    ) -> Tensor:
        model = self.model
        x, self.linear = model.solved(
            values,
            b,
            model.definite_tangent,
            model.symmetric,
            transposed=transposed,
            derivative=derivative,
            rtol=rtol,
            memory=memory,
        )
        return x

    # -- adjoint --------------------------------------------------------------------------------

    def adjoint(self, u: Tensor, leaves: tuple[Tensor, ...], g: Tensor) -> Tensor:
        """Solve ``Jᵀ λ = g``; recorded when gradients are enabled."""
        self.info.require_derivative()
        recorded = torch.is_grad_enabled()
        with torch.enable_grad():
            values = self._values(self._state(leaves), u, recorded=recorded)
            if not recorded:
                values = values.detach()
        return self._solve(values, g, transposed=True)

    def forward_solve(self, u: Tensor, leaves: tuple[Tensor, ...], b: Tensor) -> Tensor:
        """Solve ``J du = b``, not recorded."""
        self.info.require_derivative()
        values = self._values(self._state(leaves), u, recorded=False)
        return self._solve(values, b, derivative=True)
