"""What solves of given matrices in parts return."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import SpecError
from torch_sla.linalg.adjoint.exchange import total
from torch_sla.linalg.sparse.whole import whole
from torch_sla.problems.distributed.solution import SolutionInParts
from torch_sla.problems.lowering.algebra import components
from torch_sla.problems.spectral import Spectral

if TYPE_CHECKING:
    from torch_sla.linalg.distributed.layout import Layout
    from torch_sla.linalg.info import SolveInfo
    from torch_sla.problems.distributed.algebra import DistributedAlgebra

__all__ = ["DistributedAlgebraSolution"]


class DistributedAlgebraSolution(Spectral, SolutionInParts):
    """A solution without a mesh, on every process its own entries; everything in it is differentiable.

    Attributes
    ----------
    outputs
        Components, the same everywhere.
    eigenvalues
        ``[k]``, of an eigenproblem; the same everywhere.
    u
        The vectors here: ``x [*batch, n_held]``, or ``modes [k, n_held]``.
    """

    def __init__(
        self,
        problem: DistributedAlgebra,
        fields: dict[str, Tensor],
        info: SolveInfo,
        home: torch.device,
    ) -> None:
        layouts = problem.lowered.layouts()
        numbers = {name: layout.names for name, layout in layouts.items()}
        sizes = {name: layout.n for name, layout in layouts.items()}
        first = next(iter(fields))
        if problem.spec.type == "linear":
            self.batch = tuple(fields[first].shape[:-1])
        if first in layouts:
            outputs = _picked(problem.spec, fields[first], layouts[first], home)
        else:
            outputs = components(problem.spec, fields[first], home)
        super().__init__(problem, outputs, numbers, sizes, info, home)
        self._found = {name: x.to(home) for name, x in fields.items()}
        self.u = self._found[next(iter(layouts), first)]

    def __getattr__(self, name: str) -> Tensor:
        fields = self.__dict__.get("_found", {})
        if name not in fields:
            raise AttributeError(f"no {name!r} here: {' '.join(fields)}")
        return fields[name]

    def __getitem__(self, name: str) -> Tensor:
        return self._found[name] if name in self._found else super().__getitem__(name)

    def dim_of(self, name: str) -> int:
        """Return which dimension counts entries: the last."""
        del name
        return -1

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Return the least and the largest entry of the solution, or eigenvalue."""
        w = self._found.get("eigenvalues")
        if w is None:
            return super().ranges() if self.numbers else {}
        w = w.detach().real if w.is_complex() else w.detach()
        return {"eigenvalues": (float(w.min()), float(w.max()))}

    @property
    def endings(self) -> tuple[str, ...]:
        """Files that a run writes."""
        return (".npz", ".json")

    def save(self, path: str | Path) -> list[Path]:
        """Write ``.json`` numbers, or ``.npz`` arrays, which the first process puts together; all call it together."""
        import numpy as np

        path = Path(path)
        if path.suffix != ".npz":
            return super().save(path)
        arrays = {n: v.detach().cpu().numpy() for n, v in self.outputs.items()}
        for name, value in self._found.items():
            found = self.whole(name) if name in self.numbers else value
            arrays[name] = found.detach().cpu().numpy()
        if self.problem.comm.rank:
            return []
        with whole(path) as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        return [path]


def _picked(spec: Any, x: Tensor, layout: Layout, home: torch.device) -> dict[str, Tensor]:
    """Take components of ``x [*batch, n_held]``: each process has some, and they are added up."""
    outputs, every = {}, [i for output in spec.outputs for i in output.index]
    if not every:
        return {}
    if max(every) >= layout.n:
        which = next(i for i, o in enumerate(spec.outputs) if max(o.index) >= layout.n)
        raise SpecError(
            f"there are {layout.n} components; received {max(spec.outputs[which].index)}",
            path=f"outputs.{which}.index",
        )
    wanted = torch.tensor(every, device=layout.names.device)
    names, order = layout.names.sort()
    at = torch.searchsorted(names, wanted)
    place = torch.nonzero(torch.isin(wanted, names))[:, 0]
    here = order[at[place]]
    zero = x.new_zeros(*x.shape[:-1], len(every))
    values = total(zero.index_copy(-1, place, x.index_select(-1, here)), layout.comm).to(home)
    pieces = values.split([len(output.index) for output in spec.outputs], -1)
    for output, piece in zip(spec.outputs, pieces, strict=True):
        outputs[output.name] = piece
    return outputs
