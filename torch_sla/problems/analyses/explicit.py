"""What central differences need of a physics: a mass without neighbours, and the longest step that is stable."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from torch_sla.errors import ArgumentError, SpecError

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.problems.lowering.model import Model

__all__ = ["critical_step", "lumped_mass", "row_sums"]

_POWERS = 40


def row_sums(model: Model, M: Tensor) -> Tensor:
    """Return the row sums of a mass ``[*batch, nnz]``, before constraints ``[*batch, n]``.

    Raises
    ------
    SpecError
        Of elements whose row sums are not positive.
    """
    if max(u.order for u in model.unknowns) > 1:
        raise SpecError(
            "row sums of elements of order 2 are not positive; take order: 1, or an implicit scheme",
            path="scheme",
        )
    ones = torch.ones(model.numbering.n, dtype=model.field_dtype, device=model.device)
    return model.apply(M, ones)


def lumped_mass(model: Model, sums: Tensor) -> Tensor:
    """Return `row_sums` reduced to the unknowns ``[*batch, n]``; one where a value is given.

    Raises
    ------
    ArgumentError
        Where a free unknown has no mass.
    """
    reduced = model.compiled.constraint.reduce(sums)
    without = model.free & ~(reduced.detach() > 0)
    # Of parts, all raise together.
    if bool((model.norm(without.to(reduced.dtype)) > 0).any()):
        what = next(iter(model.inertial), "mass")
        raise ArgumentError(
            f"{what}: the explicit scheme divides by the mass at each node, and some have none; give it "
            "everywhere, or take another scheme"
        )
    return torch.where(model.free, reduced, torch.ones_like(reduced))


@torch.no_grad()
def critical_step(model: Model, K: Tensor, mass: Tensor, u: Tensor, g: Tensor) -> float:
    """Return the longest step of central differences, ``2 / ω`` of the highest frequency, found by the power method.

    Parameters
    ----------
    K
        Stiffness ``[*batch, nnz]``.
    mass
        As `lumped_mass` gives it.
    u, g
        A state ``[*batch, n]`` and given values, for their shapes.
    """
    constraint = model.compiled.constraint
    generator = torch.Generator().manual_seed(1)
    v = torch.rand(u.shape, generator=generator, dtype=torch.float64).to(u) - 0.5
    highest = 0.0
    for _ in range(_POWERS):
        v = constraint.restrict(v)
        v = v / model.norm(v)[..., None].clamp_min(1e-300)
        full = constraint.recover(v, torch.zeros_like(g))
        v = constraint.reduce(model.apply(K, full)) / mass
        highest = float(model.norm(v).max())
    return 2.0 / math.sqrt(max(highest, 1e-300))
