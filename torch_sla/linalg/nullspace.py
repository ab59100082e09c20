"""Singular systems whose nullspace is known: projected solves.

For ``A Z = 0`` and ``Wᴴ A = 0`` with orthonormal ``Z``, ``W`` that span the whole nullspaces, what
is solved is

    A x = (I - W Wᴴ) b,    Zᴴ x = 0,    that is  x = A⁺ b.

It is the upper part of the solution of the nonsingular bordered system ``[[A, W], [Zᴴ, 0]]``, so
its derivative in ``A`` and ``b`` is that of an ordinary solve with ``A⁺`` in the place of ``A⁻¹``
(``dx = A⁺ (db - dA x)``): right for every change of the values that keeps the nullspaces.

A factorisation does not see the singular matrix: as many unknowns as there are null vectors are
pinned, those rows and columns being replaced by the identity on the same pattern, and the solution
is projected. This keeps symmetry, definiteness and sparsity, which bordering does not.
Bochev and Lehoucq, "On the finite element solution of the pure Neumann problem", SIAM Review 47,
2005, pages 50-66.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from torch_sla.errors import ArgumentError
from torch_sla.linalg.extremes import powers
from torch_sla.linalg.kernels import sparse as kernels
from torch_sla.linalg.sparse.transforms import outside_transforms, physical

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["Nullspace"]

# ‖A z‖ may be this many eps times ‖A‖ ‖z‖: values assembled in another order differ by rounding.
_NULL = 1e4


class Nullspace:
    """Orthonormal bases of the right and left nullspace of a square matrix.

    Parameters
    ----------
    given
        ``[n]`` or ``[n, k]``, any basis; or a pair of such, right and left, for a matrix that is
        not Hermitian.
    n
        Size of the matrix.
    dtype, device
        Of the solve.
    hermitian
        Whether the left nullspace is the right one.

    Raises
    ------
    ArgumentError
        When shapes do not fit, the vectors are dependent, or a left nullspace is missing.
    """

    @outside_transforms  # what the bases are decides which unknowns are pinned
    def __init__(
        self,
        given: Tensor | tuple[Tensor, Tensor],
        n: int,
        dtype: torch.dtype,
        device: torch.device,
        hermitian: bool,
    ) -> None:
        if isinstance(given, torch.Tensor):
            if not hermitian:
                raise ArgumentError(
                    "`nullspace` must be a pair (right, left) for a matrix that is not Hermitian; "
                    "got one tensor"
                )
            self.right = self.left = _orthonormal(given, n, dtype, device)
        else:
            self.right, self.left = (_orthonormal(basis, n, dtype, device) for basis in given)
        if self.right.shape != self.left.shape:
            raise ArgumentError(
                f"`nullspace`: right and left must have the same number of vectors, got "
                f"{self.right.shape[1]} and {self.left.shape[1]}"
            )
        self.pins = _pins(self.right, self.left)

    def check(self, pattern: Pattern, values: Tensor) -> None:
        """Raise `ArgumentError` unless ``A Z`` and ``Wᴴ A`` vanish to rounding."""
        turned = pattern.transpose_values(values).conj().resolve_conj()
        for name, p, a, Z in (
            ("A z", pattern, values, self.right),
            ("Aᴴ z", pattern.transposed, turned, self.left),
        ):
            image = float(kernels.spmm(p.crow, p.ccol, a, Z).abs().amax()) if Z.numel() else 0.0
            rows = p.sum_rows(a.abs())
            scale = float(rows.amax()) * float(Z.abs().amax()) if Z.numel() else 0.0
            if image > _NULL * torch.finfo(a.dtype).eps * scale:
                raise ArgumentError(
                    f"`nullspace` is not one of this matrix: ‖{name}‖ is {image / scale:.1e} of "
                    "‖A‖ ‖z‖"
                )

    def project(self, x: Tensor, *, left: bool) -> Tensor:
        """Return `x` ``[n, K]`` without its part in the left or right nullspace."""
        Z = self.left if left else self.right
        for _ in range(2):
            x = x - Z @ (Z.mH @ x)
        return x

    def consistent(self, b: Tensor, *, left: bool) -> tuple[Tensor, float]:
        """Return the part of `b` that can be solved for, and the largest share of the rest."""
        scale = powers(b) if len(b) else b.new_ones(b.shape[1])
        b = b / scale
        projected = self.project(b, left=left)
        size = torch.linalg.vector_norm(b, dim=0)
        kept = torch.linalg.vector_norm(projected, dim=0)
        nothing = kept <= 100 * torch.finfo(size.dtype).eps * size
        projected = torch.where(nothing, 0.0, projected)
        tiny = torch.finfo(size.dtype).tiny
        lost = torch.linalg.vector_norm(b - projected, dim=0) / size.clamp(min=tiny)
        return projected * scale, float(lost.max()) if lost.numel() else 0.0

    def pin(self, pattern: Pattern, values: Tensor) -> Tensor:
        """Replace the pinned rows and columns by multiples of the identity: ``[*B, nnz] -> [*B, nnz]``.

        Raises
        ------
        ArgumentError
            When a pinned diagonal entry is not stored.
        """
        slots = pattern.diagonal_slots.long()[self.pins]
        if bool((slots < 0).any()):
            row = int(self.pins[(slots < 0).nonzero()[0]])
            raise ArgumentError(
                f"a direct solve with a nullspace needs diagonal entry {row} stored, if as zero; "
                "or use an iterative method"
            )
        pinned = torch.zeros(pattern.shape[0], dtype=torch.bool, device=values.device)
        pinned[self.pins] = True
        touched = pinned[pattern.csr_row.long()] | pinned[pattern.ccol.long()]
        out = torch.where(touched, torch.zeros_like(values), values)
        scale = values.abs().amax(-1, keepdim=True) if values.numel() else values.abs()
        out[..., slots] = scale.to(out.dtype).expand(*out.shape[:-1], slots.numel())
        return out


def _orthonormal(given: Tensor, n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    Z = physical(given)
    Z = Z.unsqueeze(1) if Z.ndim == 1 else Z
    if Z.ndim != 2 or Z.shape[0] != n or Z.shape[1] > n:
        raise ArgumentError(f"`nullspace` must be [{n}] or [{n}, k], got {list(given.shape)}")
    Z = Z.to(device=device, dtype=dtype)
    norms = torch.linalg.vector_norm(Z, dim=0)
    if not bool(torch.isfinite(norms).all()) or bool((norms == 0).any()):
        raise ArgumentError("`nullspace` must hold finite nonzero vectors")
    Q: Tensor
    Q, R = torch.linalg.qr(Z / norms)
    if Z.shape[1] and float(R.diagonal().abs().amin()) < 1e3 * torch.finfo(dtype).eps:
        raise ArgumentError("`nullspace` must hold linearly independent vectors")
    return Q


def _pins(right: Tensor, left: Tensor) -> Tensor:
    """Unknowns that decide the null vectors, as independently as they can be chosen."""
    from scipy.linalg import qr

    # Rows that matter to both sides: the right basis weighted by the size of the left one's rows.
    weight = torch.linalg.vector_norm(left, dim=1, keepdim=True)
    k = right.shape[1]
    _, order = qr((right * weight).T.cpu().numpy(), mode="r", pivoting=True)
    pins = torch.as_tensor(order[:k].copy(), dtype=torch.long, device=right.device)
    if k and float(torch.linalg.cond(left[pins])) > 1e8:
        raise ArgumentError(
            "`nullspace`: no unknowns pin both the right and the left nullspace; use an iterative method"
        )
    return pins.sort().values
