"""What a field should look like, as a number: small, smooth, or piecewise constant.

Each takes the `Place` of a field, its values ``[*batch, n]`` and numbers, and gives ``[*batch]``. They are
integrals over the body, so that they tend to a limit as the mesh is refined.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.assembly import CellBasis, Dofs
from torch_sla.errors import ArgumentError
from torch_sla.linalg.adjoint.linear import LinearMap
from torch_sla.linalg.adjoint.nested import nested
from torch_sla.linalg.adjoint.saving import is_recorded
from torch_sla.linalg.sparse.tensor import SparseTensor
from torch_sla.problems.design.transforms.base import positive

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch_sla.problems.design.transforms.place import Place

__all__ = ["REGULARISERS", "RESIDUALS", "smoothness", "tikhonov", "total_variation"]


def tikhonov(place: Place, values: Tensor, reference: float = 0.0) -> Tensor:
    """Return ``½ ∫ (k - reference)²``; of a constant, ``½ (k - reference)²``.

    Parameters
    ----------
    place
        Cells, nodes, or a constant.
    values
        ``[*batch, n, *shape]``; components add up.
    reference
        What is expected.
    """
    return _half_square(place, tikhonov_residual(place, values, reference))


def tikhonov_residual(place: Place, values: Tensor, reference: float = 0.0) -> Tensor:
    """Return r ``[*batch, *shape, n]`` with `tikhonov` ``½ Σ r²``."""
    away = place.check(values) - reference
    if place.on == "constant":
        return away[..., None]
    return place.last(away) * place.measure.sqrt().to(away)


def smoothness(place: Place, values: Tensor) -> Tensor:
    """Return ``½ ∫ |∇k|²``.

    Of nodal fields it is exact. On cells it is ``½ Σ_f |f| (k_i - k_j)²/h_f`` over the facets between cells,
    with the distance ``h_f`` between their centroids.

    Parameters
    ----------
    place
        Cells or nodes.
    values
        ``[*batch, n, *shape]``; components add up.
    """
    if place.on == "nodes" or values.is_complex():
        return _half_square(place, smoothness_residual(place, values))
    energy: Tensor = _Roughness.apply(place.last(place.check(values)), place.once(_jumps))[0]
    return energy.sum(tuple(range(-len(place.shape), 0))) if place.shape else energy


def smoothness_residual(place: Place, values: Tensor) -> Tensor:
    """Return r ``[*batch, *shape, m]`` with `smoothness` ``½ Σ r²``."""
    last = place.last(place.check(values))
    if place.on == "nodes":
        gradient, weight = _slopes(place, last)
        return (gradient * weight.sqrt()[..., None].to(last)).flatten(-3)
    jumps = place.once(_jumps)
    return jumps.between(last) * jumps.weight.to(last)


def total_variation(place: Place, values: Tensor, smoothing: float = 1e-3) -> Tensor:
    """Return ``∫ (√(|∇k|² + s²) - s)``: like ``∫ |∇k|``, yet smooth, so that jumps cost no more than slopes.

    On cells it is ``Σ_f |f| (√(|k_i - k_j|² + s²) - s)`` over the facets between cells: the total variation
    of a field that is constant in each of them. Of fields with components the norm is of all together.

    Parameters
    ----------
    place
        Cells or nodes.
    values
        ``[*batch, n, *shape]``.
    smoothing
        ``s``: slopes (on nodes) or jumps (on cells) far below it count by their squares.
    """
    positive("smoothing", smoothing)
    last = place.last(place.check(values))
    if place.on == "nodes":
        gradient, weight = _slopes(place, last)
        square, weight = gradient.square().sum(-1).flatten(-2), weight.flatten()
    else:
        jumps = place.once(_jumps)
        square, weight = jumps.between(last).square(), jumps.area
    if place.shape:
        square = square.sum(tuple(range(-1 - len(place.shape), -1)))
    # The difference of two nearly equal numbers, written without it.
    return (square / ((square + smoothing**2).sqrt() + smoothing)) @ weight.to(square)


REGULARISERS: Mapping[str, Callable[..., Tensor]] = MappingProxyType(
    {"tikhonov": tikhonov, "smoothness": smoothness, "total_variation": total_variation}
)
"""Functions ``(place, values, *numbers)`` that expressions may use."""

RESIDUALS: Mapping[str, Callable[..., Tensor]] = MappingProxyType(
    {"tikhonov": tikhonov_residual, "smoothness": smoothness_residual}
)
"""Those that are ``½ Σ r²``, as r."""


def _half_square(place: Place, r: Tensor) -> Tensor:
    return 0.5 * r.square().sum(tuple(range(-1 - len(place.shape), 0)))


@dataclass(frozen=True, eq=False)
class _Jumps:
    """Facets between cells.

    Parameters
    ----------
    owner, neighbour
        The cells on both sides ``[m]``.
    area, stiffness
        Areas, and areas over distances between centroids.
    back
        The transpose of the differences: cells times facets.
    """

    owner: Tensor
    neighbour: Tensor
    area: Tensor
    stiffness: Tensor
    back: SparseTensor

    @property
    def weight(self) -> Tensor:
        """Roots of `stiffness`."""
        return self.stiffness.sqrt()

    def between(self, last: Tensor) -> Tensor:
        """Return the jumps ``[*batch, m]`` of values ``[*batch, cells]``."""
        return _Difference(self)(last)


class _Roughness(torch.autograd.Function):
    """``½ Σ a j²`` of the jumps j with the stiffness a, ``[*batch, cells]`` to ``[*batch]``, and ``a j``.

    Composed of torch's operations it would make three times as many arrays of all facets.
    """

    @staticmethod
    def forward(last: Tensor, jumps: _Jumps) -> tuple[Tensor, Tensor]:
        j = _Difference(jumps).run(last)
        flow = j * jumps.stiffness.to(j)
        work = j.dot(flow) if j.ndim == 1 else (j.unsqueeze(-2) @ flow.unsqueeze(-1))[..., 0, 0]
        return 0.5 * work, flow

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        last, ctx.jumps = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(last, output[1])
        ctx.save_for_forward(last, output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, None]:
        if grad is None:
            return None, None
        slope = _Difference(ctx.jumps, back=True)(_Roughness._flow(ctx))
        return grad.unsqueeze(-1) * slope, None

    @staticmethod
    @nested
    def jvp(ctx: Any, tangent: Tensor, _: None) -> tuple[Tensor, None]:
        change: Tensor = (_Roughness._flow(ctx) * _Difference(ctx.jumps)(tangent)).sum(-1)
        return change, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int, None], last: Tensor, jumps: _Jumps) -> Any:
        del info
        return _Roughness.apply(last.movedim(in_dims[0], 0), jumps), (0, 0)

    @staticmethod
    def _flow(ctx: Any) -> Tensor:
        last, flow = ctx.saved_tensors
        if is_recorded():
            flow = _Difference(ctx.jumps)(last) * ctx.jumps.stiffness.to(last)
        return flow


@dataclass(eq=False)
class _Difference(LinearMap):
    """The jumps ``[*batch, facets]`` of values ``[*batch, cells]``, or the adjoint of that.

    The adjoint sums numbers of all facets of a cell, with signs.
    """

    jumps: _Jumps
    back: bool = False
    beside = 0

    def run(self, x: Tensor) -> Tensor:
        if self.back:
            columns = x.reshape(-1, x.shape[-1]).T.contiguous()
            summed: Tensor = self.jumps.back.to(x.dtype) @ columns
            return summed.T.reshape(*x.shape[:-1], -1)
        found = x.index_select(-1, self.jumps.owner)
        return found.sub_(x.index_select(-1, self.jumps.neighbour))

    def adjoint(self, shape: torch.Size) -> _Difference:
        del shape
        return _Difference(self.jumps, not self.back)


def _jumps(place: Place) -> _Jumps:
    if place.on != "cells":
        raise ArgumentError(f"this acts on cells and nodes, and the field lives on {place.on}")
    mesh, inside = place.on_mesh, place.on_mesh.interior
    device = mesh.cells.device
    owner, neighbour = (
        torch.as_tensor(i, dtype=torch.int64, device=device)
        for i in (inside.owner, inside.neighbour)
    )
    corners = torch.as_tensor(mesh.reference.facets, device=device)
    side = torch.as_tensor(inside.owner_side, dtype=torch.int64, device=device)
    points = mesh.points[mesh.vertices[owner].gather(1, corners[side])]
    centre = mesh.centroids
    area, distance = _areas(points), (centre[owner] - centre[neighbour]).norm(dim=-1)
    m, one = len(owner), torch.ones_like(area)
    cells, facets = torch.cat([owner, neighbour]), torch.arange(m, device=device).repeat(2)
    # Sorted entries are used as they are.
    order = (cells * m + facets).argsort()
    entries = (torch.cat([one, -one])[order], cells[order], facets[order])
    back = SparseTensor(*entries, (mesh.n_cells, m))
    return _Jumps(owner, neighbour, area, area / distance, back)


def _areas(points: Tensor) -> Tensor:
    """Return the measure of facets with corners ``[n, k, dim]``: points, segments, triangles, quads."""
    k = points.shape[1]
    if k == 1:
        return points.new_ones(len(points))
    if k == 2:
        return torch.linalg.vector_norm(points[:, 1] - points[:, 0], dim=-1)
    # Two edges of a triangle, the diagonals of a quad.
    first = points[:, 2] - points[:, 0]
    second = points[:, 3 if k == 4 else 1] - points[:, k - 3]
    return 0.5 * torch.linalg.vector_norm(torch.linalg.cross(first, second), dim=-1)


def _slopes(place: Place, last: Tensor) -> tuple[Tensor, Tensor]:
    """Return gradients of nodal values ``[*batch, n_cells, q, dim]`` and weights ``[n_cells, q]``."""
    dofs, basis = place.once(_nodal)
    gradient = basis.interpolate(dofs, last).gradient
    q = len(basis.rule)
    gradient = gradient.expand(*gradient.shape[:-2], q, gradient.shape[-1])
    return gradient, basis.dx.expand(-1, q)


def _nodal(place: Place) -> tuple[Dofs, CellBasis]:
    mesh = place.on_mesh
    # Slopes of straight simplices are constant; those of others need as many points as their squares.
    simplex = mesh.geometry.order == 1 and mesh.cells.shape[1] == mesh.dim + 1
    degree = 0 if simplex else 2 * mesh.geometry.order
    return Dofs(mesh, mesh.geometry), CellBasis(mesh, mesh.geometry, degree)
