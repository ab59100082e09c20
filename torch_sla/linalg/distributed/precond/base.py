"""The contract of a preconditioner in parts, and those that have a name."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch_sla.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from torch_sla.linalg.distributed.knowledge import Knowledge
    from torch_sla.linalg.distributed.sharding import Sharding

__all__ = [
    "NAMES",
    "SMALL",
    "WHOLE",
    "PartOptions",
    "PartPreconditioner",
    "Renewable",
    "default_preconditioner",
    "make",
    "name_of",
]


@runtime_checkable
class PartPreconditioner(Protocol):
    """An approximate inverse ``B``; every process calls it with what it holds of the vector."""

    def apply(self, r: Tensor) -> Tensor:
        """Return ``B r`` for ``[n_held, K]``."""

    def apply_adjoint(self, r: Tensor) -> Tensor:
        """Return ``Bᴴ r``."""


@runtime_checkable
class Renewable(PartPreconditioner, Protocol):
    """One that makes another for other values on the same positions, and stays what it is."""

    def renewed(self, values: Tensor, wanted: Any = None) -> PartPreconditioner:
        """Make it for slot values ``[nnz_csr]``, keeping what was chosen and planned.

        Parameters
        ----------
        wanted
            Options of the same kind, where they hold values that belong to these; by default they are as before.
        """


@runtime_checkable
class PartOptions(Protocol):
    """Frozen settings that can make a preconditioner."""

    name: str

    def build_parts(
        self, sharding: Sharding, values: Tensor, near_nullspace: Tensor | None
    ) -> PartPreconditioner:
        """Make it for a square matrix, slot values ``[nnz_csr]``."""


@runtime_checkable
class KeepingOptions(PartOptions, Protocol):
    """Those of a preconditioner that keeps what other values can use, where it is asked to."""

    renewable: bool


SMALL = 600  # unknowns that need nothing better than the diagonal
_DIRECT = 50_000  # unknowns of a part up to which factors of subdomains are within reach
WHOLE = 100_000  # unknowns up to which one process factorises all, where nothing else is sure to converge
_HERE = "torch_sla.linalg.distributed.precond"
_KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "jacobi": (f"{_HERE}.jacobi", "PartJacobi", {}),
    "multigrid": (f"{_HERE}.multigrid", "PartMultigrid", {}),
    "schwarz": (f"{_HERE}.schwarz", "Schwarz", {}),
    "outgoing": (
        f"{_HERE}.schwarz",
        "Schwarz",
        {"overlap": 2, "coarse": None, "transmission": "outgoing"},
    ),
    "gathered": (f"{_HERE}.gathered", "Gathered", {}),
    "block_jacobi": (f"{_HERE}.schwarz", "Schwarz", {"overlap": 0, "coarse": None}),
    "chebyshev": (f"{_HERE}.chebyshev", "PartChebyshev", {}),
    "schur": (f"{_HERE}.block", "PartSchur", {}),
}
NAMES = ("none", *_KINDS)


def name_of(wanted: Any) -> str:
    """Return the name of what was asked for.

    Raises
    ------
    PlanError
        When it names nothing, or is no preconditioner.
    """
    if wanted is None:
        return "none"
    if isinstance(wanted, str):
        if wanted != "auto" and wanted not in NAMES:
            raise PlanError(
                f"`preconditioner` must be auto, {', '.join(NAMES)}, options or a callable; got {wanted!r}"
            )
        return wanted
    if isinstance(wanted, PartOptions):
        return wanted.name
    if callable(wanted) or isinstance(wanted, PartPreconditioner):
        return "given"
    raise PlanError(
        f"`preconditioner` must be a name, options or a callable for a matrix in parts, got {type(wanted).__name__}"
    )


class _Given:
    """A callable of the user's on what this process holds; its adjoint is taken to be itself."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.apply = self.apply_adjoint = function


def make(
    wanted: Any,
    sharding: Sharding,
    values: Tensor,
    near_nullspace: Tensor | None = None,
    *,
    renewable: bool = False,
    like: PartPreconditioner | None = None,
) -> PartPreconditioner | None:
    """Make the preconditioner that was asked for; None for none.

    With `renewable`, what can be used for other values is kept where there is any; `like` is one that was made so, of
    the same kind for other values on the same positions.
    """
    name = name_of(wanted)
    if name == "none":
        return None
    if isinstance(wanted, str):
        module, options, settings = _KINDS[wanted]
        wanted = getattr(import_module(module), options)(**settings)
    made: PartPreconditioner
    if isinstance(wanted, PartOptions):
        if renewable and isinstance(wanted, KeepingOptions):
            wanted = replace(wanted, renewable=True)  # type: ignore[type-var]
        if isinstance(like, Renewable):
            return like.renewed(values, wanted)
        made = wanted.build_parts(sharding, values, near_nullspace)
        return made
    return wanted if isinstance(wanted, PartPreconditioner) else _Given(wanted)


def default_preconditioner(
    method: str,
    sharding: Sharding,
    values: Tensor,
    knowledge: Knowledge,
    *,
    whole: bool = True,
) -> str:
    """Choose where nothing was asked for; with `whole`, one process may factorise all."""
    n = sharding.rows.n
    if method == "minres":
        return "none"
    if n <= SMALL:
        return "jacobi"
    if method == "cg" and knowledge.hermitian and not values.is_complex():
        return "multigrid"
    if method == "cg":
        return "jacobi"
    # Waves: what subdomains solve resonates, and their number would be felt.
    if whole and n <= WHOLE and (values.is_complex() or knowledge.hermitian):
        return "gathered"
    direct = int(sharding.rows.offsets.diff().max()) <= _DIRECT
    if not direct:
        return "jacobi"
    return "outgoing" if values.is_complex() else "schwarz"
