"""What a search found: the design, how it was found, and the forward solution there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch_sla.errors import ArgumentError
from torch_sla.problems.results import Named

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from torch_sla.problems.analyses.design.history import History
    from torch_sla.problems.analyses.design.model import Design
    from torch_sla.problems.design.optimizers.state import State

__all__ = ["DesignSolution"]


class DesignSolution(Named):
    """What ``solve`` of a design problem returns.

    Attributes
    ----------
    design
        Values of the variables by name, ready for ``solve`` of the forward problem.
    history
        One row per iteration: objective, gradient, constraints, time.
    solution
        The forward solution at the design; of several problems, solutions by name.
    converged, reason
        Whether a tolerance was met, and why the search ended. The tolerance may be one of steps, of values or of a
        library's routine, which leaves more to gain than ``gradient_tolerance``; the reason tells how much.
    objective
        Its value at the design.
    iterations
        Steps taken.
    unknowns
        What the optimizer varied ``[n]``.
    """

    drawable = True

    def __init__(
        self,
        model: Design,
        state: State,
        design: Mapping[str, Tensor],
        solutions: Mapping[str, Any],
        history: History,
        before: int = 0,
    ) -> None:
        self.model, self.history = model, history
        self.design = dict(design)
        self.solution: Any = solutions[""] if "" in solutions else dict(solutions)
        self.converged, self.reason = state.converged, state.reason
        self.objective, self.iterations = state.value, before + state.iteration
        self.constraints, self.unknowns = state.constraints, state.x
        first = next(iter(solutions.values()))
        self.info = first.info
        self.fields = dict(first.fields) if len(solutions) == 1 else {}
        self.outputs = {
            name: solutions[case][own]
            for name, (case, own) in model.spec.results.items()
            if own in solutions[case].outputs
        }
        self._solutions: dict[str, Named] = dict(solutions)

    @property
    def batch(self) -> tuple[int, ...]:
        """A design is one: no batch dimensions."""
        return ()

    @property
    def endings(self) -> tuple[str, ...]:
        """Files that a run writes."""
        more = (".vtu",) if self.model.on_mesh and "" in self._solutions else ()
        return (".npz", ".csv", ".json", *more)

    def save(self, path: str | Path) -> None:
        """Write ``.npz`` design and results, ``.csv`` history, ``.json`` numbers, ``.vtu`` design and fields."""
        from torch_sla.problems.report.save import write_arrays, write_json

        path = Path(path)
        if path.suffix == ".npz":
            write_arrays(path, self, {"unknowns": self.unknowns, **self.design})
        elif path.suffix == ".csv":
            self.history.save(path)
        elif path.suffix == ".json":
            write_json(path, self.summary)
        elif path.suffix in (".vtu", ".vtk", ".xdmf"):
            self.model.write(path, self.design, self._solutions)
        else:
            raise ArgumentError(
                f"path ends in {path.suffix!r}; a design is saved as .npz (arrays), .csv (history), .json (numbers) "
                "or .vtu (fields)"
            )

    @property
    def summary(self) -> dict[str, Any]:
        """What was found in numbers, and what identifies it."""
        from torch_sla.problems.report.save import summary

        return {
            **summary(self),
            "design": {
                name: value.tolist() if value.numel() <= 64 else {"shape": list(value.shape)}
                for name, value in self.design.items()
            },
            "search": {
                "converged": self.converged,
                "reason": self.reason,
                "iterations": self.iterations,
                "objective": self.objective,
                "constraints": self.constraints.tolist(),
                "last": self.history[-1],
            },
        }

    def plot(self, path: str | Path | None = None) -> object:
        """Draw the objective, the optimality and the violation over the iterations."""
        return self.history.plot(path)

    def __repr__(self) -> str:
        ended = "converged" if self.converged else "not converged"
        lines = [
            f"DesignSolution({ended} after {self.iterations} iterations, objective {self.objective:.8g}",
            f"  {self.reason}",
        ]
        for name, value in self.design.items():
            low, high = float(value.detach().min()), float(value.detach().max())
            shown = (
                f"{low:.8g}"
                if value.numel() == 1
                else f"{low:.8g} ... {high:.8g} {list(value.shape)}"
            )
            lines.append(f"  {name}: {shown}")
        return "\n".join(lines) + ")"
