"""What a form sees besides its arguments: positions, normals and coefficients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.assembly.field import Field
from torch_sla.assembly.sided import Sided
from torch_sla.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch_sla.assembly.basis import Basis, InteriorBasis

__all__ = ["Coefficient", "Context", "Integrand"]

Coefficient = Tensor | Field | Sided | float | complex

_RESERVED = ("x", "normal", "basis", "mean", "names")


class Integrand:
    """What every form is made of: a function of fields and a context, whose name and documentation it has."""

    def __init__(self, integrand: Callable[..., Tensor]) -> None:
        self.integrand = integrand
        self.__doc__ = integrand.__doc__

    @property
    def name(self) -> str:
        """Name of the integrand."""
        return getattr(self.integrand, "__name__", "form")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name})"


def check_sites(
    what: object, shape: tuple[int, ...], basis: Basis | InteriorBasis, more: str = ""
) -> None:
    """Raise where the values of an integrand are not ``[*batch, n|1, nq|1]``, `more` being the remedy."""
    n, nq = basis.n_sites, len(basis.rule)
    if len(shape) < 2 or shape[-2] not in (1, n) or shape[-1] not in (1, nq):
        raise ArgumentError(
            f"{what}: the integrand has shape {tuple(shape)}; expected [*batch, {n}|1, {nq}|1]{more}"
        )


# What to do about integrands that are no scalars at the points.
CONTRACT = ": give coefficients as [*batch, n|1, nq|1, *shape] and contract vectors to a scalar"


class Context:
    """Positions ``x``, normals and the coefficients of a form, as attributes.

    `looked_around` tells whether the form asked for positions or normals.

    Parameters
    ----------
    basis
        The basis whose quadrature points these are.
    coefficients
        Numbers, fields, or tensors ``[*batch, n|1, nq|1, *shape]`` with n cells (or facets) and nq quadrature
        points.

    Raises
    ------
    ArgumentError
        If a coefficient has one dimension only, which could mean cells or points, or a reserved name.
    """

    def __init__(
        self, basis: Basis | InteriorBasis, coefficients: Mapping[str, Coefficient]
    ) -> None:
        self.basis = basis
        for name, value in coefficients.items():
            if name in _RESERVED:
                raise ArgumentError(
                    f"{name}: this name is taken by the form itself; rename the coefficient"
                )
            if isinstance(value, Tensor) and value.ndim == 1:
                raise ArgumentError(
                    f"{name}: got shape {tuple(value.shape)}; a coefficient is [*batch, n|1, nq|1, *shape], so give a "
                    "value per cell as k[:, None]"
                )
        self._coefficients = dict(coefficients)
        self.looked_around = False

    @property
    def x(self) -> Tensor:
        """Quadrature points in space ``[n, nq, dim]``."""
        self.looked_around = True
        return self.basis.x

    @property
    def normal(self) -> Tensor:
        """Outward unit normals ``[n, nq|1, dim]``."""
        self.looked_around = True
        return self.basis.normal

    # Annotated as a tensor because numbers and fields can be used like one.
    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            value: Any = self._coefficients[name]
            return value
        except KeyError:
            given = ", ".join(sorted(self._coefficients)) or "none"
            raise ArgumentError(
                f"{name}: the form needs this coefficient; pass it by name (given: {given})"
            ) from None

    def get(self, name: str, default: Coefficient | None) -> Any:
        """Coefficient of a name, or a default when it was not given."""
        value = self._coefficients.get(name)
        return default if value is None else value

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the coefficients given."""
        return tuple(self._coefficients)

    @property
    def dtype(self) -> torch.dtype:
        """Floating dtype of the geometry."""
        return self.basis.x.dtype
