"""Find parameters: what varies, what is minimised, what must hold, how it is searched."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeAlias, cast

from annotated_types import MinLen
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    model_validator,
)

from torch_sla.errors import ArgumentError, ExpressionError, SpecError
from torch_sla.problems.design.optimizers import OPTIMIZERS
from torch_sla.problems.expression import nearest
from torch_sla.problems.registry import PHYSICS
from torch_sla.problems.specs.field_problem import FieldProblem
from torch_sla.problems.specs.given import joined, starts_of
from torch_sla.problems.specs.goals import Goals, Limits
from torch_sla.problems.specs.of import any_of, innermost
from torch_sla.problems.specs.options import options_of
from torch_sla.problems.specs.paths import changed
from torch_sla.problems.specs.problem import Problem
from torch_sla.problems.specs.python import PythonFunction
from torch_sla.problems.specs.variable import POINTS, Data, Effort, Variable
from torch_sla.problems.specs.written import FrozenMap, Listed, Text, thaw

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

    from torch_sla.problems.analyses.design.model import Design
    from torch_sla.problems.analyses.design.oracle import DesignOracle
    from torch_sla.problems.analyses.design.solution import DesignSolution
    from torch_sla.problems.derivatives.check import GradientCheck
    from torch_sla.problems.derivatives.laplace import Posterior
    from torch_sla.problems.derivatives.prior import Gaussian
    from torch_sla.problems.progress import ProgressCallback
    from torch_sla.problems.specs.given import Starts
    from torch_sla.problems.specs.value import Parameter

__all__ = ["DesignProblem"]


def _problem_or_cases(value: Any) -> str:
    if isinstance(value, Problem):
        return "problem"
    return "problem" if isinstance(value, dict) and isinstance(value.get("type"), str) else "cases"


if TYPE_CHECKING:
    Inner: TypeAlias = Problem | Mapping[str, Problem]
    AnyOptimizer: TypeAlias = Any
    Stage: TypeAlias = Any
else:
    AnyProblem = any_of(tuple(kind for kind, entry in PHYSICS.items() if entry.kind != "search"))
    Inner = Annotated[
        Annotated[AnyProblem, Tag("problem")]
        | Annotated[
            dict[Text, AnyProblem],
            BeforeValidator(thaw),
            MinLen(1),
            AfterValidator(FrozenMap),
            Tag("cases"),
        ],
        Discriminator(_problem_or_cases),
    ]
    AnyOptimizer = options_of(OPTIMIZERS, "optimizer", default=OPTIMIZERS[0])
    Stage = Annotated[dict[Text, Any], BeforeValidator(thaw), MinLen(1), AfterValidator(FrozenMap)]


class DesignProblem(Problem):
    """Find the parameters that minimise an objective of a problem's results.

    Examples
    --------
    >>> from torch_sla import Dirichlet, IntervalMesh, Measured, Parameter, PoissonProblem, Probe
    >>> rod = PoissonProblem(
    ...     mesh=IntervalMesh(cells=8),
    ...     source=Parameter("f"),
    ...     boundary=[Dirichlet("left", 0.0), Dirichlet("right", 0.0)],
    ...     outputs=[Probe("middle", at=[(0.5,)])],
    ... )
    >>> problem = DesignProblem(
    ...     of=rod,
    ...     variables=[Variable("f", initial=1.0)],
    ...     objective="misfit(middle)",
    ...     data={"middle": Measured([0.5])},
    ... )
    >>> round(float(problem.solve().design["f"]), 6)
    4.0
    """

    kinds: ClassVar[frozenset[str] | None] = frozenset()

    type: Literal["design"] = "design"
    of: Inner = Field(
        description="The problem, or several by name (load cases, experiments) that share the variables."
    )
    variables: Annotated[Listed[Variable], MinLen(1)] = Field(description="What varies.")
    objective: Goals = Field(
        description="What is minimised: an expression of results and variables, as in "
        "misfit(sensors) + 1e-3*tikhonov(kappa)."
    )
    constraints: Listed[Limits] = Field(
        default=(), description="What must hold: a <= b, a >= b, a == b, or a <= b <= c."
    )
    data: Data = Field(default={}, description="What was measured, by name of a result.")
    optimizer: AnyOptimizer = Field(
        default=OPTIMIZERS[0](),
        description="Method of the search: its type, or a mapping with its options (lbfgs where no type is named).",
    )
    effort: Effort = Field(default=Effort(), description="How hard each forward solve works.")
    stages: Listed[Stage] = Field(
        default=(),
        description="Further searches, each from where the last one ended: fields by path with their new values, such "
        "as {variables.0.transform.1.beta: 8.0}.",
    )

    _staged: tuple[DesignProblem, ...] = PrivateAttr(default=())

    @property
    def inner(self) -> Problem | None:
        """The problem, where there is one."""
        return self.of if isinstance(self.of, Problem) else None

    @property
    def parts(self) -> dict[str, Problem]:
        """All problems by name; one alone is called ``""``."""
        return {"": self.of} if isinstance(self.of, Problem) else dict(self.of)

    @property
    def _inherited(self) -> dict[str, Parameter]:
        found: dict[str, Parameter] = {}
        for case, problem in self.parts.items():
            for name, parameter in problem.declared.items():
                if found.setdefault(name, parameter) != parameter:
                    raise SpecError(
                        f"the parameter {name!r} is defined differently in another problem: {found[name]!r} "
                        f"against {parameter!r}; give it another name",
                        path=f"of.{case}",
                    )
        return found

    @property
    def results(self) -> dict[str, tuple[str, str]]:
        """What goals may use: problem and name by name; those that several share are ``problem_name``."""
        every = [(c, n) for c, p in self.parts.items() for n in _results(p)]
        found = {}
        for case, name in every:
            alone = sum(n == name for _, n in every) == 1
            found[name if alone else f"{case}_{name}"] = (case, name)
        return found

    @model_validator(mode="after")
    def _varied(self) -> Self:
        seen: set[str] = set()
        for i, variable in enumerate(self.variables):
            name, path = variable.parameter, f"variables.{i}"
            if name in seen:
                raise SpecError(f"{name!r} varies twice; join the transforms", path=path)
            seen.add(name)
            if name == POINTS:
                if not any(hasattr(innermost(p), "mesh") for p in self.parts.values()):
                    raise SpecError("there is no mesh, so no points", path=f"{path}.parameter")
                if variable.initial is not None:
                    raise SpecError("points start where the mesh has them", path=f"{path}.initial")
            elif name not in self.declared:
                known = [*self.declared, POINTS]
                raise SpecError(
                    f"{name!r} is no parameter of the problem{nearest(name, known)}; there are: {' '.join(known)}",
                    path=f"{path}.parameter",
                )
        return self

    @model_validator(mode="after")
    def _goals(self) -> Self:
        results = self.results
        varied = [v.parameter for v in self.variables if v.parameter != POINTS]
        both = sorted(results.keys() & set(varied))
        if both:
            raise SpecError(
                f"{both[0]!r} is a result and a variable; call the output something else",
                path="objective",
            )
        known = results.keys() | set(varied)
        fields = [n for n in varied if self.declared[n].on != "constant"]
        used: set[str] = set()
        goals = [("objective", self.objective)]
        goals += [(f"constraints.{i}", c) for i, c in enumerate(self.constraints)]
        for path, goal in goals:
            if isinstance(goal, PythonFunction):
                continue
            try:
                goal.expression.check(known, fields, self.data)
            except ExpressionError as error:
                raise ExpressionError(error.message, path=path) from None
            used |= goal.expression.data
        for name in self.data:
            if name not in used:
                raise SpecError(
                    f"no goal uses it; write misfit({name}), or misfit(expression, {name})",
                    path=f"data.{name}",
                )
        return self

    @model_validator(mode="after")
    def _effort(self) -> Self:
        if not self.effort.warm_start:
            return self
        for case, problem in self.parts.items():
            solved = problem.inner if problem.type == "sweep" else problem
            if not isinstance(solved, FieldProblem):
                path = f"of.{case}" if case else "of"
                raise SpecError(
                    f"{path} is of type {problem.type}, whose solves do not start from another solution",
                    path="effort.warm_start",
                )
        return self

    @model_validator(mode="after")
    def _later(self) -> Self:
        found: list[DesignProblem] = []
        for i, stage in enumerate(self.stages):
            last: Any = found[-1] if found else self.updated(stages=())
            for path, value in stage.items():
                if path.partition(".")[0] in ("stages", "version", "type"):
                    raise SpecError("this is the same in all stages", path=f"stages.{i}.{path}")
                try:
                    last = changed(last, path, value)
                except SpecError as error:
                    raise SpecError(error.message, path=f"stages.{i}.{path}") from None
            found.append(last)
        self._staged = tuple(found)
        return self

    @property
    def staged(self) -> tuple[DesignProblem, ...]:
        """The declarations of all stages, in order."""
        return (self, *self._staged)

    # -- verbs ----------------------------------------------------------------------------------

    def solve(  # type: ignore[override]
        self,
        values: Mapping[str, Any] | None = None,
        /,
        *,
        start: Starts = None,
        folder: str | Path | None = None,
        resume: str | Path | None = None,
        progress: ProgressCallback | None = None,
        pictures: int = 0,
        **named: Any,
    ) -> DesignSolution:
        """Search for the best design.

        Parameters
        ----------
        values, **named
            Parameters that do not vary, by name.
        start
            Where iterative solves of the problem begin, as the ``start`` of its own ``solve``; of several problems a
            mapping by name. With ``Effort(warm_start=True)`` the first solve begins there, else all do. Where there are
            several solutions, it chooses which of them is followed.
        folder
            Where the run is kept: a checkpoint after every iteration, the history, pictures.
        resume
            A folder where a run was kept, which goes on to the result that it would have had.
        progress
            Called after each iteration with objective, optimality, violation and time.
        pictures
            Draw the design into the folder every so many iterations; 0 never.

        Raises
        ------
        ArgumentError
            For an unknown name, a start outside the domain, or a method that cannot do what is asked.
        SolveError
            If the forward solve fails at the start; later it is a step that is shortened.
        """
        with self._lowered() as design:
            return design.solve(
                joined(values, named),
                starts_of(self, start),
                folder=folder,
                resume=resume,
                progress=progress,
                pictures=pictures,
            )

    def oracle(
        self, values: Mapping[str, Any] | None = None, /, *, start: Starts = None, **named: Any
    ) -> DesignOracle:
        """Return the function that is minimised: ``value_and_grad(x)``, products, ``start lower upper``.

        Solves of the problem begin at the state ``start``, as in `solve`; ``oracle.start`` are the first unknowns. With
        ``Effort(warm_start=True)`` they begin at the latest solution from ``oracle.accept(x)`` on.
        """
        with self._lowered() as design:
            return design.oracle(joined(values, named), starts_of(self, start))

    @contextlib.contextmanager
    def _lowered(self) -> Iterator[Design]:
        with self._located() as model:
            yield cast("Design", model)

    def check_gradients(
        self,
        values: Mapping[str, Any] | None = None,
        /,
        *,
        start: Starts = None,
        seed: int = 20261,
        **named: Any,
    ) -> GradientCheck:
        """Measure the Taylor remainder order of each goal by each variable at the start; ``print`` it.

        Solves of the problem begin at the state ``start``, as in `solve`.
        """
        from torch_sla.problems.derivatives.design import check_design

        return check_design(self.oracle(values, start=start, **named), seed=seed)

    def value_and_grad(self, *_: Any, **__: Any) -> Any:
        """Refuse: a design problem has an oracle."""
        raise ArgumentError(
            "a design problem is a function of its unknowns: problem.oracle().value_and_grad(x); derivatives of "
            "outputs are asked of problem.of"
        )

    jvp = vjp = hvp = sensitivities = value_and_grad

    def laplace(  # type: ignore[override]
        self,
        unknowns: Tensor,
        values: Mapping[str, Any] | None = None,
        /,
        *,
        start: Starts = None,
        prior: Mapping[str, Gaussian] | None = None,
        rank: int | None = None,
        **named: Any,
    ) -> Posterior:
        """Return how sure one may be of a result: a Gaussian about the unknowns that were found.

        The misfits of the objective, of the last stage, are the data with their noise; what is tikhonov and smoothness
        in it is the prior. Variables that transforms lead to are results too: ``posterior.output_std("kappa")``.

        Parameters
        ----------
        unknowns
            ``found.unknowns`` ``[n]``.
        values, **named
            Parameters that do not vary, by name.
        start
            Where solves begin, as in `solve`, such as ``found.solution.u``.
        prior
            Instead of the regularisers: a `Gaussian` for the unknowns of each variable.
        rank
            Number of eigenpairs of the Hessian; as many as count when left out.

        Raises
        ------
        ArgumentError
            If the objective has no misfit, terms that are neither misfit nor prior, or its regularisers are no prior.
        """
        from torch_sla.problems.derivatives.posterior import posterior

        oracle = self.staged[-1].oracle(values, start=start, **named)
        return posterior(oracle, unknowns, prior, rank)

    def module(self, *_: Any, **__: Any) -> Any:
        """Refuse: what is trained is the problem inside."""
        raise ArgumentError("a search is no module; take problem.of.module(...)")


def _results(problem: Problem) -> Iterator[str]:
    """Yield the names of all results of a problem."""
    yield from problem.fields
    here: Problem | None = problem
    while here is not None:
        yield from here.called
        for output in here.outputs:
            if output.name not in problem.fields:
                yield output.name
        # Modes belong to no load, so that outputs of the physics have no value there.
        here = None if here.called else here.inner
