"""Newton steps with a tangent, its factors or its hierarchy, that is kept while it serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

__all__ = ["LaggedStep"]


class LaggedStep:
    """Newton steps whose tangent is made anew only where an older one contracts too little.

    A step with an older tangent (the chord method) is taken as it is where it lowers the residual of
    every member to the share `contraction`, and refused otherwise; the next one is then a Newton step
    from the same place. So no step is worse than that of Newton's method by more than its cost: one
    residual and one solve with factors at hand. Kelley, Iterative Methods for Linear and Nonlinear
    Equations, SIAM 1995, section 5.4.

    Parameters
    ----------
    tangent
        ``u -> values`` of the tangent.
    solve
        ``(values, F) -> J⁻¹ F``; the same values come again, so that whoever keeps factors by
        values finds them.
    contraction
        In [0, 1); 0 makes a new tangent for every step.

    Attributes
    ----------
    made, aged
        Tangents that were made, and steps taken with an older one.

    Examples
    --------
    >>> import torch
    >>> step = LaggedStep(lambda u: 2 * u, lambda J, F: F / J, 0.5)
    >>> u = torch.tensor([3.0])
    >>> round(step(u, u**2 - 4).item(), 4), step.made, step.is_old
    (0.8333, 1, False)
    """

    def __init__(
        self,
        tangent: Callable[[Tensor], Tensor],
        solve: Callable[[Tensor, Tensor], Tensor],
        contraction: float = 0.0,
    ) -> None:
        self._tangent, self._solve, self._contraction = tangent, solve, contraction
        self._kept: Tensor | None = None
        self.is_old = False
        self.made = self.aged = 0

    def __call__(self, u: Tensor, F: Tensor) -> Tensor:
        """Return ``J⁻¹ F``, with the tangent at hand where there is one."""
        kept, self._kept = self._kept, None
        self.is_old = kept is not None
        if kept is None:
            kept = self._tangent(u)
            self.made += 1
        delta = self._solve(kept, F)
        # Only here: a tangent that could not be solved with is forgotten.
        self._kept = kept if self._contraction else None
        return delta

    def serves(self, before: Tensor, after: Tensor, active: Tensor) -> bool:
        """Judge the step with an older tangent by ``‖F‖ [*batch]``; forget the tangent if it is too poor."""
        # A NaN compares false.
        enough = bool((after <= self._contraction * before)[active].all())
        if enough:
            self.aged += 1
        else:
            self._kept = None
        return enough
