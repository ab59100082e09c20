"""Every differentiable operation against finite differences; a new method must join the table or say why not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from torch_sla import linalg
from torch_sla.linalg import SparseTensor, SparseTensorList

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

F64, C128 = torch.float64, torch.complex128
N = 5
# The coordinate (0, 0) is given twice; the pattern is symmetric, but for (0, 3).
ROW = torch.tensor([0, 1, 2, 3, 4, 0, 0, 1, 2, 1, 3, 0])
COL = torch.tensor([0, 1, 2, 3, 4, 0, 1, 0, 1, 2, 4, 3])


def matrix(v: Tensor) -> SparseTensor:
    return SparseTensor(v, ROW, COL, (*v.shape[:-1], N, N))


def hermitian(v: Tensor) -> SparseTensor:
    """Positive definite for the sample, Hermitian for every `v`."""
    A = matrix(v)
    return A + A.H() + SparseTensor.eye(N, dtype=v.dtype) * 4


def sample(dtype: torch.dtype) -> Tensor:
    g = torch.Generator().manual_seed(71)
    v = 0.4 * torch.randn(len(ROW), dtype=dtype, generator=g) + 0.1
    v[:N] += torch.arange(1, N + 1) * 0.7 + 1
    return v


VECTORS = torch.randn(N, 2, dtype=C128, generator=torch.Generator().manual_seed(72))


def vector(dtype: torch.dtype, columns: int | None = None) -> Tensor:
    x = VECTORS if dtype.is_complex else VECTORS.real
    return x[:, 0] if columns is None else x[:, :columns]


B = SparseTensor(
    torch.linspace(1, 2, 6, dtype=F64),
    torch.tensor([0, 1, 2, 3, 4, 4]),
    torch.tensor([1, 1, 0, 3, 4, 2]),
    (N, N),
)


def tall(v: Tensor) -> SparseTensor:
    return SparseTensor(v, ROW + (ROW == 4).long(), COL.clamp(max=3), (6, 4))


def dense(A: SparseTensor) -> Tensor:
    return A.to_dense()


def blocks(v: Tensor) -> SparseTensor:
    i = torch.tensor([0, 1, 1])
    return SparseTensor(v.reshape(3, 2, 2), i, torch.tensor([0, 1, 0]), (2, 2, 2, 2))


def singular(v: Tensor) -> SparseTensor:
    """Graph Laplacian of a ring with weights `v`: constants are its nullspace."""
    i = torch.arange(N)
    j = (i + 1) % N
    w = v[:N]
    return SparseTensor(
        torch.cat([w, w, -w, -w]), torch.cat([i, j, i, j]), torch.cat([i, j, j, i]), (N, N)
    )


def invariant(V: Tensor) -> Tensor:
    """What does not depend on signs and phases of the columns."""
    return V.abs() ** 2


def elementwise(name: str, *args: Any) -> Callable[[Tensor], Tensor]:
    return lambda v: dense(getattr(matrix(v), name)(*args))


def nonlinear(method: str) -> Callable[[Tensor], Tensor]:
    def run(v: Tensor) -> Tensor:
        return hermitian(v).nonlinear_solve(
            lambda u, A, b: A @ u + 0.1 * u**3 - b,
            torch.zeros(N, dtype=F64),
            vector(F64),
            method=method,
            rtol=1e-13,
        )

    return run


REAL: dict[str, Callable[[Tensor], Any]] = {
    name: elementwise(name) for name in ("sinh", "tan", "cosh", "relu", "sigmoid", "expm1", "sign")
}
REAL |= {
    "max": lambda v: matrix(v).max(),
    "min": lambda v: matrix(v).min(-1),
    "clamp": elementwise("clamp", 0.0, 2.0),
    "ceil": elementwise("ceil"),
    "floor": elementwise("floor"),
    "round": elementwise("round"),
    "nonlinear newton": nonlinear("newton"),
    "nonlinear picard": nonlinear("picard"),
    "nonlinear anderson": nonlinear("anderson"),
    "solve nullspace": lambda v: singular(v).solve(vector(F64), nullspace=torch.ones(N, dtype=F64)),
    "sqrt": lambda v: dense(matrix(v).abs().sqrt()),
    "log": lambda v: dense(matrix(v).abs().log()),
    "log1p": lambda v: dense(matrix(v).abs().log1p()),
    "pow": lambda v: dense(matrix(v).abs() ** 1.5),
}

TABLE: dict[str, Callable[[Tensor], Any]] = {
    "from_dense": lambda v: dense(SparseTensor.from_dense(torch.outer(v[:3], v[:4]))),
    "from_torch_sparse": lambda v: dense(
        SparseTensor.from_torch_sparse(
            torch.sparse_coo_tensor(torch.stack([ROW, COL]), v, (N, N), check_invariants=True)
        )
    ),
    "diag": lambda v: dense(SparseTensor.diag(v, 1)),
    "tridiagonal": lambda v: dense(SparseTensor.tridiagonal(v[:2], v[2:5], v[5:7])),
    "to_dense": lambda v: matrix(v).to_dense(),
    "to_torch": lambda v: matrix(v).to_torch().to_dense(),
    "to_csr": lambda v: matrix(v).to_csr()[2],
    "flatten_blocks": lambda v: dense(blocks(v).flatten_blocks()),
    "unflatten_blocks": lambda v: blocks(v).flatten_blocks().unflatten_blocks(2).values,
    "T": lambda v: dense(matrix(v).T()),
    "H": lambda v: dense(matrix(v).H()),
    "to": lambda v: dense(matrix(v).to(C128)),
    "clone": lambda v: dense(matrix(v).clone()),
    "matrix @ vector": lambda v: matrix(v) @ vector(v.dtype),
    "matrix @ columns": lambda v: matrix(v) @ vector(v.dtype, 2),
    "vector @ matrix": lambda v: vector(v.dtype) @ matrix(v),
    "matrix @ matrix": lambda v: dense(matrix(v) @ matrix(v.flip(0))),
    "+": lambda v: dense(matrix(v) + B * v[0]),
    "-": lambda v: dense(matrix(v) - B * v[0]),
    "*": lambda v: dense(matrix(v) * (B * v[0])),
    "* vector": lambda v: dense(matrix(v) * vector(v.dtype)[:, None]),
    "/": lambda v: dense(matrix(v) / v[1]),
    "neg": lambda v: dense(-matrix(v)),
    "abs": elementwise("abs"),
    "conj": elementwise("conj"),
    "cos": elementwise("cos"),
    "exp": elementwise("exp"),
    "imag": elementwise("imag"),
    "real": elementwise("real"),
    "reciprocal": elementwise("reciprocal"),
    "sin": elementwise("sin"),
    "square": elementwise("square"),
    "tanh": elementwise("tanh"),
    "apply": elementwise("apply", lambda x: x**3),
    "sum": lambda v: (matrix(v).sum(), matrix(v).sum(-1)),
    "mean": lambda v: (matrix(v).mean(), matrix(v).mean(-2)),
    "prod": lambda v: matrix(v).prod(),
    "norm fro": lambda v: matrix(v).norm("fro"),
    "norm 1": lambda v: matrix(v).norm(1),
    "norm 2": lambda v: matrix(v).norm(2),
    "norm inf": lambda v: matrix(v).norm(float("inf")),
    "solve": lambda v: matrix(v).solve(vector(v.dtype)),
    "solve iterative": lambda v: matrix(v).solve(
        vector(v.dtype), backend="pytorch", method="gmres", rtol=1e-14
    ),
    "solve ldlt": lambda v: hermitian(v).solve(vector(v.dtype, 2), method="ldlt"),
    "solve least squares": lambda v: tall(v).solve(torch.linspace(0, 1, 6, dtype=F64).to(v.dtype)),
    "solve_batch": lambda v: matrix(v).solve_batch(torch.stack([v, 2 * v]), vector(v.dtype)),
    "lu solve": lambda v: matrix(v).lu().solve(vector(v.dtype)),
    "lu solve_transposed": lambda v: matrix(v).lu().solve_transposed(vector(v.dtype)),
    "lu update": lambda v: matrix(v.detach()).lu().update(v).solve(vector(v.dtype)),
    "cholesky solve": lambda v: hermitian(v).cholesky().solve(vector(v.dtype)),
    "ldlt solve": lambda v: hermitian(v).ldlt().solve(vector(v.dtype)),
    "factorize logdet": lambda v: hermitian(v).factorize().logdet().real,
    "selected_inverse": lambda v: hermitian(v).cholesky().selected_inverse().values,
    "det": lambda v: matrix(v).det(),
    "slogdet": lambda v: matrix(v).slogdet()[1],
    "logdet": lambda v: hermitian(v).logdet().real,
    "eigsh values": lambda v: hermitian(v).eigsh(2)[0],
    "eigsh vectors": lambda v: invariant(hermitian(v).eigsh(2)[1]),
    "eigs values": lambda v: matrix(v).eigs(2)[0],
    "eigs vectors": lambda v: invariant(matrix(v).eigs(2)[1]),
    "svd": lambda v: (matrix(v).svd(2)[1], invariant(matrix(v).svd(2)[0])),
    "condition_number": lambda v: matrix(v).condition_number(),
    "to_connected_components": lambda v: dense(matrix(v).to_connected_components()[0]),
    "list": lambda v: dense(SparseTensorList([matrix(v), B * v[0]]).to_block_diagonal()),
    "list cut": lambda v: dense(
        SparseTensorList.from_block_diagonal(
            SparseTensorList([matrix(v), matrix(v)]).to_block_diagonal(), [N, N]
        )[1]
    ),
    "list solve": lambda v: SparseTensorList([matrix(v)]).solve([vector(v.dtype)])[0],
    "spsolve": lambda v: linalg.spsolve(v, ROW, COL, (N, N), vector(v.dtype)),
    "spsolve_batch_same_layout": lambda v: linalg.spsolve_batch_same_layout(
        torch.stack([v, 3 * v]), ROW, COL, (N, N), vector(v.dtype)
    ),
    "ParallelBatchSolver": lambda v: linalg.ParallelBatchSolver(ROW, COL, (N, N)).solve(
        torch.stack([v, 3 * v]), vector(v.dtype)
    ),
}
TWICE = (
    "matrix @ vector",
    "matrix @ columns",
    "vector @ matrix",
    "matrix @ matrix",
    "solve",
    "solve iterative",
    "solve_batch",
    "lu solve",
    "logdet",
    "slogdet",
    "factorize logdet",
    "eigsh values",
    "eigs values",
)

# Methods that take no part, and why.
UNTOUCHED = {
    "cpu": "moves only, as `to`",
    "cuda": "moves only, as `to`",
    "double": "casts only, as `to`",
    "float": "casts only, as `to`",
    "half": "casts only, as `to`",
    "declare": "what is known, no numbers",
    "detach": "leaves the graph",
    "partition": "hands the values on; tests/linalg/distributed",
    "requires_grad_": "a flag",
    "from_pattern": "keeps the values",
    "flat_slots": "what every operation of the table begins with",
    "from_scipy": "SciPy has no graph",
    "to_scipy": "SciPy has no graph",
    "eye": "constant",
    "load": "from a file",
    "save": "to a file",
    "plan": "no numbers",
    "cholesky": "see cholesky solve",
    "ldlt": "see ldlt solve",
    "lu": "see lu solve",
    "factorize": "see factorize logdet",
    "eigsh": "see eigsh values, eigsh vectors",
    "eigs": "see eigs values, eigs vectors",
    "norm": "see norm fro, 1, 2, inf",
    "nonlinear_solve": "see nonlinear newton, picard, anderson",
    "connected_components": "integers",
    "has_isolated_components": "a question",
    "is_symmetric": "a question",
    "is_hermitian": "a question",
    "is_positive_definite": "a question",
    "known_structure": "a question",
    "detected_structure": "a question",
    "structure_and_marked": "a question",
    "spy": "a picture",
}


def test_the_table_is_complete() -> None:
    methods = {
        name
        for name in dir(SparseTensor)
        if not name.startswith("_") and callable(getattr(SparseTensor, name))
    }
    assert methods - set(TABLE) - set(REAL) - set(UNTOUCHED) == set()


@pytest.mark.parametrize("name", [*TABLE, *REAL])
def test_first_derivatives(name: str) -> None:
    function = (TABLE | REAL)[name]
    for dtype in (F64, C128) if name in TABLE else (F64,):
        assert gradcheck(function, (sample(dtype).requires_grad_(),), atol=1e-5), dtype


@pytest.mark.parametrize("name", TWICE)
def test_second_derivatives(name: str) -> None:
    for dtype in (F64, C128):
        assert gradgradcheck(TABLE[name], (sample(dtype).requires_grad_(),), atol=1e-5), dtype


@pytest.mark.parametrize("name", ["matrix @ columns", "solve", "solve iterative", "solve_batch"])
def test_forward_mode(name: str) -> None:
    for dtype in (F64, C128):
        v = sample(dtype).requires_grad_()
        assert gradcheck(TABLE[name], (v,), check_forward_ad=True, check_backward_ad=False), dtype


@pytest.mark.parametrize("name", ["matrix @ columns", "solve", "solve iterative"])
def test_vmap_of_grad(name: str) -> None:
    v = sample(F64)
    many = torch.stack([v, 1.5 * v, v + 0.1])

    def loss(x: Tensor) -> Tensor:
        return (TABLE[name](x) ** 3).sum()

    found = torch.func.vmap(torch.func.grad(loss))(many)
    torch.testing.assert_close(found, torch.stack([torch.func.grad(loss)(x) for x in many]))
