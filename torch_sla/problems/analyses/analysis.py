"""What all analyses share: the problem they are of, its parameters, its errors in their place."""

from __future__ import annotations

import contextlib
import hashlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from torch_sla.errors import SpecError
from torch_sla.problems.lowering.frame import Frame
from torch_sla.problems.specs.laws import laws
from torch_sla.problems.specs.value import Parameter, leaves, names_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import torch
    from torch import Tensor

__all__ = ["Analysis", "frame_of", "inside"]


@contextlib.contextmanager
def inside(path: str = "of") -> Iterator[None]:
    """Say of an error in the inner problem where the outer one has it."""
    try:
        yield
    except SpecError as error:
        full = f"{path}.{error.path}" if error.path else path
        raise type(error)(error.message, file=error.file, line=error.line, path=full) from None


def frame_of(model: Any) -> Frame | None:
    """Return the lowered physics inside analyses; None where there is no mesh."""
    while not isinstance(model, Frame):
        model = getattr(model, "model", None)
        if model is None:
            return None
    return model


class Analysis:
    """A declaration that is of another one.

    Parameters
    ----------
    spec
        The declaration.

    Attributes
    ----------
    model
        The problem it is of, lowered.
    """

    def __init__(self, spec: Any) -> None:
        self.spec = spec
        with inside():
            self.model: Any = spec.of.compile()
        self.declared: dict[str, Parameter] = spec.declared
        self.dtype: torch.dtype = self.model.dtype
        self.device: torch.device = self.model.device
        text = f"{spec.type} {self.model.compiled.key} {self._structure()}"
        key = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        self.compiled = SimpleNamespace(key=key)

    def _structure(self) -> str:
        """Return what belongs to the structure besides that of the problem."""
        return ""

    @property
    def own_names(self) -> frozenset[str]:
        """Names of the parameters that its own laws use."""
        names = (names_of(leaf) for law in laws(self.spec) for _, leaf in leaves(law.value))
        return frozenset().union(*names) & self.declared.keys()

    @property
    def idle_names(self) -> frozenset[str]:
        """Names of the parameters that nothing it asks for depends on, and that need no value."""
        return frozenset()

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of sites of each kind."""
        counts: Mapping[str, int] = self.model.counts
        return counts

    @property
    def mesh(self) -> Any:
        """The mesh of the problem."""
        return self.model.mesh

    def sites(
        self,
        name: str,
        geometry: Any = None,
        declared: Mapping[str, Parameter] | None = None,
    ) -> Tensor:
        """Return the coordinates ``[n, dim]`` where a parameter lives."""
        return self.model.sites(name, geometry, declared or self.declared)

    def defaults(
        self, names: Sequence[str], declared: Mapping[str, Parameter] | None = None
    ) -> dict[str, Tensor]:
        """Return the default values of some parameters, one per site."""
        return self.model.defaults(names, declared or self.declared)

    def given_start(self, start: Tensor) -> Tensor:
        """Return where iterations of the problem begin ``[*batch, n]``."""
        with inside():
            found: Tensor = self.model.given_start(start)
            return found

    def check(self) -> Any:
        """Check everything that needs no value; return the mesh. A body need not be held."""
        with inside():
            return self.model.check_acting()

    def describe(self, values: Mapping[str, Any]) -> list[str]:
        """Return lines on the problem and its plan."""
        with inside():
            text = self.spec.of.explain(
                {n: v for n, v in values.items() if n in self.spec.of.declared}
            )
        return [f"of {line}" if i == 0 else line for i, line in enumerate(text.splitlines())]
