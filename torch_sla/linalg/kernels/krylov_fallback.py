"""Steps of conjugate gradients in torch; `torch_sla.linalg.kernels.krylov` says what each one does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.linalg.kernels.lattice_fallback import store_dots

if TYPE_CHECKING:
    from torch_sla.linalg.kernels.krylov import Scalars

__all__ = ["begin", "curvature", "direction", "residual", "start", "store_dots", "test", "update"]


def _set(s: Scalars, code: int, where: Tensor) -> None:
    s.flag.copy_(torch.where((s.flag == 0) & where, code, s.flag))


def residual(
    b: Tensor, q: Tensor | None, r: Tensor, p: Tensor, dots: Tensor, b_dots: Tensor
) -> None:
    store_dots(b_dots, b, b)
    r.copy_(b if q is None else b - q)
    p.zero_()
    store_dots(dots, r, r)


def begin(s: Scalars, dots: Tensor, b_dots: Tensor, rtol: float, atol: float) -> None:
    rr, norm = dots.sum(), b_dots.sum().sqrt()
    target = torch.clamp(rtol * norm, min=atol)
    s.flag.zero_()
    s.steps.zero_()
    s.numbers.copy_(torch.stack([*s.numbers.new_zeros(3), rr, target.square(), norm]))
    s.history[0] = rr.sqrt()
    _set(s, 3, ~torch.isfinite(rr))
    _set(s, 1, rr <= target.square())


def start(s: Scalars, dots: Tensor) -> None:
    s.numbers[1] = s.numbers[0]
    s.numbers[0] = dots.sum()
    _set(s, 3, ~torch.isfinite(s.numbers[0]))


def curvature(s: Scalars, dots: Tensor) -> None:
    pq = dots.sum()
    _set(s, 3, ~torch.isfinite(pq))
    _set(s, 2, pq <= 0)
    s.numbers[2] = s.numbers[0] / torch.where(pq > 0, pq, 1.0)


def test(s: Scalars, dots: Tensor) -> None:
    running = s.flag == 0
    rr = dots.sum()
    s.numbers[3] = torch.where(running, rr, s.numbers[3])[0]
    s.steps.add_(running)
    s.history[s.steps.long()] = s.numbers[3].sqrt()
    _set(s, 3, ~torch.isfinite(rr))
    _set(s, 1, rr <= s.numbers[4])


def direction(s: Scalars, z: Tensor, p: Tensor) -> None:
    before = s.numbers[1]
    beta = torch.where(before == 0, 0.0, s.numbers[0] / torch.where(before == 0, 1.0, before))
    p.mul_(beta.to(p.dtype)).add_(z)


def update(s: Scalars, p: Tensor, q: Tensor, x: Tensor, r: Tensor, dots: Tensor) -> None:
    alpha = torch.where(s.flag[0] == 0, s.numbers[2], 0.0).to(p.dtype)
    x.addcmul_(alpha, p)
    r.addcmul_(alpha, q, value=-1)
    store_dots(dots, r, r)
