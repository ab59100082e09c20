"""Preconditioned conjugate gradients.

Hestenes and Stiefel, J. Res. Nat. Bur. Standards 49, 1952; Saad, Iterative Methods for Sparse
Linear Systems, 2nd ed., algorithm 9.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import Result
from torch_sla.linalg.methods.outcome import KrylovOptions, Outcome
from torch_sla.linalg.methods.space import Operator, VectorSpace

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Watch", "cg"]

# The most iterations that a device does between two looks at it, and how many it may do early on.
_FAR, _NEAR = 64, 4


def cg(
    A: Operator,
    b: Tensor,
    *,
    M: Operator | None = None,
    x0: Tensor | None = None,
    options: KrylovOptions = KrylovOptions(),  # noqa: B008
    space: VectorSpace | None = None,
) -> Outcome:
    """Solve ``A x = b`` for Hermitian positive definite ``A``.

    Parameters
    ----------
    A
        ``[n, K] -> [n, K]``.
    b
        Right-hand sides ``[n, K]``; each column has its own step lengths and stops on its own.
    M
        Preconditioner, an approximate inverse of ``A``; Hermitian positive definite.
    x0
        Starting value ``[n, K]``.
    options
        Tolerances and limits.
    space
        Where vectors live.

    Returns
    -------
    Outcome
        ``BREAKDOWN`` when ``pᴴ A p <= 0``, so ``A`` is not positive definite; ``NONFINITE`` without an iteration when
        `b`, `x0` or the first residual holds NaN or infinity, or its norm overflows. So do the other methods.

    Examples
    --------
    >>> import torch
    >>> d = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    >>> cg(lambda v: d * v, torch.ones(2, 1, dtype=torch.float64)).x.squeeze()
    tensor([1.0000, 0.5000], dtype=torch.float64)
    """
    space = space or VectorSpace()
    limit = options.maxiter or max(10 * space.size(b), 50)
    x = torch.zeros_like(b) if x0 is None else x0.clone()
    r = b.clone() if x0 is None else b - A(x)
    b_norm = space.norm(b)
    target = torch.clamp(options.rtol * b_norm, min=options.atol)
    r_norm = space.norm(r)
    out = Outcome(x)
    watch = Watch(out, options, torch.stack([r_norm, target, b_norm]).cpu())
    active = r_norm > target
    p, rho, none = b, b_norm, torch.zeros_like(b_norm)
    for steps, seen in watch.rounds(limit, b.device.type):
        for _ in steps:
            z = r if M is None else M(r)
            rho_new = space.dot(r, z)
            if p is b:
                p = z.clone()
            else:
                safe = torch.where(rho == 0, torch.ones_like(rho), rho)
                p = space.direction(z, rho_new / safe, p)
            rho = rho_new
            del z  # before the next vector is made
            q, pq = space.apply_dot(A, p)
            # A column that is done, or broke down, takes steps of length zero.
            active = active & (pq.real > 0)
            alpha = torch.where(active, rho / torch.where(active, pq, torch.ones_like(pq)), none)
            r_norm = space.update_norm(alpha, p, q, x, r)
            del q
            seen += [pq.real, r_norm]
            active = active & (r_norm > target)
    return out


class Watch:
    """Follows an iteration from the host, which must not wait for a device in every step.

    A device runs on while the host looks: columns freeze by themselves, so running on changes nothing.
    The next look is due when half of the iterations are done that the decay so far predicts, but beyond the first few
    not after more iterations than were seen: they may say little of the decay to come.

    Parameters
    ----------
    out
        Where iterations, history and result are recorded, as if every step had been looked at.
    options
        Tolerances.
    start
        ``[3, K]``: norms of the first residual, targets, norms of the right-hand sides.
    """

    def __init__(self, out: Outcome, options: KrylovOptions, start: Tensor) -> None:
        first, self._target, size = start.unbind()
        self._unit = size.clamp(min=torch.finfo(size.dtype).tiny)
        self._out, self._patience = out, options.stagnation
        self._active = first > self._target
        self.going = bool(self._active.any())
        self._first, self._last = first, first
        self._best, self._since = float("inf"), 0
        if not bool(torch.isfinite(first + size).all()):
            self._stop(Result.NONFINITE)

    def rounds(self, limit: int, device: str) -> Iterator[tuple[range, list[Tensor]]]:
        """Yield the iterations to do before each look, and where they leave what `read` looks at."""
        out = self._out
        while self.going and out.iterations < limit:
            seen: list[Tensor] = []
            yield range(min(self._steps(device), limit - out.iterations)), seen
            self.read(torch.stack(seen).cpu())
        if self.going:
            out.result = Result.MAXITER

    def _steps(self, device: str) -> int:
        done = self._out.iterations
        if device == "cpu" or not done:
            return 1
        far = min(max(done, _NEAR), _FAR)
        gained = (self._last / self._first).log()[self._active].max()
        left = (self._target / self._last).log()[self._active].min()
        if not (float(gained) < 0 and float(left) > -float("inf")):
            return far
        return max(1, min(int(0.5 * done * float(left / gained)), far))

    def read(self, seen: Tensor) -> None:
        """Take in curvatures and residual norms of some iterations in turn, ``[2 s, K]``."""
        for curvature, r_norm in zip(seen[0::2], seen[1::2], strict=True):
            if not bool(torch.isfinite(curvature).all()):
                return self._stop(Result.NONFINITE)
            if bool((self._active & (curvature <= 0)).any()):
                return self._stop(Result.BREAKDOWN)
            self._took(r_norm)
            if not self.going:
                return None
        return None

    def _took(self, r_norm: Tensor) -> None:
        """Take in the residual norms ``[K]`` after one iteration."""
        self._out.iterations += 1
        worst = float((r_norm / self._unit).max())
        self._out.history.append(worst)
        self._active = r_norm > self._target
        self._last = r_norm
        if not bool(self._active.any()):
            self.going = False
        elif worst < 0.999 * self._best:
            self._best, self._since = worst, 0
        else:
            self._since += 1
            if self._since >= self._patience:
                self._stop(Result.STAGNATION)

    def _stop(self, result: Result) -> None:
        self._out.result, self.going = result, False
