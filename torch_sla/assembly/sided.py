"""Quantities with a value on each side of an interior facet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from torch_sla.assembly.field import Field, value_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

__all__ = ["Sided"]


class Sided:
    """A pair of values, on the side the normal leaves (plus) and the one it enters (minus).

    Arithmetic and torch functions act on each side; `jump` and `average` bring the sides together.

    Parameters
    ----------
    plus, minus
        Tensors or fields at the quadrature points of interior facets.

    Examples
    --------
    >>> k = Sided(torch.tensor([1.0]), torch.tensor([3.0]))
    >>> 2 * k
    Sided(tensor([2.]), tensor([6.]))
    """

    def __init__(self, plus: Tensor | Field, minus: Tensor | Field) -> None:
        self.plus, self.minus = plus, minus

    @property
    def value(self) -> Sided:
        """The values of a field."""
        return Sided(value_of(self.plus), value_of(self.minus))

    @property
    def gradient(self) -> Sided:
        """The gradients of a field."""
        if not (isinstance(self.plus, Field) and isinstance(self.minus, Field)):
            raise TypeError("a tensor has no gradient; take the gradient of the field")
        return Sided(self.plus.gradient, self.minus.gradient)

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Sided:
        del types
        named = kwargs or {}
        sides = [
            func(*_pick(args, side), **{k: _pick(v, side) for k, v in named.items()})
            for side in ("plus", "minus")
        ]
        return Sided(*sides)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        plus, minus = getattr(value_of(self.plus), name), getattr(value_of(self.minus), name)
        if not callable(plus):
            return Sided(plus, minus)

        def call(*args: Any, **kwargs: Any) -> Sided:
            return Sided(
                plus(*_pick(args, "plus"), **kwargs), minus(*_pick(args, "minus"), **kwargs)
            )

        return call

    def __getitem__(self, index: Any) -> Sided:
        return Sided(value_of(self.plus)[index], value_of(self.minus)[index])

    def __neg__(self) -> Sided:
        return Sided(-value_of(self.plus), -value_of(self.minus))

    def __add__(self, other: Any) -> Sided:
        return self._with(torch.add, other)

    def __sub__(self, other: Any) -> Sided:
        return self._with(torch.sub, other)

    def __rsub__(self, other: Any) -> Sided:
        return (-self)._with(torch.add, other)

    def __mul__(self, other: Any) -> Sided:
        return self._with(torch.mul, other)

    def __truediv__(self, other: Any) -> Sided:
        return self._with(torch.div, other)

    def __pow__(self, other: Any) -> Sided:
        return self._with(torch.pow, other)

    __radd__ = __add__
    __rmul__ = __mul__

    def _with(self, function: Callable[..., Tensor], other: Any) -> Sided:
        return Sided(
            function(value_of(self.plus), _pick(other, "plus")),
            function(value_of(self.minus), _pick(other, "minus")),
        )

    def __repr__(self) -> str:
        return f"Sided({self.plus!r}, {self.minus!r})"


def _pick(value: Any, side: str) -> Any:
    """One side of whatever has sides."""
    if isinstance(value, Sided):
        return value_of(getattr(value, side))
    if isinstance(value, (tuple, list)):
        return type(value)(_pick(item, side) for item in value)
    return value.value if isinstance(value, Field) else value
