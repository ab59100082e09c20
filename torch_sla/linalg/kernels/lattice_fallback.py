"""Lattice kernels in torch: what the Triton kernels compute, on any device.

`torch_sla.linalg.kernels.lattice` says what each one does. Sums over a stencil run in the order of
its planes. The flag is Triton's business: here nobody runs ahead of the test for convergence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.linalg.kernels.multigrid import STABLE_BOUND, STABLE_RADIUS
from torch_sla.linalg.kernels.stencils import CENTRE, AxisWeights, Stencil, step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch_sla.linalg.kernels.stencils import Lattice

__all__ = [
    "BLOCK",
    "axis_couplings",
    "axis_weights",
    "contrary",
    "contrary_rows",
    "correct",
    "dense_apply",
    "galerkin",
    "invert",
    "load",
    "matvec_dot",
    "relax",
    "residual",
    "residual_after_first",
    "restrict",
    "store_dots",
    "survey",
    "transposed",
]

BLOCK = 1024  # rows behind one partial sum
_CONTRARY = 0.05
_PIVOT = 1e-3  # of the diagonal, below which a summed stencil does not divide


def _shifted(x: Tensor, offset: int) -> Tensor:
    """Return ``x[i + offset]``, zero beyond the ends."""
    out = torch.zeros_like(x)
    n = x.numel()
    if abs(offset) < n:
        out[max(0, -offset) : n - max(0, offset)] = x[max(0, offset) : n - max(0, -offset)]
    return out


def _apply(A: Stencil, x: Tensor, sign: float, out: Tensor) -> Tensor:
    """Add ``sign A x`` to `out`."""
    n = A.n
    for plane, offset in zip(A.planes, A.lattice.offsets, strict=True):
        if abs(offset) < n:
            rows = slice(max(0, -offset), n - max(0, offset))
            moved = slice(max(0, offset), n - max(0, -offset))
            out[rows].addcmul_(plane[:n][rows], x[moved], value=sign)
    return out


def store_dots(dots: Tensor, x: Tensor, y: Tensor) -> None:
    """Write the partial sums of ``x · y``."""
    products = torch.nn.functional.pad(x.double() * y.double(), (0, -x.numel() % BLOCK))
    torch.sum(products.view(-1, BLOCK), 1, out=dots)


def load(A: Stencil, crow: Tensor, ccol: Tensor, values: Tensor, scale: float) -> None:
    n = A.n
    rows = torch.repeat_interleave(torch.arange(n, device=crow.device), crow.diff().long())
    A.planes.zero_()
    offset = ccol - rows
    for k, wanted in enumerate(A.lattice.offsets):
        here = offset == wanted
        A.planes[k, rows[here]] = (values[here] * scale).to(A.dtype)


def axis_couplings(codes: Sequence[int], planes: Tensor) -> Tensor:
    """Coupling ``[3, n]`` of rows along each axis, of their coefficients ``[len(codes), n]``."""
    own = planes[list(codes).index(CENTRE)].abs()
    side = planes.new_zeros(3, 2, planes.shape[1])
    for plane, code in zip(planes, codes, strict=True):
        for axis, d in enumerate(step(code)):
            if d:
                side[axis, (d + 1) // 2] += plane
    return torch.where(own > 0, side.abs().sum(1) / torch.where(own > 0, own, 1.0), 0.0)


def contrary_rows(
    strength: Tensor, exist: tuple[bool, bool, bool], halved: tuple[bool, bool, bool]
) -> Tensor:
    """Tell of which rows `axis_couplings` contradict the axes that are halved ``[n]``."""
    largest = strength.amax(0)
    wrong = torch.zeros_like(largest, dtype=torch.bool)
    for axis in range(3):
        if not exist[axis]:
            continue
        if halved[axis]:
            wrong |= strength[axis] < _CONTRARY * largest
        else:
            wrong |= (strength[axis] == largest) & (largest > 0)
    return wrong


def survey(A: Stencil, smoother: Tensor, out: Tensor) -> None:
    planes, own = A.planes[:, : A.n], A.plane(CENTRE)
    squares, sums = (planes * planes).sum(0), planes.abs().sum(0)
    M = torch.where(own != 0, own / torch.where(own != 0, squares, 1.0), 0.0)
    unstable = M.abs() * sums > STABLE_BOUND
    least = STABLE_RADIUS / torch.where(unstable, sums, 1.0)
    smoother.copy_(torch.where(unstable, torch.copysign(least, M), M))
    wrong = ((own == 0) & (squares > 0)).any()
    size = own.abs().double()
    smallest = torch.where(size > 0, size, float("inf")).amin()
    along = axis_couplings(A.lattice.codes, planes).double().sum(1)
    out.copy_(torch.stack([*along, wrong.double(), smallest, size.amax()]))


def contrary(A: Stencil, halved: tuple[bool, bool, bool], out: Tensor) -> None:
    strength = axis_couplings(A.lattice.codes, A.planes[:, : A.n])
    n = A.lattice.shape
    out.copy_(contrary_rows(strength, (n[0] > 1, n[1] > 1, n[2] > 1), halved).sum())


def invert(A: Stencil, inverse: Tensor, found: Tensor) -> None:
    n, a = A.n, torch.zeros(A.n, A.n, dtype=torch.float64, device=A.device)
    for plane, offset in zip(A.planes, A.lattice.offsets, strict=True):
        if abs(offset) < n:
            a.diagonal(offset).add_(plane[max(0, -offset) : n - max(0, offset)])
    size = a.diagonal().abs()
    scale = torch.where(size > 0, size, 1.0).rsqrt()
    a = a * scale * scale.unsqueeze(1)
    L, failed = torch.linalg.cholesky_ex((a + a.T) / 2)
    pivot = torch.where(failed == 0, L.diagonal().square().amin(), 0.0)
    L = torch.where(failed == 0, L, torch.eye(n).to(L))
    inverse.copy_(torch.cholesky_inverse(L) * scale * scale.unsqueeze(1))
    found.copy_(torch.stack([pivot, (a - a.T).abs().amax()]))


def _lines(x: Tensor, shape: tuple[int, int, int], axis: int) -> Tensor:
    """View ``[*, n]`` as ``[*, beyond, along, before]`` the axis."""
    before = 1
    for n in shape[:axis]:
        before *= n
    return (
        x.reshape(*x.shape[:-1], -1, shape[axis], before)
        if x.numel()
        else x.reshape(*x.shape[:-1], 0, shape[axis], before)
    )


def axis_weights(A: Stencil, w: AxisWeights) -> None:
    odd = _lines(A.planes[:, : A.n], A.lattice.shape, w.axis)[:, :, 1::2]
    total = odd.new_zeros(3, *odd.shape[1:])
    for plane, code in zip(odd, A.lattice.codes, strict=True):
        total[step(code)[w.axis] + 1] += plane
    own = odd[A.lattice.slots[CENTRE]]
    pivot = torch.where(total[1] * own > _PIVOT * own * own, total[1], own)
    usable = pivot != 0
    pivot = torch.where(usable, pivot, 1.0)
    w.low.copy_(torch.where(usable, -total[0] / pivot, 0.0).flatten())
    w.high.copy_(torch.where(usable, -total[2] / pivot, 0.0).flatten())


def galerkin(A: Stencil, w: AxisWeights, C: Stencil) -> None:
    axis, unit = w.axis, 3**w.axis
    lines = _lines(A.planes[:, : A.n], A.lattice.shape, axis)
    odd_shape = A.lattice.odd(axis)
    size, nodd = C.lattice.shape[axis], odd_shape[axis]
    zero = lines.new_zeros(lines.shape[1], size, lines.shape[3])

    def before(
        x: Tensor,
    ) -> Tensor:  # of each coarse point, what belongs to the odd point before it
        out = torch.zeros_like(zero)
        out[:, 1:] = x[:, : size - 1]
        return out

    def after(x: Tensor) -> Tensor:
        out = torch.zeros_like(zero)
        out[:, :nodd] = x
        return out

    def rows(code: int) -> tuple[Tensor, Tensor, Tensor]:
        slot = A.lattice.slots[code]
        if slot < 0:
            return zero, zero, zero
        odd = lines[slot, :, 1::2]
        return lines[slot, :, 0::2], before(odd), after(odd)

    low, high = (_lines(t, odd_shape, axis) for t in (w.low, w.high))
    from_before, from_after = before(high), after(low)
    on_odd = type(A.lattice)(odd_shape, ())
    for code in w.across:
        shift = on_odd.offset(code)
        wl, wh = (_lines(_shifted(t, shift), odd_shape, axis) for t in (w.low, w.high))
        (el, bl, al), (e0, b0, a0), (eh, bh, ah) = (rows(code + t * unit) for t in (-1, 0, 1))
        # Rows of A P: the even point, then the odd points before and after it.
        down = el * before(wl) + from_before * (bl + b0 * before(wl))
        here = e0 + el * before(wh) + from_before * (bh + b0 * before(wh))
        here = here + (eh * after(wl) + from_after * (al + a0 * after(wl)))
        up = eh * after(wh) + from_after * (ah + a0 * after(wh))
        parts = ((-1, down), (0, here), (1, up)) if size > 1 else ((0, here),)
        for t, part in parts:
            C.plane(code + t * unit).copy_(part.flatten())


def transposed(A: Stencil) -> Stencil:
    out = Stencil.empty(A.lattice, A.dtype, A.device)
    for code, offset in zip(A.lattice.codes, A.lattice.offsets, strict=True):
        out.plane(26 - code).copy_(_shifted(A.plane(code), -offset))
    return out


def residual_after_first(A: Stencil, M: Tensor, f: Tensor, out: Tensor, flag: Tensor) -> None:
    del flag
    x = M * f.to(M.dtype)
    out.copy_(_apply(A, x, -1.0, f.to(M.dtype, copy=True)))


def residual(A: Stencil, f: Tensor, x: Tensor, out: Tensor, flag: Tensor) -> None:
    del flag
    out.copy_(_apply(A, x, -1.0, f.to(A.dtype, copy=True)))


def relax(
    A: Stencil, M: Tensor, f: Tensor, x: Tensor, out: Tensor, dots: Tensor | None, flag: Tensor
) -> None:
    del flag
    out.copy_(x + M * _apply(A, x, -1.0, f.to(A.dtype, copy=True)))
    if dots is not None:
        store_dots(dots, f, out)


def restrict(
    lattice: Lattice, weights: Sequence[AxisWeights], r: Tensor, out: Tensor, flag: Tensor
) -> None:
    del flag
    shape, x = lattice.shape, r
    for w in weights:
        lines, odd_shape = _lines(x, shape, w.axis), w.fine.odd(w.axis)
        odd = lines[:, 1::2]
        coarse = lines[:, 0::2].clone()
        coarse[:, : odd_shape[w.axis]] += _lines(w.low, odd_shape, w.axis) * odd
        above = _lines(w.high, odd_shape, w.axis) * odd
        coarse[:, 1:] += above[:, : coarse.shape[1] - 1]
        shape, x = w.fine.halved(w.axis), coarse.flatten()
    out.copy_(x)


def correct(
    lattice: Lattice,
    weights: Sequence[AxisWeights],
    e: Tensor,
    M: Tensor | None,
    f: Tensor,
    out: Tensor,
    flag: Tensor,
) -> None:
    del flag, lattice
    x = e
    for w in reversed(weights):
        coarse, odd_shape = _lines(x, w.fine.halved(w.axis), w.axis), w.fine.odd(w.axis)
        nodd = odd_shape[w.axis]
        above = torch.zeros_like(coarse[:, :nodd])
        above[:, : coarse.shape[1] - 1] = coarse[:, 1 : nodd + 1]
        fine = coarse.new_empty(coarse.shape[0], w.fine.shape[w.axis], coarse.shape[2])
        fine[:, 0::2] = coarse
        low, high = (_lines(t, odd_shape, w.axis) for t in (w.low, w.high))
        fine[:, 1::2] = low * coarse[:, :nodd] + high * above
        x = fine.flatten()
    out.copy_(x + (f if M is None else M * f.to(M.dtype)))


def dense_apply(inverse: Tensor, f: Tensor, out: Tensor, flag: Tensor, transpose: bool) -> None:
    del flag
    out.copy_((inverse.T if transpose else inverse) @ f.to(inverse.dtype))


def matvec_dot(A: Stencil, p: Tensor, q: Tensor, dots: Tensor, flag: Tensor) -> None:
    del flag
    q.zero_()
    _apply(A, p, 1.0, q)
    store_dots(dots, p, q)
