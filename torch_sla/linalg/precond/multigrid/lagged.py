"""A hierarchy that outlives the values it was made from, for loops that ask for it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from math import ceil, log10
from typing import TYPE_CHECKING, Any, Literal

import torch

from torch_sla.errors import ArgumentError, Result
from torch_sla.linalg.methods.outcome import KrylovOptions, Outcome
from torch_sla.linalg.precond.multigrid.hierarchy import Hierarchy
from torch_sla.linalg.precond.multigrid.options import AMG

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure

__all__ = ["LaggedMultigrid", "SetUpPoint"]

# Diagonal entries that are looked at, and their share at either end that is left out.
_LOOKED_AT, _OUTLIERS = 1 << 14, 0.02


@dataclass(frozen=True)
class SetUpPoint:
    """Where the hierarchy in use was set up.

    Parameters
    ----------
    values
        ``[nnz_csr]``, a copy.
    iterations, rtol
        Of the first solve with it, to that tolerance; -1 before that.
    age
        How many sets of values have been preconditioned with it since.
    """

    values: Tensor
    iterations: int = -1
    rtol: float = 0.0
    age: int = 0


class LaggedMultigrid:
    """Multigrid whose set-up is kept while it still serves, as ``preconditioner=`` of the solves of a loop.

    A solve whose values are near those of the last set-up is preconditioned with the hierarchy at hand,
    or with its aggregates and fresh numbers. What it returns meets its tolerance like any other; only
    the iterations differ. When they exceed ``growth`` times those of the first solve after the set-up (in
    proportion to the digits asked for) by more than `slack`, the hierarchy is set up for the present
    values within that same solve, which
    goes on from where it was. It is set up at once where the diagonal says that more than twice that many would be
    needed: by the square root of how unevenly it has changed.

    Its results depend on the history of the loop, in the digits beyond the tolerance. A loop that is
    to be resumed bit by bit saves `state_dict`.

    Parameters
    ----------
    options
        Of the hierarchies.
    keep
        ``"hierarchy"``, or ``"aggregates"``: their numbers follow the values of every solve.
    growth, slack
        The bound on iterations.

    Examples
    --------
    >>> import torch
    >>> from torch_sla.linalg import SparseTensor
    >>> one = torch.ones(500, dtype=torch.float64)
    >>> memory = LaggedMultigrid()
    >>> for step in range(3):
    ...     A = SparseTensor.tridiagonal(-one[1:], (2.1 + 0.01 * step) * one, -one[1:])
    ...     x = A.solve(one, method="cg", preconditioner=memory)
    >>> memory.set_ups, memory.point.age
    (1, 2)
    """

    name = "multigrid"

    def __init__(
        self,
        options: AMG | None = None,
        *,
        keep: Literal["hierarchy", "aggregates"] = "hierarchy",
        growth: float = 1.5,
        slack: int = 3,
    ) -> None:
        if keep not in ("hierarchy", "aggregates"):
            raise ArgumentError(f"`keep` must be 'hierarchy' or 'aggregates', got {keep!r}")
        if not growth >= 1:
            raise ArgumentError(f"`growth` must be at least 1, got {growth!r}")
        if slack < 0:
            raise ArgumentError(f"`slack` must be at least 0, got {slack!r}")
        self.options, self.keep, self.growth, self.slack = options or AMG(), keep, growth, slack
        self.set_ups = 0
        self.point: SetUpPoint | None = None
        self._hierarchy: Hierarchy | None = None
        self._pattern_key: Any = None

    def build(
        self, pattern: Pattern, values: Tensor, structure: Structure | None = None
    ) -> LaggedPreconditioner:
        """Take the hierarchy at hand, or make the first one; real values on the CPU."""
        if values.is_complex() or not values.is_cpu:
            raise ArgumentError(
                f"a lagged hierarchy is for real matrices on the CPU, got {values.dtype} on "
                f"{values.device}"
            )
        point, key = self.point, pattern.key
        if (
            point is None
            or point.values.numel() != values.numel()
            or self._pattern_key not in (None, key)
            or self._is_hopeless(pattern, values, point.values)
        ):
            fresh = self._set_up(pattern, values, structure)
            return LaggedPreconditioner(self, fresh, pattern, values, structure)
        if self._hierarchy is None:  # resumed: the same numbers give the same hierarchy
            self._make(pattern, point.values, structure)
        made = self._hierarchy
        if self.keep == "aggregates" and made is not None:
            like = made.skeleton(check=False)
            made = Hierarchy(pattern, values, self.options, structure=structure, like=like)
        self.point = replace(point, age=point.age + 1)
        return LaggedPreconditioner(self, made, pattern, values, structure)

    def _is_hopeless(self, pattern: Pattern, values: Tensor, old: Tensor) -> bool:
        """Whether a hierarchy of `old` would take more than twice the bound of iterations."""
        if self.keep == "aggregates":
            return False
        slots = pattern.diagonal_slots
        some = slots[:: max(1, len(slots) // _LOOKED_AT)]
        some = some[some >= 0]
        ratio, _ = (values[some] / old[some]).sort()
        cut = int(_OUTLIERS * len(ratio))
        if not len(ratio) or not bool(torch.isfinite(ratio).all()) or not float(ratio[0]) > 0:
            return False
        return float(ratio[-1 - cut] / ratio[cut]) > (2 * self.growth) ** 2

    def _make(self, pattern: Pattern, values: Tensor, structure: Structure | None) -> Hierarchy:
        like = None
        if self._hierarchy is not None and self._pattern_key == pattern.key:
            like = self._hierarchy.skeleton()
        self._hierarchy = Hierarchy(pattern, values, self.options, structure=structure, like=like)
        self._pattern_key = pattern.key
        self.set_ups += 1
        return self._hierarchy

    def _set_up(self, pattern: Pattern, values: Tensor, structure: Structure | None) -> Hierarchy:
        made = self._make(pattern, values, structure)
        self.point = SetUpPoint(values.detach().clone())
        return made

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to go on with the same bits."""
        p = self.point
        return {} if p is None else asdict(p)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved set-up point; the hierarchy is made again when it is first needed."""
        self._hierarchy = self._pattern_key = None
        self.point = SetUpPoint(**state) if state else None


class LaggedPreconditioner:
    """What one set of values sees of the memory; the matrix is its own, the hierarchy may be older.

    The values are those of the caller, for a set-up in the middle of a solve with them.
    """

    def __init__(
        self,
        memory: LaggedMultigrid,
        hierarchy: Hierarchy | None,
        pattern: Pattern,
        values: Tensor,
        structure: Structure | None,
    ) -> None:
        self._memory, self._pattern, self._structure = memory, pattern, structure
        self._hierarchy, self._values = hierarchy, values
        self._age = 0 if memory.point is None else memory.point.age

    @property
    def nbytes(self) -> int:
        """Bytes held here; the hierarchy belongs to the memory."""
        return self._values.numel() * self._values.element_size()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a report says about it."""
        if self._age == 0:
            return ()
        what = "a hierarchy" if self._memory.keep == "hierarchy" else "aggregates"
        return (f"preconditioned with {what} {self._age} set(s) of values old",)

    @property
    def hierarchy(self) -> Hierarchy:
        """What preconditions these values."""
        if self._hierarchy is None:
            self._hierarchy = self._memory._set_up(self._pattern, self._values, self._structure)
            self._age = 0
        return self._hierarchy

    def apply(self, r: Tensor) -> Tensor:
        """Return ``B r``."""
        return self.hierarchy.apply(r)

    def apply_adjoint(self, r: Tensor) -> Tensor:
        """Return ``Bᵀ r``."""
        return self.hierarchy.apply_adjoint(r)

    def cg(
        self,
        values: Tensor,
        b: Tensor,
        *,
        x0: Tensor | None = None,
        options: KrylovOptions = KrylovOptions(),  # noqa: B008
    ) -> Outcome:
        """As `Hierarchy.cg`, with a new set-up where the old one has become too weak."""

        def run(h: Hierarchy, x: Tensor | None, o: KrylovOptions) -> Outcome:
            return h.cg(values, b, x0=x, options=o)

        return self._bounded(run, x0, options)

    def krylov(
        self,
        method: Any,
        matrix: tuple[Pattern, Tensor],
        b: Tensor,
        *,
        adjoint: bool = False,
        x0: Tensor | None = None,
        options: KrylovOptions = KrylovOptions(),  # noqa: B008
    ) -> Outcome:
        """As `Hierarchy.krylov`, likewise."""

        def run(h: Hierarchy, x: Tensor | None, o: KrylovOptions) -> Outcome:
            return h.krylov(method, matrix, b, adjoint=adjoint, x0=x, options=o)

        return self._bounded(run, x0, options)

    def _bounded(
        self,
        run: Callable[[Hierarchy, Tensor | None, KrylovOptions], Outcome],
        x0: Tensor | None,
        options: KrylovOptions,
    ) -> Outcome:
        memory, point = self._memory, self._memory.point
        if self._age == 0 or point is None or point.iterations < 0:
            out = run(self.hierarchy, x0, options)
            if point is not None and point.iterations < 0 and out.result is Result.CONVERGED:
                memory.point = replace(point, iterations=out.iterations, rtol=options.rtol)
            return out
        digits = _digits(options.rtol) / _digits(point.rtol)
        bound = ceil(memory.growth * digits * point.iterations) + memory.slack
        if options.maxiter is not None:
            bound = min(bound, options.maxiter)
        out = run(self.hierarchy, x0, replace(options, maxiter=bound))
        if out.result is Result.CONVERGED or bound == options.maxiter:
            return out
        start = out.x if bool(torch.isfinite(out.x).all()) else x0
        self._hierarchy = None
        left = None if options.maxiter is None else options.maxiter - out.iterations
        more = run(self.hierarchy, start, replace(options, maxiter=left))
        if more.result is Result.CONVERGED and memory.point is not None:
            count = max(more.iterations, ceil(digits * point.iterations))
            memory.point = replace(memory.point, iterations=count, rtol=options.rtol)
        more.iterations += out.iterations
        more.history = out.history + more.history
        return more


def _digits(rtol: float) -> float:
    return max(-log10(rtol), 0.5) if rtol > 0 else 16.0
