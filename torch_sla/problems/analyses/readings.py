"""Outputs that are linear in the state but for a constant: read off at each time by a product with fixed rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.problems.lowering.affine import batched, is_affine, is_plain, shares_row
from torch_sla.problems.specs.outputs import Flux, Reaction

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.problems.analyses.schemes import State
    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.lowering.scene import Scene

__all__ = ["WORTH", "Readings", "readable"]

WORTH = 32
"""Times that are recorded for each number that is read off, lest its derivative cost more than it saves."""
_MOST = 64
"""Numbers that are read off at most: each costs a derivative to begin with."""


def readable(model: Model, scene: Scene) -> frozenset[str]:
    """Return the names of outputs that are linear in the state, with coefficients that time and batch leave alone."""
    if model.field_dtype.is_complex or model.timed_matrix or not is_plain(scene):
        return frozenset()
    timed = {path.rpartition(".")[0] for path in model.timed}
    still, single = not timed, not batched(scene)
    found = set()
    for i, output in enumerate(model.spec.outputs):
        loaded = isinstance(output, Flux | Reaction)
        shared = still and single if loaded else shares_row(scene, output)
        if shared and is_affine(model, output) and f"outputs.{i}" not in timed:
            found.add(output.name)
    return frozenset(found)


class Readings:
    """What is read off a state, ``c + R s``.

    Parameters
    ----------
    values_of
        Takes outputs of a state.
    like
        A state ``[*batch, n]`` each, of which one member is looked at.
    most
        Numbers that are read off at most; an output with more of them than are left is not among them.
    """

    def __init__(
        self, values_of: Callable[[State], dict[str, Tensor]], like: State, most: int
    ) -> None:
        zeros = tuple(x.new_zeros(x.shape[-1], requires_grad=True) for x in like)
        with torch.enable_grad():
            found = values_of(zeros)
        self._constants: dict[str, Tensor] = {}
        numbers: list[Tensor] = []
        for name, value in found.items():
            if len(numbers) + value.numel() <= min(most, _MOST):
                self._constants[name] = value.detach()
                with torch.enable_grad():
                    numbers += value.flatten().unbind()
        self._rows = _rows(numbers, zeros)

    def __call__(self, state: State) -> dict[str, Tensor]:
        """Read off a state: ``[*batch, *shape]`` by name."""
        batch = state[0].shape[:-1]
        parts = [
            (state[k] if columns is None else state[k].index_select(-1, columns)) @ rows
            for k, columns, rows in self._rows
        ]
        found, first = {}, 0
        for name, constant in self._constants.items():
            last = first + constant.numel()
            own = [part[..., first:last].reshape((*batch, *constant.shape)) for part in parts]
            found[name] = sum(own, constant.expand((*batch, *constant.shape)))
            first = last
        return found


def _rows(numbers: list[Tensor], of: State) -> list[tuple[int, Tensor | None, Tensor]]:
    """Differentiate numbers: which part of the state, its places that count (None for all), ``[places, numbers]``."""
    each: list[tuple[Tensor | None, ...]] = [
        torch.autograd.grad(number, of, retain_graph=True, allow_unused=True)
        if number.requires_grad
        else (None,) * len(of)
        for number in numbers
    ]
    found: list[tuple[int, Tensor | None, Tensor]] = []
    for k, x in enumerate(of):
        own = [g[k] for g in each]
        if all(g is None for g in own):
            continue
        rows = torch.stack([torch.zeros_like(x) if g is None else g for g in own], -1)
        columns = torch.nonzero(rows.any(-1))[:, 0]
        few = 4 * len(columns) < len(x)
        found.append((k, columns, rows[columns]) if few else (k, None, rows))
    return found
