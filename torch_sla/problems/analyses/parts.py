"""Some of the cases of a sweep: put together, taken apart for the disk."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from torch_sla.linalg import SolveInfo

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Parts"]


class Parts:
    """Fields and outputs of some cases, and how they were found.

    Parameters
    ----------
    batch
        Batch dimensions, cases last.
    fields, outputs
        By name, ``[*batch, ...]``.
    info
        The worst of all cases; its ``solved`` is ``[*batch]``, too.
    """

    def __init__(
        self,
        batch: tuple[int, ...],
        fields: Mapping[str, Tensor],
        outputs: Mapping[str, Tensor],
        info: SolveInfo,
    ) -> None:
        self.batch, self.info = batch, info
        self.fields, self.outputs = dict(fields), dict(outputs)

    @classmethod
    def of(cls, solution: Any, count: int) -> Parts:
        """Take them from a solution of `count` cases; what does not see the cases is the same in all."""
        # When events happened is one number for each case, like an output.
        outputs = {**solution.outputs, **getattr(solution, "events", {})}
        own = tuple(solution.batch)
        batch = tuple(np.broadcast_shapes(own, (count,)))

        def wide(every: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {n: v.expand(*batch, *v.shape[len(own) :]) for n, v in every.items()}

        info: SolveInfo = solution.info
        if info.solved is not None:
            info = replace(info, solved=info.solved.expand(batch))
        return cls(batch, wide(solution.fields), wide(outputs), info)

    @classmethod
    def restored(cls, records: Mapping[str, Tensor], data: Mapping[str, Any]) -> Parts:
        """Take up what `records` and `data` gave."""
        axis = len(data["batch"])
        moved = {name: value.movedim(0, axis) for name, value in records.items()}
        kinds: dict[str, dict[str, Tensor]] = {"fields": {}, "outputs": {}}
        for name, value in moved.items():
            kind, _, own = name.partition(" ")
            kinds[kind][own] = value
        info, count = SolveInfo.of_plain(data["info"]), len(next(iter(records.values())))
        return cls((*data["batch"], count), kinds["fields"], kinds["outputs"], info)

    @property
    def records(self) -> dict[str, Tensor]:
        """All tensors by name, cases first."""
        axis = len(self.batch) - 1
        every = {f"fields {name}": value for name, value in self.fields.items()}
        every |= {f"outputs {name}": value for name, value in self.outputs.items()}
        return {name: value.movedim(axis, 0) for name, value in every.items()}

    def data(self) -> dict[str, Any]:
        """Return the rest, as JSON has it."""
        return {"batch": list(self.batch[:-1]), "info": self.info.plain()}

    @property
    def figures(self) -> dict[str, float]:
        """What is worth watching."""
        return {"residual": self.info.residual}

    def fits(self, more: Parts) -> bool:
        """Whether more cases are of the same shapes: marches may end early, some before others."""
        axis = len(self.batch)
        pairs = ((self.fields, more.fields), (self.outputs, more.outputs))
        return all(
            a.keys() == b.keys() and all(a[n].shape[axis:] == b[n].shape[axis:] for n in a)
            for a, b in pairs
        )

    def joined(self, more: Parts) -> Parts:
        """Put more cases behind these."""
        axis = len(self.batch) - 1
        fields = _behind(self.fields, more.fields, axis)
        outputs = _behind(self.outputs, more.outputs, axis)
        info = more.info
        if not (info.converged and self.info.converged):
            info.solved = torch.cat([_solved(self), _solved(more)], -1)
        info.absorb(self.info)
        return Parts((*self.batch[:-1], self.batch[-1] + more.batch[-1]), fields, outputs, info)


def _solved(parts: Parts) -> Tensor:
    """Return which cases have a solution ``[*batch]``."""
    found = parts.info.solved
    return torch.ones(parts.batch, dtype=torch.bool) if found is None else found


def _behind(
    first: Mapping[str, Tensor], then: Mapping[str, Tensor], axis: int
) -> dict[str, Tensor]:
    """Put tensors behind others, on the device of the later ones."""
    return {n: torch.cat([v.to(then[n].device), then[n]], axis) for n, v in first.items()}
