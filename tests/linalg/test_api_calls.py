"""Everything that people's scripts call, called: one table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

import torch_sla
from tests.helpers.api import BLOCKS, F64, PAIR, A, B, D, G, N, S, X, same
from tests.helpers.zoo import case
from torch_sla import linalg
from torch_sla.linalg import SparseTensor, SparseTensorList

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _elementwise(name: str) -> Callable[[], bool]:
    def run() -> bool:
        stored = getattr(torch, "sgn" if name == "sign" else name)(S.values.abs())
        return same(getattr(S.abs(), name)().values, stored)

    return run


def _gradient() -> bool:
    T = SparseTensor.from_dense(D).requires_grad_()
    T.sum().backward()
    return T.requires_grad and same(T.grad, torch.ones(T.nnz))


def _symmetric_eigen(w: Tensor, V: Tensor) -> bool:
    return same(D @ V, V * w)


def _svd() -> bool:
    U, s, W = A.svd(3)
    exact = torch.linalg.svdvals(G)[:3]
    return same(s, exact) and same(G @ W.mT, U * s)


def _info() -> bool:
    names = [
        "converged",
        "result",
        "iterations",
        "residual",
        "history",
        "method",
        "backend",
        "plan",
        "rcond",
    ]
    x, info = A.solve(B, info=True)
    y, other = A.solve(B, throw=False)
    return all(hasattr(info, n) for n in names) and same(x, y) and info.converged == other.converged


def _nonlinear(method: str) -> Callable[[], bool]:
    def run() -> bool:
        u = S.nonlinear_solve(lambda u, M, b: M @ u + 0.01 * u**3 - b, 0 * B, B, method=method)
        return same(D @ u + 0.01 * u**3, B)

    return run


def _adjoint() -> bool:
    lam = linalg.adjoint_solve(lambda u, M: M @ u - B, torch.linalg.solve(G, B), B, A)
    return same(G.T @ lam, B)


def _torch_sparse(layout: str) -> Callable[[], bool]:
    return lambda: same(SparseTensor.from_torch_sparse(A.to_torch(layout)), G)


def _coo(M: Tensor) -> Tensor:
    return M.to_sparse_coo()


ROW, COL = (i.long() for i in (A.row_indices, A.col_indices))
TWICE = torch.stack([A.values, 2 * A.values])
LOADS = torch.stack([B, 3 * B])
EXACT = torch.linalg.solve(torch.stack([G, 2 * G]), LOADS)
LIST = SparseTensorList([A, S])
TRIPLE = (A.values, ROW, COL, (N, N))
E = SparseTensor.eye(N, dtype=F64)

CALLS: dict[str, Callable[[], bool]] = {
    # making and unmaking
    "from_dense": lambda: same(SparseTensor.from_dense(G), G),
    "from_torch_sparse coo": _torch_sparse("coo"),
    "from_torch_sparse csr": _torch_sparse("csr"),
    "from_scipy": lambda: same(SparseTensor.from_scipy(A.to_scipy()), G),
    "eye": lambda: same(SparseTensor.eye(3), torch.eye(3)),
    "diag": lambda: same(SparseTensor.diag(B), torch.diag(B)),
    "tridiagonal": lambda: same(
        SparseTensor.tridiagonal(torch.ones(2), torch.full((3,), 2.0), 3 * torch.ones(2)),
        torch.tensor([[2.0, 3, 0], [1, 2, 3], [0, 1, 2]]),
    ),
    "to_dense": lambda: same(A.to_dense(), G),
    "to_torch": lambda: same(A.to_torch().to_dense(), G),
    "to_scipy": lambda: same(torch.from_numpy(A.to_scipy().toarray()), G),
    "to_csr": lambda: len(A.to_csr()) == 3 and int(A.to_csr()[0][-1]) == A.nnz,
    "int32 indices": lambda: same(SparseTensor(A.values, ROW.int(), COL.int(), (N, N)), G),
    # moving and casting
    "cpu": lambda: same(A.cpu(), G),
    "to": lambda: A.to(torch.float32).dtype is torch.float32,
    "float": lambda: A.float().dtype is torch.float32,
    "double": lambda: A.float().double().dtype is F64,
    "half": lambda: A.half().dtype is torch.float16,
    "requires_grad_, grad": _gradient,
    # solving
    "solve [M]": lambda: same(A.solve(B), torch.linalg.solve(G, B)),
    "solve [M, K]": lambda: same(A.solve(X), torch.linalg.solve(G, X)),
    "solve [B, M]": lambda: same(PAIR.solve(LOADS), EXACT),
    "solve [B, M, K]": lambda: same(PAIR.solve(LOADS.unsqueeze(-1)).squeeze(-1), EXACT),
    "solve [M] broadcast": lambda: same(PAIR.solve(B)[1], torch.linalg.solve(2 * G, B)),
    "solve tol": lambda: same(A.solve(B, tol=1e-12), torch.linalg.solve(G, B)),
    "solve x0": lambda: same(S.solve(B, method="cg", x0=B), torch.linalg.solve(D, B)),
    "solve plan": lambda: same(S.solve(B, plan=S.plan()), torch.linalg.solve(D, B)),
    "solve info": _info,
    "solve verbose": lambda: same(A.solve(B, verbose=True), torch.linalg.solve(G, B)),
    "plan": lambda: "choice" in A.plan(b_shape=(N, 2), repeats=3, needs_grad=True).explain(),
    "solve_batch": lambda: same(A.solve_batch(TWICE, LOADS), EXACT),
    "preconditioner options": lambda: same(
        S.solve(B, method="cg", preconditioner=torch_sla.AMG(smoother="jacobi")),
        torch.linalg.solve(D, B),
    ),
    "preconditioner callable": lambda: same(
        S.solve(B, method="cg", preconditioner=lambda r: r / 2), torch.linalg.solve(D, B)
    ),
    # factors
    "lu": lambda: same(A.lu().solve(B), torch.linalg.solve(G, B)),
    "cholesky": lambda: same(S.cholesky().solve(B), torch.linalg.solve(D, B)),
    "ldlt": lambda: same(S.ldlt().solve(B), torch.linalg.solve(D, B)),
    "factorize": lambda: same(A.factorize().solve(X), torch.linalg.solve(G, X)),
    "solve_transposed": lambda: same(A.lu().solve_transposed(B), torch.linalg.solve(G.T, B)),
    "update": lambda: same(A.lu().update(2 * A.values).solve(B), torch.linalg.solve(2 * G, B)),
    "factor logdet": lambda: same(S.cholesky().logdet(), torch.logdet(D)),
    "inertia": lambda: S.ldlt().inertia() == (N, 0, 0),
    "selected_inverse": lambda: same(
        S.cholesky().selected_inverse(), torch.linalg.inv(D) * (D != 0)
    ),
    # algebra
    "A @ x": lambda: same(A @ B, G @ B),
    "A @ dense": lambda: same(A @ X, G @ X),
    "x @ A": lambda: same(B @ A, B @ G),
    "A @ sparse": lambda: same(A @ S, G @ D),
    "A + B": lambda: same(A + S, G + D),
    "A - B": lambda: same(A - S, G - D),
    "A * B": lambda: same(A * S, G * D),
    "A * number": lambda: same(3 * A, 3 * G),
    "A / number": lambda: same(A / 4, G / 4),
    "-A": lambda: same(-A, -G),
    "T": lambda: same(A.T(), G.T),
    "H": lambda: same((A * 1j).H(), (1j * G.to(torch.complex128)).mH),
    # numbers
    "norm fro": lambda: same(A.norm("fro"), torch.linalg.norm(G)),
    "norm 1": lambda: same(A.norm(1), torch.linalg.norm(G, 1)),
    "norm 2": lambda: same(A.norm(2), torch.linalg.norm(G, 2)),
    "norm inf": lambda: same(A.norm(float("inf")), torch.linalg.norm(G, float("inf"))),
    "sum": lambda: same(A.sum(), G.sum()),
    "mean": lambda: same(A.mean(), G[G != 0].mean()),
    "prod": lambda: same(A.prod(), G[G != 0].prod()),
    "max": lambda: same(A.max(), G[G != 0].max()),
    "min": lambda: same(A.min(), G[G != 0].min()),
    "abs": lambda: same(A.abs(), G.abs()),
    "det": lambda: same(A.det(), torch.linalg.det(G)),
    "logdet": lambda: same(S.logdet(), torch.logdet(D)),
    "slogdet": lambda: same(torch.stack(A.slogdet()), torch.stack(torch.linalg.slogdet(G))),
    "condition_number": lambda: same(A.condition_number(), torch.linalg.cond(G)),
    # questions
    "is_symmetric": lambda: (S.is_symmetric(), A.is_symmetric()) == (True, False),
    "is_hermitian": lambda: (S.is_hermitian(), A.is_hermitian()) == (True, False),
    "is_positive_definite": lambda: S.is_positive_definite() and not (-S).is_positive_definite(),
    "connected_components": lambda: E.connected_components()[1] == N,
    "to_connected_components": lambda: len(E.to_connected_components()) == N,
    "has_isolated_components": lambda: E.has_isolated_components(),
    "flatten_blocks": lambda: same(BLOCKS.flatten_blocks(), case("blocks").dense(F64)),
    "unflatten_blocks": lambda: BLOCKS.flatten_blocks().unflatten_blocks(3).block_shape == (3, 3),
    # spectra
    "eigsh": lambda: _symmetric_eigen(*S.eigsh(k=3, which="LM")),
    "eigsh sigma": lambda: _symmetric_eigen(*S.eigsh(k=2, sigma=1.0)),
    "eigsh M": lambda: same(S.eigsh(k=2, M=2 * E, return_eigenvectors=False), S.eigsh(k=2)[0] / 2),
    "eigs": lambda: same(A.eigs(k=N)[0].sum().real, G.trace()),
    "svd": _svd,
    # nonlinear
    "nonlinear newton": _nonlinear("newton"),
    "nonlinear picard": _nonlinear("picard"),
    "nonlinear anderson": _nonlinear("anderson"),
    "adjoint_solve": _adjoint,
    # lists
    "list solve": lambda: same(LIST.solve([B, B])[1], torch.linalg.solve(D, B)),
    "list @": lambda: same((LIST @ [B, B])[0], G @ B),
    "list elementwise": lambda: same((LIST * 2 + LIST).abs()[0], 3 * G.abs()),
    "list reductions": lambda: same(torch.stack(LIST.sum()), torch.stack([G.sum(), D.sum()])),
    "to_block_diagonal": lambda: same(LIST.to_block_diagonal(), torch.block_diag(G, D)),
    "from_block_diagonal": lambda: same(
        SparseTensorList.from_block_diagonal(LIST.to_block_diagonal(), [N, N])[1], D
    ),
    "from_coo_list": lambda: same(SparseTensorList.from_coo_list([TRIPLE])[0], G),
    "from_torch_sparse_list": lambda: same(
        SparseTensorList.from_torch_sparse_list([_coo(G)])[0], G
    ),
    "list sizes": lambda: (
        (LIST.block_sizes, LIST.total_nnz, LIST.total_shape, len(LIST.shapes))
        == ([(N, N)] * 2, A.nnz + S.nnz, (2 * N, 2 * N), 2)
    ),
    # free functions
    "spsolve": lambda: same(linalg.spsolve(*TRIPLE, B), torch.linalg.solve(G, B)),
    "spsolve_coo": lambda: same(linalg.spsolve_coo(_coo(G), B), torch.linalg.solve(G, B)),
    "spsolve_csr": lambda: same(linalg.spsolve_csr(A.to_torch("csr"), B), torch.linalg.solve(G, B)),
    "spsolve_batch_same_layout": lambda: same(
        linalg.spsolve_batch_same_layout(TWICE, ROW, COL, (N, N), LOADS), EXACT
    ),
    "spsolve_batch_different_layout": lambda: same(
        torch.stack(linalg.spsolve_batch_different_layout([TRIPLE], [B])),
        torch.linalg.solve(G, B)[None],
    ),
    "spsolve_batch_coo_same_layout": lambda: same(
        linalg.spsolve_batch_coo_same_layout([_coo(G), _coo(2 * G)], LOADS), EXACT
    ),
    "spsolve_batch_coo_different_layout": lambda: same(
        linalg.spsolve_batch_coo_different_layout([_coo(D)], [B])[0], torch.linalg.solve(D, B)
    ),
    "ParallelBatchSolver": lambda: same(
        linalg.ParallelBatchSolver(ROW, COL, (N, N)).solve(TWICE, LOADS), EXACT
    ),
    "partition_simple": lambda: len(linalg.partition_simple(N, 2)) == N,
    "partition_coordinates": lambda: len(linalg.partition_coordinates(X, 2)) == N,
    "get_available_backends": lambda: "scipy" in linalg.get_available_backends(),
    "get_backend_methods": lambda: {"cg", "gmres"} <= set(linalg.get_backend_methods("pytorch")),
    "select_backend": lambda: linalg.select_backend() in linalg.get_available_backends(),
    "select_method": lambda: linalg.select_method(is_spd=True) in ("cholesky", "cg"),
    "show_backends": lambda: "scipy" in linalg.show_backends(),
    "is_scipy_available": lambda: linalg.is_scipy_available() is True,
    "is_eigen_available": lambda: linalg.is_eigen_available() in (True, False),
    "is_cudss_available": lambda: linalg.is_cudss_available() in (True, False),
    "is_cusolver_available": lambda: linalg.is_cusolver_available() in (True, False),
}
CALLS |= {
    name: _elementwise(name)
    for name in [
        "exp",
        "expm1",
        "log1p",
        "sin",
        "cos",
        "tan",
        "sinh",
        "cosh",
        "tanh",
        "sigmoid",
        "relu",
        "sqrt",
        "square",
        "reciprocal",
        "sign",
        "ceil",
        "floor",
        "round",
        "log",
    ]
}


@pytest.mark.parametrize("name", CALLS)
def test_call(name: str) -> None:
    assert CALLS[name]()


@pytest.mark.parametrize("suffix", ["npz", "mtx", "safetensors"])
def test_files(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"A.{suffix}"
    if suffix == "safetensors":
        pytest.importorskip("safetensors", reason="safetensors is not installed")
    A.save(path)
    assert same(SparseTensor.load(path), G)
    assert same(linalg.load_sparse(path), G)
    linalg.save_sparse(A, path)
    if suffix == "mtx":
        linalg.save_mtx(A, path)
        assert same(linalg.load_mtx(path), G)
    else:
        assert isinstance(linalg.load_metadata(path), dict)


def test_spy() -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    assert A.spy() is not None


def test_metis_answers_or_says_what_is_missing() -> None:
    try:
        parts = linalg.partition_graph_metis(ROW, COL, N, 2)
    except torch_sla.TorchSlaError as error:
        assert "pymetis" in str(error)  # noqa: PT017
    else:
        assert len(parts) == N


@pytest.mark.parametrize(
    ("backend", "methods"),
    [
        ("scipy", "superlu lu umfpack cg bicgstab gmres minres"),
        ("eigen", "cg bicgstab cholesky ldlt lu"),
        ("native", "cholesky ldlt"),
        ("pytorch", "cg bicgstab gmres minres lsqr lsmr"),
    ],
)
def test_backends_and_their_methods(backend: str, methods: str) -> None:
    capabilities = linalg.backends.registry.backend(backend).capabilities
    for method in methods.split():
        assert capabilities.method(method) is not None, method
        known = capabilities.method(method)
        if linalg.backends.registry.backend(backend).unavailable_method(known.name):
            with pytest.raises(torch_sla.TorchSlaError, match="not installed"):
                S.solve(B, backend=backend, method=method)
            continue
        x = S.solve(B, backend=backend, method=method)
        torch.testing.assert_close(x, torch.linalg.solve(D, B), rtol=1e-6, atol=1e-6)
