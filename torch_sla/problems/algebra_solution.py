"""The solution of an algebraic problem: numbers by name, how they were found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch_sla.errors import ArgumentError
from torch_sla.problems.expression import nearest
from torch_sla.problems.results import Named
from torch_sla.problems.spectral import Spectral

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from torch_sla.linalg import SolveInfo

__all__ = ["AlgebraSolution"]


class AlgebraSolution(Spectral, Named):
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
