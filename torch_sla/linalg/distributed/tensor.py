"""`DSparseTensor`: a square sparse matrix whose rows are owned by parts.

The class holds what it is made of; what it can do in common with other matrices is in the files beside it, and how
entries become what a process holds in `entries`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.lazy import cached_property
from torch_sla.linalg.adjoint.exchange import exchange
from torch_sla.linalg.adjoint.unmapped import refuse_vmap
from torch_sla.linalg.distributed import local, nonlinear, spectra, verbs
from torch_sla.linalg.distributed.communicator import Communicator, InProcess, Traffic
from torch_sla.linalg.distributed.entries import Entries, Held, cut, put_together, whole_nodes
from torch_sla.linalg.distributed.everywhere import agreed
from torch_sla.linalg.distributed.knowledge import Knowledge, find_out
from torch_sla.linalg.distributed.part import DSparseMatrix
from torch_sla.linalg.kernels.sparse import fingerprint
from torch_sla.linalg.sparse.sizes import HoldsValues
from torch_sla.linalg.sparse.transforms import outside_transforms, physical

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch_sla.linalg.distributed.layout import Layout
    from torch_sla.linalg.distributed.pieces import Moved
    from torch_sla.linalg.distributed.sharding import Sharding
    from torch_sla.linalg.sparse.tensor import SparseTensor

__all__ = ["DSparseTensor"]


class DSparseTensor(HoldsValues):
    """A square sparse matrix in parts, all in this process or one on each process.

    This constructor keeps all parts here, for study and tests: vectors are whole tensors ``[n]``, and `traffic`
    tells what would have travelled. `from_device_mesh`, `from_global_distributed` and `from_local` make the same
    matrix with one part per process of `torch.distributed`; vectors then are a `DVector`, or the entries owned here
    ``[n_held]``. Everything else is the same code.

    Parameters
    ----------
    values, row, col, shape
        As for `SparseTensor`, without batch and blocks.
    num_partitions
        Number of parts; some are empty where there are more than rows.
    coords
        ``[n, dim]`` where the rows are, for `partition_method` ``"coordinates"``.
    partition_method
        ``"lattice" "metis" "coordinates" "graph" "simple"`` or ``"auto"``, the first that can be had.
    device
        Where to keep it; that of the values by default.
    verbose
        Whether to write the sizes of the parts to the logger ``torch_sla``.
    partition_ids
        Part of each row ``[n]``, instead of choosing them.
    near_nullspace
        ``[n, k]`` vectors with small ``‖A v‖ / ‖v‖`` (rigid-body modes), for multigrid.

    Examples
    --------
    >>> import torch
    >>> off = torch.tensor(-1.0, dtype=torch.float64)
    >>> from torch_sla.linalg import SparseTensor
    >>> A = SparseTensor.tridiagonal(off, torch.full((8,), 2.5, dtype=torch.float64), off)
    >>> D = A.partition(2)
    >>> b = torch.ones(8, dtype=torch.float64)
    >>> torch.allclose(D @ D.solve(b), b)
    True
    >>> D[0].num_owned, D[0].num_halo
    (4, 1)
    """

    near_nullspace: Tensor | None

    def __init__(
        self,
        values: Tensor,
        row: Tensor,
        col: Tensor,
        shape: tuple[int, ...],
        num_partitions: int = 4,
        coords: Tensor | None = None,
        partition_method: str = "auto",
        device: torch.device | str | None = None,
        verbose: bool = False,
        *,
        partition_ids: Tensor | None = None,
        near_nullspace: Tensor | None = None,
    ) -> None:
        entries = Entries(values, row, col, shape, device)
        how = coords, partition_method, partition_ids, near_nullspace
        self._set(*cut(InProcess(num_partitions), entries, *how))
        self._describe(verbose)

    def _set(
        self, sharding: Sharding, values: Tensor, moved: Moved | None, near: Tensor | None
    ) -> None:
        self.sharding, self._values, self._moved = sharding, values, moved
        self.near_nullspace = near
        self._known: tuple[int, Knowledge] | None = None

    @classmethod
    def from_sharding(
        cls, sharding: Sharding, values: Tensor, near_nullspace: Tensor | None = None
    ) -> DSparseTensor:
        """Put values ``[nnz]`` on positions that exist already: other values, or a matrix made part by part."""
        if values.ndim != 1 or values.numel() != sharding.pattern.nnz:
            raise ArgumentError(
                f"`values` must be [{sharding.pattern.nnz}], got {list(values.shape)}"
            )
        out = cls.__new__(cls)
        out._set(sharding, values, None, near_nullspace)
        return out

    @classmethod
    def from_sparse_tensor(
        cls, A: SparseTensor, num_partitions: int = 4, **options: Any
    ) -> DSparseTensor:
        """Cut a `SparseTensor`; blocks are written out, and stay in one part. Options as for the class.

        Unknowns of a node stay together, too, where coordinates of nodes travel with the matrix; their rigid motions
        are its near-nullspace then.
        """
        values, row, col, options = whole_nodes(A, num_partitions, options)
        return cls(values, row, col, A.flat_shape, num_partitions, **options)

    @classmethod
    def from_device_mesh(
        cls,
        values: Tensor,
        row: Tensor,
        col: Tensor,
        shape: tuple[int, ...],
        device_mesh: Any = None,
        coords: Tensor | None = None,
        partition_method: str = "auto",
        *,
        device: torch.device | str | None = None,
        verbose: bool = False,
        partition_ids: Tensor | None = None,
        near_nullspace: Tensor | None = None,
        num_partitions: int | None = None,
        comm: Communicator | None = None,
    ) -> DSparseTensor:
        """Cut a matrix that every process has, one part for each; every process keeps its own rows.

        Parameters
        ----------
        values, row, col, shape
            The whole matrix, the same on every process, and so is the gradient of `values`.
        device_mesh
            One-dimensional mesh, or process group; by default all processes, or this one where the program was not
            started by ``torchrun``.
        num_partitions
            One for each process by default.
        comm
            Instead of `device_mesh` and `num_partitions`, the communicator.

        Others as for the class.

        Raises
        ------
        ArgumentError
            On every process, when something is wrong on one.
        RankError
            If processes differ in the entries, in `partition_ids` or in `near_nullspace`: of what one computed in
            another way, also in the last bit. Let one compute it and send it to the others.
        """
        if comm is None:
            from torch_sla.linalg.distributed.processes import communicator

            comm = communicator(device_mesh, num_partitions)
        entries = Entries(values, row, col, shape, device)
        how = coords, partition_method, partition_ids, near_nullspace
        return cls.from_held(cut(comm, entries, *how), verbose=verbose)

    @classmethod
    def from_held(cls, held: Held, *, verbose: bool = False) -> DSparseTensor:
        """Take what a process holds of entries."""
        out = cls.__new__(cls)
        out._set(*held)
        out._describe(verbose)
        return out

    @classmethod
    def from_global_distributed(
        cls,
        values: Tensor,
        row: Tensor,
        col: Tensor,
        shape: tuple[int, ...],
        rank: int | None = None,
        world_size: int | None = None,
        **options: Any,
    ) -> DSparseTensor:
        """Do as `from_device_mesh` over all processes; `rank` and `world_size`, where given, are checked."""
        out = cls.from_device_mesh(values, row, col, shape, **options)
        true = {"rank": out.comm.rank, "world_size": out.comm.world}

        def check() -> None:
            for name, given in (("rank", rank), ("world_size", world_size)):
                if given is not None and given != true[name]:
                    raise ArgumentError(f"`{name}` is {given}, torch.distributed says {true[name]}")

        agreed(out.comm, out.device, check)
        return out

    @classmethod
    def from_local(
        cls,
        values: Tensor,
        row: Tensor,
        col: Tensor,
        shape: tuple[int, ...],
        owned: Tensor | Sequence[Tensor],
        device_mesh: Any = None,
        *,
        comm: Communicator | None = None,
        near_nullspace: Tensor | None = None,
    ) -> DSparseTensor:
        """Put a matrix together from the entries that each process has; none ever sees the whole.

        Entries of rows that others own are sent to them, and entries at one position add up, as element
        matrices assembled on overlapping pieces of a mesh do. Gradients come back to the entries given.

        Parameters
        ----------
        values, row, col
            Entries here ``[nnz]``, in global numbers.
        shape
            Of the whole.
        owned
            Global numbers of the rows owned here (a list of them where a process holds several parts); each row
            is owned once.
        device_mesh
            As for `from_device_mesh`.
        comm
            Instead of `device_mesh`, the communicator.
        near_nullspace
            ``[n_held, k]`` for the rows owned here, ascending.
        """
        if comm is None:
            from torch_sla.linalg.distributed.processes import communicator

            comm = communicator(device_mesh)
        entries = Entries(values, row, col, shape)
        return cls.from_held(put_together(comm, entries, owned, near_nullspace))

    def _describe(self, verbose: bool) -> None:
        """Say how the rows were cut."""
        if verbose:
            owned = self.layout.offsets.diff().tolist()
            logging.getLogger("torch_sla").info("%s: owned %s", self, owned)

    # --- what it is ------------------------------------------------------------------------------

    @property
    def comm(self) -> Communicator:
        """The processes that hold it."""
        return self.sharding.rows.comm

    @property
    def layout(self) -> Layout:
        """Who owns which rows."""
        return self.sharding.rows

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, n)``."""
        return self.sharding.shape

    @property
    def num_partitions(self) -> int:
        """Number of parts, on all processes."""
        return self.comm.parts

    @cached_property
    def nnz(self) -> int:
        """Distinct positions, on all processes."""
        here = torch.tensor([self.sharding.pattern.nnz_csr], device=self.device)
        return int(self.comm.reduce(here))

    @property
    def traffic(self) -> Traffic:
        """What was sent so far; on many processes, what this one sent."""
        return self.comm.traffic

    @cached_property
    @outside_transforms
    def halo_names(self) -> Tensor:
        """Global numbers of the halo; all processes ask together."""
        return self.sharding.halo.fetch(self.layout.names)

    def slot_values(self) -> Tensor:
        """Entries of the rows held here on the slots of their pattern; recorded."""
        values = self._values if self._moved is None else exchange(self._values, self._moved)
        return self.sharding.pattern.coalesce(values)

    @outside_transforms
    def knowledge(self) -> Knowledge:
        """Return what the present values show; all processes ask together, and it is remembered."""
        refuse_vmap(self._values, "matrices in parts")
        values = physical(self.slot_values())
        mark = fingerprint(values)
        new = self._known is None or self._known[0] != mark
        fresh = torch.tensor([float(new)], device=values.device)
        if float(self.comm.reduce(fresh, "max")) > 0 or self._known is None:
            self._known = (mark, find_out(self.sharding.slots, values))
        return self._known[1]

    def with_values(self, values: Tensor) -> DSparseTensor:
        """Return a matrix with other entries, in the order of `values`, at the same positions."""
        if values.shape != self._values.shape:
            raise ArgumentError(
                f"`values` must be {list(self._values.shape)}, got {list(values.shape)}"
            )
        out = DSparseTensor.__new__(DSparseTensor)
        out._set(self.sharding, values, self._moved, self.near_nullspace)
        return out

    def settled(self) -> DSparseTensor:
        """Return the same matrix with its values in the order in which they are stored, without what was given.

        Where entries were not given row by row with columns ascending, own columns first, or belong to other
        processes, a matrix keeps them beside what it stores, so that values can be replaced and get gradients as they
        were given: a third of its memory. `values` are those of the stored entries here, without history.
        """
        kept = physical(self.slot_values()).detach()
        return DSparseTensor.from_sharding(self.sharding.slots, kept, self.near_nullspace)

    def detach(self) -> DSparseTensor:
        """Return the same matrix without history."""
        return self.with_values(self._values.detach())

    def __len__(self) -> int:
        return self.num_partitions

    def __getitem__(self, part: int) -> DSparseMatrix:
        if not isinstance(part, int) or not -len(self) <= part < len(self):
            raise IndexError(f"there are parts 0 to {len(self) - 1}, got {part!r}")
        return DSparseMatrix(self, part % len(self))

    def __iter__(self) -> Iterator[DSparseMatrix]:
        return (self[p] for p in self.comm.held)

    def __repr__(self) -> str:
        where = "this process" if self.comm.alone else f"{self.comm.world} processes"
        return f"DSparseTensor(shape={self.shape}, {self.num_partitions} parts on {where}, {self.dtype})"

    vector = verbs.vector
    zeros = verbs.zeros
    scatter_local = local.scatter_local
    gather_global = local.gather_global
    halo_exchange_local = local.halo_exchange_local
    matvec_all = local.matvec_all
    solve_all = local.solve_all
    __matmul__ = matvec = verbs.matvec
    solve = verbs.solve
    solve_distributed = verbs.solve
    preconditioner = verbs.preconditioner
    norm = verbs.norm
    trace = verbs.trace
    diagonal = verbs.diagonal
    to_list = verbs.to_list
    to_dense = verbs.to_dense
    to_sparse_tensor = verbs.to_sparse_tensor
    T = verbs.transpose
    H = verbs.adjoint
    eigsh = spectra.eigsh
    eigs = spectra.eigs
    svd = spectra.svd
    nonlinear_solve = nonlinear.nonlinear_solve
