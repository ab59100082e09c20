"""The common face of hierarchies over tensors."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import torch

from torch_sla.errors import ArgumentError
from torch_sla.linalg.kernels.arguments import expect_columns, plain
from torch_sla.linalg.methods.outcome import KrylovOptions, Outcome
from torch_sla.linalg.precond.multigrid.device.turns import Turns
from torch_sla.linalg.precond.multigrid.levels import Leveled
from torch_sla.linalg.sparse.transforms import outside_inference

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.precond.multigrid.options import AMG

__all__ = ["DeviceHierarchy"]


class DeviceHierarchy(Leveled):
    """A multigrid hierarchy whose levels are tensors on one device.

    A subclass holds the levels and cycles on them. Work vectors belong to the hierarchy, so whoever uses it waits for
    its turn; they are made outside of inference mode, after which torch would refuse to write to them.

    Parameters
    ----------
    n
        Unknowns.
    device
        Of the levels.
    options
        See `AMG`.

    Raises
    ------
    ArgumentError
        For a K cycle.
    """

    method: str
    dtype: torch.dtype

    def __init__(self, n: int, device: torch.device, options: AMG) -> None:
        if options.cycle == "K":
            raise ArgumentError(
                "`cycle` must be V or W on a device, got 'K', whose inner products would wait for it"
            )
        self.n, self.options, self._turns = n, options, Turns(device)

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes held, work vectors included; the matrix it was built from is not counted."""

    @property
    @abstractmethod
    def coarse_nullity(self) -> int:
        """Dimension of the null space found in the coarsest matrix; -1 where it is only smoothed."""

    @abstractmethod
    def _update(self, values: Tensor) -> None:
        """Take new slot values."""

    @abstractmethod
    def _apply(self, r: Tensor, *, adjoint: bool) -> Tensor:
        """Return ``B r`` or ``Bᵀ r`` for ``r`` ``[n, K]``, in the dtype of `r`."""

    @abstractmethod
    def _cg(self, values: Tensor, b: Tensor, x0: Tensor | None, options: KrylovOptions) -> Outcome:
        """Solve as `cg` does."""

    @outside_inference
    def update(self, values: Tensor) -> None:
        """Take new slot values ``[nnz_csr]``; what the pattern decides stays."""
        with self._turns.next():
            self._update(values)

    @outside_inference
    def cg(
        self,
        values: Tensor,
        b: Tensor,
        *,
        x0: Tensor | None = None,
        options: KrylovOptions = KrylovOptions(),  # noqa: B008
    ) -> Outcome:
        """Solve ``A x = b`` by conjugate gradients around this hierarchy, scalars on the device.

        Parameters
        ----------
        values
            ``[nnz_csr]`` slot values of a symmetric positive (semi)definite matrix on the pattern of
            this hierarchy; they may differ from the ones it was built from.
        b
            ``[n, K]``, one column after the other.
        x0
            Starting value ``[n, K]``.
        options
            Tolerances and limits.

        Returns
        -------
        Outcome
            ``CONVERGED`` where the residual of the recurrence meets the tolerance. It falls on where rounding keeps
            ``‖b - A x‖`` from falling; `SparseTensor.solve` looks at that one.
        """
        if not b.numel():
            return Outcome(torch.empty_like(b))
        with self._turns.next():
            return self._cg(values, b, x0, options)

    def apply(self, r: Tensor) -> Tensor:
        """Return ``B r``, one cycle from zero, for ``r`` ``[n]`` or ``[n, K]``."""
        return self._turn(r, adjoint=False)

    def apply_adjoint(self, r: Tensor) -> Tensor:
        """Return ``Bᵀ r``: the same cycle on the transposed matrices."""
        return self._turn(r, adjoint=True)

    @outside_inference
    def _turn(self, r: Tensor, *, adjoint: bool) -> Tensor:
        expect_columns(r, "r", self.n)
        columns = plain(r).reshape(self.n, 1 if r.ndim == 1 else r.shape[1])
        with self._turns.next():
            return self._apply(columns, adjoint=adjoint).reshape(r.shape)

    @property
    def _head(self) -> str:
        return f"{self.method}, {str(self.dtype)[6:]}"
