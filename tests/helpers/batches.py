"""Batches of a declared problem against its members, each solved alone."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["same_as_alone"]

# Up to so many members are all solved alone; of more, the first, one between and the last.
_ALL = 12


def same_as_alone(
    problem: Any,
    batch: dict[str, torch.Tensor],
    *,
    rtol: float = 1e-8,
    atol: float = 1e-11,
    **given: Any,
) -> Any:
    """Check the unknown and all outputs of a batch of values, beside what is ``given`` to all; return its solution."""
    every = problem.solve(**batch, **given)
    count = len(next(iter(batch.values())))
    for i in range(count) if count <= _ALL else (0, count * 3 // 7, count - 1):
        alone = problem.solve(**{name: values[i] for name, values in batch.items()}, **given)
        torch.testing.assert_close(every.u[i], alone.u, rtol=rtol, atol=atol)
        for name, value in alone.outputs.items():
            torch.testing.assert_close(every[name][i], value, rtol=rtol, atol=atol, msg=name)
    return every
