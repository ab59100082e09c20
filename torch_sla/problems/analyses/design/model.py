"""A lowered design problem."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import torch

from torch_sla.errors import ArgumentError
from torch_sla.lazy import cached_property
from torch_sla.problems.analyses.analysis import Analysis, frame_of, inside
from torch_sla.problems.analyses.design.loop import search
from torch_sla.problems.analyses.design.oracle import DesignOracle
from torch_sla.problems.analyses.design.variables import Unknowns
from torch_sla.problems.folder import opened
from torch_sla.problems.lowering.parameters import check_names
from torch_sla.problems.specs.python import PythonFunction
from torch_sla.problems.specs.variable import POINTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from torch import Tensor

    from torch_sla.problems.analyses.design.solution import DesignSolution
    from torch_sla.problems.checkpoint import Checkpoint, Checkpoints
    from torch_sla.problems.design.optimizers.function import Quantities
    from torch_sla.problems.progress import ProgressCallback
    from torch_sla.problems.specs.design import DesignProblem
    from torch_sla.problems.specs.problem import Problem
    from torch_sla.problems.specs.value import Parameter

__all__ = ["Design"]


class Design(Analysis):
    """Lowers `DesignProblem`: all structure is made once, for every step of the search."""

    spec: DesignProblem

    def __init__(self, spec: DesignProblem) -> None:
        self.spec = spec
        self.models: dict[str, Any] = {}
        for case, problem in spec.parts.items():
            with inside(f"of.{case}" if case else "of"):
                self.models[case] = self.lowered(problem)
        self.model = next(iter(self.models.values()))
        self.declared: dict[str, Parameter] = spec.declared
        self.dtype: torch.dtype = self.model.dtype
        self.device: torch.device = self.model.device
        self.unknowns = Unknowns(spec, self.models)
        keys = " ".join(f"{case} {model.compiled.key}" for case, model in self.models.items())
        shapes = " ".join(f"{n} {tuple(c.shape)}" for n, c in self.unknowns.chains.items())
        key = hashlib.blake2b(f"{spec.type} {keys} {shapes}".encode(), digest_size=16).hexdigest()
        self.compiled = SimpleNamespace(key=key)

    def lowered(self, problem: Problem) -> Any:
        """Lower one of the problems."""
        return problem.compile()

    def opened(
        self,
        folder: str | Path | None,
        resume: str | Path | None,
        identity: Mapping[str, Any],
    ) -> AbstractContextManager[tuple[Checkpoints | None, Checkpoint | None]]:
        """Open the folder of a run, for `search`; see `folder.opened`."""
        return opened(folder, resume, identity, whole=True)

    def alone(self, work: Callable[[], None]) -> None:
        """Do what one process does for all that search together."""
        work()

    def recognised(self, start: Mapping[str, Tensor]) -> Mapping[str, Any]:
        """Return what tells the starts of solves from others, by problem; for the identity of a run."""
        return start

    def evaluated(self, evaluate: Callable[[], Quantities]) -> Quantities:
        """Solve, and evaluate goals of the results."""
        return evaluate()

    def like(self, spec: DesignProblem) -> Design:
        """Return another stage of the search, lowered."""
        found: Any = spec.compile()
        return cast("Design", found)

    @cached_property
    def later(self) -> list[Design]:
        """The stages after the first, lowered; errors are those of the stage."""
        found = []
        for i, stage in enumerate(self.spec.staged[1:]):
            with inside(f"stages.{i}"):
                found.append(self.like(stage))
        return found

    @property
    def varied(self) -> list[str]:
        """Names of the variables."""
        return [variable.parameter for variable in self.spec.variables]

    @property
    def on_mesh(self) -> bool:
        """Whether the (first) problem has a mesh."""
        return frame_of(self.model) is not None

    def check(self) -> Any:
        """Check everything that needs no solve: the problems, bounds, starting values, and methods of all stages."""
        for case, model in self.models.items():
            with inside(f"of.{case}" if case else "of"):
                if hasattr(model, "check"):
                    model.check()
        self.check_methods({}, {})
        return getattr(frame_of(self.model), "mesh", None)

    def check_methods(self, given: Mapping[str, Any], start: Mapping[str, Tensor]) -> None:
        """Check that the method of every stage can do what is declared."""
        self.oracle(given, start).check()
        for i, design in enumerate(self.later):
            with inside(f"stages.{i}"):
                design.oracle(given, start).check()

    def oracle(self, given: Mapping[str, Any], start: Mapping[str, Tensor]) -> DesignOracle:
        """Return the function that is minimised; solves of problems by name begin at states that are given."""
        check_names(given, self.declared)
        for name, value in given.items():
            if name in self.varied:
                raise ArgumentError(f"{name!r} varies; say where it starts in its variable")
            if isinstance(value, torch.Tensor) and value.requires_grad:
                raise ArgumentError(
                    f"{name!r} requires grad, and a search is not differentiated; detach it, or make it a variable"
                )
        return DesignOracle(self, given, start)

    def solve(
        self,
        given: Mapping[str, Any],
        start: Mapping[str, Tensor] | None = None,
        *,
        folder: str | Path | None = None,
        resume: str | Path | None = None,
        progress: ProgressCallback | None = None,
        pictures: int = 0,
    ) -> DesignSolution:
        """Search; see `DesignProblem.solve`."""
        if pictures < 0:
            raise ArgumentError(f"pictures is {pictures}; every so many iterations, or 0 for never")
        if pictures and folder is None and resume is None:
            raise ArgumentError("pictures are drawn into the folder of a run; give folder=")
        if pictures:
            from torch_sla.problems.report.picture import undrawable

            if (why := undrawable()) is not None:
                raise ArgumentError(f"pictures={pictures}: {why}")
        with torch.inference_mode(mode=False):
            return search(
                self,
                given,
                start or {},
                folder=folder,
                resume=resume,
                progress=progress,
                pictures=pictures,
            )

    def describe(self, values: Mapping[str, Any]) -> list[str]:
        """Return lines on what varies, what is wanted, and the problems with their plans."""
        spec = self.spec
        lines = [*self.unknowns.describe(), f"  objective   {_shown(spec.objective)}"]
        lines += [f"  constraint  {_shown(constraint)}" for constraint in spec.constraints]
        for name, data in spec.data.items():
            lines.append(f"  data        {name}: {list(data.values.array.shape)}")
        lines.append(f"  optimizer   {spec.optimizer}")
        if spec.effort != type(spec.effort)():
            lines.append(f"  effort      {spec.effort}")
        for stage in spec.stages:
            changes = ", ".join(f"{path} = {value}" for path, value in stage.items())
            lines.append(f"  then        {changes}")
        for case, problem in spec.parts.items():
            own = {n: v for n, v in values.items() if n in problem.declared}
            with inside(f"of.{case}" if case else "of"):
                text = problem.explain(own).splitlines()
            lines += [f"of {case + ': ' if case else ''}{text[0]}", *text[1:]]
        return lines

    # -- files ----------------------------------------------------------------------------------

    def write(self, path: Path, design: Mapping[str, Tensor], solutions: Mapping[str, Any]) -> None:
        """Write the design, and the fields of one forward solution, for a viewer."""
        from torch_sla.assembly.mesh import write_mesh

        frame = frame_of(self.model)
        if frame is None or len(solutions) > 1:
            raise ArgumentError("fields are those of one problem on a mesh; save .npz")
        at_points: dict[str, Tensor] = {}
        in_cells: dict[str, Tensor] = {}
        for name, value in design.items():
            if name == POINTS:
                continue
            home = self.declared[name].on
            if home == "nodes":
                wide = frame.filled(value.detach().reshape(len(value), -1))
                at_points[name] = wide.reshape(-1, *value.shape[1:])
            elif home == "cells":
                in_cells[name] = value
        solution = solutions[""]
        flat = getattr(solution, "flat", None)
        if flat is not None and flat.ndim == 1 and not flat.is_complex():
            for name in solution.fields:
                at_points[name] = frame.at_points(flat, name, full=True)
        points = frame.filled(design.get(POINTS, frame.mesh.points).detach())
        write_mesh(path, frame.full_mesh, at_points, in_cells, points=points)

    def picture(self, design: Mapping[str, Tensor], directory: Path, iteration: int) -> None:
        """Draw every variable that lives on the mesh."""
        from torch_sla.problems.report.picture import draw

        frame = frame_of(self.model)
        if frame is None:
            return
        points = design.get(POINTS, frame.mesh.points)
        for name, value in design.items():
            if name != POINTS and self.declared[name].on not in ("cells", "nodes"):
                continue
            folder = directory / "pictures"
            path = folder / f"{name}-{iteration:05d}.png"
            values = None if name == POINTS else value
            draw(frame.mesh, points, values, name, f"iteration {iteration}", path)


def _shown(goal: Any) -> str:
    return goal.name if isinstance(goal, PythonFunction) else str(goal)
