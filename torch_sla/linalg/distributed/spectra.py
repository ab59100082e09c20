"""Eigenvalues and singular values: methods of `DSparseTensor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.linalg.distributed.eigen import EigenRequest, part_eigsh
from torch_sla.linalg.distributed.general import part_eigs
from torch_sla.linalg.distributed.knowledge import Knowledge
from torch_sla.linalg.distributed.layout import Layout
from torch_sla.linalg.distributed.sharding import Sharding
from torch_sla.linalg.distributed.vector import DVector
from torch_sla.linalg.distributed.verbs import leave_like, transpose
from torch_sla.linalg.eigen.convention import check_request
from torch_sla.linalg.sparse.transforms import outside_compiler, outside_transforms

if TYPE_CHECKING:
    from torch_sla.linalg.distributed.tensor import DSparseTensor

__all__ = ["eigs", "eigsh", "svd"]


@outside_compiler
def eigsh(
    D: DSparseTensor,
    k: int = 6,
    which: str = "LM",
    sigma: float | None = None,
    M: DSparseTensor | None = None,
    return_eigenvectors: bool = True,
    *,
    preconditioner: Any = "auto",
    tol: float | None = None,
    maxiter: int | None = None,
) -> Any:
    """Find `k` eigenpairs of a Hermitian matrix in parts, ``A v = λ M v``, by LOBPCG.

    Parameters
    ----------
    k, which, sigma, M, return_eigenvectors, tol, maxiter
        As for `SparseTensor.eigsh`; `M` is positive definite and cut into the same parts. Interior eigenvalues
        (`sigma`, and ``"SM"`` of indefinite matrices) are found by inverse iteration whose solves are iterative, which
        takes many products.
    preconditioner
        For ``"SA"`` and ``"SM"``, as for `solve`.

    Returns
    -------
    w, V
        ``[k]`` ascending, the same on every process; ``V`` ``[n, k]`` where this process holds all parts, else
        a `DVector` with `k` columns. Derivatives as for `SparseTensor.eigsh`.
    """
    mass = None
    if M is not None:
        if not D.layout.same(M.layout):
            raise ArgumentError("`M` must be cut into the same parts as the matrix")
        if not M.knowledge().hermitian:
            raise ArgumentError("`M` must be Hermitian positive definite")
        mass = (M.sharding.slots, M.slot_values())
        light = (mass[0].diagonal(mass[1].detach()).real <= 0).sum()
        count = int(D.comm.reduce(light.reshape(1))[0])
        if count:
            raise ArgumentError(
                f"`M` must be positive definite in parts, and {count} of its rows have no mass; a SparseTensor finds "
                "the finite pairs of a semidefinite `M`"
            )
    request = EigenRequest(k, which, sigma, preconditioner, tol, maxiter)
    w, V = part_eigsh(
        D.sharding.slots, D.slot_values(), mass, D.knowledge(), request, D.near_nullspace
    )
    return (w, leave_like(D, V)) if return_eigenvectors else w


@outside_compiler
def eigs(
    D: DSparseTensor,
    k: int = 6,
    which: str = "LM",
    return_eigenvectors: bool = True,
    *,
    tol: float | None = None,
    maxiter: int | None = None,
) -> Any:
    """Find `k` eigenpairs of a general matrix in parts by restarted Arnoldi.

    Parameters
    ----------
    k, which, return_eigenvectors, tol, maxiter
        As for `SparseTensor.eigs`, without shifts; ``"SM" "SR" "LR" "SI" "LI"`` take more restarts than ``"LM"``.
        ``"SI"`` of a real matrix is for some dozens of rows.

    Returns
    -------
    w, V
        Complex, as for `SparseTensor.eigs`; ``V`` in the form that `eigsh` gives. Eigenvalues and vectors are
        differentiable once.
    """
    w, V = part_eigs(D.sharding.slots, D.slot_values(), k, which, tol, maxiter, D.knowledge().norm)
    return (w, leave_like(D, V)) if return_eigenvectors else w


@outside_compiler
def svd(
    D: DSparseTensor,
    k: int = 6,
    which: str = "LM",
    *,
    tol: float | None = None,
    maxiter: int | None = None,
) -> tuple[Any, Tensor, Any]:
    """Find `k` singular values and vectors, ``A ≈ U diag(S) Vᴴ``, as eigenpairs of ``[[0, A], [Aᴴ, 0]]``.

    Parameters
    ----------
    k, which, tol, maxiter
        As for `SparseTensor.svd`; ``"SM"`` by inverse iteration, see `eigsh`.

    Returns
    -------
    U, S, V
        ``S`` ``[k]`` descending. Where this process holds all parts ``U`` ``[n, k]`` and ``Vᴴ`` ``[k, n]``, as
        `SparseTensor.svd` gives them; else ``U`` and ``V``, each a `DVector` with `k` columns.
    """
    if which not in ("LM", "SM"):
        raise ArgumentError(f"`which` must be 'LM' or 'SM', got {which!r}")
    n = D.shape[0]
    check_request(k, n, tol, maxiter)
    turned = transpose(D)
    sharding, order = _dilation(D, turned)
    entries = torch.cat([D.slot_values(), turned.slot_values().conj()])
    values = sharding.pattern.coalesce(entries)
    norm = float(torch.stack([torch.tensor(m.knowledge().norm) for m in (D, turned)]).max())
    known = Knowledge(hermitian=True, definite=False, norm=norm)
    if which == "LM":
        S, X = part_eigsh(
            sharding.slots, values, None, known, EigenRequest(k, "LA", tol=tol, maxiter=maxiter)
        )
    else:
        # Eigenvalues of the dilation come in pairs of opposite sign; positive ones are the singular values.
        S, X = part_eigsh(
            sharding.slots, values, None, known, EigenRequest(2 * k, "SM", tol=tol, maxiter=maxiter)
        )
        S, X = S[k:], X[:, k:]
    S, X = S.flip(0), X.flip(1) * 2**0.5
    U, V = X[order[0]], X[order[1]]
    if D.comm.alone:
        return leave_like(D, U), S, leave_like(D, V).mH
    return DVector(U, D.layout), S, DVector(V, D.layout)


@outside_transforms
def _dilation(D: DSparseTensor, turned: DSparseTensor) -> tuple[Sharding, tuple[Tensor, Tensor]]:
    """Positions of ``[[0, A], [Aᴴ, 0]]``: each part owns its rows of both halves, the first half first.

    Also returns where the two halves of a vector are in what is held here.
    """
    layout, comm = D.layout, D.comm
    offsets = layout.offsets
    sizes = 2 * offsets.diff()
    names = torch.cat([layout.names, layout.names + layout.n])
    order: tuple[list[Tensor], list[Tensor]] = ([], [])
    for here in layout.slices:
        i = torch.arange(here.start, here.stop, device=layout.device)
        order[0].append(i + here.start)
        order[1].append(i + here.stop)
    first, second = (torch.cat(part) for part in order)
    ordered = torch.empty_like(names)
    ordered[first], ordered[second] = layout.names, layout.names + layout.n
    double = Layout(comm, sizes, ordered, layout.device)
    starts = offsets.to(layout.device)

    def place(p: Tensor, half: int) -> Tensor:
        owner = layout.owner(p)
        return p + starts[owner + half]

    rows, cols = [], []
    for half, matrix in enumerate((D, turned)):
        s = matrix.sharding
        row = layout.start + s.pattern.csr_row.long()
        col = s.column_places[s.pattern.ccol.long()]
        rows.append(place(row, half))
        cols.append(place(col, 1 - half))
    return Sharding(double, double, torch.cat(rows), torch.cat(cols)), (first, second)
