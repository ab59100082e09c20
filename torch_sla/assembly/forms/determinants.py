"""Determinants of small matrices in closed form, also where torch's own are asked for.

Third derivatives of `torch.linalg.det` and `torch.linalg.slogdet` through `torch.func` are wrong, without a word
(seen in torch 2.13: its derivative formulas ask whether gradients are recorded, which they cannot know inside
transforms). An energy is differentiated twice by `torch.func`, and a third time by whoever differentiates a tangent.
`closed_forms` puts polynomials in their place while an integrand runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["closed_forms", "cofactor", "det"]


def cofactor(F: Tensor) -> Tensor:
    """Cofactor matrix ``det(F) F^-T`` of ``[..., d, d]``, d = 1, 2, 3, without a division."""
    d = F.shape[-1]
    if d == 1:
        return torch.ones_like(F)
    if d == 2:
        a, b, c, e = F[..., 0, 0], F[..., 0, 1], F[..., 1, 0], F[..., 1, 1]
        return torch.stack([e, -c, -b, a], -1).unflatten(-1, (2, 2))
    first, second, third = F.unbind(-1)
    return torch.stack(
        [
            torch.linalg.cross(second, third),
            torch.linalg.cross(third, first),
            torch.linalg.cross(first, second),
        ],
        -1,
    )


def det(F: Tensor) -> Tensor:
    """Compute the determinant ``[...]`` of ``[..., d, d]``, d = 1, 2, 3.

    Examples
    --------
    >>> det(torch.tensor([[2.0, 1.0], [1.0, 3.0]]))
    tensor(5.)
    """
    d = F.shape[-1]
    if d == 1:
        return F[..., 0, 0]
    if d == 2:
        return F[..., 0, 0] * F[..., 1, 1] - F[..., 0, 1] * F[..., 1, 0]
    return (F[..., :, 0] * torch.linalg.cross(F[..., :, 1], F[..., :, 2])).sum(-1)


def _slogdet(F: Tensor) -> tuple[Tensor, Tensor]:
    value = det(F)
    return value.sign(), value.abs().log()


_OURS: dict[Any, Callable[[Tensor], Any]] = {
    torch.det: det,
    torch.linalg.det: det,
    Tensor.det: det,
    torch.logdet: lambda F: det(F).log(),
    Tensor.logdet: lambda F: det(F).log(),
    torch.slogdet: _slogdet,
    torch.linalg.slogdet: _slogdet,
    Tensor.slogdet: _slogdet,
}


class closed_forms(TorchFunctionMode):  # noqa: N801 - a context, read as a verb
    """While this is entered, determinants of matrices up to 3 by 3 are polynomials."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        ours = _OURS.get(func)
        if ours is not None and args and isinstance(args[0], Tensor) and args[0].shape[-1] <= 3:
            return ours(args[0])
        return func(*args, **(kwargs or {}))
