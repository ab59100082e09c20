"""Laws that have a value and no derivative, such as a root at zero, are named where a gradient meets them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import GradientError
from torch_sla.linalg.adjoint.unmapped import refuse_old_vmap
from torch_sla.linalg.checks import require
from torch_sla.linalg.kernels.detection import all_finite

if TYPE_CHECKING:
    from torch_sla.problems.expression import Ranked

__all__ = ["Watch"]

_wrapped = torch._C._functorch.is_functorch_wrapped_tensor


class Watch:
    """Watches the gradients that one evaluation of a law passes on.

    Parameters
    ----------
    path
        Of the law in the declaration.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._arrived: Tensor | None = None

    def result(self, value: Ranked) -> Ranked:
        """Return the value of the law, watched: what arrives broken is no fault of this law."""
        if not _recorded(value.tensor):
            return value
        x = value.tensor.view_as(value.tensor)
        x.register_hook(self._arrive)
        return value._replace(tensor=x)

    def argument(self, name: str, value: Ranked) -> Ranked:
        """Return what the law depends on, watched."""
        if not _recorded(value.tensor):
            return value
        x = value.tensor.view_as(value.tensor)
        x.register_hook(partial(self._leave, name))
        return value._replace(tensor=x)

    def _arrive(self, gradient: Tensor | None) -> None:
        self._arrived = None
        if gradient is not None and not _wrapped(gradient):
            refuse_old_vmap(gradient)
            self._arrived = gradient.detach()

    def _leave(self, name: str, gradient: Tensor | None) -> None:
        arrived = self._arrived
        if gradient is None or _wrapped(gradient) or arrived is None:
            return
        fine = all_finite(gradient.detach())
        if gradient.is_cpu and bool(fine):
            return
        require(
            fine | ~all_finite(arrived),
            lambda: GradientError(
                f"{self.path}: the law has a value and no finite derivative with respect to {name!r} at some place, as "
                "a root has none at zero; keep its argument away from there, for instance by a small number"
            ),
        )


def _recorded(x: Tensor) -> bool:
    return torch.is_grad_enabled() and x.requires_grad and not _wrapped(x)
