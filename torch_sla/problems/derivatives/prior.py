"""What is known of parameters before data are: Gaussian, by their precision (the inverse of their covariance)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.lazy import cached_property
from torch_sla.linalg import SparseTensor

if TYPE_CHECKING:
    from torch_sla.linalg.factorize import Factorization

__all__ = ["Gaussian", "deviations"]

POLES = 24


def deviations(name: str, given: object) -> Tensor:
    """Return standard deviations as they are given, a number or an array; float64, detached.

    Raises
    ------
    ArgumentError
        If they are no numbers, not positive or not finite.
    """
    try:
        found = torch.as_tensor(given, dtype=torch.float64).detach()
    except (TypeError, ValueError, RuntimeError):
        raise ArgumentError(
            f"{name} must be a number or an array of numbers, got {given!r}"
        ) from None
    wrong = found[~((found > 0) & found.isfinite())]
    if wrong.numel():
        raise ArgumentError(
            f"{name} must be > 0 and finite, got {float(wrong.min())}; for what is hardly known take a large number"
        )
    return found


class Gaussian:
    """A Gaussian distribution of a parameter about the value where it is linearised; kept, and applied, on the CPU.

    Parameters
    ----------
    std
        Standard deviation, a number or a tensor of the shape of the parameter; entries are independent.
    precision
        Instead of `std`: the inverse of the covariance, symmetric positive definite, a `SparseTensor` or a dense tensor
        ``[n, n]`` over the entries of the parameter, such as ``K / correlation + M`` of a smooth field.

    Raises
    ------
    ArgumentError
        If not exactly one of the two is given, or it is not positive.

    Examples
    --------
    >>> Gaussian(std=0.1).variance(3).tolist()
    [0.010000000000000002, 0.010000000000000002, 0.010000000000000002]
    """

    def __init__(
        self,
        std: float | Tensor | None = None,
        precision: SparseTensor | Tensor | None = None,
    ) -> None:
        if (std is None) == (precision is None):
            raise ArgumentError("give either `std` or `precision`, and not both")
        self.std: Tensor | None = None
        self.matrix: SparseTensor | None = None
        if std is not None:
            self.std = deviations("`std`", std).cpu().reshape(-1)
            return
        matrix = SparseTensor.from_dense(precision) if isinstance(precision, Tensor) else precision
        if isinstance(matrix, SparseTensor):
            matrix = matrix.cpu()
        if not isinstance(matrix, SparseTensor) or matrix.shape != (matrix.shape[0],) * 2:
            raise ArgumentError("`precision` must be a square SparseTensor or dense tensor [n, n]")
        if not matrix.is_positive_definite():
            raise ArgumentError("`precision` must be symmetric positive definite")
        self.matrix = SparseTensor(
            matrix.values.detach().double(), matrix.row_indices, matrix.col_indices, matrix.shape
        )

    def check(self, name: str, n: int) -> None:
        """Raise unless it is of `n` numbers."""
        known = self.std.numel() if self.std is not None else None
        if self.matrix is not None:
            known = int(self.matrix.shape[0])
        if known not in (n, 1) or (self.matrix is not None and known != n):
            raise ArgumentError(f"the prior of {name!r} is of {known} numbers; expected {n}")

    def times(self, v: Tensor) -> Tensor:
        """Return the precision times v ``[n]``."""
        return v / self.std**2 if self.std is not None else self._matrix @ v

    def solve(self, v: Tensor) -> Tensor:
        """Return the covariance times v ``[n]``."""
        return v * self.std**2 if self.std is not None else self._factor.solve(v)

    def variance(self, n: int) -> Tensor:
        """Return the variances ``[n]``."""
        if self.std is not None:
            return (self.std**2).expand(n).clone()
        inverse = self._factor.selected_inverse()
        on_diagonal = inverse.row_indices == inverse.col_indices
        found = torch.zeros(n, dtype=torch.float64, device="cpu")
        found[inverse.row_indices[on_diagonal]] = inverse.values[on_diagonal]
        return found

    def root(self, noise: Tensor) -> Tensor:
        """Return the symmetric square root of the covariance times noise ``[n]``."""
        if self.std is not None:
            return noise * self.std
        scale, poles = self._poles
        parts = [w * factor.solve(noise) for w, factor in zip(scale.tolist(), poles, strict=True)]
        return torch.stack(parts).sum(0)

    @property
    def _matrix(self) -> SparseTensor:
        if self.matrix is None:
            raise ArgumentError("this prior has no matrix")
        return self.matrix

    @cached_property
    def _factor(self) -> Factorization:
        return self._matrix.cholesky()

    @cached_property
    def _poles(self) -> tuple[Tensor, list[Factorization]]:
        """Weights and shifted factors with ``A^(-1/2) = Σ w_j (A + s_j)⁻¹`` to rounding.

        A trapezoidal rule after a conformal map of the plane without the spectrum and the negative axis: Hale, Higham
        and Trefethen, "Computing A^α, log(A), and related matrix functions by contour integrals", SIAM J. Numer. Anal.
        46(5), 2008, method 3. It converges geometrically, at a rate that depends on the logarithm of the condition.
        """
        from scipy.special import ellipj, ellipkm1

        least, most = self._spectrum()
        ratio = least / most
        # Errors fall like exp(-2 π² count / (log condition + 3)).
        count = max(POLES, math.ceil(1.8 * (3 - math.log(ratio))))
        quarter = float(ellipkm1(ratio))  # the complete integral of parameter 1 − ratio
        at = torch.arange(count, dtype=torch.float64, device="cpu")
        at = (at + 0.5) * quarter / count
        sn, cn, dn, _ = (torch.as_tensor(a, device="cpu") for a in ellipj(at.numpy(), 1 - ratio))
        shifts = least * (sn / cn) ** 2
        weights = (2 * quarter * least**0.5 / (torch.pi * count)) * dn / cn**2
        eye = SparseTensor.eye(int(self._matrix.shape[0]), dtype=torch.float64, device="cpu")
        return weights, [(self._matrix + float(s) * eye).cholesky() for s in shifts]

    def _spectrum(self) -> tuple[float, float]:
        """Return bounds of the eigenvalues."""
        matrix = self._matrix
        most = float(matrix.norm("inf"))
        if int(matrix.shape[0]) < 8:
            return float(torch.linalg.eigvalsh(matrix.to_dense())[0]), most
        (least,), _ = matrix.eigsh(k=1, which="SM")
        return 0.9 * float(least), most
