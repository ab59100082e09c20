"""What the library does, as functions of a device: the table of the device contract.

Each entry takes a device and returns named tensors, gradients among them. Whatever device it ran on, the numbers
must be those of the CPU.
"""

from __future__ import annotations

import io
import pickle
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla import (
    Dirichlet,
    Energy,
    Field,
    Flux,
    Integral,
    Maximum,
    Neumann,
    Parameter,
    PoissonProblem,
    Probe,
    RectangleMesh,
    Robin,
    Solver,
)
from torch_sla.linalg import SparseTensor, SparseTensorList, nonlinear_solve, spsolve

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ENTRIES", "NEEDS_FACTORS"]

ENTRIES: dict[str, Callable[[torch.device], dict[str, Tensor]]] = {}
NEEDS_FACTORS: set[str] = set()
"""Entries that need a direct solver on the device."""

F64 = torch.float64


def _entry(name: str, *, factors: bool = False) -> Callable[[Any], Any]:
    def register(make: Any) -> Any:
        ENTRIES[name] = make
        if factors:
            NEEDS_FACTORS.add(name)
        return make

    return register


def _random(*shape: int, seed: int, dtype: torch.dtype = F64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def _grid(k: int, device: torch.device, dtype: torch.dtype = F64) -> SparseTensor:
    """Five-point Laplacian on a ``k`` by ``k`` grid with varying coefficients."""
    n = k * k
    index = torch.arange(n).reshape(k, k)
    pairs = torch.cat([index[:, :-1].flatten(), index[:-1].flatten()])
    others = torch.cat([index[:, 1:].flatten(), index[1:].flatten()])
    weight = 1 + torch.rand(len(pairs), generator=torch.Generator().manual_seed(3)).double()
    diagonal = torch.full((n,), 0.1, dtype=F64)
    diagonal = diagonal.index_add(0, pairs, weight).index_add(0, others, weight)
    row = torch.cat([pairs, others, torch.arange(n)])
    col = torch.cat([others, pairs, torch.arange(n)])
    values = torch.cat([-weight, -weight, diagonal]).to(device, dtype)
    return SparseTensor(values.requires_grad_(), row.to(device), col.to(device), (n, n))


def _general(n: int, device: torch.device, *batch: int, dtype: torch.dtype = F64) -> SparseTensor:
    """Diagonally dominant, unsymmetric, with duplicate coordinates."""
    g = torch.Generator().manual_seed(7)
    row = torch.cat([torch.arange(n), torch.randint(n, (5 * n,), generator=g)])
    col = torch.cat([torch.arange(n), torch.randint(n, (5 * n,), generator=g)])
    values = _random(*batch, 6 * n, seed=8, dtype=dtype)
    values[..., :n] += 14
    values = values.to(device).requires_grad_()
    return SparseTensor(values, row.to(device), col.to(device), (*batch, n, n))


def _backward(loss: Tensor, **leaves: Tensor) -> dict[str, Tensor]:
    found = torch.autograd.grad(loss, list(leaves.values()))
    return {f"d{name}": g for name, g in zip(leaves, found, strict=True)}


@_entry("matmul")
def _matmul(device: torch.device) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    for label, batch in (("", ()), ("batch_", (3,))):
        A = _general(40, device, *batch)
        x = _random(*batch, 40, 5, seed=1).to(device).requires_grad_()
        y = A @ x
        v = A @ x[..., 0]
        left = _random(4, 40, seed=2).to(device) @ A if not batch else y
        loss = (y**3).sum() + (v**2).sum() + (left**2).sum()
        out |= {f"{label}{k}": t for k, t in _backward(loss, x=x, a=A.values).items()}
        out |= {f"{label}y": y, f"{label}v": v, f"{label}left": left}
    return out


@_entry("matmul complex and single")
def _matmul_dtypes(device: torch.device) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    for dtype in (torch.complex128, torch.complex64, torch.float32):
        A = _general(30, device, dtype=dtype)
        x = _random(30, 2, seed=1, dtype=dtype).to(device).requires_grad_()
        y = A @ x + A.H() @ x + A.T() @ x
        out[f"y {dtype}"] = y
        out |= {
            f"{k} {dtype}": t for k, t in _backward(y.abs().square().sum(), x=x, a=A.values).items()
        }
    return out


@_entry("algebra")
def _algebra(device: torch.device) -> dict[str, Tensor]:
    A, B = _grid(5, device), _general(25, device)
    out = {
        "sum": (A + B).to_dense(),
        "difference": (A - B).to_dense(),
        "product": (A * B).to_dense(),
        "sparse product": (A @ B).to_dense(),
        "scaled": (2 * A / 3).to_dense(),
        "negated": (-A).to_dense(),
        "abs": A.abs().to_dense(),
        "transposed": B.T().to_dense(),
    }
    loss = sum((t**2).sum() for t in out.values())
    return out | _backward(torch.as_tensor(loss), a=A.values, b=B.values)


@_entry("reductions and norms")
def _reductions(device: torch.device) -> dict[str, Tensor]:
    A = _general(30, device, 2)
    out = {
        "sum": A.sum(),
        "rows": A.sum(-1),
        "columns": A.sum(-2),
        "mean": A.mean(),
        "max": A.max(),
        "min": A.min(),
        "fro": A.norm("fro"),
        "1": A.norm(1),
        "inf": A.norm(float("inf")),
    }
    return out | _backward(torch.as_tensor(sum(t.sum() for t in out.values())), a=A.values)


@_entry("blocks")
def _blocks(device: torch.device) -> dict[str, Tensor]:
    row, col = torch.tensor([0, 1, 1, 2, 0, 1, 2]), torch.tensor([1, 0, 2, 1, 0, 1, 2])
    values = _random(7, 3, 3, seed=4)
    values[4:] += 9 * torch.eye(3, dtype=F64)
    values = values.to(device).requires_grad_()
    A = SparseTensor(values, row.to(device), col.to(device), (3, 3, 3, 3))
    b = _random(9, seed=5).to(device)
    x = A.flatten_blocks().solve(b, backend="pytorch", method="gmres", rtol=1e-12)
    y = A.flatten_blocks() @ x
    return {"x": x, "y": y, **_backward((x**2).sum(), values=values)}


@_entry("structure")
def _structure(device: torch.device) -> dict[str, Tensor]:
    A, B = _grid(6, device), _general(20, device)
    labels, count = A.connected_components()
    flags = [
        A.is_symmetric(),
        A.is_hermitian(),
        A.is_positive_definite(),
        B.is_symmetric(),
        A.has_isolated_components(),
        count == 1,
    ]
    return {"flags": torch.tensor([bool(f) for f in flags], device=device), "labels": labels}


@_entry("conversions")
def _conversions(device: torch.device) -> dict[str, Tensor]:
    A = _general(20, device).detach()
    stream = io.BytesIO(pickle.dumps(A))
    again = pickle.load(stream)
    back = SparseTensor.from_torch_sparse(A.to_torch())
    scipy = torch.from_numpy(A.to_scipy().toarray()).to(device)
    crow, ccol, values = A.to_csr()
    dense = SparseTensor.from_dense(A.to_dense())
    return {
        "pickled": again.to_dense(),
        "torch": back.to_dense(),
        "scipy": scipy,
        "crow": crow,
        "ccol": ccol,
        "values": values,
        "dense": dense.to_dense(),
    }


def _krylov(method: str, preconditioner: str, definite: bool) -> None:
    @_entry(f"solve {method} {preconditioner}")
    def solve(device: torch.device) -> dict[str, Tensor]:
        A = _grid(12, device) if definite else _general(90, device)
        n = A.shape[0]
        b = _random(n, 3, seed=6).to(device).requires_grad_()
        x, info = A.solve(
            b,
            backend="pytorch",
            method=method,
            preconditioner=preconditioner,
            rtol=1e-12,
            info=True,
        )
        if not info.converged:
            raise AssertionError(info.result)
        return {"x": x, **_backward((x**3).sum(), b=b, a=A.values)}


for _method, _definite in (("cg", True), ("minres", True), ("bicgstab", False), ("gmres", False)):
    for _preconditioner in ("none", "jacobi", "block_jacobi", "multigrid"):
        if _method == "minres" and _preconditioner == "multigrid":
            continue
        if not _definite and _preconditioner == "multigrid":
            continue
        _krylov(_method, _preconditioner, _definite)


@_entry("solve of a batch")
def _solve_batch(device: torch.device) -> dict[str, Tensor]:
    A = _general(25, device, 4)
    b = _random(4, 25, 2, seed=9).to(device).requires_grad_()
    x = A.solve(b, backend="pytorch", method="bicgstab", rtol=1e-12)
    return {"x": x, **_backward((x**3).sum(), b=b, a=A.values)}


@_entry("least squares")
def _least_squares(device: torch.device) -> dict[str, Tensor]:
    dense = _random(30, 12, seed=10)
    A = SparseTensor.from_dense(dense.to(device)).requires_grad_()
    b = _random(30, seed=11).to(device).requires_grad_()
    out: dict[str, Tensor] = {}
    for method in ("lsmr", "lsqr"):
        x = A.solve(b, method=method, rtol=1e-12)
        out |= {f"{method} {k}": t for k, t in _backward((x**3).sum(), b=b, a=A.values).items()}
        out[method] = x
    return out


@_entry("second derivatives")
def _second(device: torch.device) -> dict[str, Tensor]:
    A = _grid(6, device)
    b = _random(36, seed=12).to(device).requires_grad_()
    x = A.solve(b, backend="pytorch", method="cg", rtol=1e-13)
    (g,) = torch.autograd.grad((x**3).sum(), A.values, create_graph=True)
    return {"g": g, **_backward((g**2).sum(), a=A.values, b=b)}


@_entry("nullspace")
def _nullspace(device: torch.device) -> dict[str, Tensor]:
    n = 40
    off = torch.full((n - 1,), -1.0, dtype=F64)
    main = torch.full((n,), 2.0, dtype=F64)
    main[0] = main[-1] = 1.0
    A = SparseTensor.tridiagonal(off, main, off).to(device)
    b = _random(n, seed=13).to(device)
    ones = torch.ones(n, dtype=F64, device=device)
    return {"x": A.solve(b, backend="pytorch", method="cg", nullspace=ones)}


@_entry("transforms")
def _transforms(device: torch.device) -> dict[str, Tensor]:
    A = _grid(5, device).detach()
    B = _random(3, 25, seed=14).to(device)

    def solved(b: Tensor) -> Tensor:
        x = A.solve(b, backend="pytorch", method="cg", rtol=1e-13)
        total: Tensor = (x**3).sum()
        return total

    tangent = torch.ones_like(B[0])
    value, slope = torch.func.jvp(solved, (B[0],), (tangent,))  # type: ignore[misc]
    return {
        "vmap": torch.func.vmap(torch.func.grad(solved))(B),
        "jvp": slope,
        "value": value,
    }


@_entry("eigenvalues, dense")
def _eigen_dense(device: torch.device) -> dict[str, Tensor]:
    A = _grid(7, device)
    w, V = A.eigsh(k=4, which="SA")
    mode = V[:, 0]
    return {"w": w, "mode": mode, **_backward((w**2).sum() + (mode**3).sum(), a=A.values)}


@_entry("eigenvalues, iterated", factors=True)
def _eigen_iterated(device: torch.device) -> dict[str, Tensor]:
    A = _grid(18, device)
    largest = A.eigsh(k=3, which="LA", return_eigenvectors=False)
    smallest, V = A.eigsh(k=3, which="SM")
    loss = (smallest**2).sum() + (V[:, 0] ** 3).sum()
    return {"largest": largest, "smallest": smallest, **_backward(loss, a=A.values)}


@_entry("eigenvalues, LOBPCG")
def _lobpcg(device: torch.device) -> dict[str, Tensor]:
    A = _grid(16, device)
    inverse = 1 / A.detach().to_dense().diagonal()
    w = A.eigsh(
        k=2,
        which="SA",
        method="lobpcg",
        preconditioner=lambda r: inverse[:, None] * r,
        return_eigenvectors=False,
    )
    return {"w": w}


@_entry("general eigenvalues", factors=True)
def _eigs(device: torch.device) -> dict[str, Tensor]:
    A = _general(30, device)
    w, _ = A.eigs(k=3)
    big = _general(230, device)
    return {"w": w.abs(), "big": big.eigs(k=2)[0].abs(), **_backward(w.abs().sum(), a=A.values)}


@_entry("singular values")
def _svd(device: torch.device) -> dict[str, Tensor]:
    A = SparseTensor.from_dense(_random(25, 14, seed=15).to(device)).requires_grad_()
    _, S, _ = A.svd(k=3)
    big = _general(230, device)
    return {"S": S, "big": big.svd(k=2)[1], **_backward(S.sum(), a=A.values)}


@_entry("determinants", factors=True)
def _determinants(device: torch.device) -> dict[str, Tensor]:
    A, B = _grid(6, device), _general(30, device)
    logdet = A.logdet()
    sign, logabs = B.slogdet()
    loss = logdet + logabs
    return {"logdet": logdet, "sign": sign, **_backward(loss, a=A.values, b=B.values)}


@_entry("factorisations", factors=True)
def _factors(device: torch.device) -> dict[str, Tensor]:
    A, B = _grid(6, device), _general(30, device)
    b, c = _random(36, 2, seed=16).to(device), _random(30, seed=17).to(device)
    out: dict[str, Tensor] = {}
    for name, factor in (("cholesky", A.cholesky()), ("ldlt", A.ldlt())):
        x = factor.solve(b)
        out[name] = x
        out |= {f"{name} {k}": t for k, t in _backward((x**3).sum(), a=A.values).items()}
        out[f"{name} updated"] = factor.update(2 * A.values).solve(b)
    lu = B.lu()
    out["lu"], out["lu transposed"] = lu.solve(c), lu.solve_transposed(c)
    return out | _backward((out["lu"] ** 3).sum(), b=B.values)


@_entry("entries of inverses", factors=True)
def _inverse_entries(device: torch.device) -> dict[str, Tensor]:
    A = _grid(5, device)
    entries = A.cholesky().selected_inverse().values
    inertia = torch.tensor(A.ldlt().inertia(), device=device)
    return {"entries": entries, "inertia": inertia, **_backward((entries**3).sum(), a=A.values)}


@_entry("direct solves", factors=True)
def _direct(device: torch.device) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    for name, A in (("definite", _grid(9, device)), ("general", _general(60, device))):
        b = _random(A.shape[0], 2, seed=18).to(device).requires_grad_()
        x = A.solve(b)
        out[name] = x
        out |= {f"{name} {k}": t for k, t in _backward((x**3).sum(), a=A.values, b=b).items()}
    return out


@_entry("nonlinear")
def _nonlinear(device: torch.device) -> dict[str, Tensor]:
    A = _grid(5, device)
    source = torch.ones(25, dtype=F64, device=device, requires_grad=True)
    start = torch.zeros(25, dtype=F64, device=device)

    def residual(u: Tensor, A: SparseTensor, f: Tensor) -> Tensor:
        r: Tensor = A @ u + 0.1 * u**3 - f
        return r

    u = A.nonlinear_solve(residual, start, source)
    free = nonlinear_solve(lambda u, f: u**3 + u - f, start, source)
    grads = _backward((u**2).sum(), f=source, a=A.values)
    return {"u": u, "free": free, **grads}


@_entry("lists")
def _lists(device: torch.device) -> dict[str, Tensor]:
    L = SparseTensorList([_grid(3, device), _grid(4, device)])
    b = [_random(9, seed=19).to(device), _random(16, seed=20).to(device)]
    x = L.solve(b, backend="pytorch", method="cg", rtol=1e-12)
    block = L.to_block_diagonal()
    return {"first": x[0], "second": x[1], "block": block.to_dense(), "y": (L @ b)[1]}


@_entry("functions")
def _functions(device: torch.device) -> dict[str, Tensor]:
    A = _grid(5, device).detach()
    b = _random(25, seed=21).to(device)
    x = spsolve(
        A.values,
        A.row_indices,
        A.col_indices,
        A.shape,
        b,
        backend="pytorch",
        method="cg",
        tol=1e-12,
    )
    return {"x": x}


def _problem(device: torch.device, **options: Any) -> PoissonProblem:
    on: Any = device.type
    solver = Solver(device=on, rtol=1e-12, **options)
    return PoissonProblem(
        mesh=RectangleMesh(cells=(8, 6), size=(1.0, 0.7), cell="triangle"),
        diffusivity=Parameter("kappa", on="cells", default=1.0),
        source=Parameter("f", on="nodes", default=1.0),
        reaction="0.1 + x",
        boundary=[
            Dirichlet(on="left", value="y"),
            Neumann(on="top", flux=1.0),
            Robin(on="right", coefficient=2.0, ambient=Parameter("T", default=0.3)),
        ],
        outputs=[
            Probe("sensors", at=[(0.31, 0.42), (0.72, 0.21)]),
            Integral("mean", "u**2"),
            Flux("out", on="left"),
            Energy("energy"),
            Maximum("peak", "u", p=8),
            Field("slope", "grad(u)", on="cells"),
        ],
        solver=solver,
    )


@_entry("a declared problem")
def _declared(device: torch.device) -> dict[str, Tensor]:
    problem = _problem(device, backend="pytorch", method="cg", preconditioner="jacobi")
    kappa = (1 + torch.rand(96, generator=torch.Generator().manual_seed(22)).double()).to(device)
    f, T = torch.ones(63, dtype=F64, device=device), torch.tensor(0.5, dtype=F64, device=device)
    X = problem.mesh_data().points.to(device)
    leaves = {"kappa": kappa, "f": f, "T": T, "X": X}
    for leaf in leaves.values():
        leaf.requires_grad_()
    solution = problem.solve(kappa=kappa, f=f, T=T, points=X)
    outputs = {
        name: solution[name] for name in ("sensors", "mean", "out", "energy", "peak", "slope")
    }
    loss = sum((t**2).sum() for t in outputs.values())
    return {"u": solution.u, **outputs, **_backward(torch.as_tensor(loss), **leaves)}


@_entry("a batch of problems")
def _declared_batch(device: torch.device) -> dict[str, Tensor]:
    problem = _problem(device, backend="pytorch", method="cg", preconditioner="jacobi")
    T = torch.tensor([0.0, 1.0, 2.0], dtype=F64, device=device, requires_grad=True)
    kappa = torch.rand(3, 96, generator=torch.Generator().manual_seed(23)).double() + 1
    kappa = kappa.to(device).requires_grad_()
    solution = problem.solve(T=T, kappa=kappa)
    return {"u": solution.u, **_backward((solution["sensors"] ** 3).sum(), T=T, kappa=kappa)}


@_entry("a problem by the plan")
def _planned(device: torch.device) -> dict[str, Tensor]:
    kappa = torch.full((96,), 2.0, dtype=F64, device=device, requires_grad=True)
    solution = _problem(device).solve(kappa=kappa)
    return {"u": solution.u, **_backward(solution["energy"], kappa=kappa)}


@_entry("a design loop")
def _design(device: torch.device) -> dict[str, Tensor]:
    problem = _problem(device)
    wanted = torch.tensor([0.4, 0.2], dtype=F64, device=device)
    log_kappa = torch.zeros(96, dtype=F64, device=device, requires_grad=True)
    optimizer = torch.optim.Adam([log_kappa], lr=0.1)
    misfits = []
    for _ in range(5):
        optimizer.zero_grad()
        misfit = ((problem.solve(kappa=log_kappa.exp())["sensors"] - wanted) ** 2).sum()
        misfit.backward()
        optimizer.step()
        misfits.append(misfit.detach())
    return {"misfits": torch.stack(misfits), "kappa": log_kappa.detach().exp()}
