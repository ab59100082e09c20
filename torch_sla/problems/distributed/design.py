"""Searches whose forward problems several processes share.

Every process runs the same loop on the same unknowns: outputs and gradients are the same everywhere to the last
bit, so all take the same steps. The first process alone reads and writes the folder of the run.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from torch_sla.errors import RankError, SpecError
from torch_sla.linalg.checks import together
from torch_sla.linalg.distributed.communicator import described, presence
from torch_sla.linalg.distributed.everywhere import agreed, everywhere
from torch_sla.problems.analyses.design.model import Design
from torch_sla.problems.analyses.design.oracle import REJECTED
from torch_sla.problems.design.optimizers.scipy import PRODUCTS
from torch_sla.problems.distributed.problem import DistributedProblem, shared_problem
from torch_sla.problems.distributed.together import told, watched
from torch_sla.problems.folder import opened
from torch_sla.problems.specs.given import joined, starts_of
from torch_sla.problems.specs.hashing import canonical
from torch_sla.problems.specs.python import PythonFunction
from torch_sla.problems.specs.variable import Effort

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import torch
    from torch import Tensor

    from torch_sla.linalg.distributed.communicator import Communicator
    from torch_sla.problems.analyses.design.solution import DesignSolution
    from torch_sla.problems.checkpoint import Checkpoint, Checkpoints
    from torch_sla.problems.design.optimizers.function import Quantities
    from torch_sla.problems.distributed.solution import DistributedSolution
    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.progress import ProgressCallback
    from torch_sla.problems.specs.design import DesignProblem
    from torch_sla.problems.specs.given import Starts

__all__ = ["DistributedDesign"]


class DistributedDesign:
    """A design problem whose forward problems are in parts; `solve` is that of `DesignProblem`.

    Parameters
    ----------
    spec
        The declaration, the same on every process.
    comm
        Who has which part.
    device
        Where this process computes.

    Raises
    ------
    SpecError
        If a forward problem cannot be shared, or solves depend on the history of the search.
    """

    def __init__(self, spec: DesignProblem, comm: Communicator, device: torch.device) -> None:
        self.spec, self.comm, self._device = _checked(spec), comm, device
        comm.agree(agreed(comm, device, lambda: _declared(spec)))
        self._lowered = _SharedDesign(spec, comm, device)

    def solve(
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
        """Search; all processes call it together. A run goes on with any number of processes.

        Parameters
        ----------
        start
            As of `DesignProblem.solve`, on each process that of its own unknowns, as ``solution.u`` has them.
        values, folder, resume, progress, pictures, **named
            As of `DesignProblem.solve`.
        """
        first = agreed(self.comm, self._device, lambda: starts_of(self.spec, start))
        self.comm.agree(
            presence(**{f"start of {case!r}": first.get(case) for case in self.spec.parts})
        )
        with self._lowered.remembering():
            return self._lowered.solve(
                joined(values, named),
                first,
                folder=folder,
                resume=resume,
                progress=watched(self.comm, self._device, progress),
                pictures=pictures,
            )

    @staticmethod
    def solutions(found: DesignSolution) -> dict[str, DistributedSolution]:
        """Return the forward solutions at the design by name; one alone is called ``""``."""
        several: Any = found.solution
        return several if isinstance(several, dict) else {"": several}


class _SharedDesign(Design):
    """Lowers a design problem to forward problems in parts."""

    def __init__(
        self,
        spec: DesignProblem,
        comm: Communicator,
        device: torch.device,
        known: dict[str, _SharedModel] | None = None,
    ) -> None:
        self._comm, self._where = comm, device
        self._known: dict[str, _SharedModel] = {} if known is None else known
        super().__init__(spec)

    def lowered(self, problem: Any) -> _SharedModel:
        """Share one of the problems; stages of a search share what they have in common."""
        key = problem.spec_hash
        if key not in self._known:
            shared = shared_problem(problem, self._comm, self._where)
            self._known[key] = _SharedModel(shared)
        return self._known[key]

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Let the evaluations inside, backward passes too, be a loop over values."""
        with ExitStack() as stack:
            for known in self._known.values():
                stack.enter_context(known.problem.remembering())
            yield

    def like(self, spec: DesignProblem) -> Design:
        """Return another stage of the search, its problems shared too."""
        return _SharedDesign(_checked(spec), self._comm, self._where, self._known)

    def alone(self, work: Callable[[], None]) -> None:
        """Do it where there is something to do; where that fails, the others do not go on without."""
        agreed(self._comm, self._where, work)

    def recognised(self, start: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return starts however the problems are cut."""
        return {case: self.models[case].problem.gathered_start(u) for case, u in start.items()}

    def evaluated(self, evaluate: Callable[[], Quantities]) -> Quantities:
        """Solve and evaluate goals on every process; where that fails or differs on some, none goes on.

        Only where it fails on all, and all would try another point, does the search do that. A function of Python may
        forget that each process has its own part of a field.
        """
        found: Quantities | Exception
        try:
            with together():
                found, outcome = evaluate(), [1.0, 0.0, 0.0]
        except REJECTED as error:
            found, outcome = error, [0.0, 1.0, 0.0]
        except Exception as error:
            if isinstance(error, RankError) and error.__cause__ is not None:
                raise  # another process is lost, and cannot be asked
            found, outcome = error, [0.0, 0.0, 1.0]
        _, outcomes = everywhere(self._comm, self._where, lambda: (None, outcome), 3)
        if sum(outcomes) > 1:
            agreed(self._comm, self._where, partial(_raised, found))
        if isinstance(found, Exception):
            raise found
        self._comm.agree({f"the {name}": described(x) for name, x in _named(found)})
        return found

    @contextmanager
    def opened(
        self,
        folder: str | Path | None,
        resume: str | Path | None,
        identity: Mapping[str, Any],
    ) -> Iterator[tuple[Checkpoints | None, Checkpoint | None]]:
        """Open the folder on the first process, and tell the others what is in it."""
        # Any number of processes and threads goes on with the run, to rounding.
        same = {**identity, "threads": "any", "device": "several processes"}
        states: Checkpoints | None = None
        with ExitStack() as kept:

            def look() -> Checkpoint | None:
                nonlocal states
                states, found = kept.enter_context(opened(folder, resume, same, whole=True))
                return found

            state = told(self._comm, self._where, look)
            yield states, state


class _SharedModel:
    """A problem in parts, with the face of a lowered problem that searches use."""

    def __init__(self, problem: DistributedProblem) -> None:
        self.problem, self.spec = problem, problem.spec
        self.model: Model = problem.whole
        self.declared = self.spec.declared
        self.dtype, self.device = self.model.dtype, self.model.device
        self.compiled = self.model.compiled
        self.solve = problem.solve

    def sites(self, name: str) -> Tensor:
        """Return where a parameter lives."""
        return self.problem.sites(name)

    def check(self) -> Any:
        """Check what needs no solve; it was done before the problem was cut."""
        return self.model.mesh


def _declared(spec: DesignProblem) -> dict[str, str]:
    """Return what a search declares besides its problems; functions count by what they return."""
    fields = {name: getattr(spec, name) for name in type(spec).model_fields if name != "of"}
    fields["constraints"] = [c for c in spec.constraints if not isinstance(c, PythonFunction)]
    if isinstance(spec.objective, PythonFunction):
        del fields["objective"]
    return {f"`{name}`": str(canonical(value)) for name, value in fields.items()}


def _raised(found: Quantities | Exception) -> None:
    """Raise what failed here and otherwise on others, as an error that no search takes for a bad point."""
    if isinstance(found, Exception):
        raise RankError(f"the goals cannot be evaluated: {found!r}") from found


def _named(found: Quantities) -> Iterator[tuple[str, Tensor | None]]:
    """Yield what goals say by name."""
    yield from (("objective", found.objective), ("residual", found.residual))
    constraints = () if found.constraints is None else found.constraints
    yield from ((f"constraint {i}", c) for i, c in enumerate(constraints))


def _checked(spec: DesignProblem) -> DesignProblem:
    """Refuse what a shared search cannot do."""
    if spec.effort != Effort():
        raise SpecError(
            "what is remembered from solve to solve is not kept on several processes; leave effort out",
            path="effort",
        )
    optimizer: Any = spec.optimizer
    products = optimizer.needs_second_order or optimizer.needs_least_squares
    if products or getattr(optimizer, "method", None) in PRODUCTS:
        raise SpecError(
            "it needs derivatives of derivatives, which problems in parts do not have; take LBFGS, MMA or another "
            "that is content with gradients",
            path="optimizer",
        )
    return spec
