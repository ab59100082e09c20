"""Every iterate against the best one of its Krylov space, and what is reported of it against its true residual."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from torch_sla.errors import Result
from torch_sla.linalg.methods.bicgstab import bicgstab
from torch_sla.linalg.methods.cg import cg
from torch_sla.linalg.methods.gmres import gmres
from torch_sla.linalg.methods.lsmr import lsmr
from torch_sla.linalg.methods.lsqr import lsqr
from torch_sla.linalg.methods.merged_cg import merged_cg
from torch_sla.linalg.methods.minres import minres
from torch_sla.linalg.methods.outcome import KrylovOptions

N, K = 10, 2
SQUARE: dict[str, Any] = {
    "cg": cg,
    "merged_cg": merged_cg,
    "minres": minres,
    "gmres": gmres,
    "bicgstab": bicgstab,
}
LEAST: dict[str, Any] = {"lsqr": lsqr, "lsmr": lsmr}


def normal(*shape: int, seed: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def matrix(name: str, dtype: torch.dtype) -> Tensor:
    """Definite for CG, Hermitian for MINRES, else general."""
    X, eye = normal(N, N, seed=1, dtype=dtype), torch.eye(N, dtype=dtype)
    if "cg" in name and name != "bicgstab":
        return X @ X.mH + eye
    return X + X.mH if name == "minres" else X + 4 * eye


def space(A: Tensor, M: Tensor, r: Tensor, k: int) -> Tensor:
    """Orthonormal basis of ``M r, M A M r, ...``, ``[n, k]``."""
    V = M @ r
    V = V / V.norm()
    while V.shape[1] < k:
        w = M @ (A @ V[:, -1:])
        for _ in range(2):
            w = w - V @ (V.mH @ w)
        V = torch.cat([V, w / w.norm()], 1)
    return V


def stabilised(A: Tensor, M: Tensor, r: Tensor, k: int) -> Tensor:
    """Return what k steps of BiCGSTAB add (van der Vorst 1992), ``[n, 1]``."""
    shadow, p, x = r.clone(), r.clone(), torch.zeros_like(r)
    for _ in range(k):
        rho = (shadow.mH @ r).squeeze()
        v = A @ (M @ p)
        alpha = rho / (shadow.mH @ v).squeeze()
        s = r - alpha * v
        t = A @ (M @ s)
        omega = (t.mH @ s).squeeze() / (t.mH @ t).squeeze()
        x = x + alpha * (M @ p) + omega * (M @ s)
        r = s - omega * t
        p = r + (shadow.mH @ r).squeeze() / rho * alpha / omega * (p - omega * v)
    return x


def best(name: str, A: Tensor, M: Tensor, r: Tensor, k: int) -> Tensor:
    """Return what the k-th iterate adds to the first, ``[n, 1]``."""
    if name == "bicgstab":
        return stabilised(A, M, r, k)
    if name in LEAST:
        V = space(A.mH @ A, torch.eye(A.shape[1], dtype=A.dtype), A.mH @ r, k)
        left, right = (A @ V, r) if name == "lsqr" else (A.mH @ A @ V, A.mH @ r)
        return V @ torch.linalg.lstsq(left, right).solution
    V = space(A, M, r, k)
    if "cg" in name:
        return V @ torch.linalg.solve(V.mH @ A @ V, V.mH @ r)
    half = torch.linalg.cholesky(M).mH if name == "minres" else torch.eye(N, dtype=A.dtype)
    return V @ torch.linalg.lstsq(half @ A @ V, half @ r).solution


def check(name: str, A: Tensor, M: Tensor | None, x0: Tensor | None) -> None:
    (m, n), dtype = A.shape, A.dtype
    more: dict[str, Any] = {"adjoint": lambda u: A.mH @ u} if name in LEAST else {}
    if M is not None:
        more["M"] = lambda r: M @ r
    b = normal(m, K, seed=4, dtype=dtype) * torch.tensor([1.0, 1e3], dtype=torch.float64)
    start = torch.zeros(n, K, dtype=dtype) if x0 is None else x0
    for k in (1, 2, 3, 5):
        out = {**SQUARE, **LEAST}[name](
            lambda v: A @ v, b, x0=x0, options=KrylovOptions(rtol=1e-14, maxiter=k), **more
        )
        assert out.result is Result.MAXITER
        assert out.iterations == len(out.history) == k
        preconditioner = torch.eye(m, dtype=dtype) if M is None else M
        r = b - A @ start
        wanted = [best(name, A, preconditioner, r[:, j : j + 1], k) for j in range(K)]
        torch.testing.assert_close(out.x, start + torch.cat(wanted, 1), rtol=1e-7, atol=1e-9)
        left = float(((b - A @ out.x).norm(dim=0) / b.norm(dim=0)).max())
        assert out.history[-1] == pytest.approx(left, rel=1e-8)


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("preconditioned", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("name", SQUARE)
def test_square_systems(name: str, dtype: torch.dtype, preconditioned: bool, started: bool) -> None:
    M, X = None, normal(N, N, seed=2, dtype=dtype)
    if preconditioned:
        M = 0.1 * X @ X.mH + torch.eye(N, dtype=dtype)
    x0 = normal(N, K, seed=3, dtype=dtype) if started else None
    check(name, matrix(name, dtype), M, x0)


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("shape", [(12, 7), (7, 12)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("name", LEAST)
def test_least_squares(
    name: str, dtype: torch.dtype, shape: tuple[int, int], started: bool
) -> None:
    A = normal(*shape, seed=1, dtype=dtype)
    x0 = normal(shape[1], K, seed=3, dtype=dtype) if started else None
    check(name, A, None, x0)


def test_restarted_cycles_are_the_best_of_their_own_space() -> None:
    A, dtype = matrix("gmres", torch.float64), torch.float64
    b, eye = normal(N, 1, seed=4, dtype=dtype), torch.eye(N, dtype=dtype)
    x = torch.zeros_like(b)
    for k in (3, 3, 2):
        x = x + best("gmres", A, eye, b - A @ x, k)
    options = KrylovOptions(rtol=1e-14, maxiter=8, restart=3)
    out = gmres(lambda v: A @ v, b, options=options)
    torch.testing.assert_close(out.x, x)
    assert out.history[-1] == pytest.approx(float((b - A @ x).norm() / b.norm()))


@pytest.mark.parametrize("name", [*SQUARE, *LEAST])
def test_an_absolute_tolerance_is_met_and_no_more(name: str) -> None:
    A = matrix(name, torch.float64)
    b = 50 * normal(N, 1, seed=4, dtype=torch.float64)
    more = {"adjoint": lambda u: A.mH @ u} if name in LEAST else {}
    atol = 0.4 * float(b.norm())
    for rtol in (0.0, 1e-12):
        out = {**SQUARE, **LEAST}[name](
            lambda v: A @ v, b, options=KrylovOptions(rtol=rtol, atol=atol), **more
        )
        assert out.result is Result.CONVERGED
        sizes = [float(b.norm() * h) for h in (1.0, *out.history)]
        assert sizes[-1] <= atol < sizes[-2]
