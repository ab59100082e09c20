"""What a plan may depend on."""

from __future__ import annotations

from dataclasses import dataclass

import torch

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
    rhs: int = 1
    batch: int = 1
    repeats: int = 1
    needs_grad: bool = False
    backend: str = "auto"
    method: str = "auto"
    preconditioner: str = "auto"

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
        parts = [
            f"{self.rows:,} x {self.columns:,}",
            f"{self.nnz:,} entries",
            kind,
            str(self.dtype).removeprefix("torch."),
            f"on {self.device}",
            f"graph dimension {self.dimension:.1f}",
        ]
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
