"""The solution of a problem in parts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.linalg.adjoint.exchange import gathered, total
from torch_sla.problems.report.pieces import Frame, save_pieces
from torch_sla.problems.results import Outputs
from torch_sla.problems.specs.outputs import Field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch_sla.linalg import SolveInfo
    from torch_sla.linalg.distributed.communicator import Traffic
    from torch_sla.problems.distributed.division import Division
    from torch_sla.problems.distributed.problem import DistributedProblem

__all__ = ["DistributedSolution", "SolutionInParts", "numbers_of_fields"]


class SolutionInParts(Outputs):
    """What every result in parts has: outputs that are the same everywhere, and this process's share of vectors.

    Parameters
    ----------
    problem
        What was solved.
    outputs
        By name.
    numbers
        For every vector or field in parts: numbers in the whole of what is here.
    sizes
        How many there are in the whole.
    info
        Method, iterations, residual.
    home
        The device that results return to.

    Attributes
    ----------
    fields
        Empty: what has whole fields by name finds none here.
    batch
        Batch dimensions: those of right-hand sides; others are solved one member at a time.
    home, numbers, sizes
        As given.
    """

    batch: tuple[int, ...] = ()

    def __init__(
        self,
        problem: DistributedProblem,
        outputs: Mapping[str, Tensor],
        numbers: Mapping[str, Tensor],
        sizes: Mapping[str, int],
        info: SolveInfo,
        home: torch.device,
    ) -> None:
        self.problem, self.info, self.home = problem, info, home
        self.outputs = {name: value.to(home) for name, value in outputs.items()}
        self.numbers = {name: value.to(home) for name, value in numbers.items()}
        self.sizes = dict(sizes)
        self.fields = {}

    @property
    def spec(self) -> Any:
        """The declaration that was solved."""
        return self.problem.spec

    @property
    def traffic(self) -> Traffic:
        """What this process sent, since the problem was cut."""
        return self.problem.comm.traffic

    def whole(self, name: str = "u") -> Tensor:
        """Return a field on all sites, on every process; differentiable. All processes call it together.

        It takes the memory of the whole field on every process: for looking at small problems.
        """
        if name not in self.numbers:
            raise ArgumentError(f"{name!r} is no field; fields: {' '.join(self.numbers)}")
        dim = self.dim_of(name)
        here = self[name].movedim(dim, 0)
        device = self.problem.device  # where messages travel
        places = self.numbers[name].to(device)
        found = gathered(here.to(device), places, self.sizes[name], self.problem.comm)
        return found.movedim(0, dim).to(here.device)

    def dim_of(self, name: str) -> int:
        """Return which dimension of a field counts its sites."""
        del name
        return 0

    def total(self, x: Tensor) -> Tensor:
        """Return the sum over processes of what each has of something; differentiable.

        For losses of fields: ``loss = solution.total(((solution.u - measured) ** 2).sum())``.
        """
        return total(x.to(self.problem.device), self.problem.comm).to(x.device)

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Return the least and the largest value (of complex ones size) over all processes; all call it together."""
        name = next(iter(self.numbers))
        comm, u = self.problem.comm, self[name].detach().to(self.problem.device)
        u = u.abs() if u.is_complex() else u
        bound = torch.full((1,), torch.inf, dtype=u.dtype, device=u.device)
        flat = torch.cat([u.flatten(), bound])
        least = float(comm.reduce(flat.amin(), "min"))
        flat = torch.cat([u.flatten(), -bound])
        return {name: (least, float(comm.reduce(flat.amax(), "max")))}

    @property
    def endings(self) -> tuple[str, ...]:
        """Files that a run writes."""
        return (".json",)

    def frames(self) -> list[Frame]:
        """Return what a viewer sees, one after the other."""
        raise ArgumentError("there is no mesh to look at")

    def save(self, path: str | Path) -> list[Path]:
        """Write to files; all processes call it together.

        Parameters
        ----------
        path
            ``.pvtu``: a piece from every process, and one file that names them. ``.pvd``: one of these for every time,
            and one file that names them. ``.json``: outputs that are the same everywhere, written by the first process.

        Returns
        -------
        list of Path
            What this process wrote.
        """
        return save_pieces(self, Path(path))

    def __repr__(self) -> str:
        name = next(iter(self.numbers))
        where = f"{self.info.method} in {self.problem.comm.parts} parts"
        return self._with_outputs(
            f"{type(self).__name__}({name} {list(self[name].shape)} here, {where}"
        )


class DistributedSolution(SolutionInParts):
    """What `DistributedProblem.solve` returns, on every process its own part of the fields.

    Attributes
    ----------
    u
        The (first) field at the nodes that belong to this process ``[n]``, a vector field ``[n, dim]``. Of several
        unknowns each is there by name: ``solution["p"]``.
    outputs
        By name: numbers and probes are the same everywhere; a `Field` has this process's sites.
    numbers
        For ``u`` and every `Field`: numbers in the whole of its nodes or sites here.
    info
        Method, iterations, residual.
    points
        The moved mesh points of the whole ``[n_points, dim]``; None where they are the declared ones.
    """

    def __init__(
        self,
        problem: DistributedProblem,
        u: Tensor,
        outputs: dict[str, Tensor],
        info: SolveInfo,
        home: torch.device,
        points: Tensor | None = None,
    ) -> None:
        division = problem.division
        counts = division.counts
        names = dict(zip(self._called(division), division.shown.items(), strict=True))
        numbers = {called: number for called, (_, (number, _)) in names.items()}
        sizes = {called: division.n_nodes[name] for called, (name, _) in names.items()}
        numbers |= numbers_of_fields(division)
        for output in division.spec.outputs:
            if isinstance(output, Field):
                sizes[output.name] = counts[output.on]
        super().__init__(problem, outputs, numbers, sizes, info, home)
        self.flat, self.u = u, self._shaped(u)
        self.points = points

    @staticmethod
    def _called(division: Division) -> list[str]:
        """Return the names of the fields; one alone is ``u``, whatever it is called."""
        names = list(division.shown)
        return names if len(names) > 1 else ["u"]

    def _shaped(self, u: Tensor, name: str | None = None) -> Tensor:
        """Return unknowns ``[*, n_held]`` of a field, the first one by default, node by node."""
        division = self.problem.division
        return division.shaped(u, name or next(iter(division.shown))).to(self.home)

    def __getitem__(self, name: str) -> Tensor:
        if name in self.problem.division.shown and len(self.problem.division.shown) > 1:
            return self._shaped(self.flat, name)
        return self.u if name == "u" else super().__getitem__(name)

    @property
    def endings(self) -> tuple[str, ...]:
        """Files that a run writes."""
        return (".pvtu", ".json")

    def frames(self) -> list[Frame]:
        """Return what a viewer sees, one after the other."""
        own = {o.name for o in self.problem.division.spec.outputs if isinstance(o, Field)}
        return [Frame(0.0, {"u": self.flat}, {n: self[n] for n in self.outputs if n in own})]


def numbers_of_fields(division: Division) -> dict[str, Tensor]:
    """Return the numbers in the whole of the sites of this process, of every `Field` by name."""
    empty = torch.zeros(0, dtype=torch.int64, device=division.device)
    return {
        output.name: torch.cat(
            [empty, *(_sites(output.on, share, division.counts) for share in division.shares)]
        )
        for output in division.spec.outputs
        if isinstance(output, Field)
    }


def _sites(on: str, share: Any, counts: dict[str, int]) -> Tensor:
    """Return the numbers in the whole of a share's own sites."""
    if on == "nodes":
        return share.own_points[1]
    cells: Tensor = share.own_cells
    if on == "cells":
        return cells
    points = counts["quadrature"] // counts["cells"]
    return (cells[:, None] * points + torch.arange(points, device=cells.device)).flatten()
