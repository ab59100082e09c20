"""`DSparseMatrix`: one partition of a matrix in parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.linalg.adjoint.matvec import matmul
from torch_sla.linalg.distributed.launch import running
from torch_sla.linalg.distributed.solve import columns
from torch_sla.linalg.sparse.pattern import Pattern
from torch_sla.linalg.sparse.tensor import SparseTensor

if TYPE_CHECKING:
    from torch_sla.linalg.distributed.tensor import DSparseTensor

__all__ = ["DSparseMatrix"]


class DSparseMatrix:
    """The rows that one part owns, with the columns it borrows: its halo.

    Local vectors are ``[num_local]``: owned entries first, in ascending order of their global numbers, then the
    halo, by owner and number. What needs the other parts (`halo_exchange`, `solve` of the whole, `eigsh`) is for a part
    that is alone on its process.

    Parameters
    ----------
    whole
        The matrix it belongs to.
    part
        Number of the part, one of those this process holds.
    """

    def __init__(self, whole: DSparseTensor, part: int) -> None:
        if part not in whole.comm.held:
            raise ArgumentError(
                f"part {part} is not held by this process, which holds {list(whole.comm.held)}"
            )
        self.whole, self.partition_id = whole, part
        self.pattern, self._slots, self._mine = whole.sharding.part_pattern(part)
        self._own = whole.sharding.rows.part_slice(part)

    @classmethod
    def from_global(
        cls,
        values: Tensor,
        row: Tensor,
        col: Tensor,
        shape: tuple[int, ...],
        num_partitions: int,
        my_partition: int,
        partition_ids: Tensor | None = None,
        coords: Tensor | None = None,
        partition_method: str = "auto",
        device: torch.device | str | None = None,
        verbose: bool = False,
    ) -> DSparseMatrix:
        """Cut a whole matrix and take one part.

        Where `torch.distributed` runs with one process for each partition and this is the one numbered
        `my_partition`, the part is connected with the others; elsewhere it stands for study, and `solve` is of the
        subdomain alone.

        Parameters
        ----------
        values, row, col, shape
            The whole matrix, the same on every process.
        num_partitions, my_partition
            How many, and which.
        partition_ids
            Part of each row ``[M]``; else see `DSparseTensor`.
        """
        from torch_sla.linalg.distributed.tensor import DSparseTensor

        options: dict[str, Any] = {
            "coords": coords,
            "partition_method": partition_method,
            "partition_ids": partition_ids,
            "device": device,
            "verbose": verbose,
        }
        if (
            running()
            and dist.get_world_size() == num_partitions > 1
            and dist.get_rank() == my_partition
        ):
            whole = DSparseTensor.from_global_distributed(values, row, col, shape, **options)
        else:
            whole = DSparseTensor(values, row, col, shape, num_partitions, **options)
        return whole[my_partition]

    @property
    def connected(self) -> bool:
        """Whether the other parts are on other processes that work along."""
        return not self.whole.comm.alone

    @property
    def values(self) -> Tensor:
        """Entries of the rows, on the slots of `pattern`."""
        return self.whole.slot_values()[self._slots]

    @property
    def num_owned(self) -> int:
        """Rows."""
        return self.pattern.shape[0]

    @property
    def num_local(self) -> int:
        """Owned entries and halo of a vector."""
        return self.pattern.shape[1]

    @property
    def num_halo(self) -> int:
        """Entries that other parts own."""
        return self.num_local - self.num_owned

    @property
    def owned_nodes(self) -> Tensor:
        """Global numbers of the rows."""
        return self.whole.sharding.rows.names[self._own]

    @property
    def halo_nodes(self) -> Tensor:
        """Global numbers of the halo; on many processes all must ask together, the first time."""
        return self.whole.halo_names[self._mine]

    @property
    def local_to_global(self) -> Tensor:
        """Global numbers of a local vector ``[num_local]``."""
        return torch.cat([self.owned_nodes, self.halo_nodes])

    @property
    def global_shape(self) -> tuple[int, int]:
        """Of the whole matrix."""
        return self.whole.shape

    @property
    def shape(self) -> tuple[int, int]:
        """``(num_owned, num_local)``."""
        return self.pattern.shape

    def owned_matrix(self) -> SparseTensor:
        """Return the square matrix of owned rows and columns; differentiable."""
        row, col = self.pattern.csr_row.long(), self.pattern.ccol.long()
        inside = (col < self.num_owned).nonzero().squeeze(1)
        n = self.num_owned
        pattern = Pattern.from_coo(row[inside], col[inside], (n, n))
        return SparseTensor.from_pattern(pattern, self.values[inside])

    def halo_exchange(self, x: Tensor) -> Tensor:
        """Return the local vector with the halo that the other parts have; differentiable.

        Parameters
        ----------
        x
            ``[num_local]`` (what is in the halo does not matter) or ``[num_owned]``, or with columns.
        """
        self._need_others("halo_exchange", "DSparseTensor.halo_exchange_local")
        return self.whole.sharding.extend(x[: self.num_owned])

    def matvec(self, x: Tensor) -> Tensor:
        """Return the owned rows of ``A x``; differentiable.

        Parameters
        ----------
        x
            ``[num_local]``, used as it is; or ``[num_owned]``, whose halo is fetched. Or with columns.
        """
        if x.shape[0] == self.num_owned and self.num_halo:
            x = self.halo_exchange(x)
        X, flat = columns(x, self.num_local, "x")
        y = matmul(self.values, X, self.pattern)
        return y.squeeze(1) if flat else y

    __matmul__ = matvec

    def solve(self, b: Tensor, distributed: bool | None = None, **options: Any) -> Any:
        """Solve for the owned rows.

        Parameters
        ----------
        b
            ``[num_owned]`` or ``[num_owned, K]``.
        distributed
            True: the whole system, together with the other processes. False: the subdomain alone, all that is
            not owned taken to be zero. None: the whole where the others are there.
        options
            As for `DSparseTensor.solve`, or `SparseTensor.solve` for a subdomain alone.
        """
        if distributed is None:
            distributed = self.connected
        if distributed:
            self._need_others("solve(distributed=True)", "DSparseTensor.solve_distributed")
            return self.whole.solve(b, **options)
        return self.owned_matrix().solve(b, **options)

    def eigsh(self, k: int = 6, which: str = "LM", **options: Any) -> Any:
        """Find eigenpairs of the whole matrix, together with the other processes; see `DSparseTensor.eigsh`."""
        self._need_others("eigsh", "DSparseTensor.eigsh")
        return self.whole.eigsh(k, which, **options)

    def _need_others(self, what: str, instead: str) -> None:
        if len(self.whole.comm.held) > 1:
            raise ArgumentError(
                f"{what} needs the other parts, some of which this process holds as well: use {instead}"
            )

    def __repr__(self) -> str:
        return (
            f"DSparseMatrix(part {self.partition_id} of {self.whole.comm.parts}, owned={self.num_owned}, "
            f"halo={self.num_halo}, nnz={self.pattern.nnz_csr}, global_shape={self.global_shape})"
        )
