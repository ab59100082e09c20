"""Weighted means over neighbours: the density filter, and the sensitivity filter that only bends gradients."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from torch_sla.linalg.sparse.tensor import SparseTensor
from torch_sla.problems.design.transforms.base import Stage, Transform, by_columns, positive

if TYPE_CHECKING:
    from torch_sla.problems.design.transforms.place import Place

__all__ = ["ConeFilter", "SensitivityFilter", "cone_matrix", "cone_weights"]


def cone_matrix(place: Place, radius: float) -> SparseTensor:
    """Return the matrix of cone-weighted means ``[n, n]``, rows adding up to one.

    Row i weighs each site j by ``(radius - |x_i - x_j|) m_j`` where that is positive, with the share of
    the volume ``m_j`` that j stands for: cells of different sizes count by their size, and on cells of one
    size the weights are the cone alone.

    Parameters
    ----------
    place
        Cells or nodes.
    radius
        Radius of the cone, in the unit of the mesh.
    """
    return cone_weights(place.x, place.measure, radius)


def cone_weights(sites: Tensor, shares: Tensor, radius: float) -> SparseTensor:
    """Return the matrix of `cone_matrix` for sites ``[n, dim]`` with shares ``[n]``."""
    from scipy.spatial import cKDTree

    x, measure = sites.cpu().numpy(), shares.cpu().numpy()
    pairs = cKDTree(x).query_pairs(radius, output_type="ndarray")
    i, j = pairs[:, 0], pairs[:, 1]
    near = radius - np.linalg.norm(x[i] - x[j], axis=1)
    own = np.arange(len(x))
    row = np.concatenate([own, i, j])
    col = np.concatenate([own, j, i])
    weight = np.concatenate([np.full(len(x), radius), near, near]) * measure[col]
    weight /= np.bincount(row, weight, len(x))[row]
    n, device = len(x), sites.device
    values, i, j = (torch.from_numpy(a).to(device) for a in (weight, row, col))
    return SparseTensor(values, i, j, (n, n))


@dataclass(frozen=True)
class ConeFilter(Transform):
    """Density filter: each value becomes the cone-weighted mean of those around it.

    Constants stay as they are; features smaller than the radius vanish, whatever the mesh
    (Bruns and Tortorelli, Comput. Methods Appl. Mech. Eng. 190 (2001), 3443-3459).

    Parameters
    ----------
    radius
        Radius of the cone, in the unit of the mesh.

    Examples
    --------
    >>> from torch_sla import ConeFilter
    >>> ConeFilter(1.5)
    ConeFilter(radius=1.5, type='cone_filter')
    """

    radius: float
    type: Literal["cone_filter"] = field(default="cone_filter", kw_only=True)

    def __post_init__(self) -> None:
        """Check."""
        positive("radius", self.radius)

    def prepare(self, place: Place) -> Stage:
        """Find the neighbours and weigh them."""
        return Averaging(place, cone_matrix(place, self.radius))


class Averaging(Stage):
    """Weighted means over sites.

    Parameters
    ----------
    place
        Where the values live.
    matrix
        The weights ``[n, n]``.
    """

    def __init__(self, place: Place, matrix: SparseTensor) -> None:
        self.place, self.matrix = place, matrix

    def __call__(self, values: Tensor) -> Tensor:
        """Average values ``[*batch, n, *shape]``."""
        place = self.place
        last = place.last(place.departures(values))
        return place.arrived(place.back(by_columns(lambda columns: self.matrix @ columns, last)))


@dataclass(frozen=True)
class SensitivityFilter(Transform):
    """Values pass unchanged; gradients become means over neighbours, weighted by a cone and the values.

    The heuristic of the first topology codes (Sigmund, Struct. Multidisc. Optim. 21 (2001), 120-127):
    ``g_i = sum_j w_ij x_j g_j / max(floor, x_i)``. What comes out is not the gradient of anything, so it
    fails every gradient check, and methods with a line search will not converge with it; optimality
    criteria and MMA do. Gradients through the forward problem are bent; those of goals that use the variable itself,
    as in ``mean(rho) <= 0.5``, are not. A `ConeFilter` is the honest alternative.

    Parameters
    ----------
    radius
        Radius of the cone, in the unit of the mesh.
    floor
        Least density that gradients are divided by.

    Examples
    --------
    >>> from torch_sla import SensitivityFilter
    >>> SensitivityFilter(1.5)
    SensitivityFilter(radius=1.5, floor=0.001, type='sensitivity_filter')
    """

    radius: float
    floor: float = 1e-3
    type: Literal["sensitivity_filter"] = field(default="sensitivity_filter", kw_only=True)

    def __post_init__(self) -> None:
        """Check."""
        positive("radius", self.radius)
        positive("floor", self.floor)

    def prepare(self, place: Place) -> Stage:
        """Find the neighbours and weigh them."""
        return _Bending(Averaging(place, cone_matrix(place, self.radius)), self.floor)


class _Bending(Stage):
    bends = True

    def __init__(self, mean: Averaging, floor: float) -> None:
        self.mean, self.floor = mean, floor

    def __call__(self, values: Tensor) -> Tensor:
        return _Bent.apply(self.mean.place.check(values), self.mean, self.floor)


class _Bent(Function):
    """The identity, whose gradient is averaged."""

    @staticmethod
    def forward(values: Tensor, mean: Averaging, floor: float) -> Tensor:  # noqa: ARG004
        return values.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(inputs[0])
        ctx.mean, ctx.floor = inputs[1:]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (values,) = ctx.saved_tensors
        return ctx.mean(values * gradient) / values.clamp_min(ctx.floor), None, None
