"""Functions inside a form: trial and test functions, and known fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Field", "LazyField", "MissingPartError", "value_of"]


class MissingPartError(LookupError):
    """A form asked an argument for a part that was not supplied; the caller supplies it and tries again."""

    def __init__(self, argument: str, part: str) -> None:
        self.argument, self.part = argument, part
        super().__init__(f"{argument} has no {part} here")


class Field:
    """A function at quadrature points: a value and a gradient.

    In arithmetic and in torch functions a field stands for its value; `grad` and the other words of
    `torch_sla.assembly.forms.vocabulary` reach its gradient.

    Parameters
    ----------
    value
        ``[*batch, n|1, nq|1]``, with a trailing component dimension for a vector field.
    gradient
        The same with a trailing space dimension: ``gradient[..., i, j]`` is the derivative of component ``i``
        along direction ``j``.
    name
        Which argument of a form this is, if any.
    local
        The coefficients it was evaluated from ``[*batch, n, nb, components]``, where known.

    Examples
    --------
    >>> u = Field(torch.tensor([[2.0]]), torch.tensor([[[1.0, 0.0]]]))
    >>> u * 3.0
    tensor([[6.]])
    >>> torch.sqrt(u)
    tensor([[1.4142]])
    """

    def __init__(
        self,
        value: Tensor | None,
        gradient: Tensor | None,
        name: str = "field",
        local: Tensor | None = None,
    ) -> None:
        self._value, self._gradient, self.name, self.local = value, gradient, name, local

    @property
    def value(self) -> Tensor:
        """The value at the quadrature points."""
        if self._value is None:
            raise MissingPartError(self.name, "value")
        return self._value

    @property
    def gradient(self) -> Tensor:
        """The gradient at the quadrature points."""
        if self._gradient is None:
            raise MissingPartError(self.name, "gradient")
        return self._gradient

    def times(self, factor: float) -> Field:
        """Return the field times a number, with the parts it has."""
        value, gradient = (
            None if part is None else factor * part for part in (self._value, self._gradient)
        )
        return Field(value, gradient, self.name)

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        return func(*_unwrap(args), **{k: _unwrap(v) for k, v in (kwargs or {}).items()})

    def __getitem__(self, index: Any) -> Tensor:
        return self.value[index]

    def __neg__(self) -> Tensor:
        return -self.value

    def __add__(self, other: Any) -> Tensor:
        return torch.add(self.value, _unwrap(other))

    def __sub__(self, other: Any) -> Tensor:
        return torch.sub(self.value, _unwrap(other))

    def __rsub__(self, other: Any) -> Tensor:
        return torch.sub(_unwrap(other), self.value) if _is_tensor(other) else other - self.value

    def __mul__(self, other: Any) -> Tensor:
        return torch.mul(self.value, _unwrap(other))

    def __truediv__(self, other: Any) -> Tensor:
        return torch.div(self.value, _unwrap(other))

    def __rtruediv__(self, other: Any) -> Tensor:
        return _unwrap(other) / self.value

    def __pow__(self, other: Any) -> Tensor:
        return torch.pow(self.value, _unwrap(other))

    __radd__ = __add__
    __rmul__ = __mul__

    def __repr__(self) -> str:
        return f"Field({self.name})"


class LazyField(Field):
    """A field whose parts are made when they are asked for, as they would have been made at once.

    Parameters
    ----------
    value, gradient
        Make the parts.
    local
        The coefficients it is evaluated from ``[*batch, n, nb, components]``.

    Examples
    --------
    >>> u = LazyField(lambda: torch.tensor([2.0]), lambda: torch.zeros(1, 2), torch.tensor([2.0]))
    >>> u.value
    tensor([2.])
    """

    def __init__(
        self, value: Callable[[], Tensor], gradient: Callable[[], Tensor], local: Tensor
    ) -> None:
        super().__init__(None, None, local=local)
        self._make_value, self._make_gradient = value, gradient
        self._recorded = torch.is_grad_enabled()

    @property
    def value(self) -> Tensor:
        """The value at the quadrature points."""
        if self._value is None:
            with torch.set_grad_enabled(self._recorded):
                self._value = self._make_value()
        return self._value

    @property
    def gradient(self) -> Tensor:
        """The gradient at the quadrature points."""
        if self._gradient is None:
            with torch.set_grad_enabled(self._recorded):
                self._gradient = self._make_gradient()
        return self._gradient

    def times(self, factor: float) -> Field:
        """Return the field times a number."""
        return Field(factor * self.value, factor * self.gradient, self.name)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, (Tensor, Field))


def _unwrap(value: Any) -> Any:
    if isinstance(value, Field):
        return value.value
    if isinstance(value, (tuple, list)):
        return type(value)(_unwrap(item) for item in value)
    return value


def value_of(a: Tensor | Field) -> Tensor:
    """Return the values of a field, and a tensor as it is."""
    return a.value if isinstance(a, Field) else a
