"""Transforms one after another: from the unknowns of an optimiser to the values of a parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.problems.design.transforms.base import Reparametrisation, Stage, Transform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch_sla.problems.design.transforms.place import Place

__all__ = ["Chain"]


class Chain:
    """Transforms prepared at a place, in order from the unknown to the parameter.

    A person speaks of the *design*: starting values and bounds are those of the design. Transforms at the
    head that take any number (`Log`, `Softplus`, `Logit`, a `NeuralField`) are how the optimiser sees it:
    they lie between its unknowns and the design. All others lie between the design and the parameter.

    Parameters
    ----------
    transforms
        In order.
    place
        Where the parameter lives.

    Raises
    ------
    ArgumentError
        If a transform with unknowns of its own is not the first, or one has no meaning there.

    Examples
    --------
    >>> from torch_sla.assembly.mesh import rectangle_mesh
    >>> from torch_sla.problems.design.transforms import ConeFilter, Log, Place, SIMP
    >>> place = Place("cells", rectangle_mesh((2, 2), cell="quad"))
    >>> chain = Chain([ConeFilter(0.6), SIMP(minimum=0.0)], place)
    >>> chain(chain.start(0.5)).tolist()
    [0.125, 0.125, 0.125, 0.125]
    >>> round(Chain([Log()], place).start(2.0)[0].item(), 4)
    0.6931
    """

    def __init__(self, transforms: Sequence[Transform], place: Place) -> None:
        self.place = place
        self.transforms = tuple(transforms)
        self.stages: list[Stage] = [transform.prepare(place) for transform in transforms]
        for stage, transform in list(zip(self.stages, transforms, strict=True))[1:]:
            if stage.unknowns is not None:
                raise ArgumentError(
                    f"{type(transform).__name__} has unknowns of its own, so it comes first in a chain"
                )
        self.own = self.stages[0] if self.stages and self.stages[0].unknowns is not None else None
        """The stage that has unknowns of its own, such as the weights of a network."""
        first = 0 if self.own is None else 1
        self.heads: list[Reparametrisation] = []
        for stage in self.stages[first:]:
            if not isinstance(stage, Reparametrisation):
                break
            self.heads.append(stage)
        self.tail = self.stages[first + len(self.heads) :]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the unknowns."""
        place = self.place
        if self.own is not None and self.own.unknowns is not None:
            return (self.own.unknowns,)
        return place.shape if place.on == "constant" else (place.n, *place.shape)

    def design(self, unknowns: Tensor) -> Tensor:
        """Map unknowns to the design, of which bounds and starting values speak."""
        values = unknowns if self.own is None else self.own(unknowns)
        for stage in self.heads:
            values = stage(values)
        return values

    def __call__(self, unknowns: Tensor) -> Tensor:
        """Map unknowns ``[*batch, *shape]`` to values of the parameter ``[*batch, n, *shape]``."""
        values = self.design(unknowns)
        for stage in self.tail:
            values = stage(values)
        return values

    def plain(self, unknowns: Tensor) -> Tensor:
        """Map unknowns to the same values, whose gradients are theirs."""
        values = self.design(unknowns)
        for stage in self.tail:
            values = values if stage.bends else stage(values)
        return values

    @property
    def bends(self) -> bool:
        """Whether gradients are bent on their way."""
        return any(stage.bends for stage in self.tail)

    def start(self, initial: Tensor | float) -> Tensor:
        """Return the unknowns of a design, detached.

        Parameters
        ----------
        initial
            Values ``[n, *shape]``, or one for all sites.

        Raises
        ------
        ArgumentError
            If it is outside what the chain can give, or of another shape.
        """
        values = torch.as_tensor(initial, dtype=torch.float64).detach()
        if self.own is not None:
            return self.own.start(self._before(values))
        if values.ndim == 0:
            values = values.expand(self.place.shape)
        return self._before(self.place.check(values)).clone()

    def bounds(
        self, lower: Tensor | float | None, upper: Tensor | float | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return bounds of the unknowns ``[*shape]`` that keep the design between two bounds.

        Raises
        ------
        ArgumentError
            If the chain cannot hold bounds on each value: the unknowns are weights.
        """
        if self.own is not None and self.own.bounded:
            return self._own_bound(lower), self._own_bound(upper)
        if self.own is not None and (lower is not None or upper is not None):
            raise ArgumentError(
                "bounds of a design given by weights are no bounds of the weights; put a logit behind it, "
                "whose lower= and upper= are never passed"
            )
        return self._bound(lower), self._bound(upper)

    def _own_bound(self, bound: Tensor | float | None) -> Tensor | None:
        if bound is None:
            return None
        return torch.as_tensor(bound, dtype=torch.float64).detach().expand(self.shape).clone()

    def _bound(self, bound: Tensor | float | None) -> Tensor | None:
        return None if bound is None else self.start(bound)

    def _before(self, values: Tensor) -> Tensor:
        for stage in reversed(self.heads):
            values = stage.inverse(values)
        return values
