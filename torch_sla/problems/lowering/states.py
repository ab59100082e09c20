"""Vectors of unknowns that are given: states where equations are evaluated, and starts of iterations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from torch_sla.errors import ArgumentError
from torch_sla.linalg.adjoint.unmapped import refuse_vmap
from torch_sla.problems.lowering.parameters import refuse_broken, refuse_imaginary

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor

__all__ = ["check_batch", "given_start", "given_state", "refuse_start"]


def given_state(
    u: Tensor, name: str, n: int, dtype: torch.dtype, *, components: int = 1, whose: str = ""
) -> Tensor:
    """Return unknowns ``[*batch, n]``; one field may also be given as ``[*batch, n / components, components]``.

    Parameters
    ----------
    name
        What it is called.
    n, dtype
        Number and dtype of the unknowns.
    components
        Of the field, where there is only one.
    whose
        Which unknowns these are, where there are others.

    Raises
    ------
    DTypeError
        If it is complex and the unknowns are real.
    ArgumentError
        If it has another shape.
    """
    refuse_imaginary(u, name, dtype)
    c = components
    if c > 1 and u.shape[-2:] == (n // c, c):
        return u.flatten(-2)
    if u.shape[-1:] != (n,):
        shapes = f"[*batch, {n}]" + (f" or [*batch, {n // c}, {c}]" if c > 1 else "")
        raise ArgumentError(f"{name} has shape {tuple(u.shape)}; expected {shapes}{whose}")
    return u


def given_start(
    start: Tensor,
    n: int,
    dtype: torch.dtype,
    device: torch.device,
    *,
    components: int = 1,
    whose: str = "",
) -> Tensor:
    """Return where an iteration begins ``[*batch, n]``, detached; as `given_state`, and NaN is refused too."""
    refuse_vmap(start, "start=")
    first = given_state(start.detach(), "start", n, dtype, components=components, whose=whose)
    refuse_broken(first, "start")
    return first.to(device=device, dtype=dtype)


def check_batch(start: Tensor, batch: Sequence[int], *, more: bool = False) -> None:
    """Refuse a start whose batch dimensions do not broadcast to those of the solution.

    Parameters
    ----------
    batch
        Those that the solution has of the values.
    more
        Whether a start may have further ones: each begins an iteration of its own.
    """
    own = tuple(start.shape[:-1])
    try:
        both = np.broadcast_shapes(own, tuple(batch))
    except ValueError:
        both = None
    if both is None or not (more or both == tuple(batch)):
        raise ArgumentError(
            f"start has the batch dimensions {list(own)}, and the solution has {list(batch)}"
        )


def refuse_start(start: Tensor | None) -> None:
    """Refuse a start of pairs of matrices that depend on no solution: it would change nothing."""
    if start is not None:
        raise ArgumentError(
            "start: these pairs are of matrices that depend on no solution, so nothing begins there; drop start="
        )
