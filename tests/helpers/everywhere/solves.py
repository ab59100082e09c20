"""Solves, factorisations and spectra of matrices."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.helpers.everywhere.table import F64, backward, entry, general, grid, random
from torch_sla.linalg import SparseTensor, nonlinear_solve


def _krylov(method: str, preconditioner: str, definite: bool) -> None:
    @entry(f"solve {method} {preconditioner}")
    def solve(device: torch.device) -> dict[str, Tensor]:
        A = grid(12, device) if definite else general(90, device)
        n = A.shape[0]
        b = random(n, 3, seed=6).to(device).requires_grad_()
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
        return {"x": x, **backward((x**3).sum(), b=b, a=A.values)}


for _method, _definite in (("cg", True), ("minres", True), ("bicgstab", False), ("gmres", False)):
    for _preconditioner in ("none", "jacobi", "block_jacobi", "multigrid"):
        if _method == "minres" and _preconditioner == "multigrid":
            continue
        if not _definite and _preconditioner == "multigrid":
            continue
        _krylov(_method, _preconditioner, _definite)


@entry("solve of a batch")
def _solve_batch(device: torch.device) -> dict[str, Tensor]:
    A = general(25, device, 4)
    b = random(4, 25, 2, seed=9).to(device).requires_grad_()
    x = A.solve(b, backend="pytorch", method="bicgstab", rtol=1e-12)
    return {"x": x, **backward((x**3).sum(), b=b, a=A.values)}


@entry("least squares")
def _least_squares(device: torch.device) -> dict[str, Tensor]:
    dense = random(30, 12, seed=10)
    A = SparseTensor.from_dense(dense.to(device)).requires_grad_()
    b = random(30, seed=11).to(device).requires_grad_()
    out: dict[str, Tensor] = {}
    for method in ("lsmr", "lsqr"):
        x = A.solve(b, method=method, rtol=1e-12)
        out |= {f"{method} {k}": t for k, t in backward((x**3).sum(), b=b, a=A.values).items()}
        out[method] = x
    return out


@entry("second derivatives")
def _second(device: torch.device) -> dict[str, Tensor]:
    A = grid(6, device)
    b = random(36, seed=12).to(device).requires_grad_()
    x = A.solve(b, backend="pytorch", method="cg", rtol=1e-13)
    (g,) = torch.autograd.grad((x**3).sum(), A.values, create_graph=True)
    return {"g": g, **backward((g**2).sum(), a=A.values, b=b)}


@entry("nullspace")
def _nullspace(device: torch.device) -> dict[str, Tensor]:
    n = 40
    off = torch.full((n - 1,), -1.0, dtype=F64)
    main = torch.full((n,), 2.0, dtype=F64)
    main[0] = main[-1] = 1.0
    A = SparseTensor.tridiagonal(off, main, off).to(device)
    b = random(n, seed=13).to(device)
    ones = torch.ones(n, dtype=F64, device=device)
    return {"x": A.solve(b, backend="pytorch", method="cg", nullspace=ones)}


@entry("eigenvalues, dense")
def _eigen_dense(device: torch.device) -> dict[str, Tensor]:
    A = grid(7, device)
    w, V = A.eigsh(k=4, which="SA")
    mode = V[:, 0]
    return {"w": w, "mode": mode, **backward((w**2).sum() + (mode**3).sum(), a=A.values)}


@entry("eigenvalues, iterated", factors=True)
def _eigen_iterated(device: torch.device) -> dict[str, Tensor]:
    A = grid(18, device)
    largest = A.eigsh(k=3, which="LA", return_eigenvectors=False)
    smallest, V = A.eigsh(k=3, which="SM")
    loss = (smallest**2).sum() + (V[:, 0] ** 3).sum()
    return {"largest": largest, "smallest": smallest, **backward(loss, a=A.values)}


@entry("eigenvalues, LOBPCG")
def _lobpcg(device: torch.device) -> dict[str, Tensor]:
    A = grid(16, device)
    inverse = 1 / A.detach().to_dense().diagonal()
    w = A.eigsh(
        k=2,
        which="SA",
        method="lobpcg",
        preconditioner=lambda r: inverse[:, None] * r,
        return_eigenvectors=False,
    )
    return {"w": w}


@entry("general eigenvalues", factors=True)
def _eigs(device: torch.device) -> dict[str, Tensor]:
    A = general(30, device)
    w, _ = A.eigs(k=3)
    big = general(230, device)
    return {"w": w.abs(), "big": big.eigs(k=2)[0].abs(), **backward(w.abs().sum(), a=A.values)}


@entry("singular values")
def _svd(device: torch.device) -> dict[str, Tensor]:
    A = SparseTensor.from_dense(random(25, 14, seed=15).to(device)).requires_grad_()
    _, S, _ = A.svd(k=3)
    big = general(230, device)
    return {"S": S, "big": big.svd(k=2)[1], **backward(S.sum(), a=A.values)}


@entry("determinants", factors=True)
def _determinants(device: torch.device) -> dict[str, Tensor]:
    A, B = grid(6, device), general(30, device)
    logdet = A.logdet()
    sign, logabs = B.slogdet()
    loss = logdet + logabs
    return {"logdet": logdet, "sign": sign, **backward(loss, a=A.values, b=B.values)}


@entry("factorisations", factors=True)
def _factors(device: torch.device) -> dict[str, Tensor]:
    A, B = grid(6, device), general(30, device)
    b, c = random(36, 2, seed=16).to(device), random(30, seed=17).to(device)
    out: dict[str, Tensor] = {}
    for name, factor in (("cholesky", A.cholesky()), ("ldlt", A.ldlt())):
        x = factor.solve(b)
        out[name] = x
        out |= {f"{name} {k}": t for k, t in backward((x**3).sum(), a=A.values).items()}
        out[f"{name} updated"] = factor.update(2 * A.values).solve(b)
    lu = B.lu()
    out["lu"], out["lu transposed"] = lu.solve(c), lu.solve_transposed(c)
    return out | backward((out["lu"] ** 3).sum(), b=B.values)


@entry("entries of inverses", factors=True)
def _inverse_entries(device: torch.device) -> dict[str, Tensor]:
    A = grid(5, device)
    entries = A.cholesky().selected_inverse().values
    inertia = torch.tensor(A.ldlt().inertia(), device=device)
    return {"entries": entries, "inertia": inertia, **backward((entries**3).sum(), a=A.values)}


@entry("direct solves", factors=True)
def _direct(device: torch.device) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    for name, A in (("definite", grid(9, device)), ("general", general(60, device))):
        b = random(A.shape[0], 2, seed=18).to(device).requires_grad_()
        x = A.solve(b)
        out[name] = x
        out |= {f"{name} {k}": t for k, t in backward((x**3).sum(), a=A.values, b=b).items()}
    return out


@entry("nonlinear")
def _nonlinear(device: torch.device) -> dict[str, Tensor]:
    A = grid(5, device)
    source = torch.ones(25, dtype=F64, device=device, requires_grad=True)
    start = torch.zeros(25, dtype=F64, device=device)

    def residual(u: Tensor, A: SparseTensor, f: Tensor) -> Tensor:
        r: Tensor = A @ u + 0.1 * u**3 - f
        return r

    u = A.nonlinear_solve(residual, start, source)
    free = nonlinear_solve(lambda u, f: u**3 + u - f, start, source)
    grads = backward((u**2).sum(), f=source, a=A.values)
    return {"u": u, "free": free, **grads}
