"""Results as rows of numbers."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import torch

from torch_sla.linalg.sparse.whole import whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from torch_sla.problems.specs.problem import Problem

__all__ = ["completed", "numbers", "write_table"]


def completed(
    rows: list[dict[str, float]], problem: Problem, outputs: Mapping[str, Tensor]
) -> list[dict[str, float]]:
    """Add to each row its numbers of the outputs ``[rows, ...]``, but for fields, which are for viewers.

    One that is called like a column that is there, as the time or a parameter of the cases, is told apart.
    """
    fields = fields_of(problem)
    for name, value in outputs.items():
        if name in fields:
            continue
        for row, own in zip(rows, value.detach().cpu(), strict=True):
            row.update({_apart(key, row): x for key, x in numbers(name, own).items()})
    return rows


def _apart(name: str, row: Mapping[str, float]) -> str:
    return name if name not in row else _apart(f"{name} (output)", row)


def fields_of(problem: Problem) -> set[str]:
    """Return names of the outputs that are fields, of all that a problem is of."""
    found = {output.name for output in problem.outputs if output.type == "field"}
    return found.union(*(fields_of(part) for part in problem.parts.values()))


def numbers(name: str, value: Tensor) -> dict[str, float]:
    """Name every number of a value: ``name``, or ``name[i,j]``; of complex ones ``.real`` and ``.imag``."""
    if value.is_complex():
        real, imag = numbers(name, value.real), numbers(name, value.imag)
        parts = (("real", real), ("imag", imag))
        return {f"{key}.{word}": part[key] for key in real for word, part in parts}
    if value.numel() == 1:
        return {name: float(value.reshape(()))}
    index = torch.cartesian_prod(*(torch.arange(n) for n in value.shape)).reshape(value.numel(), -1)
    places = [",".join(map(str, at)) for at in index.tolist()]
    return {f"{name}[{p}]": x for p, x in zip(places, value.flatten().tolist(), strict=True)}


def write_table(rows: Sequence[Mapping[str, object]], path: Path) -> None:
    """Write rows as CSV, with the names of the columns first."""
    with whole(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)
