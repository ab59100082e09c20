"""Pull-back of form coefficients to the reference cell.

The compiled kernel works for double precision on the CPU and fixed geometry; everything else, gradients with
respect to the geometry included, goes through torch operations with the same result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from torch_sla._core import extension
from torch_sla.assembly.kernels.small import small_product
from torch_sla.linalg.adjoint.linear import LinearMap
from torch_sla.linalg.kernels.threads import resolve_threads
from torch_sla.linalg.sparse.transforms import outside_compiler

__all__ = ["Jets", "moves", "pull_back", "pull_back_vector"]

_compiled: Any = None if extension is None else extension.assembly


class Jets(NamedTuple):
    """Which slots the jets of the test and the trial function hold; the value comes before the derivatives."""

    test_value: bool
    test_gradient: bool
    trial_value: bool
    trial_gradient: bool


def moves(*factors: Tensor) -> bool:
    """Whether derivatives with respect to factors of geometry may be asked for, in whatever mode."""
    return any(
        t.requires_grad
        or torch._C._functorch.is_functorch_wrapped_tensor(t)
        or torch.autograd.forward_ad.unpack_dual(t).tangent is not None
        for t in factors
    )


def pull_back(C: Tensor, inverse: Tensor, measure: Tensor, jets: Jets) -> Tensor:
    """Compute ``measure * P_test C P_trial^T`` with ``P = diag(1, dX/dx)`` at every quadrature point.

    Parameters
    ----------
    C
        ``[cv, Dv, cu, Du, *batch, n|1, q|1]``: components and jet slots of the test, then of the trial function.
    inverse
        ``dX/dx``, ``[n, q|1, dim, dim]``, real.
    measure
        ``[n, q|1]``, real.
    jets
        What the slots are.

    Returns
    -------
    Tensor ``[cv, cu, *batch, n, q, Dv, Du]``.
    """
    if _compiled is not None and not moves(inverse, measure) and _takes(C, inverse):
        batch = C.shape[4:-2]
        folded = C.flatten(4, -3) if batch else C.unsqueeze(4)
        R = _PullBack(_Geometry(inverse, measure, jets))(folded)
        return R.unflatten(2, batch) if batch else R.squeeze(2)
    return _torch_pull_back(C, inverse, measure, jets)


def _takes(C: Tensor, inverse: Tensor) -> bool:
    return (
        C.device.type == "cpu"
        and C.dtype in (torch.float64, torch.complex128)
        and inverse.dtype == torch.float64
        and C.numel() > 0
    )


def _torch_pull_back(C: Tensor, inverse: Tensor, measure: Tensor, jets: Jets) -> Tensor:
    dim = inverse.shape[-1]
    inverse, measure = inverse.to(C.dtype), measure.to(C.dtype)
    C = C.movedim((1, 3), (-2, -1))
    if jets.trial_gradient:
        head, tail = C[..., :-dim], small_product(C[..., -dim:], inverse.mT)
        C = _join(head, tail, -1)
    if jets.test_gradient:
        head, tail = C[..., :-dim, :], small_product(inverse, C[..., -dim:, :])
        C = _join(head, tail, -2)
    return C * measure[..., None, None]


def pull_back_vector(L: Tensor, inverse: Tensor, measure: Tensor, gradient: bool) -> Tensor:
    """Compute ``measure * P L`` for ``L [..., n|1, q|1, D]``: ``[..., n, q, D]``."""
    inverse, measure = inverse.to(L.dtype), measure.to(L.dtype)
    if gradient:
        dim = inverse.shape[-1]
        tail = (inverse * L[..., None, -dim:]).sum(-1)
        L = _join(L[..., :-dim], tail, -1)
    return L * measure[..., None]


def _join(head: Tensor, tail: Tensor, dim: int) -> Tensor:
    """Concatenate along `dim`, broadcasting the other dimensions."""
    if head.shape[dim] == 0:
        return tail
    front, back = head.movedim(dim, 0), tail.movedim(dim, 0)
    shape = np.broadcast_shapes(front.shape[1:], back.shape[1:])
    joined = torch.cat([front.expand(-1, *shape), back.expand(-1, *shape)])
    return joined.movedim(0, dim)


class _Geometry:
    """Geometric factors as the kernels take them."""

    def __init__(self, inverse: Tensor, measure: Tensor, jets: Jets) -> None:
        self.inverse = inverse.detach().contiguous()
        self.measure = measure.detach().contiguous()
        self.jets = jets

    @property
    def dim(self) -> int:
        return self.inverse.shape[-1]

    def sizes(self, coefficients: torch.Size, points: int) -> list[int]:
        cv, _, cu, _, batch, sites, q = coefficients
        return [cv, cu, batch, len(self.measure), points, sites, q, self.measure.shape[1]]

    @outside_compiler
    def run(self, name: str, source: Tensor, shape: tuple[int, ...], sizes: list[int]) -> Tensor:
        source = source.detach().resolve_conj().resolve_neg().contiguous()
        dtype = np.complex128 if source.is_complex() else np.float64
        result = torch.from_numpy(np.empty(shape, dtype=dtype))
        threads = resolve_threads(None, result.numel() * self.dim)
        getattr(_compiled, name)(
            *(t.numpy() for t in (source, self.inverse, self.measure, result)),
            *(sizes, list(self.jets), self.dim, threads),
        )
        return result


@dataclass(eq=False)
class _PullBack(LinearMap):
    """``R = measure P C P^T``."""

    geometry: _Geometry
    members = (4, 2)

    def run(self, C: Tensor) -> Tensor:
        cv, test_slots, cu, trial_slots, batch, _, q = C.shape
        points = max(q, self.geometry.measure.shape[1])
        sizes = self.geometry.sizes(C.shape, points)
        shape = (cv, cu, batch, sizes[3], points, test_slots, trial_slots)
        return self.geometry.run("pull_back", C, shape, sizes)

    def adjoint(self, shape: torch.Size) -> _Spread:
        return _Spread(self.geometry, shape)


@dataclass(eq=False)
class _Spread(LinearMap):
    """``C = measure P^T R P``, summed over what the coefficients share."""

    geometry: _Geometry
    shape: torch.Size
    members = (2, 4)

    def run(self, R: Tensor) -> Tensor:
        geometry, shape, points = self.geometry, self.shape, R.shape[4]
        full = (*shape[:5], len(geometry.measure), shape[6])
        C = geometry.run("pull_back_adjoint", R, full, geometry.sizes(torch.Size(full), points))
        return C.sum(5, keepdim=True) if shape[5] == 1 != full[5] else C

    def adjoint(self, shape: torch.Size) -> _PullBack:
        del shape
        return _PullBack(self.geometry)

    def of_many(self, count: int) -> _Spread:
        shape = self.shape
        return _Spread(self.geometry, torch.Size((*shape[:4], count * shape[4], *shape[5:])))
