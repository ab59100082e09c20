"""Preconditioners against their dense definitions; adjoints; how they fail; fewer iterations."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.helpers.grids import poisson
from tests.helpers.zoo import case, rhs
from torch_sla.errors import ArgumentError, PlanError, Result, SolveError
from torch_sla.linalg import SparseTensor
from torch_sla.linalg.kernels import incomplete
from torch_sla.linalg.precond.base import NAMES, kind, make_preconditioner, preconditioner_name
from torch_sla.linalg.precond.block_jacobi import BlockJacobi
from torch_sla.linalg.precond.ichol import IChol
from torch_sla.linalg.precond.ilu import ILU
from torch_sla.linalg.precond.ssor import SSOR

DTYPES = [torch.float32, torch.float64, torch.complex64, torch.complex128]


def dense(made: Any, n: int, dtype: torch.dtype) -> torch.Tensor:
    return made.apply(torch.eye(n, dtype=dtype))


def make(A: SparseTensor, wanted: Any) -> Any:
    pattern, values = A.flat_slots()
    return make_preconditioner(wanted, pattern, values, A.structure)


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    eps = torch.finfo(found.dtype).eps
    assert float((found - expected).norm()) <= 1e3 * eps * float(expected.norm())


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_ssor_is_its_definition(
    dtype: torch.dtype, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(incomplete, "_compiled", None)
    D = case("general").dense(dtype)
    omega = 1.3
    diagonal = torch.diag(D.diagonal())
    lower, upper = diagonal / omega + D.tril(-1), diagonal / omega + D.triu(1)
    M = lower @ torch.linalg.inv(diagonal) @ upper * (omega / (2 - omega))
    made = make(SparseTensor.from_dense(D), SSOR(omega))
    close(dense(made, len(D), dtype), torch.linalg.inv(M))


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_incomplete_factors_are_exact_without_fill(
    dtype: torch.dtype, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(incomplete, "_compiled", None)
    convection = case("convection")  # tridiagonal, and so is poisson's path
    made = make(convection.sparse(dtype), "ilu")
    close(dense(made, 12, dtype), torch.linalg.inv(convection.dense(dtype)))
    B = torch.diag(torch.full((9,), 2.0, dtype=dtype)) - torch.diag(
        torch.full((8,), 0.7, dtype=dtype) * (1j if dtype.is_complex else 1), 1
    )
    H = B.tril() + B.triu(1) + B.triu(1).mH
    made = make(SparseTensor.from_dense(H), "ichol")
    close(dense(made, 9, dtype), torch.linalg.inv(H))


@pytest.mark.parametrize("dtype", DTYPES)
def test_incomplete_factors_agree_with_the_matrix_on_its_pattern(dtype: torch.dtype) -> None:
    for zoo, wanted in (("general", "ilu"), ("poisson", "ilu"), ("poisson", "ichol")):
        A = case(zoo).sparse(dtype)
        D = A.to_dense()
        product = torch.linalg.inv(dense(make(A, wanted), len(D), dtype))
        close(product[D != 0], D[D != 0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("wanted", [name for name in NAMES if name not in ("none", "multigrid")])
def test_adjoint(wanted: str, dtype: torch.dtype) -> None:
    entry = kind(wanted)
    assert entry is not None
    A = case("definite" if entry.needs == "hermitian" else "general").sparse(dtype)
    made = make(A, wanted)
    eye = torch.eye(10, dtype=dtype)
    close(made.apply_adjoint(eye), made.apply(eye).mH)
    assert made.nbytes > 0
    if entry.definite:
        B = dense(make(case("definite").sparse(dtype), wanted), 10, dtype)
        close(B, B.mH)
        assert float(torch.linalg.eigvalsh(B).min()) > 0


@pytest.mark.parametrize("size", [1, 3, 5, None])
def test_block_jacobi_inverts_the_blocks(size: int | None) -> None:
    A = case("blocks").sparse(torch.complex128)
    D, s = A.to_dense(), size or 3  # the size is found from the pattern
    expected = torch.zeros_like(D)
    for i in range(0, 12, s):
        expected[i : i + s, i : i + s] = torch.linalg.inv(D[i : i + s, i : i + s])
    close(dense(make(A, BlockJacobi(size)), 12, D.dtype), expected)


def test_ichol_is_shifted_until_it_exists() -> None:
    # Positive definite, but IC(0) meets a negative pivot (Kershaw's matrix).
    K = torch.tensor(
        [[3.0, -2, 0, 2], [-2, 3, -2, 0], [0, -2, 3, -2], [2, 0, -2, 3]], dtype=torch.float64
    )
    assert float(torch.linalg.eigvalsh(K).min()) > 0
    made = make(SparseTensor.from_dense(K), IChol())
    assert made.shift > 0
    # The first that serves, of those that double.
    assert make(SparseTensor.from_dense(K), IChol(made.shift / 2)).shift == made.shift
    assert float(torch.linalg.eigvalsh(dense(made, 4, K.dtype)).min()) > 0


def test_large_blocks_on_two_threads() -> None:
    # torch's own LU of a batch of these is wrong on two threads, or hangs.
    n, size = 400, 200
    generator = torch.Generator().manual_seed(1)
    D = torch.block_diag(*torch.randn(2, size, size, generator=generator, dtype=torch.float64))
    D += size * torch.eye(n, dtype=torch.float64)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        made = make(SparseTensor.from_dense(D), BlockJacobi(size))
        close(dense(made, n, D.dtype) @ D, torch.eye(n, dtype=torch.float64))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("wanted", ["jacobi", "block_jacobi", "ssor", "ilu", "ichol"])
def test_what_cannot_be_made_says_why(wanted: str) -> None:
    D = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    if wanted == "block_jacobi":
        D = torch.ones(2, 2, dtype=torch.float64)
    with pytest.raises(SolveError) as caught:
        make(SparseTensor.from_dense(D), wanted)
    assert caught.value.result in (Result.BREAKDOWN, Result.NOT_POSITIVE_DEFINITE)
    assert "row" in str(caught.value)


def test_requests_are_checked() -> None:
    A = case("general").sparse(torch.float64)
    b = rhs(A, None)
    with pytest.raises(PlanError, match="jacobbi"):
        A.solve(b, preconditioner="jacobbi")
    with pytest.raises(PlanError, match="ichol needs a Hermitian"):
        A.solve(b, method="gmres", backend="pytorch", preconditioner="ichol")
    with pytest.raises(PlanError, match="int"):
        A.solve(b, preconditioner=3)
    with pytest.raises(ArgumentError, match="omega"):
        SSOR(2.0)
    assert preconditioner_name(ILU()) == "ilu"


@pytest.mark.parametrize("backend", ["pytorch", "scipy"])
@pytest.mark.parametrize("method", ["cg", "minres", "gmres", "bicgstab"])
def test_better_ones_need_fewer_iterations(method: str, backend: str) -> None:
    n = 20
    one = torch.ones(n * n)
    i = torch.arange(n * n)
    right, up = i[i % n != n - 1], i[:-n]
    row = torch.cat([i, right, right + 1, up, up + n])
    col = torch.cat([i, right + 1, right, up + n, up])
    values = torch.cat([4 * one, -torch.ones(len(row) - n * n)]).double()
    A = SparseTensor(values, row, col, (n * n, n * n))
    b = torch.linspace(-1, 2, n * n, dtype=torch.float64)
    counts = {}
    diagonal = 1 / 4
    for wanted in ("none", "ssor", "ichol", lambda r: diagonal * r):
        x, info = A.solve(b, backend=backend, method=method, preconditioner=wanted, info=True)
        assert float((A @ x - b).norm()) <= 1e-10 * float(b.norm())
        counts[str(wanted) if isinstance(wanted, str) else "given"] = info.iterations
    assert counts["ichol"] <= counts["ssor"] < counts["none"]
    assert abs(counts["given"] - counts["none"]) <= 3


@pytest.mark.parametrize("method", ["cg", "minres", "gmres", "bicgstab"])
@pytest.mark.parametrize("backend", ["pytorch", "scipy"])
def test_functions_of_the_residual(backend: str, method: str) -> None:
    A = SparseTensor.from_scipy(poisson(6, 5).tocoo())
    b = torch.sin(torch.arange(30, dtype=torch.float64))
    d = 1 / torch.linspace(3.0, 5.0, 30, dtype=torch.float64)

    def solve(function: object, rhs: torch.Tensor = b) -> torch.Tensor:
        return A.solve(rhs, backend=backend, method=method, preconditioner=function)

    # In single precision, or without the dimension of one column.
    for function in (
        lambda r: d[:, None] * r,
        lambda r: (d[:, None] * r).float(),
        lambda r: d * r[:, 0],
    ):
        torch.testing.assert_close(A @ solve(function), b, rtol=0, atol=1e-8)
    for function, got in (
        (lambda r: d * r, r"\[30, 30\] on cpu"),
        (lambda r: r.sum(), r"\[\] on cpu"),
        (lambda r: r.numpy(), "ndarray"),
        (lambda r: None, "NoneType"),
        (lambda r: r + 0j, "complex128 for a residual of torch.float64"),
    ):
        with pytest.raises(ArgumentError, match=got):
            solve(function)
    if backend == "pytorch":
        with pytest.raises(ArgumentError, match=r"\[30, 2\] on cpu .* got \[30\] on cpu"):
            solve(lambda r: d * r[:, 0], torch.stack([b, b], 1))
