"""What every result has, with a mesh or without: tensors by name, how they were found, what identifies them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from torch_sla.problems.expression import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

    from torch_sla.linalg import SolveInfo

__all__ = ["Named"]


class Named:
    """Fields and outputs by name; ``result["name"]`` is either, and iterating goes over the outputs.

    Attributes
    ----------
    model
        The lowered problem.
    fields, outputs
        Tensors by name.
    info
        Method, iterations, residual.
    """

    model: Any
    info: SolveInfo
    fields: dict[str, Tensor]
    outputs: dict[str, Tensor]

    @property
    def arcs(self) -> dict[str, Tensor]:
        """Length along each `Line` of the outputs at its points, by name ``[n]``."""
        problem: Any = self.spec
        found: dict[str, Tensor] = {}
        while problem is not None:
            found |= {
                output.name: torch.tensor(output.arc, dtype=torch.float64)
                for output in problem.outputs
                if output.type == "line"
            }
            problem = problem.inner
        return found

    @property
    def plan(self) -> object:
        """What was decided before the solve, and why."""
        return self.info.plan

    @property
    def spec(self) -> Any:
        """The declaration that was solved."""
        return self.model.spec

    @property
    def spec_hash(self) -> str:
        """Identifies the declaration that was solved."""
        found: str = self.spec.spec_hash
        return found

    @property
    def identity(self) -> dict[str, Any]:
        """What identifies the result: ``spec_hash structural_hash versions seed``."""
        from torch_sla.problems.report.save import identity

        return identity(self)

    def report(
        self, path: str | Path, *, command: str | None = None, seconds: float | None = None
    ) -> None:
        """Write one HTML page about the run: fields, outputs, the plan and why, how to do it again.

        It needs no network, no other file and no plotting library.

        Parameters
        ----------
        path
            The ``.html`` file.
        command, seconds
            How it was run in a shell, and how long it took, where that is to be told.
        """
        from torch_sla.problems.report.page import write_report

        write_report(self, path, command=command, seconds=seconds)

    def __getitem__(self, name: str) -> Tensor:
        if name in self.fields:
            return self.fields[name]
        if name not in self.outputs:
            known = " ".join(self.outputs) or "none"
            raise KeyError(
                f"no output is called {name!r}{nearest(name, self.outputs)}; outputs: {known}"
            )
        return self.outputs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.outputs)
