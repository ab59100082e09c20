"""From the entries of a matrix to what this process holds of it: checked, cut or put together.

A matrix that every process has whole is cut; one of which each process has some entries is put together. Both end in
the positions held here, their values, and how values that were given elsewhere arrive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, DTypeError
from torch_sla.linalg.adjoint.exchange import replicated
from torch_sla.linalg.distributed.communicator import described
from torch_sla.linalg.distributed.everywhere import agreed
from torch_sla.linalg.distributed.layout import Layout
from torch_sla.linalg.distributed.partition import choose_parts
from torch_sla.linalg.distributed.pieces import Moved, entry_halo, layout_of_owned, place_of
from torch_sla.linalg.distributed.sharding import Sharding
from torch_sla.linalg.precond.multigrid.nullspace import chosen_near_nullspace
from torch_sla.linalg.sparse.transforms import physical

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch_sla.linalg.distributed.communicator import Communicator
    from torch_sla.linalg.sparse.tensor import SparseTensor

__all__ = ["Entries", "Held", "cut", "put_together", "whole_nodes"]


class Entries:
    """Values ``[nnz]`` at positions of a square matrix, in global numbers, as they were given to this process.

    Parameters
    ----------
    values, row, col, shape
        As for `SparseTensor`, without batch and blocks.
    device
        Where to keep them; that of the values by default.
    """

    def __init__(
        self,
        values: Tensor,
        row: Tensor,
        col: Tensor,
        shape: tuple[int, ...],
        device: torch.device | str | None = None,
    ) -> None:
        if device is not None:
            values, row, col = (t.to(device) for t in (values, row, col))
        self.values, self.row, self.col, self.shape = values, row, col, tuple(shape)

    def agreed(self, comm: Communicator) -> int:
        """Check those of every process, on every process, and return the number of rows."""
        device = self.values.device if isinstance(self.values, Tensor) else "cpu"
        return agreed(comm, device, self._checked)

    def _checked(self) -> int:
        values, row, col, shape = self.values, self.row, self.col, self.shape
        if not isinstance(values, Tensor) or not (
            values.is_floating_point() or values.is_complex()
        ):
            what = values.dtype if isinstance(values, Tensor) else type(values).__name__
            raise DTypeError(f"`values` must be a floating point or complex tensor, got {what}")
        for name, index in (("row", row), ("col", col)):
            if not isinstance(index, Tensor):
                raise ArgumentError(f"`{name}` must be a tensor, got {type(index).__name__}")
        if len(shape) != 2 or shape[0] != shape[1]:
            raise ArgumentError(f"`shape` of a matrix in parts must be (n, n), got {shape}")
        n = int(shape[0])
        if values.ndim != 1 or values.shape != row.shape or row.shape != col.shape:
            raise ArgumentError(
                f"`values`, `row` and `col` must be vectors of one length, got {list(values.shape)}, "
                f"{list(row.shape)}, {list(col.shape)}"
            )
        for name, index in (("row", row), ("col", col)):
            if index.dtype not in (torch.int32, torch.int64):
                raise ArgumentError(f"`{name}` must be int32 or int64, got {index.dtype}")
            if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < n:
                raise ArgumentError(
                    f"`{name}` must lie in [0, {n}), got {int(index.min())} to {int(index.max())}"
                )
        return n


class Held(NamedTuple):
    """What a process holds.

    Parameters
    ----------
    sharding
        Positions held here.
    values
        As they were given ``[nnz]``.
    moved
        How those of other processes arrive, if any do.
    near
        Rows held here of a near-nullspace ``[n_held, k]``.
    """

    sharding: Sharding
    values: Tensor
    moved: Moved | None
    near: Tensor | None


def cut(
    comm: Communicator,
    entries: Entries,
    coords: Tensor | None,
    method: str,
    part: Tensor | None,
    near: Tensor | None = None,
    *,
    shares: bool = False,
    compared: bool = False,
) -> Held:
    """Take what this process holds of a matrix that every process has whole.

    Parameters
    ----------
    comm
        The processes.
    entries
        All entries, the same on every process.
    coords, method
        As for `choose_parts`.
    part
        Part of each row ``[n]``, instead of choosing them.
    near
        Of a near-nullspace, all rows ``[n, k]``.
    shares
        Whether a process gets its share of the gradient of the values, which the caller adds up, not the whole.
    compared
        Whether the caller knows that all processes have the same entries; the rest is compared here.

    Raises
    ------
    RankError
        When processes were given different matrices, cuts or vectors, of which each would keep its own share.
    """
    n = entries.agreed(comm)
    values, row, col = entries.values, entries.row, entries.col
    if not comm.alone:
        given = {"partition_ids": part, "near_nullspace": near}
        if not compared:
            given |= {"values": values, "row": row, "col": col}
        facts = {f"`{name}`": _described(x) for name, x in given.items()}
        comm.agree({"`shape`": entries.shape, **facts})

    def chosen() -> Tensor:
        if near is not None:
            _check_near(near, n)
        if part is not None:
            if not isinstance(part, Tensor) or part.shape != (n,):
                raise ArgumentError(f"`partition_ids` must be [{n}], got {_shown(part)}")
            return physical(part).long().to(row.device)
        # One process decides: the others need not come to the same cut by themselves.
        if comm.rank == 0:
            return choose_parts(row, col, n, comm.parts, coords=coords, method=method)
        return torch.empty(n, dtype=torch.int64, device=row.device)

    found = agreed(comm, row.device, chosen)
    part = physical(found if part is not None else comm.broadcast(found)).long()
    layout, place = Layout.of_parts(comm, part)
    if not comm.alone:
        owner = part.index_select(0, physical(row))
        mine = ((owner >= comm.held.start) & (owner < comm.held.stop)).nonzero().squeeze(1)
        values = values if shares else replicated(values, comm)
        values, row, col = values[mine], row[mine], col[mine]
    place = place.to(layout.index)
    rows, cols = (place.index_select(0, physical(t)) for t in (row, col))
    held = None if near is None else near[layout.names]
    return Held(Sharding(layout, layout, rows, cols), values, None, held)


def put_together(
    comm: Communicator,
    entries: Entries,
    owned: Tensor | Sequence[Tensor],
    near: Tensor | None = None,
) -> Held:
    """Send entries that each process has to the owners of their rows, those here `owned`; equal positions add up.

    Parameters
    ----------
    near
        Of a near-nullspace, the rows owned here ``[n_held, k]``.
    """
    n = entries.agreed(comm)
    groups = [owned] if isinstance(owned, Tensor) else list(owned)

    def check() -> None:
        if len(groups) != len(comm.held):
            raise ArgumentError(
                f"`owned` must list rows for {len(comm.held)} parts, got {len(groups)}"
            )
        if near is not None:
            _check_near(near, sum(len(group) for group in groups))

    agreed(comm, entries.values.device, check)
    vectors = "nothing" if near is None else f"{near.shape[1]} columns of {near.dtype}"
    facts = {"`shape`": entries.shape, "the dtype of `values`": entries.values.dtype}
    comm.agree({**facts, "`near_nullspace`": vectors})
    layout, directory = layout_of_owned(comm, [physical(g) for g in groups], n)
    places = [place_of(physical(t), directory) for t in (entries.row, entries.col)]
    moved, places = entry_halo(comm, layout.owner(places[0]), places)
    return Held(Sharding.taking(layout, layout, places), entries.values, moved, near)


def _check_near(near: Tensor, n: int) -> None:
    if not isinstance(near, Tensor) or near.ndim != 2 or near.shape[0] != n:
        raise ArgumentError(f"`near_nullspace` must be [{n}, k], got {_shown(near)}")


def _described(given: object) -> str:
    return described(physical(given) if isinstance(given, Tensor) else given)


def _shown(given: object) -> str:
    return str(list(given.shape)) if isinstance(given, Tensor) else type(given).__name__


def whole_nodes(
    A: SparseTensor, parts: int, options: dict[str, Any]
) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]]:
    """Write the blocks of a matrix out and choose parts that hold whole nodes.

    Unknowns belong to one node where they form a block, or where coordinates of nodes travel with the matrix; their
    rigid motions are its near-nullspace then.

    Returns
    -------
    values, row, col
        Of the scalar entries ``[nnz]``.
    options
        Those of `DSparseTensor`, with what follows from the matrix.
    """
    if A.is_batched:
        raise ArgumentError("a matrix in parts has no batch; take one member")
    options = dict(options)
    known = A.declared
    pattern, values = A.flat_slots() if A.is_block else (A.pattern, A.values)
    n, x = int(A.flat_shape[0]), known.coordinates
    edge = A.pattern.block[0] if A.is_block else 1
    if edge == 1 and x is not None and 1 < x.shape[-1] == n // max(len(x), 1):
        edge = x.shape[-1]
    options.setdefault("near_nullspace", chosen_near_nullspace(None, known, n))
    if edge == 1 or (x is not None and len(x) * edge == n):
        options.setdefault("coords", x)
    if edge > 1 and options.get("partition_ids") is None:
        rows, cols = A.row_indices, A.col_indices
        if not A.is_block:
            rows, cols = (torch.div(t, edge, rounding_mode="floor") for t in (rows, cols))
        where = options.pop("coords", None)
        part = choose_parts(
            *(rows, cols, n // edge, parts),
            coords=where if where is None or len(where) != n else where[::edge],
            method=options.pop("partition_method", "auto"),
        )
        options["partition_ids"] = part.repeat_interleave(edge)
    row, col = (pattern.row, pattern.col) if A.is_block else (A.row_indices, A.col_indices)
    return values, row, col, options
