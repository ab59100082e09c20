"""What ranks do in tests: programs for `tests.helpers.ranks`, and the matrices they work on.

Every process makes the same whole matrix; what it returns is brought together by names, so that it can be
compared with serial code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.linalg import DSparseMatrix, SparseTensor
from torch_sla.linalg.distributed.precond.multigrid import PartMultigrid
from torch_sla.linalg.distributed.processes import Processes
from torch_sla.linalg.distributed.tensor import DSparseTensor
from torch_sla.linalg.distributed.vector import DVector

if TYPE_CHECKING:
    from torch_sla.linalg.distributed.communicator import Communicator

__all__ = [
    "MATRICES",
    "PRECONDITIONERS",
    "arithmetic",
    "assembled",
    "checks",
    "curved",
    "lattice",
    "matrix",
    "newton",
    "nowhere_a_number",
    "on_a_lattice",
    "one_part",
    "poisson",
    "preconditioned",
    "renewed",
    "rhs",
    "solved",
    "spectral",
    "tensor_of",
]

Held = dict[str, Any]
PRECONDITIONERS = {"classical": PartMultigrid(method="classical")}


def _graph(n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Points in a square joined to their nearest neighbours: an irregular mesh of sorts."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(n, 2, generator=generator, dtype=torch.float64)
    distance = torch.cdist(points, points) + 10 * torch.eye(n)
    near = distance.topk(min(5, n - 1), largest=False).indices
    i = torch.arange(n).repeat_interleave(near.shape[1])
    pairs = torch.stack([torch.cat([i, near.flatten()]), torch.cat([near.flatten(), i])])
    i, j = torch.unique(pairs, dim=1)
    return i, j, points


def matrix(name: str, dtype: torch.dtype = torch.float64) -> tuple[SparseTensor, Tensor]:
    """Return a matrix by name, and where its rows are."""
    n = {"tiny": 3, "blobs": 60}.get(name, 150)
    i, j, points = _graph(n, 5)
    if name == "blobs":  # three components and two rows on their own
        third = torch.arange(n) % 3
        keep = (third[i] == third[j]) & (i < n - 2) & (j < n - 2)
        i, j = i[keep], j[keep]
    weight = 1 / (0.05 + (points[i] - points[j]).norm(dim=1))
    if dtype.is_complex:
        weight = weight * torch.exp(0.3j * (j - i).sign())
    d = torch.zeros(n, dtype=torch.float64).index_add_(0, i, weight.abs()) + 0.5
    off = -weight
    if name == "convection":
        off = off * (1 + 0.4 * (j - i).sign())
    if name == "indefinite":
        d = d * (1 - 2 * (torch.arange(n) % 2))
    own = torch.arange(n)
    values = torch.cat([off, d.to(off.dtype)]).to(dtype)
    return SparseTensor(values, torch.cat([i, own]), torch.cat([j, own]), (n, n)), points


MATRICES = ("irregular", "blobs", "tiny")


def rhs(n: int, dtype: torch.dtype, columns: int | None = None) -> Tensor:
    """Return a right-hand side, the same everywhere."""
    shape = (n,) if columns is None else (n, columns)
    generator = torch.Generator().manual_seed(9)
    wide = torch.complex128 if dtype.is_complex else torch.float64
    return torch.randn(shape, generator=generator, dtype=wide).to(dtype)


def parts_of(name: str, n: int, parts: int) -> Tensor | None:
    """Return unusual cuts: everything at the ends, or scattered; None leaves the choice."""
    if name == "gap":
        return torch.where(torch.arange(n) < n // 3, 0, parts - 1)
    if name == "scattered":
        return (torch.arange(n) * 7) % parts
    return None


def cut(
    comm: Communicator, A: SparseTensor, values: Tensor, how: str = "", each: int = 1
) -> DSparseTensor:
    """Cut a matrix for a communicator: in this process, or over many with some parts on each."""
    part = parts_of(how, A.shape[-1], comm.parts * each)
    where = (values, A.row_indices, A.col_indices, tuple(A.shape))
    if not isinstance(comm, Processes):
        return DSparseTensor(*where, comm.parts, partition_ids=part)
    return DSparseTensor.from_device_mesh(
        *where, comm.group, partition_ids=part, num_partitions=comm.parts * each
    )


def whole(D: DSparseTensor, local: Tensor) -> Tensor:
    """Gather a vector by names."""
    return DVector(local, D.layout).full_tensor()


def summed(comm: Communicator, gradient: Tensor) -> Tensor:
    """Add up the gradient of what every process has whole."""
    return comm.reduce(gradient)


def communicator(group: Any, parts: int | None) -> Communicator:
    from torch_sla.linalg.distributed.communicator import InProcess

    return InProcess(parts or 1) if group is None else Processes(group)


def arithmetic(group: Any, name: str, how: str, parts: int | None = None) -> Held:
    """Products, norms and their gradients."""
    comm = communicator(group, parts)
    A, _ = matrix(name)
    n = A.shape[-1]
    values = A.values.clone().requires_grad_()
    x = rhs(n, A.dtype).requires_grad_()
    D = cut(comm, A, values, how)
    v = D.vector(x)
    y = D @ v
    z = D.T() @ torch.tanh(y)
    loss = (z**3).sum() + y.norm() + y.dot(v) + D.norm() + D.norm(1) + D.norm(float("inf"))
    loss = loss + D.to_sparse_tensor().to_dense().abs().pow(3).sum()
    loss = loss + D.trace() + (D.diagonal() ** 3).sum()
    loss.backward()
    assert values.grad is not None
    assert x.grad is not None
    return {
        "loss": loss.detach(),
        "y": whole(D, y.local),
        "values": values.grad,
        "x": x.grad,
    }


def solved(
    group: Any, name: str, options: dict[str, Any], dtype: Any, parts: int | None = None
) -> Held:
    """A solve and its gradients."""
    comm = communicator(group, parts)
    A, _ = matrix(name, dtype)
    values = A.values.clone().requires_grad_()
    b = rhs(A.shape[-1], dtype, 2).requires_grad_()
    D = cut(comm, A, values, options.pop("how", ""), options.pop("each", 1))
    before = D.traffic.copy()
    x, info = D.solve(D.vector(b), info=True, **options)
    sent = D.traffic.since(before)
    loss = (x * x.map(torch.conj)).sum().real.sum() + (x.local.real**3).sum()
    loss.backward()
    assert values.grad is not None
    assert b.grad is not None
    return {
        "x": whole(D, x.local),
        "values": values.grad,
        "b": b.grad,
        "iterations": info.iterations,
        "method": info.method,
        "sent": (sent.messages, sent.bytes, sent.reductions, sent.gathers),
        "halo": D.sharding.halo.size,
    }


def assembled(group: Any, parts: int | None = None) -> Held:
    """A matrix put together from pieces that overlap, never whole anywhere."""
    comm = communicator(group, parts)
    A, _ = matrix("irregular")
    n = A.shape[-1]
    share = (torch.arange(len(A.values)) * 5) % comm.world == comm.rank
    values = A.values[share].clone().requires_grad_()
    owner = (torch.arange(n) // 3) % comm.parts
    owned = [(owner == p).nonzero().squeeze(1) for p in comm.held]
    before = comm.traffic.copy()
    D = DSparseTensor.from_local(
        values, A.row_indices[share], A.col_indices[share], (n, n), owned, comm=comm
    )
    x = D.vector(rhs(n, A.dtype))
    y = D @ D.solve(D @ x)
    gathered = comm.traffic.since(before).gathered
    (y**3).sum().backward()
    assert values.grad is not None
    gradient = torch.zeros_like(A.values)
    gradient[share] = values.grad
    return {"y": whole(D, y.local), "values": summed(comm, gradient), "gathered": gathered}


def checks(group: Any) -> Held:
    """What only exists on many processes: DTensors, refusals, local tensors."""
    from torch.distributed.device_mesh import DeviceMesh

    comm = Processes(group)
    A, _ = matrix("irregular")
    n = A.shape[-1]
    D = cut(comm, A, A.values, "scattered")
    x = rhs(n, A.dtype)
    v = D.vector(x)
    mesh = DeviceMesh.from_group(group, "cpu")
    there = v.to_dtensor(mesh)
    back = D.vector(there)
    y = D @ v.local
    refused = ["", ""]
    for i, wrong in enumerate([x, cut(comm, A, A.values).vector(x)]):
        try:
            D @ wrong
        except ArgumentError as error:
            refused[i] = str(error)
    part = D[comm.rank]
    return {
        "chunk": there.to_local(),
        "same": torch.equal(back.local, v.local),
        "y": whole(D, y),
        "refused": refused,
        "owned": part.num_owned,
        "halo": part.halo_exchange(v.local)[part.num_owned :],
        "expected": x[part.halo_nodes],
        "total": float(v.max() - v.min()),
    }


def nowhere_a_number(group: Any, where: int) -> Held:
    """Sizes of vectors and matrices that have NaN at one place, on one process."""
    A, _ = matrix("irregular")
    D = cut(Processes(group), A, A.values, "scattered")
    x = rhs(A.shape[-1], A.dtype)
    x[where] = torch.nan
    v = D.vector(x)
    values = A.values.masked_fill(A.row_indices == where, torch.nan)
    B = cut(Processes(group), A, values, "scattered")
    norms = [B.norm(order) for order in ("fro", 1, float("inf"))]
    numbers = D.comm.reduce(torch.tensor([float(D.comm.rank), 1.0]), "min")
    return {"sizes": torch.stack([v.max(), v.min(), v.norm(), *norms]), "numbers": numbers}


def one_part(group: Any) -> Held:
    """The part of one rank, made from the whole matrix, connected with those of the others."""
    import torch.distributed as dist

    rank, world = dist.get_rank(group), dist.get_world_size(group)
    A, _ = matrix("irregular")
    M = DSparseMatrix.from_global(
        A.values, A.row_indices, A.col_indices, tuple(A.shape), world, rank, verbose=True
    )
    x = rhs(A.shape[-1], A.dtype)[M.owned_nodes]
    y = M.solve(M.matvec(x), rtol=1e-13)
    alone = M.solve(x, distributed=False)
    w = M.eigsh(2, which="SA", return_eigenvectors=False)
    return {
        "connected": M.connected,
        "error": float((y - x).abs().max()),
        "alone": float((M.owned_matrix() @ alone - x).abs().max()),
        "w": w,
    }


def poisson(cells: int) -> SparseTensor:
    """Return the five-point Laplacian of a square lattice."""
    i = torch.arange(cells * cells)
    x, y = i % cells, i // cells
    row, col, entries = [i], [i], [torch.full((len(i),), 4.0)]
    for inside, step in ((x > 0, -1), (x < cells - 1, 1), (y > 0, -cells), (y < cells - 1, cells)):
        row.append(i[inside])
        col.append(i[inside] + step)
        entries.append(torch.full((int(inside.sum()),), -1.0))
    n = cells * cells
    return SparseTensor(torch.cat(entries).double(), torch.cat(row), torch.cat(col), (n, n))


def preconditioned(group: Any, names: tuple[str, ...]) -> Held:
    """Iterations by preconditioner, and what a solve with multigrid sends."""
    comm = Processes(group)
    A = poisson(25)
    D = cut(comm, A, A.values)
    b = D.vector(rhs(A.shape[-1], A.dtype))
    out: Held = {}
    for name in names:
        before = D.traffic.copy()
        options = PRECONDITIONERS.get(name, name)
        x, info = D.solve(b, preconditioner=options, info=True)
        out[name] = (info.iterations, whole(D, x.local), D.traffic.since(before).gathered)
    return out


def spectral(group: Any, parts: int | None = None) -> Held:
    """Eigenvalues, singular values, and gradients of them."""
    comm = communicator(group, parts)
    A = poisson(14)
    n = A.shape[-1]
    bent = A.values * (1 + 0.2 * torch.cos(1.3 * (A.row_indices + A.col_indices)).double())
    values = bent.clone().requires_grad_()
    D = cut(comm, A, values)
    before = D.traffic.copy()
    c = torch.linspace(1, 2, n, dtype=torch.float64)
    at = c[D.layout.names].unsqueeze(1)
    loss: Tensor = torch.zeros((), dtype=torch.float64)
    found: Held = {}
    for name, (w, V) in {
        "low": D.eigsh(2, "SA"),
        "high": D.eigsh(2, "LM"),
        "general": D.eigs(2, "LM"),
    }.items():
        local = V.local if isinstance(V, DVector) else V.index_select(0, D.layout.names)
        loss = loss + (w.abs() ** 2).sum() + comm_total(D, at * local.abs() ** 4)
        found[name] = w.detach()
    _, S, _ = D.svd(2)
    loss = loss + (S**3).sum()
    gathered = D.traffic.since(before).gathered
    loss.backward()
    assert values.grad is not None
    found |= {"svd": S.detach(), "loss": loss.detach(), "values": values.grad}
    return found | {"gathered": gathered}


def comm_total(D: DSparseTensor, x: Tensor) -> Tensor:
    """Sum over entries and processes."""
    return DVector(x, D.layout).sum().sum()


def newton(group: Any, method: str, parts: int | None = None) -> Held:
    """A nonlinear system with a matrix, a vector and a number as parameters."""
    comm = communicator(group, parts)
    A, _ = matrix("irregular")
    n = A.shape[-1]
    values = A.values.clone().requires_grad_()
    q = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    f = rhs(n, A.dtype).requires_grad_()
    D = cut(comm, A, values)
    before = D.traffic.copy()

    def residual(u: DVector, A: DSparseTensor, q: Tensor, f: DVector) -> DVector:
        F: DVector = A @ u + q * u**3 + u.map(torch.tanh) - f
        return F

    u = D.nonlinear_solve(residual, D.zeros(), q, D.vector(f), method=method, rtol=1e-12)
    (u * u * u).sum().backward()
    gathered = D.traffic.since(before).gathered
    assert values.grad is not None
    assert q.grad is not None
    assert f.grad is not None
    return {
        "u": whole(D, u.local),
        "values": values.grad,
        "q": q.grad,
        "f": f.grad,
        "gathered": gathered,
    }


def curved(group: Any, parts: int | None = None) -> Held:
    """Second derivatives through sums over processes, and Newton's method on a residual that has one."""
    comm = communicator(group, parts)
    A, _ = matrix("irregular")
    D = cut(comm, A, A.values)
    x = D.vector(rhs(A.shape[-1], A.dtype)).local.detach().requires_grad_()
    v = DVector(x, D.layout)
    loss = (D @ v).norm() ** 3 + v.dot(v) ** 2 + (v * v.norm()).full_tensor()[:9].prod()
    (g,) = torch.autograd.grad(loss, x, create_graph=True)
    (h,) = torch.autograd.grad((DVector(g, D.layout) ** 3).sum(), x)

    def residual(u: DVector, A: DSparseTensor) -> DVector:
        F: DVector = A @ u + u.dot(u) * u - b
        return F

    b = D.vector(rhs(A.shape[-1], A.dtype))
    u, info = D.nonlinear_solve(residual, D.zeros(), rtol=1e-12, info=True)
    return {
        "h": whole(D, h),
        "u": whole(D, D.vector(u).local),
        "iterations": info.iterations,
    }


def tensor_of(A: Any) -> SparseTensor:
    """Return a `SparseTensor` of anything SciPy takes."""
    coo = sp.coo_array(A)
    row, col = (torch.from_numpy(i.astype(np.int64)) for i in (coo.row, coo.col))
    return SparseTensor(torch.from_numpy(coo.data.copy()), row, col, coo.shape)


def lattice(shape: tuple[int, ...], weights: tuple[float, ...]) -> SparseTensor:
    """Return a Laplacian on a box, the last edge the fastest."""
    total: Any = 0
    for axis, weight in enumerate(weights):
        factor: Any = sp.eye_array(1)
        for other, n in enumerate(shape):
            one = np.ones(n - 1)
            second = sp.diags_array([-one, 2 * np.ones(n), -one], offsets=[-1, 0, 1])
            factor = sp.kron(factor, second if other == axis else sp.eye_array(n))
        total = total + weight * factor
    return tensor_of(total)


def renewed(group: Any, method: str) -> Held:
    """A preconditioner of three times the matrix, made from one of it."""
    A = lattice((24, 31), (1.0, 1.0))
    where = (A.row_indices, A.col_indices, tuple(A.shape), group)
    D = DSparseTensor.from_device_mesh(A.values, *where, partition_method="lattice")
    options = PartMultigrid(method=method, coarse_size=60)  # type: ignore[arg-type]
    M, E = D.preconditioner(options), D.with_values(3 * D.values)
    b = D.vector(rhs(A.shape[-1], A.dtype))
    _, fresh = E.solve(b, preconditioner=options, info=True)
    x, info = E.solve(b, preconditioner=E.preconditioner(like=M), info=True)
    error = (E @ x - b).norm() / b.norm()
    return {"iterations": info.iterations, "fresh": fresh.iterations, "error": float(error)}


def on_a_lattice(group: Any, how: str) -> Held:
    """A solve on stencils in parts, and its gradient."""
    A = lattice((13, 10, 9), (1.0, 1e-2, 1.0))
    values = A.values.clone().requires_grad_()
    D = DSparseTensor.from_device_mesh(
        values, A.row_indices, A.col_indices, tuple(A.shape), group, partition_method=how
    )
    options = PartMultigrid(method="lattice", coarse_size=40)
    b = D.vector(rhs(A.shape[-1], A.dtype))
    x, info = D.solve(b, preconditioner=options, rtol=1e-13, info=True)
    (x**3).sum().backward()
    assert values.grad is not None
    return {
        "x": whole(D, x.local.detach()),
        "values": values.grad,
        "iterations": info.iterations,
    }
