"""Newton steps of a batch in which tangents of some members cannot be solved with."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from torch_sla.errors import Result, SolveError
from torch_sla.linalg.nonlinear.options import inside_step

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from torch_sla.linalg.nonlinear.options import NonlinearInfo

__all__ = ["StepsApart"]


class StepsApart:
    """``(values, F) -> J⁻¹ F`` for a batch, infinite for members whose tangents cannot be solved with.

    Nothing is done apart until a solve of all members fails. Those that ask for nothing, with ``F = 0``, then take the
    tangent of one that does: they may have failed before, and theirs may be singular. Where that does not help, members
    are solved one after another.

    Parameters
    ----------
    solve
        Solves for all members or for one, and raises `SolveError`.

    Attributes
    ----------
    failure
        The first error of a member.

    Examples
    --------
    >>> def solve(values, F):
    ...     if (values == 0).any():
    ...         raise SolveError(Result.SINGULAR)
    ...     return F / values
    >>> steps = StepsApart(solve)
    >>> (
    ...     steps(torch.tensor([[2.0], [0.0]]), torch.tensor([[1.0], [0.0]])).flatten().tolist(),
    ...     steps.failure,
    ... )
    ([0.5, 0.0], None)
    >>> steps(torch.tensor([[2.0], [0.0]]), torch.tensor([[1.0], [3.0]])).flatten().tolist()
    [0.5, inf]
    >>> steps.failure.result.name
    'SINGULAR'
    """

    def __init__(self, solve: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._solve = solve
        self.failure: SolveError | None = None

    def __call__(self, values: Tensor, F: Tensor) -> Tensor:
        """Return the steps ``[*batch, n]`` for ``values [*batch, nnz]``.

        Raises
        ------
        SolveError
            Where there is one tangent, and it cannot be solved with.
        """
        try:
            return self._solve(values, F)
        except SolveError:
            if values.ndim == 1 or values.shape[:-1] != F.shape[:-1]:
                raise
        asking = F.ne(0).any(-1)
        some = values[asking]
        if not bool(asking.all()) and len(some):
            try:
                return self._solve(torch.where(asking[..., None], values, some[0]), F)
            except SolveError:
                pass  # one of those that ask
        steps = torch.zeros_like(F)
        for index in asking.nonzero().tolist():
            at = tuple(index)
            try:
                steps[at] = self._solve(values[at], F[at])
            except SolveError as error:
                self.failure = self.failure or error
                steps[at] = math.inf
        return steps

    def blame(self, info: NonlinearInfo) -> None:
        """Put into a report of Newton's method what failed in the steps of members; it is forgotten here."""
        failure, self.failure = self.failure, None
        if failure is not None:
            info.notes.insert(0, inside_step(failure))
            if info.result is Result.SINGULAR:
                info.result = failure.result
