"""What a matrix in parts can do: the methods of `DSparseTensor`."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.linalg.adjoint.exchange import exchange, gathered, replicated, total
from torch_sla.linalg.adjoint.solve import linear_solve
from torch_sla.linalg.distributed.communicator import presence
from torch_sla.linalg.distributed.layout import Layout
from torch_sla.linalg.distributed.nullspace import PartNullspace
from torch_sla.linalg.distributed.pieces import Moved, entry_halo, redistributed
from torch_sla.linalg.distributed.precond.base import (
    PartPreconditioner,
    Renewable,
    make,
    name_of,
)
from torch_sla.linalg.distributed.sharding import Sharding
from torch_sla.linalg.distributed.solve import PartSolver, SolveRequest, columns
from torch_sla.linalg.distributed.space import PartSpace
from torch_sla.linalg.distributed.vector import DVector, two_norm
from torch_sla.linalg.kernels.arguments import expect_dense, expect_rhs, expect_start
from torch_sla.linalg.methods.outcome import asked_rtol, default_rtol
from torch_sla.linalg.sparse.tensor import SparseTensor
from torch_sla.linalg.sparse.transforms import outside_compiler, outside_transforms

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.linalg.distributed.tensor import DSparseTensor

_LARGE = 4000  # rows above which a dense copy is warned of


# --- vectors -------------------------------------------------------------------------------------


def vector(D: DSparseTensor, x: Any, *, local: bool | None = None) -> DVector:
    """Make a vector in the parts of this matrix.

    Parameters
    ----------
    x
        A whole tensor ``[n]`` or ``[n, K]``, of which every process has the same copy and gets the whole gradient;
        what is held here ``[n_held]`` or with columns, in ascending order of global numbers in each part; a
        `DVector` cut otherwise, or a `DTensor` sharded along its first dimension in equal chunks, whose entries
        then move to their owners. Differentiable. All processes call it together, with vectors of one kind.
    local
        Whether a tensor is what is held here, in the order of `DVector.names`, or the whole. None: by its length; of a
        process that holds everything it is the whole, if it may be that on all processes.

    Raises
    ------
    ArgumentError
        If a tensor is neither, or not what `local` says.
    """
    layout = D.layout
    if isinstance(x, DVector):
        return (
            x if x.layout is layout else DVector(redistributed(x.local, x.layout, layout), layout)
        )
    if not isinstance(x, Tensor):
        raise ArgumentError(f"a vector must be a tensor, got {type(x).__name__}")
    if hasattr(x, "device_mesh"):
        return DVector(_from_chunks(D, x), layout)
    both = (layout.n, layout.n_held)
    sizes = both if local is None else (both[local],)
    if x.ndim not in (1, 2) or x.shape[0] not in sizes:
        wanted = f"the {layout.n} entries of the whole", f"the {layout.n_held} entries held here"
        which = " or ".join(wanted) if local is None else wanted[local]
        raise ArgumentError(f"a vector must have {which}, got {list(x.shape)}")
    if not (_whole(x, layout) if local is None else not local):
        return DVector(x, layout)
    if x.requires_grad and not layout.comm.alone:
        x = replicated(x, layout.comm)
    return DVector(x.index_select(0, layout.names), layout)


def _whole(x: Tensor, layout: Layout) -> bool:
    """Whether a tensor is the whole vector, which one process that holds all entries cannot tell by itself."""
    comm = layout.comm
    whole = x.shape[0] == layout.n
    if comm.alone:
        return whole
    firsts = [comm.first_part(rank) for rank in range(comm.world + 1)]
    if not bool((layout.offsets[firsts].diff() == layout.n).any()):
        return whole
    certain = torch.tensor(float(whole and x.shape[0] != layout.n_held), device=x.device)
    return bool(comm.reduce(certain, "max"))


def _from_chunks(D: DSparseTensor, x: Any) -> Tensor:
    """Entries held here of a `DTensor` in equal chunks."""
    layout, comm = D.layout, D.comm
    if x.shape[0] != layout.n or comm.world != x.device_mesh.size():
        raise ArgumentError(
            f"a DTensor must be [{layout.n}] over {comm.world} processes, got {list(x.shape)} over "
            f"{x.device_mesh.size()}"
        )
    placements = x.placements
    if len(placements) != 1 or not placements[0].is_shard(0):
        raise ArgumentError(f"a DTensor must be sharded along dimension 0, got {placements}")
    local = x.to_local()
    counts = torch.zeros(comm.parts, dtype=torch.int64, device=local.device)
    counts[comm.held.start] = local.shape[0]
    return redistributed(local, Layout(comm, comm.reduce(counts), device=local.device), layout)


def zeros(D: DSparseTensor, columns: int | None = None) -> DVector:
    """Return a vector of zeros, with columns where wanted."""
    n = D.layout.n_held
    shape = (n,) if columns is None else (n, columns)
    return DVector(torch.zeros(shape, dtype=D.dtype, device=D.device), D.layout)


def enter(D: DSparseTensor, x: Any, name: str) -> tuple[Tensor, Callable[[Tensor], Any]]:
    """Return what is held here of a vector, and how to give a result back in the same form."""
    layout = D.layout
    if isinstance(x, Tensor) and not hasattr(x, "device_mesh"):
        expect_dense(x, name, D.device)
        if x.ndim not in (1, 2) or x.shape[0] not in (layout.n, layout.n_held):
            raise ArgumentError(
                f"`{name}` must be a DVector, [{layout.n_held}] or [{layout.n_held}, K], got {list(x.shape)}"
            )
        if D.comm.alone:
            return x.index_select(0, layout.names), lambda y: _by_name(layout, y)
        if x.shape[0] != layout.n_held:
            raise ArgumentError(
                f"`{name}` has all {layout.n} entries, and this process holds {layout.n_held} of them: make it a "
                f"DVector with D.vector({name})"
            )
        return x, lambda y: y
    if isinstance(x, DVector) and not layout.same(x.layout):
        raise ArgumentError(
            f"`{name}` is cut into other parts than the matrix; D.vector({name}) moves its entries"
        )
    return vector(D, x).local, lambda y: DVector(y, layout)


def leave_like(D: DSparseTensor, y: Tensor) -> Any:
    """Return a result that no argument gave a form to: whole where all parts are here, else a `DVector`."""
    return _by_name(D.layout, y) if D.comm.alone else DVector(y, D.layout)


def _by_name(layout: Layout, y: Tensor) -> Tensor:
    """Whole tensor in the order of names, on the process that holds all parts."""
    back = torch.empty_like(layout.names)
    back[layout.names] = torch.arange(layout.n, device=back.device)
    return y.index_select(0, back)


# --- the whole -----------------------------------------------------------------------------------


def matvec(D: DSparseTensor, x: Any) -> Any:
    """Return ``A x``, in the form of `x`: `DVector`, or tensor as `solve` takes it; differentiable to any order."""
    local, leave = enter(D, x, "x")
    X, flat = columns(local, D.layout.n_held, "x")
    dtype = torch.promote_types(D.dtype, X.dtype)
    y = D.sharding.apply(D.slot_values().to(dtype), X.to(dtype))
    return leave(y.squeeze(1) if flat else y)


@outside_compiler
def solve(
    D: DSparseTensor,
    b: Any,
    method: str = "auto",
    preconditioner: Any = "auto",
    rtol: float | None = None,
    atol: float = 0.0,
    maxiter: int | None = None,
    x0: Any = None,
    info: bool = False,
    throw: bool = True,
    verbose: bool = False,
    tol: float | None = None,
    adjoint_rtol: float | None = None,
    nullspace: Any = None,
) -> Any:
    """Solve ``A x = b`` over all parts, differentiable in the values and in `b` to any order.

    Parameters
    ----------
    b
        A `DVector`; or a tensor: the whole ``[n]`` or ``[n, K]`` where this process holds all parts, else what it
        holds ``[n_held]`` or ``[n_held, K]``. The solution has the same form.
    method
        ``"cg"`` (one reduction in each iteration), ``"minres"``, ``"gmres"``, ``"bicgstab"``; ``"auto"`` takes the
        first for Hermitian matrices, the second where they turn out not to be definite, GMRES where the preconditioner
        is not definite either, and for other matrices.
    preconditioner
        ``"multigrid"``, ``"schwarz"``, ``"block_jacobi"``, ``"jacobi"``, ``"none"``, options of one of these, what
        `preconditioner` made, or a callable on what this process holds ``[n_held, K]``.
    rtol, atol, maxiter, x0, info, throw, verbose, tol, adjoint_rtol
        As for `SparseTensor.solve`.
    nullspace
        A basis of the nullspace of a Hermitian matrix, in any form that `vector` takes, columns for several vectors.
        The shortest solution for the part of `b` in the range is found.

    Raises
    ------
    SolveError, PlanError, ArgumentError, DTypeError
        As for `SparseTensor.solve`.
    RankError
        If processes differ in the dtype or the columns of `b`, or in what they ask for.
    """
    rtol = asked_rtol(rtol, tol)
    local, leave = enter(D, b, "b")
    B, flat = columns(local, D.layout.n_held)
    dtype = expect_rhs(B, D.dtype, D.device)
    request = SolveRequest(
        method,
        preconditioner,
        default_rtol(dtype) if rtol is None else rtol,
        atol,
        maxiter,
        adjoint_rtol,
        throw,
    )
    # Messages of another length, or for another method, would be waited for in vain.
    facts = {**vars(request), "preconditioner": name_of(preconditioner)}
    facts |= presence(x0=x0, nullspace=nullspace)
    D.comm.agree({"`b`": f"{B.shape[1]} columns of {B.dtype}", **facts})
    start = None
    if x0 is not None:
        given = enter(D, x0, "x0")[0].detach()
        expect_start(given, dtype)
        start = columns(given.to(dtype), D.layout.n_held, "x0")[0]
        start = start.expand_as(B).contiguous()
    known, null = D.knowledge(), None
    if nullspace is not None:
        if not known.hermitian:
            raise ArgumentError("`nullspace` in parts is for Hermitian matrices")
        basis = columns(vector(D, nullspace).local.to(dtype), D.layout.n_held, "nullspace")[0]
        null = PartNullspace(basis, PartSpace(D.layout))
    solver = PartSolver(D.sharding.slots, known, request, start, D.near_nullspace, null)
    x = linear_solve(D.slot_values().to(dtype), B.to(dtype), solver)
    report = solver.info
    if verbose:
        report.log()
    out = leave(x.squeeze(1) if flat else x)
    return (out, report) if info or not throw else out


@outside_compiler
def preconditioner(
    D: DSparseTensor, wanted: Any = "multigrid", *, like: PartPreconditioner | None = None
) -> PartPreconditioner:
    """Make a preconditioner of the present values, to be given to `solve` as often as wanted.

    Parameters
    ----------
    wanted
        A name or options, as for `solve`.
    like
        One made of other values on the same positions. What it chose stays (aggregates, kept points, fields), and so do
        positions and plans of exchange: a third of the work, or less. `wanted` then has no meaning.

    Returns
    -------
    PartPreconditioner
        ``apply`` and ``apply_adjoint`` act on what this process holds ``[n_held, K]``. It does not follow the
        values when these change; a solve with other values takes more iterations with it.

    Raises
    ------
    ArgumentError
        When `like` keeps nothing that other values could use.
    """
    with torch.no_grad():
        values = D.slot_values().detach()
    if like is not None:
        if not isinstance(like, Renewable):
            raise ArgumentError(
                f"`like` keeps nothing that other values could use: it is of type {type(like).__name__}; leave it out"
            )
        return like.renewed(values)
    found = make(wanted, D.sharding.slots, values, D.near_nullspace, renewable=True)
    if found is None:
        raise ArgumentError(f"`wanted` must be a preconditioner, got {wanted!r}")
    return found


def norm(D: DSparseTensor, ord: Any = "fro") -> Tensor:
    """Return the Frobenius norm, or with ``1`` or ``inf`` the largest column or row sum; differentiable."""
    values = D.slot_values()
    if ord == "fro":
        return two_norm(values, D.comm)
    if ord not in (1, float("inf"), "inf"):
        raise ArgumentError(f"`ord` must be 'fro', 1 or inf, got {ord!r}; svd gives the 2-norm")
    sizes = values.abs()
    if ord == 1:
        ones = sizes.new_ones(D.layout.n_held, 1)
        pattern = D.sharding.pattern.slots
        sums = D.sharding.fold(_column_sums(pattern, sizes, ones)).squeeze(1)
    else:
        sums = D.sharding.pattern.sum_rows(sizes)
    return _largest(D, sums)


def _column_sums(pattern: Any, sizes: Tensor, ones: Tensor) -> Tensor:
    from torch_sla.linalg.adjoint.matvec import matmul

    return matmul(pattern.transpose_values(sizes), ones, pattern.transposed)


def _largest(D: DSparseTensor, sums: Tensor) -> Tensor:
    """Largest of the sums over all parts; its gradient goes to the first that attains it."""
    here = sums.detach()
    top = here.amax() if here.numel() else here.new_zeros(())
    best = D.comm.reduce(top, "max")
    hit = ((here == best) | here.isnan()).nonzero()  # where there is NaN, that is the largest
    place = torch.tensor(float(D.layout.n), dtype=torch.float64, device=here.device)
    if hit.numel():
        place = (D.layout.start + hit[0, 0]).double()
    first = D.comm.reduce(place, "min")
    chosen = D.layout.start + torch.arange(len(here), device=here.device) == first
    # The others may be infinite: zero times those is NaN.
    return total(sums.where(chosen, 0.0).sum(), D.comm)


def diagonal(D: DSparseTensor) -> DVector:
    """Return the diagonal; differentiable."""
    return DVector(D.sharding.diagonal(D.slot_values()), D.layout)


def trace(D: DSparseTensor) -> Tensor:
    """Return the sum of the diagonal; differentiable."""
    return diagonal(D).sum()


def to_list(D: DSparseTensor) -> list[Any]:
    """Return the parts held here, a `DSparseMatrix` each."""
    return list(D)


def to_sparse_tensor(D: DSparseTensor) -> SparseTensor:
    """Return the whole matrix on every process, in the order of the user; differentiable, as `DVector.full_tensor` is.

    Takes the memory of the whole on each: for small matrices.
    """
    names = torch.cat([D.layout.names, D.halo_names])
    pattern = D.sharding.pattern
    row, col = D.layout.names[pattern.csr_row.long()], names[pattern.ccol.long()]
    values = D.slot_values()
    if not D.comm.alone:
        rows = D.comm.gather(row)
        start = sum(len(piece) for piece in rows[: D.comm.rank])
        mine = start + torch.arange(len(row), device=row.device)
        row, col = torch.cat(rows), torch.cat(D.comm.gather(col))
        values = gathered(values, mine, len(row), D.comm)
    return SparseTensor(values, row, col, D.shape)


def to_dense(D: DSparseTensor) -> Tensor:
    """Return the whole matrix ``[n, n]`` on every process; warns where that is large or leaves its process."""
    if D.shape[0] > _LARGE or not D.comm.alone:
        warnings.warn(
            f"to_dense gathers all parts: {D.shape[0]} x {D.shape[0]} numbers on every process",
            UserWarning,
            stacklevel=2,
        )
    return to_sparse_tensor(D).to_dense()


@outside_transforms
def _turned(D: DSparseTensor) -> tuple[Sharding, Moved | None]:
    """Positions of the transpose, and how its values come from the slots of the matrix."""
    s, places = D.sharding, D.sharding.column_places
    pattern = s.pattern
    row = s.rows.start + pattern.csr_row.long()
    col = places[pattern.ccol.long()]
    halo, (rows, cols) = entry_halo(D.comm, s.columns.owner(col), [col, row])
    return Sharding(s.columns, s.rows, rows, cols), halo


def transpose(D: DSparseTensor) -> DSparseTensor:
    """Return ``Aᵀ`` in the same parts: entries move to the owners of their columns; differentiable."""
    sharding, halo = _turned(D)
    values = D.slot_values()
    return type(D).from_sharding(sharding, values if halo is None else exchange(values, halo))


def adjoint(D: DSparseTensor) -> DSparseTensor:
    """Return ``Aᴴ``; see `T`."""
    turned = transpose(D)
    return turned.with_values(turned.values.conj().resolve_conj())
