"""The declared nullspace of a Hermitian matrix in parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from torch_sla.errors import ArgumentError

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.distributed.sharding import Product
    from torch_sla.linalg.distributed.space import PartSpace

__all__ = ["PartNullspace"]

_NULL = 1e3  # multiples of eps of ‖A‖ ‖z‖ up to which ``A z`` counts as zero


class PartNullspace:
    """An orthonormal basis, and the projection that removes it.

    Parameters
    ----------
    given
        Any basis, what is held here ``[n_held, k]``.
    space
        Of the vectors.

    Raises
    ------
    ArgumentError
        When the vectors are dependent.
    """

    def __init__(self, given: Tensor, space: PartSpace) -> None:
        self._space = space
        Z = given.detach()
        for _ in range(2):
            gram = space.gram(Z, Z)
            L, failed = torch.linalg.cholesky_ex((gram + gram.mH) / 2)
            least = (
                L.diagonal().abs().min() / L.diagonal().abs().max() if len(L) else L.new_ones(())
            )
            if int(failed) or not float(least) > torch.finfo(least.dtype).eps ** 0.5:
                raise ArgumentError("`nullspace`: the vectors are linearly dependent")
            Z = torch.linalg.solve_triangular(L.mH, Z, upper=True, left=False)
        self.basis = Z

    def check(self, A: Product, norm: float) -> None:
        """Raise `ArgumentError` unless ``A Z`` vanishes to rounding."""
        image = float(self._space.largest(A(self.basis)).max())
        scale = norm * float(self._space.largest(self.basis).max())
        if image > _NULL * torch.finfo(self.basis.dtype).eps * scale:
            raise ArgumentError(
                f"`nullspace` is not one of this matrix: ‖A z‖ is {image / scale:.1e} of ‖A‖ ‖z‖"
            )

    def project(self, x: Tensor) -> Tensor:
        """Return ``x - Z Zᴴ x``."""
        return x - self.basis @ self._space.gram(self.basis, x)
