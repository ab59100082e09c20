"""The common face of hierarchies over tensors."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from torch_sla.errors import ArgumentError, Result
from torch_sla.linalg.kernels.arguments import expect_columns, plain
from torch_sla.linalg.methods.outcome import KrylovOptions, Outcome
from torch_sla.linalg.precond.multigrid.device.turns import Turns
from torch_sla.linalg.precond.multigrid.levels import Leveled
from torch_sla.linalg.sparse.transforms import outside_inference

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.precond.multigrid.options import AMG

__all__ = ["DeviceHierarchy"]

_STARTS = 3  # from the true residual, as in compiled code


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
        """Solve as `unchecked_cg` does."""

    @outside_inference
    def update(self, values: Tensor) -> None:
        """Take new slot values ``[nnz_csr]``; what the pattern decides stays."""
        with self._turns.next():
            self._update(values)

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
            ``CONVERGED`` only where ``‖b - A x‖``, recomputed, meets the tolerance; ``STAGNATION`` where the residual
            of the recurrence does and this one does not, after three fresh starts.
        """
        out = self.unchecked_cg(values, b, x0=x0, options=options)
        for start in range(_STARTS + 1):
            if out.result is not Result.CONVERGED or not b.numel():
                break
            left = None if options.maxiter is None else options.maxiter - out.iterations
            last = start == _STARTS or left == 0
            rest = replace(options, maxiter=1 if last else left)
            # It begins with the true residual, and ends at once where that meets the tolerance.
            more = self.unchecked_cg(values, b, x0=out.x, options=rest)
            if more.result is Result.CONVERGED and not more.iterations:
                break
            if last:
                out.result = Result.MAXITER if left == 0 else Result.STAGNATION
                break
            more.iterations += out.iterations
            more.history = out.history + more.history
            out = more
        return out

    @outside_inference
    def unchecked_cg(
        self,
        values: Tensor,
        b: Tensor,
        *,
        x0: Tensor | None = None,
        options: KrylovOptions = KrylovOptions(),  # noqa: B008
    ) -> Outcome:
        """As `cg`, for callers who look at the true residual themselves, as `SparseTensor.solve` does.

        ``CONVERGED`` is where the residual of the recurrence meets the tolerance. That one falls on where rounding
        keeps ``‖b - A x‖`` from falling.
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
