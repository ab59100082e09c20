"""A field given by a small network of the coordinates, whose weights are the unknowns."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.problems.design.transforms.base import Stage, Transform, positive

if TYPE_CHECKING:
    from torch_sla.problems.design.transforms.place import Place

__all__ = ["NeuralField"]


@dataclass(frozen=True)
class NeuralField(Transform):
    """A multilayer perceptron over the sites with Fourier features; the design variables are its weights.

    Coordinates are scaled to the unit box, mapped to sines and cosines of random waves (Tancik et al.,
    Advances in Neural Information Processing Systems 33 (2020)), and passed through layers of ``tanh``.
    It smooths by what it can represent, at any number of sites, and gives the same field on every mesh.

    Parameters
    ----------
    width
        Neurons per hidden layer.
    depth
        Number of hidden layers.
    features
        Number of waves; 0 passes the coordinates themselves.
    frequency
        Standard deviation of the waves, in periods per box: larger fits finer detail.
    scale
        Size of the variation at the start; 0 begins with a constant field.
    seed
        Seed of the waves and of the first weights.

    Examples
    --------
    >>> from torch_sla import NeuralField
    >>> NeuralField(width=8, depth=2)
    NeuralField(width=8, depth=2, features=8, frequency=1.0, scale=0.1, seed=0, type='neural_field')
    """

    width: int = 16
    depth: int = 2
    features: int = 8
    frequency: float = 1.0
    scale: float = 0.1
    seed: int = 0
    type: Literal["neural_field"] = field(default="neural_field", kw_only=True)

    def __post_init__(self) -> None:
        """Check."""
        positive("frequency", self.frequency)
        for name in ("width", "depth"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"{name} must be at least 1; got {getattr(self, name)!r}")
        if self.features < 0:
            raise ArgumentError(f"features must be 0 or more; got {self.features!r}")

    def prepare(self, place: Place) -> Stage:
        """Evaluate the waves at the sites."""
        if place.on == "constant":
            raise ArgumentError("a neural field is a function of place, and a constant has none")
        return _Network(self, place)


class _Network(Stage):
    def __init__(self, options: NeuralField, place: Place) -> None:
        x = place.x
        low, high = _box(place)
        unit = (x - low) / (high - low)
        generator = torch.Generator().manual_seed(options.seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(x.device)

        if options.features:
            phase = 2 * math.pi * options.frequency * unit @ normal(x.shape[1], options.features)
            self.inputs = torch.cat([phase.sin(), phase.cos()], -1)
        else:
            self.inputs = 2 * unit - 1
        outputs = math.prod(place.shape)
        widths = [self.inputs.shape[1], *[options.width] * options.depth, outputs]
        self.shapes = list(itertools.pairwise(widths))
        self.outputs = outputs
        layers = []
        for i, (n, m) in enumerate(self.shapes):
            size = options.scale if i == len(self.shapes) - 1 else 1.0
            layers += [size * normal(n * m) / math.sqrt(n), torch.zeros(m).to(x)]
        self.place, self.first = place, torch.cat(layers)
        self.unknowns = self.first.numel()

    def __call__(self, weights: Tensor) -> Tensor:
        """Map weights ``[*batch, unknowns]`` to values ``[*batch, n, *shape]``."""
        if weights.ndim < 1 or weights.shape[-1] != self.unknowns:
            raise ArgumentError(
                f"the network has {self.unknowns} weights; got shape {tuple(weights.shape)}"
            )
        h, begin = self.inputs.to(weights.dtype), 0
        for i, (n, m) in enumerate(self.shapes):
            matrix = weights[..., begin : begin + n * m].unflatten(-1, (n, m))
            bias = weights[..., begin + n * m : begin + n * m + m]
            h = h @ matrix + bias[..., None, :]
            begin += n * m + m
            if i < len(self.shapes) - 1:
                h = h.tanh()
        return h.unflatten(-1, self.place.shape) if self.place.shape else h[..., 0]

    def start(self, initial: Tensor) -> Tensor:
        """Return the seeded weights with ``initial`` (one value for all sites) as last bias."""
        if initial.numel() not in (1, self.outputs):
            raise ArgumentError(
                f"a neural field starts around one value, not at a field of {initial.numel()}"
            )
        weights = self.first.clone()
        weights[-self.outputs :] = initial.detach().flatten().to(weights)
        return weights


def _box(place: Place) -> tuple[Tensor, Tensor]:
    """Return the corners of the body's box: that of the mesh, so that a finer mesh has the same."""
    x = place.x if place.mesh is None else place.mesh.points
    low, high = x.amin(0), x.amax(0)
    return low, torch.where(high > low, high, low + 1)
