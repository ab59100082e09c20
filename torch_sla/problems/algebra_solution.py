"""The solution of an algebraic problem: numbers by name, how they were found."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from torch_sla.errors import ArgumentError
from torch_sla.problems.expression import nearest
from torch_sla.problems.results import Named

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from torch_sla.linalg import SolveInfo

__all__ = ["AlgebraSolution"]


class AlgebraSolution(Named):
    """What ``solve`` returns where there is no mesh; everything in it is differentiable.

    Attributes
    ----------
    fields
        By name: ``x``, or ``eigenvalues [*batch, k]`` and ``modes [*batch, k, n]``; attributes too.
    outputs
        The declared outputs by name.
    info
        Method, iterations, residual.
    """

    rest: Tensor | float = 0.0
    """Magnitude of eigenvalues ``[*batch, 1]`` up to which they are nothing but rounding, where zero is one."""
    endings: tuple[str, ...] = (".npz", ".json")
    drawable = False

    def __init__(
        self,
        model: Any,
        fields: Mapping[str, Tensor],
        outputs: Mapping[str, Tensor],
        info: SolveInfo,
    ) -> None:
        self.model, self.info = model, info
        self.fields, self.outputs = dict(fields), dict(outputs)

    def __getattr__(self, name: str) -> Tensor:
        fields = self.__dict__.get("fields", {})
        if name not in fields:
            raise AttributeError(f"no {name!r} here{nearest(name, fields)}: {' '.join(fields)}")
        return fields[name]

    @property
    def u(self) -> Tensor:
        """The first field."""
        return next(iter(self.fields.values()))

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
        """Of buckling the eigenvalues."""
        return self._called("load_factors", lambda w: w)

    @property
    def damping_ratios(self) -> Tensor:
        """``-Re λ / |λ|`` of damped motion ``exp(λ t)``: 1 does not swing, NaN neither swings nor slows down."""

        def ratio(w: Tensor) -> Tensor:
            moving = w.detach().abs() > self.rest
            found = torch.where(moving, w, torch.ones_like(w))
            return torch.where(moving, -found.real / found.abs(), math.nan)

        return self._called("damping_ratios", ratio)

    @property
    def wavenumbers(self) -> Tensor:
        """``sqrt(λ)`` of resonances (1/m)."""
        return self._called("wavenumbers", torch.sqrt)

    def _called(self, name: str, of: Callable[[Tensor], Tensor]) -> Tensor:
        if name not in self.spec.called:
            raise AttributeError(f"no {name!r} here")
        return of(self.fields["eigenvalues"])

    @property
    def batch(self) -> tuple[int, ...]:
        """Batch dimensions."""
        return tuple(self.u.shape[:-1])

    def save(self, path: str | Path) -> None:
        """Write ``.npz`` arrays, or ``.json`` numbers and identity."""
        from torch_sla.problems.report.save import summary, write_arrays, write_json

        path = Path(path)
        if path.suffix == ".npz":
            write_arrays(path, self)
        elif path.suffix == ".json":
            write_json(path, summary(self))
        else:
            raise ArgumentError(
                f"path ends in {path.suffix!r}; without a mesh a solution is saved as .npz or .json"
            )

    def plot(
        self,
        path: str | Path | None = None,
        *,
        member: int | tuple[int, ...] | None = None,
        field: str | None = None,
    ) -> object:
        """Refuse: there is no mesh to draw on."""
        del path, member, field
        raise ArgumentError("there is no mesh to draw on; plot solution.x with your own tools")

    def __repr__(self) -> str:
        parts = ", ".join(f"{name} {list(value.shape)}" for name, value in self.fields.items())
        return f"{type(self).__name__}({parts}, {self.info.backend} {self.info.method})"
