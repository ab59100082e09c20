"""What people call eigenvalues: frequencies, factors on loads, damping ratios, wavenumbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from torch_sla.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

__all__ = ["Spectral", "notes_on_rest"]


class Spectral:
    """A result that may have eigenvalues, on one process or several; what they are is for its declaration to say."""

    spec: Any
    eigenvalues: Tensor
    rest: Tensor | float = 0.0
    """Magnitude of eigenvalues ``[*batch, 1]`` up to which they are nothing but rounding, where zero is one."""

    @property
    def frequencies(self) -> Tensor:
        """``sqrt(λ) / 2π`` of eigenvalues that are squares of angular frequencies (Hz); 0 where λ ≤ 0.

        Of damped motion ``exp(λ t)`` they are ``|Im λ| / 2π``. Exactly 0 of rigid motions.
        """
        w = self.eigenvalues
        if "frequencies" not in self.spec.called:
            raise ArgumentError(
                f"these eigenvalues have another name: {' '.join(self.spec.called)}"
            )
        if self.spec.damped:
            rate = w.imag.abs() / (2.0 * math.pi)
            return torch.where(w.detach().abs() > self.rest, rate, torch.zeros_like(rate))
        if w.is_complex():
            raise ArgumentError(
                "the eigenvalues are complex, and what they say of a frequency depends on the problem: use eigenvalues"
            )
        moving = w.detach() > self.rest
        root = torch.where(moving, w, torch.ones_like(w)).sqrt() / (2.0 * math.pi)
        return torch.where(moving, root, torch.zeros_like(root))

    @property
    def load_factors(self) -> Tensor:
        """Of buckling the eigenvalues: factors on the loads."""
        return self._if_called("load_factors", lambda w: w)

    @property
    def damping_ratios(self) -> Tensor:
        """``-Re λ / |λ|`` of damped motion ``exp(λ t)``: 1 does not swing, NaN neither swings nor slows down."""

        def ratio(w: Tensor) -> Tensor:
            moving = w.detach().abs() > self.rest
            found = torch.where(moving, w, torch.ones_like(w))
            return torch.where(moving, -found.real / found.abs(), math.nan)

        return self._if_called("damping_ratios", ratio)

    @property
    def wavenumbers(self) -> Tensor:
        """``sqrt(λ)`` of resonances (1/m)."""
        return self._if_called("wavenumbers", torch.sqrt)

    def _if_called(self, name: str, of: Callable[[Tensor], Tensor]) -> Tensor:
        if name not in self.spec.called:
            raise AttributeError(
                f"no {name!r} here: these eigenvalues are {' '.join(self.spec.called)}"
            )
        return of(self.eigenvalues)


def notes_on_rest(w: Tensor, rest: Tensor | float) -> list[str]:
    """Return what there is to say of eigenvalues ``[*batch, k]`` up to `rest`, which are nothing but rounding.

    Examples
    --------
    >>> import torch
    >>> notes_on_rest(torch.tensor([1e-12, -1e-13, 2.0]), 1e-9)
    ['2 eigenvalues are those of rigid motions, 0 to rounding']
    """
    count = max((w.detach().abs() <= rest).sum(-1).flatten().tolist(), default=0)
    return [f"{count} eigenvalues are those of rigid motions, 0 to rounding"] if count else []
