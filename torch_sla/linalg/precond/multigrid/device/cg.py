"""Conjugate gradients around a hierarchy, without waiting for the device in every iteration.

All scalars stay on the device, and a test for convergence sets a flag that makes every later kernel
return at once. The host queues a few iterations unseen, then one ahead of the last whose outcome it
has seen, so the device never idles and stops in exactly the iteration that converged. Where kernels are shorter than
their launches, the iteration is recorded and replayed as a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from torch_sla.errors import Result
from torch_sla.linalg.kernels import krylov
from torch_sla.linalg.kernels.lattice import partials
from torch_sla.linalg.methods.outcome import KrylovOptions, Outcome
from torch_sla.linalg.precond.multigrid.device.recorded import on_device_of, record

__all__ = ["KEPT", "ConjugateGradients", "powers_near"]

KEPT = 1 << 22  # unknowns up to which vectors and the graph are kept for the next solve
_UNSEEN = 6  # iterations that are queued before the first look; most solves take twice as many
_LIMIT = 2000  # iterations that there is room for; multigrid that needs more has failed
_RESULTS = {
    krylov.RUNNING: Result.MAXITER,
    krylov.CONVERGED: Result.CONVERGED,
    krylov.BREAKDOWN: Result.BREAKDOWN,
    krylov.NONFINITE: Result.NONFINITE,
}

_run_before: set[Hashable] = set()

Matvec = Callable[[Tensor, Tensor, Tensor, Tensor], None]
Precondition = Callable[[Tensor, Tensor, Tensor], Tensor]


class ConjugateGradients:
    """Vectors, scalars and, for small systems, the recorded graph of an iteration.

    Parameters
    ----------
    like
        A vector ``[n]`` of the dtype and device to work in.
    matvec
        ``matvec(p, q, dots, flag)``: ``q = A p``, and partial sums of ``p · q``.
    precondition
        ``precondition(r, dots, flag) -> z``: ``z = B r``, and partial sums of ``r · z``. The same tensor
        every time.
    held
        Whatever `matvec` reads, kept alive with this object.
    kind
        What decides which kernels an iteration runs. Kernels are loaded before they are recorded: of a
        kind that has run in this process even the first iteration is replayed.
    largest
        Unknowns above which nothing is recorded, because kernels take longer than their launches.

    Examples
    --------
    >>> import torch
    >>> def double(p, q, dots, flag):
    ...     q.copy_(2 * p)
    ...     dots[0] = p @ q
    >>> def same(r, dots, flag):
    ...     dots[0] = r @ r
    ...     return r
    >>> b = torch.ones(3, 1, dtype=torch.float64)
    >>> ConjugateGradients(b[:, 0], double, same).solve(b).x.flatten().tolist()
    [0.5, 0.5, 0.5]
    """

    def __init__(
        self,
        like: Tensor,
        matvec: Matvec,
        precondition: Precondition,
        *,
        held: Any = None,
        kind: Hashable = None,
        largest: int = 1 << 26,
    ) -> None:
        self.matvec, self.precondition, self.held = matvec, precondition, held
        self._largest = largest
        self._kind = None if kind is None else (kind, like.device)
        self._loaded = self._kind in _run_before
        self.n, self.dtype = like.numel(), like.dtype
        self.r, self.p, self.q = (torch.empty_like(like) for _ in range(3))
        self.x = torch.empty_like(like) if self.n <= KEPT else None
        self.dots, self.b_dots = partials(self.n, like.device), partials(self.n, like.device)
        self.scalars = krylov.Scalars.empty(_LIMIT, like.device)
        self._graph: Any = None
        self._seen = _Seen(like.device)

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors."""
        vectors = 3 if self.x is None else 4
        return vectors * self.n * self.dtype.itemsize + 16 * self.dots.numel() + self.scalars.nbytes

    def solve(
        self,
        b: Tensor,
        *,
        x0: Tensor | None = None,
        options: KrylovOptions = KrylovOptions(),  # noqa: B008
    ) -> Outcome:
        """Solve for ``b`` ``[n, K]``, one column after the other.

        Returns
        -------
        Outcome
            ``BREAKDOWN`` when a direction has no positive curvature: the matrix is not positive
            definite. At most 2000 iterations are done, whatever `options` say.
        """
        with on_device_of(b):
            runs = [
                self._column(b[:, k], None if x0 is None else x0[:, k], options)
                for k in range(b.shape[1])
            ]
        x = runs[0].x.unsqueeze(1) if len(runs) == 1 else torch.stack([run.x for run in runs], 1)
        out = Outcome(x, max(run.iterations for run in runs))
        for step in range(out.iterations):
            out.history.append(
                max(run.history[min(step, run.iterations - 1)] for run in runs if run.iterations)
            )
        failed = [run.result for run in runs if run.result is not Result.CONVERGED]
        out.result = failed[0] if failed else Result.CONVERGED
        return out

    def _column(self, b: Tensor, x0: Tensor | None, options: KrylovOptions) -> Outcome:
        """Solve for a right-hand side that is brought to about one."""
        s, q = self.scalars, None
        x = torch.empty_like(self.r) if self.x is None else self.x
        self._graph = None if self.x is None else self._graph  # it writes to the last solution
        size = torch.linalg.vector_norm(b, float("inf"))
        if x0 is None:
            unit = powers_near(size)
            x.zero_()
        else:
            x.copy_(x0)
            s.flag.zero_()
            self.matvec(x, self.q, self.dots, s.flag)
            torch.sub(b, self.q, out=self.r)
            size = torch.maximum(size, torch.linalg.vector_norm(self.r, float("inf")))
            unit = powers_near(size)
            x.div_(unit)
            q = self.q.div_(unit)
        torch.div(b, unit, out=self.r)
        krylov.residual(self.r, q, self.r, self.p, self.dots, self.b_dots)
        if options.atol:  # a device is waited for
            options = replace(options, atol=options.atol / float(unit))
        s.begin(self.dots, self.b_dots, options.rtol, options.atol)
        stagnant = self._iterate(x, min(options.maxiter or 10 * self.n + 50, _LIMIT), options)
        end = krylov.Scalars.over(s.memory.cpu())
        flag, done = int(end.flag), int(end.steps)
        whole = float(end.numbers[5]) or 1.0
        history = [norm / whole for norm in end.history[1 : done + 1].tolist()]
        result = Result.STAGNATION if stagnant and flag == krylov.RUNNING else _RESULTS[flag]
        return Outcome(x.mul_(unit) if self.x is None else x * unit, done, history, result)

    def _iterate(self, x: Tensor, limit: int, options: KrylovOptions) -> bool:
        """Queue iterations until one is seen to have ended them; whether the residual stagnates."""
        best, since = float("inf"), 0
        self._seen.forget()
        recorded = x.is_cuda and self.n <= self._largest
        for step in range(limit):
            if recorded and self._graph is None and self._loaded:
                made = record(lambda: self._iteration(x))
                recorded, self._graph = made is not None, made and made[0]
            if self._graph is not None:
                self._graph.replay()
            else:
                self._iteration(x)
                self._loaded = True
                _run_before.update(() if self._kind is None else (self._kind,))
            if x.is_cuda and step < _UNSEEN:
                continue
            flag, rr = self._seen.after(self.scalars)
            if flag != krylov.RUNNING:
                return False
            if rr < 0.998 * best:
                best, since = rr, 0
            else:
                since += 1
                if since >= options.stagnation:
                    return True
        return False

    def _iteration(self, x: Tensor) -> None:
        s, dots = self.scalars, self.dots
        z = self.precondition(self.r, dots, s.flag)
        s.start(dots)
        krylov.direction(s, z, self.p)
        self.matvec(self.p, self.q, dots, s.flag)
        s.curvature(dots)
        krylov.update(s, self.p, self.q, x, self.r, dots)
        s.test(dots)


def powers_near(sizes: Tensor) -> Tensor:
    """Powers of two by which vectors of such largest entries are brought to about one.

    Levels and tolerances have the range of single precision, where vectors in double may lie far outside of it.

    Examples
    --------
    >>> import torch
    >>> powers_near(torch.tensor([0.0, 3.0, 5e-324], dtype=torch.float64)).tolist()
    [0.5, 2.0, 5e-324]
    """
    return torch.exp2(torch.frexp(sizes).exponent.to(sizes.dtype) - 1)


class _Seen:
    """What the host knows of the scalars: on CUDA, as they were one iteration ago."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        if self._cuda:
            room = torch.empty(2, krylov.GLANCE, dtype=torch.float64, pin_memory=True)
            self._looks = [krylov.Scalars.over(memory) for memory in room]
            self._events = [torch.cuda.Event() for _ in range(2)]
        self._turn, self._queued = 0, 0

    def forget(self) -> None:
        self._turn, self._queued = 0, 0

    def after(self, s: krylov.Scalars) -> tuple[int, float]:
        """Queue a look at the scalars; return flag and ``‖r‖²`` of the look before it."""
        if not self._cuda:
            return int(s.flag), float(s.numbers[3])
        now, before = self._turn, 1 - self._turn
        self._looks[now].memory.copy_(s.glance, non_blocking=True)
        self._events[now].record()
        self._turn, self._queued = before, self._queued + 1
        if self._queued == 1:
            return krylov.RUNNING, float("inf")
        self._events[before].synchronize()
        return int(self._looks[before].flag), float(self._looks[before].numbers[3])
