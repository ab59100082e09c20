"""The contract of a preconditioner, and the table of those that have a name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import torch

from torch_sla.errors import ArgumentError, PlanError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure

__all__ = [
    "GIVEN",
    "NAMES",
    "Kind",
    "Preconditioner",
    "PreconditionerOptions",
    "Renewable",
    "kind",
    "make_preconditioner",
    "preconditioner_name",
]


class Preconditioner(Protocol):
    """An approximate inverse ``B`` of a matrix, with its adjoint; owns its numbers."""

    @property
    def nbytes(self) -> int:
        """Bytes held."""

    def apply(self, r: Tensor) -> Tensor:
        """Return ``B r`` for ``r`` ``[n, K]``."""

    def apply_adjoint(self, r: Tensor) -> Tensor:
        """Return ``Bᴴ r``."""


@runtime_checkable
class PreconditionerOptions(Protocol):
    """Frozen settings that can make a preconditioner."""

    def build(self, pattern: Pattern, values: Tensor, structure: Structure) -> Preconditioner:
        """Make it for a square scalar matrix, slot values ``[nnz_csr]``."""


@runtime_checkable
class Renewable(Protocol):
    """A preconditioner that can spare the next set-up on its pattern some work."""

    def skeleton(self) -> Any:
        """Return what ``build(..., like=)`` of its options takes; None where nothing is worth keeping."""


@dataclass(frozen=True)
class Kind:
    """A preconditioner that has a name, and where it is valid.

    Parameters
    ----------
    module, options
        Where its options class is; loaded on first use.
    devices
        Device types it works on.
    needs
        ``"general"`` or ``"hermitian"``: structure of ``A`` without which it makes no sense.
    definite
        Whether it is Hermitian positive definite whenever ``A`` is, as `cg` and `minres` demand.
    dtypes
        Value dtypes it takes.
    diagonal
        Whether it needs a diagonal without zeros.
    """

    module: str
    options: str
    devices: frozenset[str] = frozenset({"cpu", "cuda"})
    needs: Literal["general", "hermitian"] = "general"
    definite: bool = True
    dtypes: frozenset[torch.dtype] = frozenset(
        {torch.float32, torch.float64, torch.complex64, torch.complex128}
    )
    diagonal: bool = True


_HERE = "torch_sla.linalg.precond"
_CPU = frozenset({"cpu"})
_KINDS = {
    "multigrid": Kind(f"{_HERE}.multigrid.options", "AMG"),
    "jacobi": Kind(f"{_HERE}.jacobi", "JacobiOptions"),
    "block_jacobi": Kind(f"{_HERE}.block_jacobi", "BlockJacobi", diagonal=False),
    "ssor": Kind(f"{_HERE}.ssor", "SSOR", _CPU),
    "ilu": Kind(f"{_HERE}.ilu", "ILU", _CPU, definite=False),
    "ichol": Kind(f"{_HERE}.ichol", "IChol", _CPU, needs="hermitian"),
}
NAMES = ("none", *_KINDS)
# What a callable, or an options object of somebody else's, is called in plans.
GIVEN = "given"


def kind(name: str) -> Kind | None:
    """Return what is known of a named preconditioner, None for ``"none"`` and foreign ones."""
    return _KINDS.get(name)


def preconditioner_name(wanted: Any) -> str:
    """Return the name that plans use for whatever was asked for.

    Raises
    ------
    PlanError
        When it is a string that names nothing, or no preconditioner at all.

    Examples
    --------
    >>> preconditioner_name(None), preconditioner_name("ssor"), preconditioner_name(lambda r: r)
    ('auto', 'ssor', 'given')
    """
    if wanted is None:
        return "auto"
    if isinstance(wanted, str):
        if wanted != "auto" and wanted not in NAMES:
            raise PlanError(
                f"`preconditioner` must be 'auto' or one of {', '.join(NAMES)}, got {wanted!r}"
            )
        return wanted
    if isinstance(wanted, PreconditionerOptions):
        name = getattr(wanted, "name", GIVEN)
        return name if name in NAMES else GIVEN
    if callable(wanted):
        return GIVEN
    raise PlanError(
        f"`preconditioner` must be a name, an options object or a callable, got {type(wanted).__name__}"
    )


class _Given:
    """A callable of the user's, used as it is; its adjoint is taken to be itself."""

    nbytes = 0

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self._function = function

    def apply(self, r: Tensor) -> Tensor:
        z = self._function(r)
        if isinstance(z, torch.Tensor) and r.shape[1] == 1 and z.shape == r.shape[:1]:
            z = z.unsqueeze(1)
        if not isinstance(z, torch.Tensor) or (z.shape, z.device) != (r.shape, r.device):
            known = isinstance(z, torch.Tensor)
            got = f"{list(z.shape)} on {z.device}" if known else type(z).__name__
            raise ArgumentError(
                "a function in `preconditioner` must return a tensor like the residual it is given, "
                f"{list(r.shape)} on {r.device} (a column for each right-hand side), got {got}"
            )
        if z.is_complex() and not r.is_complex():
            raise ArgumentError(
                f"a function in `preconditioner` returned {z.dtype} for a residual of {r.dtype}"
            )
        return z.to(r.dtype)

    apply_adjoint = apply


@cache
def _defaults(name: str) -> PreconditionerOptions:
    entry = _KINDS[name]
    made = getattr(import_module(entry.module), entry.options)()
    if not isinstance(made, PreconditionerOptions):
        raise PlanError(f"{entry.module}.{entry.options} cannot build a preconditioner")
    return made


def make_preconditioner(
    wanted: Any, pattern: Pattern, values: Tensor, structure: Structure, *, like: Any = None
) -> Preconditioner | None:
    """Make the preconditioner that was asked for.

    Parameters
    ----------
    wanted
        A name, None, an options object with ``build(pattern, values, structure)``, or a callable
        ``r -> z`` on ``[n, K]``.
    pattern, values, structure
        The matrix, scalar slots.
    like
        What the last one with these settings on this pattern left behind, see `Renewable`.

    Raises
    ------
    PlanError
        When the name is unknown.
    """
    name = preconditioner_name(wanted)
    if name in ("auto", "none"):
        return None
    options = _defaults(name) if isinstance(wanted, str) else wanted
    if not isinstance(options, PreconditionerOptions):
        return _Given(options)
    if like is not None:
        return options.build(pattern, values, structure, like=like)  # type: ignore[call-arg]
    return options.build(pattern, values, structure)
