"""What every result has, with a mesh or without: tensors by name, how they were found, what identifies them."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from torch_sla.problems.expression import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import pyvista
    from torch import Tensor

    from torch_sla.linalg import SolveInfo

__all__ = ["Drawn", "Named", "Outputs", "marked"]


class Outputs:
    """Fields and outputs by name; ``result["name"]`` is either, and iterating goes over the outputs."""

    fields: dict[str, Tensor]
    outputs: dict[str, Tensor]

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

    def _with_outputs(self, head: str) -> str:
        """Say what the outputs are below a line, for people."""
        lines = [head]
        for name, value in self.outputs.items():
            shown = f"{float(value.detach()):.8g}" if value.numel() == 1 else f"{list(value.shape)}"
            lines.append(f"  {name}: {shown}")
        return "\n".join(lines) + ")"


class Named(Outputs):
    """What every whole result has.

    Attributes
    ----------
    model
        The lowered problem.
    fields, outputs
        Tensors by name.
    info
        Method, iterations, residual.
    events
        When each event happened first, of what goes on in time ``[*batch]``.
    """

    model: Any
    info: SolveInfo
    events: Mapping[str, Tensor] = MappingProxyType({})

    @property
    def members(self) -> tuple[int, ...]:
        """Dimensions of all that was solved for besides each other: batches, and cases."""
        return tuple(getattr(self, "batch", ()))

    def told(self, value: Tensor) -> Tensor:
        """Return a field or an output as tables and pages show it: NaN of members that did not converge."""
        solved = self.info.solved
        return marked(value, None if solved is None else solved.expand(self.members))

    @property
    def arcs(self) -> dict[str, Tensor]:
        """Length along each `Line` of the outputs at its points, by name ``[n]``."""
        return _arcs(self.spec)

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
        return self.spec.spec_hash

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


def marked(value: Tensor, solved: Tensor | None) -> Tensor:
    """Return ``[*batch, ...]`` without its graph, NaN where ``solved [*batch]`` is not; None has all."""
    value = value.detach()
    if solved is None:
        return value
    own = solved.to(value.device)
    own = own.reshape([*own.shape, *[1] * (value.ndim - own.ndim)])
    return torch.where(own, value, torch.nan)


def _arcs(problem: Any) -> dict[str, Tensor]:
    found = {
        output.name: torch.tensor(output.arc, dtype=torch.float64)
        for output in problem.outputs
        if output.type == "line"
    }
    for part in problem.parts.values():
        found |= _arcs(part)
    return found


class Drawn:
    """Pictures and films of a result on a mesh, with axes; they need matplotlib (the extra ``plot``)."""

    def plot(
        self,
        path: str | Path | None = None,
        *,
        member: int | tuple[int, ...] | None = None,
        field: str | None = None,
    ) -> object:
        """Draw a field; returns the matplotlib figure.

        Displacements move the body, those of small strain as about a tenth of it; of other vectors the size is drawn.

        Parameters
        ----------
        path
            Where to write the picture.
        member
            Which member of a batch, case, mode or time. Left out: the first member or case, the last time, all modes.
        field
            An unknown or a `Field` output; the first unknown when left out.

        Raises
        ------
        ArgumentError
            For a field that does not exist, or without matplotlib.
        """
        from pathlib import Path

        from torch_sla.problems.report.plot import plot

        return plot(self, None if path is None else Path(path), member=member, field=field)

    def to_pyvista(self, member: int = -1) -> pyvista.UnstructuredGrid:
        """Return a grid of pyvista with all fields, where pyvista is installed.

        Parameters
        ----------
        member
            Which time, case, mode or member; the last one when left out.
        """
        from torch_sla.problems.report.scene import to_pyvista

        return to_pyvista(self, member)

    def animate(
        self,
        path: str | Path,
        *,
        field: str | None = None,
        mode: int | None = None,
        seconds: float = 0.12,
    ) -> None:
        """Write a film of times, cases or members, or of one mode that swings.

        Parameters
        ----------
        path
            ``.gif``, ``.png`` (an animated one, for browsers) or ``.html`` (a page with a slider, without matplotlib).
        field
            See `plot`.
        mode
            Which mode of an eigenproblem, counted from 1.
        seconds
            How long each picture is shown.

        Raises
        ------
        ArgumentError
            For another ending, or where there is one state only.
        """
        from pathlib import Path

        from torch_sla.problems.report.plot import animate

        animate(self, Path(path), field=field, mode=mode, seconds=seconds)
