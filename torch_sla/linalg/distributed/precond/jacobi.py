"""The inverse of the diagonal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.distributed.sharding import Sharding

__all__ = ["PartJacobi"]


@dataclass(frozen=True)
class PartJacobi:
    """Divide by the diagonal; where that is zero, leave as it is."""

    name: ClassVar[str] = "jacobi"

    def build_parts(
        self, sharding: Sharding, values: Tensor, near_nullspace: Tensor | None
    ) -> Diagonal:
        """Make it for slot values ``[nnz_csr]``."""
        del near_nullspace
        d = sharding.diagonal(values)
        return Diagonal(torch.where(d != 0, 1 / torch.where(d != 0, d, 1), 1).unsqueeze(1))


class Diagonal:
    """``r -> w r`` for weights ``[n_held, 1]``."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight

    def apply(self, r: Tensor) -> Tensor:
        """Return ``w r``."""
        return self.weight * r

    def apply_adjoint(self, r: Tensor) -> Tensor:
        """Return the conjugate of it."""
        return self.weight.conj() * r
