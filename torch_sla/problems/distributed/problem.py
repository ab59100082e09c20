"""A problem that several processes share: cut once, solved for any values."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, SpecError
from torch_sla.lazy import cached_property
from torch_sla.linalg.adjoint.exchange import gathered
from torch_sla.linalg.distributed.communicator import InProcess, presence
from torch_sla.linalg.distributed.everywhere import agreed
from torch_sla.linalg.distributed.launch import running
from torch_sla.linalg.distributed.processes import Processes
from torch_sla.problems import registry
from torch_sla.problems.distributed.division import Division
from torch_sla.problems.distributed.model import SharedModel
from torch_sla.problems.distributed.outputs import TakenInParts
from torch_sla.problems.distributed.refusals import refusal
from torch_sla.problems.distributed.scene import start_here
from torch_sla.problems.distributed.solution import DistributedSolution, SolutionInParts
from torch_sla.problems.distributed.together import watched
from torch_sla.problems.lowering.mesh import build_mesh
from torch_sla.problems.lowering.part import PartOfMesh
from torch_sla.problems.specs.faults import located
from torch_sla.problems.specs.given import joined, state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from torch.distributed import ProcessGroup
    from torch.distributed.device_mesh import DeviceMesh

    from torch_sla.linalg.distributed.communicator import Communicator
    from torch_sla.problems.progress import ProgressCallback
    from torch_sla.problems.specs.problem import Problem

__all__ = ["Asked", "DistributedProblem", "distribute", "shared_problem"]

logger = logging.getLogger(__name__)


def distribute(
    problem: Problem,
    parts: int | None = None,
    *,
    group: ProcessGroup | DeviceMesh | None = None,
    device: torch.device | str | None = None,
) -> Any:
    """Share a problem among the processes that ``torchrun`` started, one part of the mesh each.

    Parameters
    ----------
    problem
        The same on every process.
    parts
        Number of parts; one for each process by default. One process may have many, for study and tests.
    group
        The processes; all of them by default.
    device
        Where this process computes; its GPU with NCCL, else the CPU.

    Returns
    -------
    DistributedProblem
        Or `DistributedDesign` of a design problem.

    Raises
    ------
    SpecError
        If the physics or analysis cannot be shared; the message says why.

    Examples
    --------
    >>> from torch_sla import Dirichlet, Integral, Parameter, PoissonProblem, RectangleMesh
    >>> problem = PoissonProblem(
    ...     mesh=RectangleMesh(cells=(8, 8)),
    ...     diffusivity=Parameter("kappa", default=1.0),
    ...     source=1.0,
    ...     boundary=[Dirichlet("left", 0.0)],
    ...     outputs=[Integral("heat", "u")],
    ... )
    >>> kappa = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    >>> solution = distribute(problem, parts=3).solve(kappa=kappa)
    >>> solution["heat"].backward()
    >>> bool((kappa.grad + solution["heat"].detach() / 2.0).abs() < 1e-9)
    True
    """
    comm: Communicator
    if running():
        comm = Processes(group, parts)
        if device is None and "nccl" in torch.distributed.get_backend():
            device = torch.device("cuda", torch.cuda.current_device())
    else:
        comm = InProcess(parts or 1)
    where = torch.device(device or "cpu")
    if problem.type == "design":
        from torch_sla.problems.distributed.design import DistributedDesign

        searched: Any = problem
        return DistributedDesign(searched, comm, where)
    return shared_problem(problem, comm, where)


def shared_problem(problem: Any, comm: Communicator, device: torch.device) -> DistributedProblem:
    """Return a problem in parts, of the class that its type has."""
    if problem.type == "transient":
        from torch_sla.problems.distributed.transient import DistributedTransient

        return DistributedTransient(problem, comm, device)
    if problem.type in ("linear", "nonlinear") or (problem.type == "eigen" and problem.of is None):
        from torch_sla.problems.distributed.algebra import DistributedAlgebra

        return DistributedAlgebra(problem, comm, device)
    if problem.type == "eigen":
        from torch_sla.problems.distributed.modes import DistributedModes

        return DistributedModes(problem, comm, device)
    if problem.type == "sweep":
        from torch_sla.problems.distributed.sweep import DistributedSweep

        return DistributedSweep(problem, comm, device)
    return DistributedProblem(problem, comm, device)


class Asked(NamedTuple):
    """How a problem is to be solved; see `DistributedProblem.solve`."""

    points: Tensor | None = None
    start: Tensor | None = None
    info: bool = False
    throw: bool = True
    progress: ProgressCallback | None = None
    folder: str | Path | None = None
    resume: str | Path | None = None


class DistributedProblem:
    """A problem in parts.

    Parameters are whole on every process, as they are declared, and so are their gradients: those are summed
    over the processes, so that every process takes the same step of an optimisation. Scalar outputs and probes
    are the same everywhere too; the solution and fields are not, each process has its own part.

    Parameters
    ----------
    spec
        The problem.
    comm
        Who has which part.
    device
        Where this process computes.
    """

    def __init__(self, spec: Any, comm: Communicator, device: torch.device) -> None:
        self.spec, self.comm, self.device = spec, comm, device
        reason = refusal(spec)
        if reason is not None:
            raise SpecError(f"several processes cannot share this problem: {reason}")
        # One process may not find a file that the others find.
        own = agreed(comm, device, lambda: spec.spec_hash)
        comm.agree({"the problem": f"{spec.type} {own}", "parts": comm.parts})

    @contextlib.contextmanager
    def _located(self) -> Iterator[None]:
        """Locate what turns out to be wrong in the file that it came from."""
        document = getattr(self.spec, "_document", None)
        try:
            yield
        except SpecError as error:
            if error.file is not None or document is None:
                raise
            raise located(error, document) from None

    @cached_property
    def division(self) -> Division:
        """The problem, cut."""
        with self._located():
            return Division(self.spec, self.comm, self.device)

    @cached_property
    def model(self) -> SharedModel:
        """The problem in parts, with the face of a lowered one."""
        return SharedModel(self.division)

    def remembering(self) -> contextlib.AbstractContextManager[None]:
        """Let what is solved inside be a loop over values, which keeps what new ones may use."""
        return self.model.remembering()

    goes_on: ClassVar[bool] = False
    """Whether a run can be kept and gone on with."""

    @cached_property
    def whole(self) -> Any:
        """The problem before it was cut, on the whole mesh; made where a search asks for places on it."""
        if self.division.window.complete:
            return self.division.model
        physics, host = self.division.spec, torch.device("cpu")
        part = PartOfMesh(build_mesh(physics.mesh), host, {}, {})
        with self._located():
            return registry.verbs(physics.type)(physics, part)

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of sites of each kind in the whole."""
        return self.division.counts

    @property
    def unknowns(self) -> int:
        """How many unknowns there are in the whole."""
        return self.division.layout.n

    def describe(self) -> str:
        """Return how the problem was cut, for people; all processes call it together."""
        return self.division.describe()

    def sites(self, name: str) -> Tensor:
        """Return the coordinates ``[n, dim]`` where a parameter lives, on the whole mesh."""
        found: Tensor = self.whole.sites(name, None, self.spec.declared)
        return found.clone()

    def solve(
        self,
        values: Mapping[str, Any] | None = None,
        /,
        *,
        points: Tensor | None = None,
        start: Tensor | None = None,
        info: bool = False,
        throw: bool = True,
        progress: ProgressCallback | None = None,
        folder: str | Path | None = None,
        resume: str | Path | None = None,
        **named: Any,
    ) -> Any:
        """Solve; all processes call it together, with the same values. As `Problem.solve`, but for one member.

        Parameters
        ----------
        start
            Starting value of this process's own unknowns, as ``solution.u`` has them; of a sweep one for all cases, or
            one for each.
        folder, resume
            As for `Problem.solve`; every process keeps its part in the folder, which all must see, and any number of
            processes goes on.
        progress
            That of the first process is called, there. What it raises ends the work on all of them.

        Returns
        -------
        SolutionInParts
            A `DistributedSolution`, or what an analysis gives.

        Raises
        ------
        RankError
            If the processes were given different values, or one of them failed.
        ArgumentError
            For batches, and moved points beside probes, which are solved by one process.
        """
        if not self.goes_on and (folder is not None or resume is not None):
            raise ArgumentError(
                f"a {self.spec.type} problem is solved in one go, or case after case, so there is nothing to go on "
                "with: on several processes folder and resume are of transient and design problems"
            )
        # What they are may differ: parts of a start, names of a folder on several machines.
        said = presence(start=start, folder=folder, resume=resume)
        self.comm.agree({**said, "throw": throw})
        with self._located():
            places, first = state("points", points), state("start", start)
            heard = watched(self.comm, self.device, progress)
            asked = Asked(places, first, info, throw, heard, folder, resume)
            before = time.monotonic()
            found = self.found(joined(values, named), asked)
            logger.info("solved %s in parts in %.3g s", self.spec.type, time.monotonic() - before)
            return found

    def found(self, values: dict[str, Any], asked: Asked) -> SolutionInParts:
        """Solve for values; what `solve` does, of this kind of problem."""
        scene, start = self.model.scene(values, asked.points), asked.start
        if start is not None:
            start = self._checked(start)
        u, _, report = self.model.state(scene, start, throw=asked.throw, progress=asked.progress)
        scene.verdict.failed = scene.trial = not report.converged
        if not report.converged and report.solved is None:
            report.solved = torch.tensor(False)
        outputs = TakenInParts(self.division, scene, u).outputs()
        if not asked.info:
            report.history.clear()
        return DistributedSolution(self, u, outputs, report, scene.home, points=scene.points)

    @property
    def components(self) -> int:
        """Components of the field at a node, which ``solution.u`` has as its last dimension; 1 where it has none."""
        shown = list(self.division.shown.values())
        return int(shown[0][1].shape[1]) if len(shown) == 1 else 1

    def _checked(self, start: Tensor) -> Tensor:
        division = self.division
        places = torch.cat([place.flatten() for _, place in division.shown.values()])
        n, c, dtype = len(places), self.components, division.model.field_dtype
        flat = start_here(self.comm, start, n, dtype, self.device, components=c)
        return flat.new_zeros(division.layout.n_held).index_copy(0, places, flat)

    def gathered_start(self, start: Tensor) -> Any:
        """Return a start of all parts, on every process and whatever their number; all call it together."""
        layout = self.division.layout
        return gathered(self._checked(start), layout.names, layout.n, self.comm)

    def value_and_grad(
        self,
        output: str | Callable[[Any], Tensor],
        values: Mapping[str, Any] | None = None,
        /,
        *,
        start: Tensor | None = None,
        **named: Any,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return an output and its gradient with respect to everything given, as `Problem.value_and_grad`."""
        from torch_sla.problems.derivatives.gradient import value_and_grad

        same_face: Any = self
        return value_and_grad(same_face, output, joined(values, named), start)

    def __repr__(self) -> str:
        return f"DistributedProblem({self.spec.type}, {self.comm.parts} parts, {self.comm.world} processes)"
