"""What a plan may depend on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import torch

from torch_sla.errors import PlanError

if TYPE_CHECKING:
    from torch_sla.linalg.backends.base import Counts
    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure

__all__ = ["Facts"]


@dataclass(frozen=True)
class Facts:
    """Everything known about a solve before it is planned; the plan is a pure function of this.

    Parameters
    ----------
    rows, columns, nnz
        Size of the matrix and stored entries, in scalars.
    dtype, device
        Of the values; `device` is a device type such as ``"cpu"``.
    symmetric, hermitian, positive_definite
        True, False, or None for unknown; `symmetric` (``A = Aᵀ``) matters for complex values.
    diagonal
        Whether all diagonal entries are there and not zero, as most preconditioners need.
    dimension
        Growth dimension of the graph (1 for a chain, 2 for a surface, 3 for a solid): what fill-in
        depends on.
    spread
        Mean distance ``|i - j|`` of the entries from the diagonal: whether neighbours lie near each other
        in memory.
    rhs
        Right-hand sides per matrix.
    batch
        Matrices on the pattern.
    repeats
        How often new values on the same pattern are expected.
    needs_grad
        Whether an adjoint solve will follow.
    backend, method, preconditioner
        What was asked for, ``"auto"`` when nothing was.
    rtol
        Tolerance on the relative residual; None for the default of the dtype.
    dominance
        Smallest share of a diagonal entry that its row leaves over, ``1 - Σ|a_ij| / a_ii``; it bounds
        the condition number of the scaled matrix. 0 where rows leave nothing, or nothing is known.
    lattice
        Whether the entries join neighbours of a lattice.
    block
        Unknowns of one node, as the displacements of a body are.
    memory
        Bytes the device has; None for the figure of the machine model.
    counts
        Exact counts of a symmetric factorisation; None while they are not known.
    """

    rows: int
    columns: int
    nnz: int
    dtype: torch.dtype = torch.float64
    device: str = "cpu"
    symmetric: bool | None = None
    hermitian: bool | None = None
    positive_definite: bool | None = None
    diagonal: bool = True
    dimension: float = 2.0
    spread: float = 0.0
    rhs: int = 1
    batch: int = 1
    repeats: int = 1
    needs_grad: bool = False
    backend: str = "auto"
    method: str = "auto"
    preconditioner: str = "auto"
    rtol: float | None = None
    dominance: float = 0.0
    lattice: bool = False
    block: int = 1
    memory: int | None = None
    counts: Counts | None = None

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise PlanError(f"`repeats` must be at least 1, got {self.repeats}")
        for name in ("rows", "columns", "nnz", "rhs", "batch", "repeats"):
            count = getattr(self, name)
            if count >= 1 << 63:
                raise PlanError(
                    f"`{name}` must be less than 2**63, got 2**{count.bit_length() - 1} or more"
                )

    @classmethod
    def of(cls, pattern: Pattern, structure: Structure, **others: Any) -> Facts:
        """Return what a pattern and the structure of its values tell, and the `others` beside it."""
        return cls(
            *pattern.shape,
            pattern.nnz_csr,
            symmetric=structure.symmetric,
            hermitian=structure.hermitian,
            positive_definite=structure.positive_definite,
            dimension=pattern.dimension,
            spread=pattern.spread,
            **others,
        )

    def describe(self) -> str:
        """Say it in one line."""
        if self.positive_definite:
            kind = "positive definite"
        elif self.hermitian:
            kind = (
                "hermitian"
                if self.positive_definite is False
                else "hermitian, definiteness unknown"
            )
        elif self.symmetric and self.dtype.is_complex:
            kind = "complex symmetric"
        else:
            kind = "general" if self.hermitian is False else "structure unknown"
        graph = "lattice" if self.lattice else "graph"
        parts = [
            f"{self.rows:,} x {self.columns:,}",
            f"{self.nnz:,} entries",
            kind,
            str(self.dtype).removeprefix("torch."),
            f"on {self.device}",
            f"{graph} of dimension {self.dimension:.2g}",
        ]
        if self.block > 1:
            parts.append(f"{self.block} unknowns a node")
        if not self.diagonal:
            parts.append("zeros on the diagonal")
        if self.batch > 1:
            parts.append(f"batch of {self.batch}")
        if self.rhs > 1:
            parts.append(f"{self.rhs} right-hand sides")
        if self.repeats > 1:
            parts.append(f"{self.repeats} repeats")
        if self.needs_grad:
            parts.append("with gradient")
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data for JSON."""
        out = {f.name: getattr(self, f.name) for f in fields(self)}
        out["dtype"] = str(self.dtype).removeprefix("torch.")
        out["counts"] = None if self.counts is None else asdict(self.counts)
        return out

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Facts:
        """Read what `to_dict` wrote.

        Raises
        ------
        PlanError
            When a field is missing, unknown, or no dtype.
        """
        from torch_sla.linalg.backends.base import Counts

        try:
            data = dict(data)
            dtype = getattr(torch, str(data.pop("dtype")), None)
            if not isinstance(dtype, torch.dtype):
                raise TypeError("`dtype` is not the name of one")
            counts = data.pop("counts", None)
            return cls(**data, dtype=dtype, counts=None if counts is None else Counts(**counts))
        except (KeyError, TypeError) as error:
            raise PlanError(f"these are no facts of a plan: {error}") from None
